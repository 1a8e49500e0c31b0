"""Every key with its default, its meaning and the values it accepts. Other configs start from this one.

`mdlm-jax config KEY` prints a key. A key is *science* unless `execution=True`: science says which run it is, execution
only how it is computed, and may change when the run resumes.
"""

from ml_collections import ConfigDict

from mdlm_jax.configs.key import NOT_ZERO, Key
from mdlm_jax.configs.objective_keys import OBJECTIVE_KEYS
from mdlm_jax.configs.sizes import SIZES

MOST_STEPS, MOST_SEED = 2**31 - 1, 2**32 - 1  # counted in int32 and uint32
NO_BUDGET, BY_SHAPE = {"budget": (0.0,)}, {"model.size": ("",)}

WITH_FIELDS = {"data.source": ("text", "tfds")}
WITH_FILES = {"data.source": ("text", "tfds", "chat")}
WITH_ROPE = {"model.rope_base": (NOT_ZERO,)}
WITH_TEXT = {"data.source": ("stdlib", "text", "tfds", "tokens")}
SCALED, DEEPENED = ({"model.parametrization": names} for names in (("mup", "completep"), ("completep",)))
WITH_LORA = {"model.lora_rank": (NOT_ZERO,)}
MATRICES = ("query", "key", "value", "attention_out", "gate", "up", "down")  # of a block
WITH_IMAGES = {"data.source": ("shapes", "digits", "uniform", "images")}
WITH_CHATS = {"data.source": ("chat",)}
WITH_EPSILON = ("adamw", "muon", "schedule_free")
REWIND = {"optim.on_nonfinite": ("rewind",)}
TIMED = {
    "model.time_conditioning": (True,),
    "objective.name": ("genmd4", "gidd", "udlm", "duo", "csm", "gaussian"),
    "objective.process": ("uniform", "hybrid", "gidd", "gaussian_matrix"),
    "objective.score": ("raw",),
}

