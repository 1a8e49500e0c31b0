"""From a config to `unified`: what its keys describe, and what is refused."""

import jax
import numpy as np
import pytest

from mdlm_jax.build import build
from mdlm_jax.build.plan import plan
from mdlm_jax.config import load_config
from mdlm_jax.data.captioned import known_entropies, layout_of, open_captioned
from mdlm_jax.errors import UserError
from mdlm_jax.training.step import make_train_step

HEADS_OF_SIX = ("model.size=", "model.layers=2", "model.width=24", "model.heads=4", "model.key_value_heads=4")
HEADS_OF_SIX += ("model.mlp_width=64",)


def planned(*overrides):
    return plan(load_config("unified_shapes", [f"--config.{override}" for override in overrides]))


def test_preset_is_a_mixture_reported_by_the_joint_bound():
    made = planned()
    assert made.architecture.vocab_size == 271  # 15 words and 4^4 codes
    assert made.objective.bound == "none" and made.objective.evaluate.bound == "upper"
    assert planned("objective.tasks=joint=1").objective.bound == "upper"
    assert planned("objective.tasks=joint=1", "objective.independent_modalities=true").objective.bound == "none"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["data.source=stdlib"], "data.source='stdlib' has no images; accepted: shapes"),
        (["objective.tasks=both=1"], "objective.tasks='both=1'; accepted: such as joint=0.5"),
        (["objective.image_schedule=geometric"], "config.objective.image_schedule is 'geometric'; accepted: linear"),
        (["objective.weighting=snr"], "config.objective.weighting is 'snr'; accepted: bound, muddit, unidisc"),
        (["model.time_conditioning=true"], "False: unified"),
        (["objective.schedule=cosine"], "config.objective.schedule is 'cosine'"),
        (["model.image_rope=3d"], "config.model.image_rope is '3d'; accepted: 1d, 2d"),
        (["model.image_rope_factor=2"], "it has no effect when model.image_rope is '1d'"),
        (["model.image_rope=2d", "model.image_rope_factor=0.5"], "accepted: at least 1"),
        (["model.image_rope=2d", "model.rope_base=0"], "accepted: 1d with model.rope_base of 0"),
        (
            ["model.image_rope=2d", "objective.name=any_order_causal"],
            "accepted: 1d with any_order_causal, which has two coordinates",
        ),
        (["model.image_rope=2d", *HEADS_OF_SIX], "a head width that is a multiple of 4, for model.image_rope of 2d"),
        (["data.source=stdlib", "model.modality_embedding=true"], "model.modality_embedding is True; it has no effect"),
    ],
)
def test_bad_keys_are_one_line(overrides, line):
    with pytest.raises(UserError, match=line):
        planned(*overrides)


def test_small_study_of_unidisc():
    """Its rows, vocabulary and network, by the preset's name; the head costs what its modality costs."""
    made = plan(load_config("unidisc_small", []))
    a = made.architecture
    assert (a.vocab_size, a.layers, a.width, a.heads, made.positions) == (40_192, 12, 768, 12, 384)
    assert made.objective.bound == "none" and made.objective.evaluate.bound == "upper"
    full = plan(load_config("unidisc_small", ["--config.objective.name=masked"])).flops_per_step.exact
    logits = 384 * 40_192 - 128 * 32_000 - 256 * 8_192
    assert full - made.flops_per_step.exact == 512 * 3 * 2 * logits * 768


@pytest.mark.slow
def test_small_study_trains_at_a_quarter_of_its_width():
    """20 steps on a CPU, with finite losses."""
    narrow = ["model.size=", "model.layers=12", "model.width=192", "model.heads=3", "model.key_value_heads=3"]
    narrow += ["model.mlp_width=768", "train.batch_size=1", "train.compute_dtype=float32", "objective.weighting=bound"]
    narrow += ["objective.tasks=text=0.5,image=0.5", "eval.sequences=2", "eval.draws=2", "eval.batch_size=1"]
    config = load_config("unidisc_small", [f"--config.{one}" for one in (*narrow, "steps=20", "optim.lr=1e-3")])
    built = build(config)
    train_step = jax.jit(make_train_step(built.model, built.objective, built.optimizer, built.options))
    state, losses = built.make_state(*built.initial), []
    for step in range(20):
        state, metrics = train_step(state, built.data.batch(step))
        losses.append(float(metrics["loss"]))
    assert all(np.isfinite(losses)) and int(state.step) == 20


@pytest.mark.parametrize("path", ["words=3", "words=0,text=1,codes=1,side=1", "words=2,text=1,codes=2,side=x"])
def test_sizes_of_uniform_rows_are_one_line(path):
    with pytest.raises(UserError, match=r"data.path='.*'; accepted: words=32000,text=128,codes=8192,side=16"):
        plan(load_config("unidisc_small", [f"--config.data.path={path}"]))


def test_uniform_rows():
    """Words before codes, all ids in use; their entropies are logarithms."""
    rows = open_captioned("uniform", "words=3,text=2,codes=4,side=2", 6).validation.read(np.arange(200))
    assert set(rows[:, :2].ravel()) == set(range(3)) and set(rows[:, 2:].ravel()) == set(range(3, 7))
    known = known_entropies("uniform", layout_of("uniform", "words=3,text=2,codes=4,side=2"))
    assert known["joint"] == pytest.approx(2 * np.log(3) + 4 * np.log(4)) and known["text"] == known["text_given_image"]


def test_order_is_for_rows_of_both():
    with pytest.raises(UserError, match=r"objective.order is 'flipped'; accepted: text_first; other orders only"):
        plan(load_config("base", ["--config.objective.name=ar", "--config.objective.order=flipped"]))
