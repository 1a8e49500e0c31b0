"""What holds for every sampler."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from mdlm_jax.errors import UserError
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives import OBJECTIVES
from mdlm_jax.objectives.parameterizations import score
from mdlm_jax.processes.mixture import uniform
from mdlm_jax.sampling import Plan, _run, left_padded, sample
from mdlm_jax.sampling.checks import check
from mdlm_jax.sampling.samplers import ONE_BY_ONE, SAMPLERS, SERVED_BY, samplers_for
from mdlm_jax.schedules import linear
from tests.sampling.toys import RARE

LENGTH, VOCABULARY = 8, 11
MODEL = transformer(Architecture(VOCABULARY, 1, 32, 4, 4, 48), Execution(scan_layers=True))
PARAMS = jax.jit(MODEL.init)(jax.random.key(0))
EMPTY = jnp.zeros((1, 0), int)
FLAT = 0.4 * jnp.arange(VOCABULARY)


def scores(objective_params):
    return score(uniform(VOCABULARY, linear()))


def test_every_objective_has_a_sampler_and_every_sampler_an_objective():
    assert set(SERVED_BY) == set(OBJECTIVES)
    assert {name for objective in SERVED_BY for name in samplers_for(objective)} == set(SAMPLERS)
    with pytest.raises(UserError, match="any_order_causal, masked"):
        samplers_for("gauss")


# those of a process are one function but for how a step is drawn
SLOW = ("tweedie", "euler", "tau_leaping", "predictor_corrector", "metropolis")


# gaussian's network reads vectors: test_gaussian.py
OF_TOKENS = [name for name in SAMPLERS if name != "gaussian"]


@pytest.mark.few(2)
@pytest.mark.parametrize("sampler", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in OF_TOKENS])
def test_a_row_is_the_same_alone_and_in_any_company(sampler):
    key, plan = jax.random.key(1), Plan(sampler, LENGTH, parameterization=scores)
    batch = jax.random.randint(jax.random.key(2), (4, 3), 0, VOCABULARY)
    together, trace = sample(key, MODEL, PARAMS, batch, plan)
    alone, trace_alone = sample(key, MODEL, PARAMS, batch[:1], plan)
    np.testing.assert_array_equal(together[:1], alone)
    np.testing.assert_array_equal(trace.step[:1], trace_alone.step)
    np.testing.assert_array_equal(trace.evaluations[:1], trace_alone.evaluations)
    others, _ = sample(key, MODEL, PARAMS, batch.at[:3].set(0), plan)
    np.testing.assert_array_equal(together[3], others[3])
    np.testing.assert_array_equal(together[:, :3], batch)
    # the same prompt in another row is drawn anew
    twins, _ = sample(key, MODEL, PARAMS, jnp.tile(batch[:1], (4, 1)), plan)
    assert (twins[0] != twins[1]).any()


PADDED = [
    Plan("autoregressive", LENGTH),
    Plan("autoregressive", LENGTH, reads_start=False, stop=2),
    Plan("ordered", LENGTH),
    Plan("ancestral", LENGTH, steps=4),
    Plan("first_hitting", LENGTH),
    Plan("remasking", LENGTH, steps=6, eta=0.3),
    Plan("confidence", LENGTH, guidance=0.5),
    Plan("confidence", LENGTH, confidence="random", block_size=2, cache="dual"),
    Plan("confidence", LENGTH, block_size=1, cache="prefix"),
]


@pytest.mark.few(1)
@pytest.mark.parametrize("plan", PADDED)
def test_prompts_of_several_lengths_are_what_they_are_alone(plan):
    """A row with two positions of padding is the shorter row, token for token, and shows its padding."""
    long, short = [3, 1, 4, 1], [5, 9]
    prompts = left_padded([long, short])
    tokens, trace = sample(jax.random.key(4), MODEL, PARAMS, prompts, plan)
    np.testing.assert_array_equal(tokens[:, :4], prompts)
    np.testing.assert_array_equal(trace.step[1, :4], -1)
    shorter = plan._replace(length=LENGTH - 2)
    second = jnp.array([short, short])
    alone, trace_alone = sample(jax.random.key(4), MODEL, PARAMS, second, shorter)
    np.testing.assert_array_equal(tokens[1, 2:], alone[1])
    np.testing.assert_array_equal(trace.step[1, 2:], trace_alone.step[1])
    np.testing.assert_allclose(trace.log_probability[1, 2:], trace_alone.log_probability[1], atol=1e-5)
    first, _ = sample(jax.random.key(4), MODEL, PARAMS, jnp.array([long]), plan)
    np.testing.assert_array_equal(tokens[:1], first)


@pytest.mark.slow
def test_prompts_of_one_bucket_share_a_program():
    for plan in (Plan("autoregressive", 80), Plan("ancestral", 80), Plan("confidence", 80, block_size=1, cache="dual")):
        sample(jax.random.key(0), MODEL, PARAMS, jnp.zeros((1, 5), int), plan)
        programs = _run._cache_size()
        for given in (17, 40, 64):
            sample(jax.random.key(given), MODEL, PARAMS, jnp.zeros((1, given), int), plan)
        assert _run._cache_size() == programs


def test_a_watcher_sees_every_evaluation():
    for plan in (Plan("autoregressive", LENGTH), Plan("ancestral", LENGTH), Plan("confidence", LENGTH, block_size=2)):
        seen = []
        prompt = jnp.array([[3, 1], [4, 1]])
        tokens, trace = sample(
            jax.random.key(4), MODEL, PARAMS, prompt, plan, lambda rows, seen=seen: seen.append(np.array(rows))
        )
        jax.effects_barrier()
        assert len(seen) == int(trace.evaluations.max()) and (seen[0][:, 2:] == VOCABULARY).all()
        for before, after in zip(seen, [*seen[1:], np.asarray(tokens)], strict=True):
            shown = before != VOCABULARY
            np.testing.assert_array_equal(before[shown], after[shown])
            assert (after != VOCABULARY).sum() > shown.sum()


@pytest.mark.parametrize(
    ("plan", "prompt", "message"),
    [
        (Plan("greedy", LENGTH), EMPTY, "accepted are autoregressive, ordered, ancestral"),
        (Plan("ancestral", LENGTH), jnp.zeros((1, LENGTH), int), "8 tokens leaves none of the 8"),
        (Plan("autoregressive", LENGTH), jnp.zeros((1, 20), int), "accepted: fewer"),
        (Plan("ancestral", LENGTH), jnp.array([[3, VOCABULARY + 1]]), "token 12 .* accepted: 0 to 10, the mask 11"),
        (
            Plan("autoregressive", LENGTH),
            jnp.array([[3, VOCABULARY]]),
            "a prompt with masks: .* accepted: tokens alone",
        ),
        (Plan("ancestral", LENGTH), jnp.array([[-2]]), "token -2 "),
        (Plan("ancestral", LENGTH), jnp.zeros((0, 3), int), "no prompt at all"),
        (Plan("ancestral", LENGTH), jnp.array([[3, -1, 3]]), "-1 behind a token"),
        (Plan("euler", LENGTH, parameterization=scores), jnp.array([[-1, 3]]), "several lengths: euler has one"),
        (Plan("ancestral", LENGTH, trained_blocks=4), jnp.array([[-1, 3]]), "padded by 1; accepted: a multiple"),
        (Plan("ancestral", LENGTH, shift=True), EMPTY, "above 0 with shift"),
        (Plan("ancestral", LENGTH, trained_blocks=4, steps=3), EMPTY, "a multiple of the 2 blocks"),
        (Plan("ancestral", LENGTH, guidance=float("nan")), jnp.array([[1]]), "accepted is a finite number"),
        (Plan("ancestral", LENGTH, guidance_ramp=True), EMPTY, "accepted: with a weight"),
        (Plan("ancestral", LENGTH, trained_blocks=3), EMPTY, "length 8: accepted is a multiple of the 3"),
        (Plan("ancestral", 0), EMPTY, "leaves none of the 0"),
        (Plan("ancestral", LENGTH, steps=0), EMPTY, "accepted is 1 or more"),
        (Plan("autoregressive", LENGTH, steps=4), EMPTY, "steps 4: autoregressive has none; accepted with anc"),
        (Plan("euler", LENGTH), EMPTY, "accepted: the answer of its objective"),
        (
            Plan("metropolis", LENGTH, parameterization=scores, temperature=0.5),
            EMPTY,
            "temperature 0.5: .* accepted: 1",
        ),
        (Plan("euler", LENGTH, parameterization=scores, correctors=1), EMPTY, "accepted with predictor_corrector"),
        (Plan("predictor_corrector", LENGTH, parameterization=scores, correctors=0), EMPTY, "accepted is 1 or more"),
        (
            Plan("euler", LENGTH, parameterization=scores, top_k=2),
            EMPTY,
            "accepted with autoregressive, ordered, ancestral",
        ),
        (Plan("ancestral", LENGTH, cache="dual"), EMPTY, "cache dual: ancestral has none; accepted with confidence"),
        (Plan("confidence", LENGTH, cache="triple"), EMPTY, "accepted are none, prefix, dual"),
        (Plan("confidence", LENGTH, block_size=3), EMPTY, "a divisor of the 8 tokens"),
        (Plan("confidence", LENGTH, block_size=4, steps=5), EMPTY, "a multiple of the 2 blocks"),
        (Plan("confidence", LENGTH, rule="threshold"), EMPTY, "limit None: accepted is a number"),
        (Plan("confidence", LENGTH, rule="threshold", limit=0.9, steps=4), EMPTY, "as many as it needs"),
        (Plan("confidence", LENGTH, limit=0.9), EMPTY, "limit 0.9: accepted is a number with rule"),
        (Plan("confidence", LENGTH, rule="factor", limit=float("nan")), EMPTY, "accepted is 0 or more"),
        (Plan("confidence", LENGTH, rule="entropy_bound", limit=0.1), EMPTY, "accepted: entropy"),
        (Plan("ancestral", LENGTH, upstream_compat=True), EMPTY, "ancestral has none; accepted with confidence, rem"),
        (Plan("confidence", LENGTH, upstream_compat=True), EMPTY, "SDAR's errors; accepted in trained blocks"),
        (
            Plan("confidence", LENGTH, trained_blocks=4, confidence="margin", upstream_compat=True),
            EMPTY,
            "with confidence probability and rule quota or dynamic",
        ),
        (Plan("confidence", LENGTH, guidance=1.0), EMPTY, "no prompt to be guided by"),
        (Plan("confidence", LENGTH, top_k=0), EMPTY, "top_k 0: accepted is 1 to 11"),
        (Plan("confidence", LENGTH, top_p=1.5), EMPTY, "top_p 1.5"),
        (Plan("confidence", LENGTH, stop=VOCABULARY), EMPTY, "accepted: 0 to 10"),
        (Plan("ancestral", LENGTH, temperature=-1.0), EMPTY, "temperature -1.0"),
        (Plan("ancestral", LENGTH, temperature=float("nan")), EMPTY, "temperature nan"),
        (Plan("autoregressive", LENGTH, reads_start=False), EMPTY, "at least one token"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_one_line(plan, prompt, message):
    with pytest.raises(UserError, match=message) as refused:
        sample(jax.random.key(0), MODEL, PARAMS, prompt, plan)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("prompt", [np.array([1, 2]), np.array([[1.5]])])
def test_a_prompt_is_whole_numbers_in_rows(prompt):
    with pytest.raises(UserError, match="dimensions; accepted: whole numbers"):
        check(Plan("ancestral", LENGTH), prompt, VOCABULARY)


@pytest.mark.few(2)
@pytest.mark.parametrize("sampler", ONE_BY_ONE)
def test_draws_are_from_the_likeliest(sampler):
    """One token is the likeliest; a set of them leaves each of its tokens its share."""
    # in a random order: the surest of drawn tokens would be the likeliest oftener
    plan = Plan(sampler, 2, confidence="random" if sampler == "confidence" else "probability")
    greedy, _ = sample(jax.random.key(3), MODEL, PARAMS, EMPTY, plan._replace(temperature=0.0))
    if sampler == "autoregressive":
        np.testing.assert_array_equal(
            greedy, sample(jax.random.key(4), MODEL, PARAMS, EMPTY, plan._replace(top_k=1))[0]
        )
    flat = MODEL._replace(head=lambda params, hidden: jnp.broadcast_to(FLAT, (*hidden.shape[:-1], VOCABULARY)))
    many = jnp.zeros((4000, 0), int)
    tokens, trace = sample(jax.random.key(5), flat, PARAMS, many, plan._replace(top_k=5, top_p=0.6))
    kept = np.exp(np.float64(FLAT))[-2:]  # 0.38 and 0.26 of the five
    counts = np.bincount(np.asarray(tokens)[:, 0], minlength=VOCABULARY)
    assert counts[:-2].sum() == 0 and chisquare(counts[-2:], 4000 * kept / kept.sum()).pvalue > RARE
    np.testing.assert_allclose(trace.log_probability, jax.nn.log_softmax(FLAT)[tokens], rtol=1e-5)


@pytest.mark.few(2)
@pytest.mark.parametrize("sampler", [n for n in OF_TOKENS if n not in ("autoregressive", "ordered", *SLOW)])
def test_what_is_given_stays_wherever_it_stands(sampler):
    hidden = jnp.array([[1, 0, 1, 1, 0, 0, 1, 0], [0, 0, 0, 1, 1, 1, 1, 1]], bool)
    given = jax.random.randint(jax.random.key(7), hidden.shape, 0, VOCABULARY)
    prompt = jnp.where(hidden, VOCABULARY, given)
    tokens, trace = sample(jax.random.key(8), MODEL, PARAMS, prompt, Plan(sampler, LENGTH, parameterization=scores))
    np.testing.assert_array_equal(tokens[~hidden], given[~hidden])
    np.testing.assert_array_equal(trace.step < 0, ~hidden)
    assert int(tokens.max()) < VOCABULARY
