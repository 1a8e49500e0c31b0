"""The keys `objective.*`, with their defaults, meanings and accepted values. `configs/base.py` adds the other keys."""

from mdlm_jax.configs.key import NOT_EMPTY, NOT_ZERO, Key

OBJECTIVES = ("ar", "any_order", "any_order_causal", "masked", "masked_lm", "masked_plain", "genmd4", "d3pm", "tauldr")
OBJECTIVES += ("sedd", "gidd", "udlm", "duo", "csm", "gaussian", "unified")
NEVER_IN_BLOCKS = ("ar", "any_order_causal", "gaussian", "unified")  # causal, reading vectors, or of two modalities
WHOLE_ROWS = tuple(name for name in OBJECTIVES if name not in NEVER_IN_BLOCKS)
WITH_PROCESS = ("d3pm", "tauldr", "sedd")
GIDD = {"objective.name": ("gidd",), "objective.process": ("gidd",)}
OF_MODALITIES = ("linear", "cosine", "cosine_squared", "square_root", "logarithmic")
WITHOUT_LEVELS = ("ar", "any_order_causal", "masked_lm", "unified")  # or with a noise level for each task
WITH_LEVELS = tuple(name for name in OBJECTIVES if name not in WITHOUT_LEVELS)
IN_BLOCKS = {"objective.block_size": (NOT_ZERO,)}
NOISE_BY_SCHEDULE = {
    "objective.name": ("masked", "masked_plain", "gidd", "udlm", "csm"),
    "objective.process": ("absorbing", "uniform", "hybrid", "gidd"),
}


def _with(*objectives: str) -> dict[str, tuple[str, ...]]:
    return {"objective.name": objectives}