KEYS: dict[str, Key] = {
    "seed": Key(0, "seed of the initial weights and of the noise", at_least=0, at_most=MOST_SEED),
    "budget": Key(0.0, "training FLOPs, counted by budget_counter; 0: `steps` sets the length", at_least=0),
    "budget_counter": Key(
        "exact",
        "how FLOPs are counted: every matrix product, or 6 N D by three definitions of N",
        ("six_nonembedding", "six_total", "six_attention", "exact"),
        when={"budget": (NOT_ZERO,)},
    ),
    "steps": Key(1000, "optimiser steps, where budget is 0", at_least=1, at_most=MOST_STEPS, when=NO_BUDGET),
    "branch_from": Key(
        "",
        "checkpoint whose whole state this run continues, as FOLDER@STEP; a plain name is a run beside this one",
        later=True,
    ),
    "start_from": Key("", "folder of a run with the same network, whose weights initialise this one", later=True),
    #
    **OBJECTIVE_KEYS,
    #
    "data.source": Key(
        "stdlib",
        "where the data comes from",
        ("stdlib", "markov", "shapes", "digits", "uniform", "images", "text", "tfds", "tokens", "chat"),
    ),
    "data.path": Key(
        "",
        "text: files, globs and folders, by commas (.txt, .jsonl, .json, .tar, .parquet; all but .parquet also as .gz, "
        ".xz or .zst); tfds: name or folder of the dataset; tokens: folder; chat: .jsonl or .parquet with the field "
        "messages; markov: vocab=16,concentration=0.3; shapes: patch=2; digits: patch=1, or patch=2,levels=4; uniform: "
        "words=32000,text=128,codes=8192,side=16; images: folder of `mdlm-jax data build --images`",
        path=True,
        when={"data.source": ("markov", "shapes", "digits", "uniform", "images", "text", "tfds", "tokens", "chat")},
    ),
    "data.validation_path": Key(
        "",
        "held-out data: files as in data.path, or a split (tfds); empty: the validation split, or the last 5%",
        path=True,
        when=WITH_FILES,
    ),
    "data.field": Key(
        "text",
        "field that holds the text, in tfds and in every file but .txt; files may nest it, as in meta.text",
        when=WITH_FIELDS,
    ),
    "data.tokenizer": Key(
        "bytes",
        "bytes, a tokenizers .json, or a folder with GPT-2's vocabulary and merges; "
        "chat: a model's folder with its chat template",
        path=True,
        when={"data.source": ("stdlib", "text", "tfds", "tokens", "chat")},
    ),
    "data.padding": Key(
        "packed",
        "rows of conversations: several in a row, each attending to itself only (packed); or one in a row, then "
        "padding (unread) or the end of the text again and again, which is scored as in LLaDA (scored)",
        ("packed", "unread", "scored"),
        later=True,
        when=WITH_CHATS,
    ),
    "data.sequence_length": Key(64, "L, tokens of a row", at_least=1, at_most=2**20),
    "data.extra_token": Key(False, "rows of L + 1 tokens (SMDM's 2048 + 1)"),
    "data.prompt_tokens": Key(
        0, "the first tokens of a row that are a prompt: neither noised nor in the loss", at_least=0, later=True
    ),
    "data.keep_documents": Key(False, "attention stays inside a document; else documents are joined", when=WITH_TEXT),
    "data.random_length_rate": Key(
        0.0, "share of rows cut to a uniformly drawn length (SMDM: 0.01)", at_least=0, at_most=1
    ),
    "data.unique_tokens": Key(0, "tokens in one epoch; 0: all there are", at_least=0),
    "data.epochs": Key(0, "at most this many epochs; 0: as many as the steps need", at_least=0, at_most=MOST_STEPS),
    "data.seed": Key(0, "seed of the order of rows", at_least=0, at_most=MOST_SEED),
    #
    "model.size": Key(
        "131k", "named shape of the network; empty: five of the keys below give it", choices=tuple(SIZES), also=("",)
    ),
    "model.vocab_size": Key(0, "V; 0: that of the tokenizer; more than that pads the head", at_least=0, at_most=2**21),
    "model.layers": Key(0, "transformer blocks", at_least=0, at_most=1000, when=BY_SHAPE),
    "model.width": Key(0, "d, width of the residual stream", at_least=0, at_most=2**17, when=BY_SHAPE),
    "model.heads": Key(0, "attention heads; they divide the width", at_least=0, at_most=2**12, when=BY_SHAPE),
    "model.key_value_heads": Key(
        0, "fewer than heads: grouped-query attention", at_least=0, at_most=2**12, when=BY_SHAPE
    ),
    "model.mlp_width": Key(0, "hidden width of the MLP", at_least=0, at_most=2**19, when=BY_SHAPE),
    "model.mlp": Key("swiglu", "kind of MLP", ("swiglu", "gelu")),
    "model.norm": Key("rmsnorm", "kind of normalisation", ("rmsnorm", "layernorm")),
    "model.norm_epsilon": Key(1e-5, "added under the root of a norm", above=0, at_most=1),
    "model.rope_base": Key(1e4, "base of the wavelengths of RoPE; 0: no RoPE", at_least=1, also=(0.0,)),
    "model.rope_scaling": Key(
        "",
        "RoPE for longer contexts, such as linear:factor=2 (see models/rope_scaling.py)",
        later=True,
        when=WITH_ROPE,
    ),
    "model.rope_bfloat16": Key(
        False, "cosines and sines of RoPE rounded to bfloat16, as SMDM's code does", later=True, when=WITH_ROPE
    ),
    "model.learned_positions": Key(
        0, "rows of a learned table of positions; 0: none", at_least=0, at_most=2**21, later=True
    ),
    "model.modality_embedding": Key(
        False,
        "a learned vector for text and one for image are added to the embedding",
        later=True,
        when=WITH_IMAGES,
    ),
    "model.image_rope": Key(
        "1d",
        "what turns RoPE at an image token: its place in the row (1d), or its row and column, half of the frequencies "
        "each (2d)",
        ("1d", "2d"),
        later=True,
        when=WITH_IMAGES,
    ),
    "model.image_rope_factor": Key(
        1.0,
        "rows and columns of an image are divided by it, for images larger than those of training",
        at_least=1,
        later=True,
        when={"model.image_rope": ("2d",)},
    ),
    "model.head_size": Key(0, "width of a head; 0: width / heads", at_least=0, at_most=2**12, later=True),
    "model.qkv_bias": Key(False, "bias of queries, keys and values, not of their output", later=True),
    "model.qk_norm": Key(False, "norm of queries and keys in each head"),
    "model.attention_bias": Key(False, "bias of queries, keys, values and their output"),
    "model.mlp_bias": Key(False, "bias of the matrices of the MLP"),
    "model.head_bias": Key(False, "bias of the logits"),
    "model.tied_head": Key(False, "the head is the transposed embedding"),
    "model.time_conditioning": Key(False, "adaLN from the noise level"),
    "model.time_embedding": Key(
        "t",
        "what time conditioning embeds: 1000 t, as DiT, or sigma = -log alpha, as SEDD and MDLM",
        ("t", "sigma"),
        later=True,
        when=TIMED,
    ),
    "model.time_width": Key(128, "width of the embedding of the noise level", at_least=1, at_most=2**16, when=TIMED),
    "model.lora_rank": Key(
        0, "rank of adapters of the blocks' matrices (LoRA); 0: none", at_least=0, at_most=2**12, later=True
    ),
    "model.lora_alpha": Key(16.0, "adapters are multiplied by alpha / rank", above=0, later=True, when=WITH_LORA),
    "model.lora_matrices": Key(
        ",".join(MATRICES), "matrices that have adapters", MATRICES, several=True, later=True, when=WITH_LORA
    ),
    "model.parametrization": Key(
        "standard",
        "how initial weights, learning rates and multipliers change with the shape, from the base shape on: not at "
        "all, with the width (mup), or with width and depth (completep)",
        ("standard", "mup", "completep"),
        later=True,
    ),
    "model.base_width": Key(64, "width of the base shape", at_least=1, at_most=2**17, later=True, when=SCALED),
    "model.base_layers": Key(2, "blocks of the base shape", at_least=1, at_most=1000, later=True, when=DEEPENED),
    "model.base_head_width": Key(
        16, "width of a head of the base shape", at_least=1, at_most=2**12, later=True, when=SCALED
    ),
    "model.dropout": Key(0.0, "after attention and after the MLP", at_least=0, below=1),
    #
    "optim.name": Key(
        "adamw",
        "optimiser; muon: of the blocks' matrices, adamw of all else; schedule_free: adamw with an average for decay",
        ("adamw", "muon", "lion", "schedule_free"),
        later=True,
    ),
    "optim.lr": Key(1e-2, "peak learning rate", above=0),
    "optim.decay": Key("cosine", "decay of the learning rate", ("cosine", "wsd", "constant")),
    "optim.wsd_form": Key(
        "linear",
        "wsd: form of the decay",
        ("linear", "cosine", "exponential", "minus_sqrt"),
        later=True,
        when={"optim.decay": ("wsd",)},
    ),
    "optim.wsd_steps": Key(
        0,
        "wsd: the decay takes the last steps, this many; 0: a tenth",
        at_least=0,
        at_most=MOST_STEPS,
        later=True,
        when={"optim.decay": ("wsd",)},
    ),
    "optim.final": Key(
        0.1, "final learning rate over the peak", at_least=0, at_most=1, when={"optim.decay": ("cosine", "wsd")}
    ),
    "optim.warmup_share": Key(0.01, "warm-up as a share of all steps", at_least=0, at_most=1),
    "optim.warmup_min": Key(10, "warm-up takes at least this many steps", at_least=0, at_most=MOST_STEPS),
    "optim.warmup_from_zero": Key(
        False, "warm-up starts at 0: n / W at step n, as SMDM and Megatron do, instead of (n + 1) / W", later=True
    ),
    "optim.weight_decay": Key(0.1, "decoupled weight decay, on matrices", at_least=0),
    "optim.decay_everything": Key(
        False, "decay norms and embeddings too, as SMDM does", when={"optim.weight_decay": (NOT_ZERO,)}
    ),
    "optim.beta_1": Key(0.9, "decay of the first moment; schedule_free: the average's share", at_least=0, below=1),
    "optim.beta_2": Key(0.95, "Adam's decay of the second moment, Lion's of the first", at_least=0, below=1),
    "optim.epsilon": Key(1e-8, "Adam's epsilon", above=0, at_most=1, when={"optim.name": WITH_EPSILON}),
    "optim.clip": Key(1.0, "largest global norm of the gradient", above=0),
    "optim.ema": Key(0.0, "decay of the weight average; 0: none", at_least=0, below=1),
    "optim.freeze": Key(
        "",
        "parameters that are not trained, as patterns such as ends/* by commas; empty: none, with adapters all others",
        later=True,
    ),
    "optim.on_nonfinite": Key("stop", "what to do at a loss that is NaN, Inf or a spike", ("stop", "skip", "rewind")),
    "optim.spike_deviations": Key(
        0.0,
        "a spike: this many standard deviations above the mean of the last 1,000 losses (OLMo 2: 7); 0: never",
        at_least=0,
        later=True,
    ),
    "optim.rewind_steps": Key(
        100,
        "rewind at least this many steps (PaLM), to a checkpoint, and continue with other data",
        at_least=1,
        at_most=MOST_STEPS,
        later=True,
        when=REWIND,
    ),
    "optim.max_rewinds": Key(
        3, "rewinds before the run fails", at_least=0, at_most=MOST_STEPS, later=True, when=REWIND
    ),
    #
    "train.batch_size": Key(64, "sequences in a step, over all devices", at_least=1, at_most=2**24),
    "train.microbatches": Key(1, "parts of a batch whose gradients are added up", at_least=1, execution=True),
    "train.loss_per": Key(
        "token",
        "the trained loss is a mean over: the tokens with a loss; rows, each divided by its tokens with a loss "
        "(answer, as LLaDA fine-tunes); rows, each as a sum (sequence)",
        ("token", "answer", "sequence"),
        later=True,
    ),
    "train.runner": Key("jit", "how devices share a step", ("jit", "shard_map", "pmap"), execution=True),
    "train.mesh_data": Key(
        1, "copies of the parameters; the product of the four is the number of devices", at_least=1, execution=True
    ),
    "train.mesh_fsdp": Key(
        -1,
        "devices that share the parameters; -1: all that are left",
        at_least=1,
        also=(-1,),
        execution=True,
        when={"train.runner": ("jit",)},
    ),
    "train.mesh_sequence": Key(1, "devices that share the positions of a row", at_least=1, execution=True, later=True),
    "train.mesh_tensor": Key(1, "devices that share the heads and the MLP", at_least=1, execution=True, later=True),
    "train.compute_dtype": Key(
        "float32", "precision of the computation; weights stay float32", ("float32", "bfloat16")
    ),
    "train.float8": Key(False, "8-bit matrix products, scaled: GPUs since Hopper and Ada", later=True),
    "train.scan_layers": Key(
        False, "compile one block for all layers: faster on accelerators, slower on a CPU", execution=True
    ),
    "train.remat": Key("none", "what the backward pass recomputes", ("none", "dots", "full"), execution=True),
    "train.attention": Key(
        "einsum",
        "kernel of attention: einsum, blocked (linear memory), library (cuDNN on a GPU in bfloat16), splash (TPU)",
        ("einsum", "blocked", "library", "splash"),
        execution=True,
    ),
    "train.loss_chunk": Key(128, "positions of a view whose logits exist at once", at_least=1, execution=True),
    "train.scored_only": Key(
        False, "compute logits only where there is a loss: about half of a masked view", execution=True, later=True
    ),
    "train.log_every": Key(50, "steps between log lines", at_least=1, execution=True),
    "train.validate_every": Key(0, "steps between validations; 0: at the end only", at_least=0, execution=True),
    "train.checkpoint_every": Key(500, "steps between checkpoints; 0: at the end only", at_least=0, execution=True),
    "train.checkpoint_at": Key("", "steps whose checkpoints are saved and kept, by commas", execution=True, later=True),
    "train.loggers": Key("", "loggers besides metrics.jsonl", ("tensorboard", "wandb"), several=True, execution=True),
    #
    "eval.sequences": Key(256, "held-out rows", at_least=1, at_most=2**31 - 1),
    "eval.draws": Key(4, "noise draws for each row, for objectives that draw noise", at_least=2, at_most=10**6),
    "eval.batch_size": Key(64, "rows evaluated at once", at_least=1, at_most=2**24, execution=True),
}


def get_config() -> ConfigDict:
    """A config with every key at its default, locked."""
    config = ConfigDict()
    for name, key in KEYS.items():
        section, _, leaf = name.rpartition(".")
        if section and section not in config:
            config[section] = ConfigDict()
        (config[section] if section else config)[leaf] = key.default
    return config.lock()
