"""A trained run is opened and sampled as it was trained."""

import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.build.described import schedule_of
from mdlm_jax.config import load_config
from mdlm_jax.data.tokenizer import byte_tokenizer
from mdlm_jax.errors import UserError
from mdlm_jax.sampling.compare_run import compare_run
from mdlm_jax.sampling.prompts import encode_prompt
from mdlm_jax.sampling.sample_run import sample_run
from tests import run_folders as runs

PROMPTS = ["", "1 0 1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "extra_token"),
    [("ar", False), ("ar", True), ("masked", True), ("masked_lm", False), ("any_order", False)]
    + [("any_order_causal", False)],
)
def test_every_objective_can_be_sampled(tmp_path, objective, extra_token):
    runs.train(tmp_path, steps=2, objective__name=objective, data__extra_token=extra_token)
    prompts = PROMPTS[1:] if extra_token and objective == "ar" else PROMPTS
    shown = list(sample_run(tmp_path, prompts=prompts, count=2, length=12))
    assert shown == list(sample_run(tmp_path, prompts=prompts, count=2, length=12))
    for text, prompt in zip(shown, prompts, strict=True):
        heading_1, row_1, heading_2, row_2 = text.splitlines()
        assert heading_1.startswith("--- 0: ") and heading_2.startswith("--- 1: ")
        for row in (row_1, row_2):
            assert row.startswith(prompt) and len(row.split()) == 12
    with pytest.raises(UserError, match=f"what objective {objective} does not train; accepted"):
        list(sample_run(tmp_path, prompts=[""], sampler="autoregressive" if objective != "ar" else "ordered"))
    with pytest.raises(UserError, match="accepted is 1 to 16"):
        list(sample_run(tmp_path, prompts=[""], length=17))
    with pytest.raises(UserError, match="cannot read it"):
        list(sample_run(tmp_path, prompts=["words"]))
    if prompts != PROMPTS:
        with pytest.raises(UserError, match="without a start symbol"):
            list(sample_run(tmp_path, prompts=[""]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "sampler", "keys"),
    [
        ("sedd", "predictor_corrector", {"objective__process": "uniform"}),
        ("genmd4", "posterior", {}),
        ("csm", "metropolis", {}),
        ("gidd", "euler", {}),
    ],
)
def test_reverse_samplers_use_the_network_of_a_run(tmp_path, objective, sampler, keys):
    runs.train(tmp_path, steps=2, objective__name=objective, **keys)
    correctors = 1 if sampler == "predictor_corrector" else None
    for name, steps, extra in ((None, 5, None), (sampler, 5, correctors)):
        fields = {"steps": steps} | ({"correctors": extra} if extra else {})
        shown = list(sample_run(tmp_path, prompts=PROMPTS, count=2, sampler=name, fields=fields))
        for text, prompt in zip(shown, PROMPTS, strict=True):
            heading, row_1, _, row_2 = text.splitlines()
            assert heading == f"--- 0: {steps + (steps - 1 if extra else 0)} network evaluations"
            for row in (row_1, row_2):
                assert row.startswith(prompt) and len(row.split()) == 16


@pytest.mark.slow
def test_discrete_chain_is_sampled_in_its_own_steps(tmp_path):
    runs.train(tmp_path, steps=2, objective__name="d3pm", objective__num_steps=7, objective__process="hybrid")
    assert "7 network evaluations" in next(sample_run(tmp_path, prompts=[""]))
    with pytest.raises(UserError, match="steps 8: .* accepted: 7"):
        list(sample_run(tmp_path, prompts=[""], fields={"steps": 8}))
    with pytest.raises(UserError, match="what objective d3pm does not train; accepted: posterior"):
        list(sample_run(tmp_path, prompts=[""], sampler="euler"))


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "sampler"), [("masked", "confidence"), ("sedd", "euler"), ("d3pm", "posterior")])
def test_blocks_are_sampled_in_order(tmp_path, objective, sampler):
    keys = {"objective__num_steps": 3} if objective == "d3pm" else {}
    runs.train(tmp_path, steps=2, objective__name=objective, objective__block_size=4, **keys)
    fields = {} if objective == "d3pm" else {"steps": 8}
    shown = next(sample_run(tmp_path, prompts=["1 0 1"], sampler=sampler, fields=fields))
    heading, row = shown.splitlines()
    assert row.startswith("1 0 1") and len(row.split()) == 16
    # four blocks, of which the first three are read once more
    assert heading == f"--- 0: {(12 if objective == 'd3pm' else 8) + 3 - (sampler == 'confidence')} network evaluations"
    # a length that ends inside a block: the same tokens, cut
    cut = next(sample_run(tmp_path, prompts=["1 0 1"], sampler=sampler, fields=fields, length=15))
    assert cut.splitlines()[1].split() == row.split()[:15]


