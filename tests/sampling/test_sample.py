"""What holds for every sampler."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from mdlm_jax.errors import UserError
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives.parameterizations import score
from mdlm_jax.processes.mixture import uniform
from mdlm_jax.sampling import (
    Ancestral,
    Autoregressive,
    Confidence,
    FirstHitting,
    Ordered,
    PredictorCorrector,
    Remasking,
    Reverse,
    Trace,
    Trained,
    _run,
    left_padded,
    sample,
)
from mdlm_jax.sampling.base import Request
from mdlm_jax.sampling.checks import check
from mdlm_jax.sampling.samplers import SAMPLERS
from mdlm_jax.schedules import linear
from tests.sampling.toys import RARE

LENGTH, VOCABULARY = 8, 11


@functools.cache
def network():
    return transformer(Architecture(VOCABULARY, 1, 32, 4, 4, 48), Execution(scan_layers=True))


@functools.cache
def params():
    return jax.jit(network().init)(jax.random.key(0))


def empty():
    return jnp.zeros((1, 0), int)


def scores(objective_params):
    return score(uniform(VOCABULARY, linear()))


PROCESS = Trained(parameterization=scores)
# those of a process are one function but for how a step is drawn
SLOW = ("tweedie", "euler", "tau_leaping", "predictor_corrector", "metropolis")


# gaussian's network reads vectors: test_gaussian.py
OF_TOKENS = [name for name in SAMPLERS if name != "gaussian"]


@pytest.mark.few(2)
@pytest.mark.parametrize("sampler", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in OF_TOKENS])
def test_rows_do_not_depend_on_their_batch(sampler):
    key, chosen = jax.random.key(1), SAMPLERS[sampler]()
    batch = jax.random.randint(jax.random.key(2), (4, 3), 0, VOCABULARY)
    together, trace = sample(key, network(), params(), batch, chosen, LENGTH, PROCESS)
    alone, trace_alone = sample(key, network(), params(), batch[:1], chosen, LENGTH, PROCESS)
    np.testing.assert_array_equal(together[:1], alone)
    np.testing.assert_array_equal(trace.step[:1], trace_alone.step)
    np.testing.assert_array_equal(trace.evaluations[:1], trace_alone.evaluations)
    others, _ = sample(key, network(), params(), batch.at[:3].set(0), chosen, LENGTH, PROCESS)
    np.testing.assert_array_equal(together[3], others[3])
    np.testing.assert_array_equal(together[:, :3], batch)
    # the same prompt in another row is drawn anew
    twins, _ = sample(key, network(), params(), jnp.tile(batch[:1], (4, 1)), chosen, LENGTH, PROCESS)
    assert (twins[0] != twins[1]).any()


PADDED = [
    Autoregressive(),
    Autoregressive(stop=2),
    Ordered(),
    Ancestral(steps=4),
    FirstHitting(),
    Remasking(steps=6, eta=0.3),
    Confidence(guidance=0.5),
    Confidence(confidence="random", block_size=2, cache="dual"),
    Confidence(block_size=1, cache="prefix"),
]


@pytest.mark.few(1)
@pytest.mark.parametrize("sampler", PADDED)
def test_prompts_of_mixed_lengths_match_single_rows(sampler):
    """A row with two positions of padding is the shorter row, token for token, and shows its padding."""
    long, short = [3, 1, 4, 1], [5, 9]
    prompts = left_padded([long, short])
    trained = Trained(reads_start=not getattr(sampler, "stop", None))
    tokens, trace = sample(jax.random.key(4), network(), params(), prompts, sampler, LENGTH, trained)
    np.testing.assert_array_equal(tokens[:, :4], prompts)
    np.testing.assert_array_equal(trace.step[1, :4], -1)
    second = jnp.array([short, short])
    alone, trace_alone = sample(jax.random.key(4), network(), params(), second, sampler, LENGTH - 2, trained)
    np.testing.assert_array_equal(tokens[1, 2:], alone[1])
    np.testing.assert_array_equal(trace.step[1, 2:], trace_alone.step[1])
    np.testing.assert_allclose(trace.log_probability[1, 2:], trace_alone.log_probability[1], atol=1e-5)
    first, _ = sample(jax.random.key(4), network(), params(), jnp.array([long]), sampler, LENGTH, trained)
    np.testing.assert_array_equal(tokens[:1], first)


@pytest.mark.slow
def test_prompts_of_one_bucket_share_a_program():
    for sampler in (Autoregressive(), Ancestral(), Confidence(block_size=1, cache="dual")):
        sample(jax.random.key(0), network(), params(), jnp.zeros((1, 5), int), sampler, 80)
        programs = _run._cache_size()
        for given in (17, 40, 64):
            sample(jax.random.key(given), network(), params(), jnp.zeros((1, given), int), sampler, 80)
        assert _run._cache_size() == programs


class Least(NamedTuple):
    """With the fields of `Ordered`: equal to it as a tuple."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def check(self, request):
        pass

    def draw(self, keys, network, tokens, context):
        masked = tokens == network.mask_id
        zeros = jnp.zeros(tokens.shape)
        return jnp.where(masked, 0, tokens), Trace(jnp.where(masked, 0, -1), zeros, jnp.zeros(len(tokens)))