OBJECTIVE_KEYS: dict[str, Key] = {
    "objective.name": Key(
        "masked",
        "training objective, a key of mdlm_jax.objectives.OBJECTIVES or your own function",
        OBJECTIVES,
        plugin=True,
    ),
    "objective.schedule": Key(
        "linear",
        "noise schedule: how much is noised at each time (cosine is MD4's)",
        (
            *("linear", "log_linear", "linear_sigma", "cosine", "mdlm_cosine", "cosine_squared", "polynomial"),
            *("square_root", "logarithmic", "geometric"),
        ),
        plugin=True,
        when=NOISE_BY_SCHEDULE,
    ),
    "objective.power": Key(
        2.0, "power of the polynomial schedule", above=0, at_most=6, when={"objective.schedule": ("polynomial",)}
    ),  # at most 6: float32 cannot tell a higher power of the earliest time, 1e-6, from 0
    "objective.epsilon_convention": Key(
        "none",
        "how times near 0 and 1 are avoided; none gives the exact bound",
        ("none", "smdm", "mdlm", "md4"),
        when=NOISE_BY_SCHEDULE,
        choice_when={"smdm": _with("masked")},
    ),
    "objective.epsilon": Key(
        1e-3,
        "epsilon of that convention",
        above=0,
        below=0.5,
        when={"objective.epsilon_convention": ("smdm", "mdlm", "md4")},
    ),
    "objective.independent_times": Key(
        False, "independent times instead of low-discrepancy (stratified) ones", when=_with("masked")
    ),
    "objective.complementary": Key(
        False, "a second view masks what the first one shows", when=_with("masked", "masked_plain")
    ),
    "objective.context_rate": Key(
        0.0,
        "weight of a masked token by the visible ones around it: rate of the geometric distribution of their distances "
        "(Dream: 0.3); 0: all alike",
        at_least=0,
        at_most=1,
        later=True,
        when=_with("masked_plain"),
    ),
    "objective.mask_rate": Key(0.15, "share of masked tokens", above=0, at_most=1, when=_with("masked_lm")),
    "objective.shuffled_share": Key(
        1.0,
        "share of tokens generated first, in random order; the rest follows from left to right (Eso-LM); 1: all",
        at_least=0,
        at_most=1,
        later=True,
        when=_with("any_order_causal"),
    ),
    "objective.num_steps": Key(
        0,
        "T of a discrete time; 0: 1000 for d3pm, continuous time for masked",
        at_least=0,
        at_most=2**23,
        when=_with("masked", "d3pm"),
    ),
    "objective.process": Key(
        "absorbing",
        "noise process, a key of mdlm_jax.processes.PROCESSES (gaussian_matrix: d3pm only)",
        ("absorbing", "uniform", "hybrid", "gidd", "gaussian_matrix"),
        plugin=True,
        when=_with(*WITH_PROCESS),
        choice_when={"gaussian_matrix": _with("d3pm")},
    ),
    "objective.mask_share": Key(
        0.5, "share of the noise that masks", above=0, below=1, when={"objective.process": ("hybrid",)}
    ),
    "objective.uniform_share": Key(
        0.2, "share of uniform noise at the middle of the schedule", above=0, below=1, when=GIDD
    ),
    "objective.gamma": Key(1.0, "how fast the uniform noise comes and goes", above=0, at_most=2, when=GIDD),
    "objective.auxiliary": Key(0.0, "lambda, the weight of an added cross-entropy", at_least=0, when=_with("d3pm")),
    "objective.score": Key("raw", "what the network predicts", ("raw", "scaled", "denoiser"), when=_with("sedd")),
    "objective.embedding_width": Key(
        16, "width of the vectors that are noised", at_least=1, at_most=2**16, when=_with("gaussian")
    ),
    "objective.form": Key("denoising", "form of the loss", ("denoising", "implicit"), when=_with("csm")),
    "objective.order": Key(
        "text_first",
        "rows of text and image: what is read first; flipped: text in half of the rows, and image in the others",
        ("text_first", "image_first", "flipped"),
        later=True,
        when=_with("ar"),
    ),
    "objective.tasks": Key(
        "joint=1",
        "share of rows of each task, such as joint=0.5,image_given_text=0.25,text_given_image=0.25; also text, image",
        later=True,
        when=_with("unified"),
    ),
    "objective.text_schedule": Key(
        "linear", "noise schedule of text", OF_MODALITIES, later=True, when=_with("unified")
    ),
    "objective.image_schedule": Key(
        "linear", "noise schedule of images", OF_MODALITIES, later=True, when=_with("unified")
    ),
    "objective.weighting": Key(
        "bound",
        "weight of a masked token: h'/h for its P(masked) h, 1/h, or h'/(h + (1 - h)/5)",
        ("bound", "muddit", "unidisc"),
        later=True,
        when=_with("unified"),
    ),
    "objective.independent_modalities": Key(
        False, "text and image draw a time each, not one for both: no bound", later=True, when=_with("unified")
    ),
    "objective.density": Key(
        "",
        "density of the noise levels in training: bell:mean=0.5,width=0.2,floor=0.1 (normal, mixed with a share of "
        "uniform), clipped:low=0.3,high=0.8, or learned:floor=0.2,rate=0.01 (follows the loss of each level); empty: "
        "uniform",
        later=True,
        when=_with(*WITH_LEVELS),
    ),
    "objective.density_weighted": Key(
        True,
        "weight each view by 1 / density, which keeps the bound",
        later=True,
        when={"objective.density": (NOT_EMPTY,)},
    ),
    "objective.drop_prompt": Key(
        0.0,
        "share of rows in training whose prompt is masked, for classifier-free guidance",
        at_least=0,
        below=1,
        later=True,
        when=_with(*WHOLE_ROWS),
    ),
    "objective.shift": Key(
        False,
        "a position predicts the token after the one it reads, in whole rows (Dream); the first token is a prompt",
        later=True,
        when=_with(*WHOLE_ROWS),
    ),
    "objective.anneal_steps": Key(
        0,
        "steps over which attention opens from causal to full in training (DiffuLLaMA: 10000); 0: it is full",
        at_least=0,
        at_most=2**31 - 1,
        later=True,
        when=_with(*WHOLE_ROWS),
    ),
    "objective.block_size": Key(
        0,
        "block diffusion: autoregressive over blocks of this many tokens, the objective inside; 0: no blocks",
        at_least=0,
        at_most=2**20,
        when=_with(*WHOLE_ROWS),
    ),
    "objective.block_low": Key(0.0, "the lowest noise level in training", at_least=0, below=1, when=IN_BLOCKS),
    "objective.block_high": Key(1.0, "the highest noise level in training", above=0, at_most=1, when=IN_BLOCKS),
    "objective.block_shared_level": Key(False, "one noise level for all blocks of a row", later=True, when=IN_BLOCKS),
    "objective.block_shift": Key(
        False, "a position predicts the token after the one it reads, as in ar", later=True, when=IN_BLOCKS
    ),
}