@pytest.mark.slow
def test_samplers_are_compared_and_replayed(tmp_path):
    runs.train(tmp_path / "run", steps=2, objective__name="masked")
    runs.train(tmp_path / "judge", steps=2, objective__name="ar")
    samplers = ["ancestral:steps=4", "confidence:rule=threshold,limit=0.9,cache=dual,block_size=4"]
    rows = compare_run(
        tmp_path / "run", samplers=samplers, out=tmp_path / "out", judge=tmp_path / "judge", prompt="1 0 1 1", count=3
    )
    assert [row.label for row in rows] == samplers and all(
        row.quality.judge_nats and row.quality.divergence for row in rows
    )
    assert (tmp_path / "out" / "compare.png").stat().st_size > 10_000
    with pytest.raises(UserError, match="objective masked; accepted: a run of ar"):
        compare_run(tmp_path / "run", samplers=samplers, out=tmp_path / "out", judge=tmp_path / "run")
    list(sample_run(tmp_path / "run", prompts=["1", ""], out=tmp_path / "seen"))
    assert (tmp_path / "seen" / "1" / "replay.html").exists() and (tmp_path / "seen" / "0" / "replay.json").exists()


def test_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such file; accepted: the folder of a run"):
        list(sample_run(tmp_path, prompts=[""]))


def test_sampling_uses_the_training_schedule():
    """Up to a factor: the mdlm convention masks (1 - epsilon) t."""
    t = jnp.linspace(0.1, 1.0, 10)
    for overrides, probs in {
        ("--config.objective.epsilon_convention=mdlm",): t,
        ("--config.objective.schedule=cosine",): np.sin(np.pi / 2 * t),
        ("--config.objective.schedule=polynomial", "--config.objective.power=3.0"): t**3,
    }.items():
        config = load_config(str(runs.ROOT / "configs" / "base.py"), list(overrides))
        hidden = schedule_of(config)(t)
        np.testing.assert_allclose(hidden / hidden[-1], probs / probs[-1], rtol=1e-6)


def test_text_becomes_token_ids():
    ids = encode_prompt("é", byte_tokenizer())
    assert ids.dtype == np.int32 and ids.tolist() == [0xC3, 0xA9]
    assert encode_prompt("", byte_tokenizer()).shape == (0,)


@pytest.mark.slow
def test_masks_are_filled_and_prompts_checked_first(tmp_path):
    runs.train(tmp_path, steps=2, objective__name="masked")
    (shown,) = sample_run(tmp_path, prompts=["1 0 <mask:3>1"], mask_token="<mask>")
    row = shown.splitlines()[1].split()
    assert row[:2] == ["1", "0"] and row[5] == "1" and len(row) == 6
    (longer,) = sample_run(tmp_path, prompts=["1 0 1"], new_tokens=4)
    assert len(longer.splitlines()[1].split()) == 7
    texts = sample_run(tmp_path, prompts=["1", " ".join("1" * 16)], length=12)
    with pytest.raises(UserError, match="16 tokens leaves none of the 12"):
        next(texts)
    with pytest.raises(UserError, match="one of the two"):
        list(sample_run(tmp_path, prompts=["1"], length=12, new_tokens=3))


@pytest.mark.slow
def test_tokens_are_named_by_id_and_by_text(tmp_path):
    runs.train(tmp_path, steps=2, objective__name="masked")
    (shown,) = sample_run(tmp_path, prompts=[""], sampler="confidence", tokens={"suppress": "0+1+2+3"})
    assert not set(shown.splitlines()[1].split()) & {"0", "1", "2", "3"}
    (ended,) = sample_run(tmp_path, prompts=["1"], sampler="confidence:block_size=1", tokens={"stop": "1"})
    assert len(ended.splitlines()[1].split()) <= 17


@pytest.mark.slow
def test_block_models_take_prompts_of_any_length(tmp_path):
    runs.train(tmp_path, steps=2, objective__name="masked", objective__block_size=4)
    shown = list(sample_run(tmp_path, prompts=["1", "1 0 1 1 0"], new_tokens=5))
    assert [len(text.splitlines()[1].split()) for text in shown] == [6, 10]