def test_samplers_with_equal_fields_do_not_share_a_program():
    assert Ordered() == Least()
    sample(jax.random.key(0), network(), params(), empty(), Ordered(), LENGTH)
    tokens, _ = sample(jax.random.key(0), network(), params(), empty(), Least(), LENGTH)
    assert (tokens == 0).all()


def test_temperatures_limits_and_weights_share_a_program():
    prompt, first = jnp.array([[3, 1]]), Confidence(rule="threshold", limit=0.5, guidance=1.0, temperature=0.5)
    sample(jax.random.key(0), network(), params(), prompt, first, LENGTH)
    programs = _run._cache_size()
    sample(
        jax.random.key(0), network(), params(), prompt, first._replace(limit=0.0, guidance=2.0, temperature=2.0), LENGTH
    )
    assert _run._cache_size() == programs


def test_length_defaults_to_the_prompt():
    prompt = jnp.array([[3, VOCABULARY, 1]])
    tokens, _ = sample(jax.random.key(0), network(), params(), prompt, Ancestral())
    assert tokens.shape == (1, 3) and tokens[0, 0] == 3 and tokens[0, 2] == 1 and tokens[0, 1] < VOCABULARY


def test_watch_sees_every_evaluation():
    for sampler in (Autoregressive(), Ancestral(), Confidence(block_size=2)):
        seen = []
        prompt = jnp.array([[3, 1], [4, 1]])
        tokens, trace = sample(
            jax.random.key(4),
            network(),
            params(),
            prompt,
            sampler,
            LENGTH,
            watch=lambda rows, seen=seen: seen.append(np.array(rows)),
        )
        jax.effects_barrier()
        assert len(seen) == int(trace.evaluations.max()) and (seen[0][:, 2:] == VOCABULARY).all()
        for before, after in zip(seen, [*seen[1:], np.asarray(tokens)], strict=True):
            shown = before != VOCABULARY
            np.testing.assert_array_equal(before[shown], after[shown])
            assert (after != VOCABULARY).sum() > shown.sum()


BLOCKS = Trained(block_size=4)


@pytest.mark.parametrize(
    ("sampler", "prompt", "message"),
    [
        (Ancestral(), [[0] * LENGTH], "8 tokens leaves none of the 8"),
        (Autoregressive(), [[0] * 20], "accepted: fewer"),
        (Ancestral(), [[3, VOCABULARY + 1]], "token 12 .* accepted: 0 to 10, the mask 11"),
        (Autoregressive(), [[3, VOCABULARY]], "a prompt with masks: .* accepted: tokens alone"),
        (Ancestral(), [[-2]], "token -2 "),
        (Ancestral(), [[3, -1, 3]], "-1 after a token"),
        (Ancestral(guidance=float("nan")), [[1]], "accepted is a finite number"),
        (Ancestral(guidance_ramp=True), [[]], "accepted: with a weight"),
        (Ancestral(steps=0), [[]], "accepted is 1 or more"),
        (Reverse("euler"), [[]], "accepted: with the parameterization of its objective"),
        (Reverse("newton"), [[]], "accepted are posterior, tweedie, euler, tau_leaping"),
        (Confidence(cache="triple"), [[]], "accepted are none, prefix, dual"),
        (Confidence(block_size=3), [[]], "a divisor of the 8 tokens"),
        (Confidence(block_size=4, steps=5), [[]], "a multiple of the 2 blocks"),
        (Confidence(rule="threshold"), [[]], "limit None: accepted is a number"),
        (Confidence(rule="threshold", limit=0.9, steps=4), [[]], "as many as it needs"),
        (Confidence(limit=0.9), [[]], "limit 0.9: accepted is a number with rule"),
        (Confidence(rule="factor", limit=float("nan")), [[]], "accepted is 0 or more"),
        (Confidence(rule="entropy_bound", limit=0.1), [[]], "accepted: entropy"),
        (Confidence(upstream_compat=True), [[]], "SDAR's errors; accepted in trained blocks"),
        (Confidence(guidance=1.0), [[]], "no prompt to be guided by"),
        (Confidence(top_k=0), [[]], "top_k 0: accepted is 1 to 11"),
        (Confidence(top_p=1.5), [[]], "top_p 1.5"),
        (Confidence(stop=VOCABULARY), [[]], "accepted is 0 to 10"),
        (Confidence(suppress=(VOCABULARY,)), [[]], "suppress names a token of .* accepted: 0 to 10"),
        (Autoregressive(suppress=(-1,)), [[]], "suppress names a token of .* accepted: 0 to 10"),
        (Ancestral(temperature=-1.0), [[]], "temperature -1.0"),
        (Ancestral(temperature=float("nan")), [[]], "temperature nan"),
    ],
)
def test_bad_requests_are_refused_in_one_line(sampler, prompt, message):
    with pytest.raises(UserError, match=message) as refused:
        sample(jax.random.key(0), network(), params(), jnp.array(prompt, int), sampler, LENGTH)
    assert "\n" not in str(refused.value)


def test_no_prompt_at_all_is_refused():
    with pytest.raises(UserError, match="no prompt at all"):
        sample(jax.random.key(0), network(), params(), jnp.zeros((0, 3), int), Ancestral(), LENGTH)


@pytest.mark.parametrize(
    ("sampler", "prompt", "trained", "message"),
    [
        (Reverse("euler"), [[-1, 3]], PROCESS, "several lengths: Reverse needs one length"),
        (PredictorCorrector(correctors=0), [[]], PROCESS, "accepted is 1 or more"),
        (Reverse(steps=3), [[]], PROCESS._replace(num_steps=4), "has discrete time; accepted: 4"),
        (Ancestral(steps=3), [[]], BLOCKS, "a multiple of the 2 blocks"),
        (Ordered(), [[]], BLOCKS, "does not sample networks trained in blocks"),
        (
            Confidence(confidence="margin", upstream_compat=True),
            [[]],
            BLOCKS,
            "with confidence probability and rule quota or dynamic",
        ),
        (Autoregressive(), [[]], Trained(reads_start=False), "a first token in every row"),
    ],
)
def test_requests_outside_the_training_are_refused(sampler, prompt, trained, message):
    with pytest.raises(UserError, match=message):
        sample(jax.random.key(0), network(), params(), jnp.array(prompt, int), sampler, LENGTH, trained)


@pytest.mark.parametrize("prompt", [[1, 2], [[1.5]]])
def test_prompts_are_integers_in_rows(prompt):
    with pytest.raises(UserError, match="dimensions; accepted: whole numbers"):
        check(Ancestral(), Request(np.array(prompt), LENGTH, VOCABULARY, Trained()))


def test_length_zero_is_refused():
    with pytest.raises(UserError, match="leaves none of the 0"):
        sample(jax.random.key(0), network(), params(), empty(), Ancestral(), 0)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", ["autoregressive", "ordered", "ancestral", "first_hitting", "confidence", "remasking"])
def test_filters_keep_relative_probabilities(name):
    """With top_k 1 a draw is greedy; a larger set leaves each of its tokens its share."""
    # in a random order: the surest of drawn tokens would be the likeliest oftener
    sampler = Confidence(confidence="random") if name == "confidence" else SAMPLERS[name]()
    if name == "autoregressive":
        greedy, _ = sample(jax.random.key(3), network(), params(), empty(), sampler._replace(temperature=0.0), 2)
        np.testing.assert_array_equal(
            greedy, sample(jax.random.key(4), network(), params(), empty(), sampler._replace(top_k=1), 2)[0]
        )
    logits = 0.4 * jnp.arange(VOCABULARY)
    flat = network()._replace(head=lambda params, hidden: jnp.broadcast_to(logits, (*hidden.shape[:-1], VOCABULARY)))
    many = jnp.zeros((4000, 0), int)
    tokens, trace = sample(jax.random.key(5), flat, params(), many, sampler._replace(top_k=5, top_p=0.6), 2)
    kept = np.exp(np.float64(logits))[-2:]  # 0.38 and 0.26 of the five
    counts = np.bincount(np.asarray(tokens)[:, 0], minlength=VOCABULARY)
    assert counts[:-2].sum() == 0 and chisquare(counts[-2:], 4000 * kept / kept.sum()).pvalue > RARE
    np.testing.assert_allclose(trace.log_probability, jax.nn.log_softmax(logits)[tokens], rtol=1e-5)


@pytest.mark.few(2)
@pytest.mark.parametrize("sampler", [n for n in OF_TOKENS if n not in ("autoregressive", "ordered", *SLOW)])
def test_given_tokens_stay_at_any_position(sampler):
    hidden = jnp.array([[1, 0, 1, 1, 0, 0, 1, 0], [0, 0, 0, 1, 1, 1, 1, 1]], bool)
    given = jax.random.randint(jax.random.key(7), hidden.shape, 0, VOCABULARY)
    prompt = jnp.where(hidden, VOCABULARY, given)
    tokens, trace = sample(
        jax.random.key(8), network(), params(), prompt, SAMPLERS[sampler](), LENGTH, Trained(parameterization=scores)
    )
    np.testing.assert_array_equal(tokens[~hidden], given[~hidden])
    np.testing.assert_array_equal(trace.step < 0, ~hidden)
    assert int(tokens.max()) < VOCABULARY
