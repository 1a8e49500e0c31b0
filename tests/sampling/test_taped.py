"""The pieces of a step against what the public code of ReMDM, RADD, SMDM and UniDisc gave with the noise it drew."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.objectives.parameterizations import leave_one_out
from mdlm_jax.processes.mixture import absorbing
from mdlm_jax.sampling import Remasking
from mdlm_jax.sampling.drawing import candidates
from mdlm_jax.sampling.guidance import Weight
from mdlm_jax.sampling.remasking import chance_of_mask, looped
from mdlm_jax.sampling.steps import euler_distribution, tweedie_distribution, without_mask
from mdlm_jax.sampling.unmasking import CONFIDENCES, chosen
from mdlm_jax.schedules import geometric, linear
from tests import public_data
from tests.sampling.taped import EPSILON, LENGTH, MASK, ask, at_most, draws, gumbel, race, spread, with_mask

STRATEGIES = {
    "mdlm": ("cap", 0.0),
    "remdm-cap": ("cap", 0.3),
    "remdm-rescale": ("rescale", 0.3),
    "remdm-conf_fp32": ("confidence", None),
    "remdm-conf_bf16": ("confidence", None),
    "remdm-loop": ("loop", 0.3),
    "loop_long": ("loop", 0.05),
    "forward-backward": ("forward_backward", None),
}
COMPAT = ("remdm-loop", "forward-backward")  # sigma is larger than it may be: there a mask stays with a chance below 0
REMDM = sorted(set(itertools.product(STRATEGIES, (1.0, 0.9))) - {("loop_long", 1.0)})
DISTRIBUTIONS = {"tweedie": tweedie_distribution, "euler": euler_distribution}
NOISE = {"loglinear": lambda: linear(1e-3), "geometric": geometric}
CUTS = {"direct": (None, None), "top_p": (None, 0.8), "top_k": (5, None)}
RADD = list(itertools.product(DISTRIBUTIONS, CUTS, (6, 40), ["loglinear"]))
RADD += [(probs, "direct", 6, "geometric") for probs in DISTRIBUTIONS]
SMDM = list(itertools.product(("origin", "greddy"), (0.0, 1.0), (0.0, 1.5), (4, 30)))
UNIDISC = list(itertools.product(("maskgit", "first_hitting", "ddpm"), (None, 2.5)))


@jax.jit
@partial(jax.vmap, in_axes=(None, None, None, 0, 0))
def kept_masks(*arguments):
    """The chance of a mask in steps in which no token becomes a mask again."""
    return chance_of_mask(Remasking(eta=0.0), *arguments)


@pytest.fixture(autouse=True)
def doubles():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def golden():
    arrays, description = public_data.golden("samplers_taped")
    return arrays, description["cases"]


def test_every_case_is_covered(golden):
    _, cases = golden
    names = {f"remdm/{name}_p{share}" for name, share in REMDM} | {"remdm/dfm_p0.9"}
    names |= {f"radd/{probs}_{cut}_s{steps}_{noise}" for probs, cut, steps, noise in RADD}
    names |= {f"smdm/{rule}_T{temperature}_cfg{weight}_s{steps}" for rule, temperature, weight, steps in SMDM}
    names |= {f"unidisc/{sampler}_cfg{weight}" for sampler, weight in UNIDISC}
    assert names == {name for name, case in cases.items() if "error" not in case}


def levels_there(plan, t, s):
    """(1 - alpha at t, at s): a step across loop_on or loop_off goes on there along the piece of time that t is in."""
    if plan.strategy != "loop":
        return t, s
    at_t = looped(linear(), plan.loop_on, plan.loop_off, plan.loop_alpha)(jnp.float64(t))
    if t > plan.loop_on:
        return at_t, 1 - plan.loop_alpha * (1 - s) / (1 - plan.loop_on)
    return at_t, (1 - plan.loop_alpha) * (s / plan.loop_off if t <= plan.loop_off else 1)


@pytest.mark.few(6)
@pytest.mark.parametrize(("name", "share"), REMDM)
def test_remdm(golden, name, share):
    (arrays, cases), case = golden, f"remdm/{name}_p{share}"
    (strategy, eta), trace = STRATEGIES[name], cases[case]["trace"]
    plan = Remasking(strategy=strategy, eta=eta, upstream_compat=name in COMPAT)
    chances = jax.jit(jax.vmap(partial(chance_of_mask, plan), (None, None, None, 0, 0)))
    tokens, nats, uniform = jnp.full((2, LENGTH), MASK), jnp.zeros((2, LENGTH)), draws(arrays, case)
    times = np.linspace(1, EPSILON, len(trace) + 1, dtype=np.float32).astype(np.float64)
    for t, expected in zip(times[:-1], trace, strict=True):
        logits, hidden = ask(arrays, tokens), tokens == MASK
        probs = jax.nn.softmax(at_most(logits, share) if share < 1 else logits)
        noised, after = (jnp.float64(level) for level in levels_there(plan, t, t - (1 - EPSILON) / len(trace)))
        chance = chances(jnp.float64(t), noised, after, hidden, nats)
        moves = with_mask(jnp.where(hidden[..., None], probs, jax.nn.one_hot(tokens, MASK)), chance)
        if "bf16" in name:  # a token's chance has alpha_t in it, of 8 bits there
            lost = 1 - noised - (1 - noised).astype(jnp.bfloat16)
            moves = moves.at[..., :MASK].add(jnp.where(hidden[..., None], probs * lost / noised, 0))
        moved = race(moves, next(uniform))
        np.testing.assert_array_equal(moved, expected)
        placed = jnp.take_along_axis(probs, jnp.minimum(moved, MASK - 1)[..., None], axis=-1)[..., 0]
        tokens, nats = moved, jnp.where(hidden, jnp.log(placed), nats)
    np.testing.assert_array_equal(without_masks(arrays, tokens), arrays[f"seq/{case}"])


def test_discrete_flow_matching(golden):
    """ReMDM's `dfm` is remasking too: a step masks b (alpha_s - alpha_t) / alpha_t of the tokens again. Steps of
    1 / 12 are shortened where needed, and the next starts where the last ended (arXiv 2407.15595, appendix D)."""
    (arrays, cases), case = golden, "remdm/dfm_p0.9"
    plan = Remasking(strategy="cap")

    @jax.jit
    def chances(eta, *traced):
        return jax.vmap(partial(chance_of_mask, plan._replace(eta=eta)), (None, None, None, 0, 0))(*traced)

    tokens, uniform, t = jnp.full((2, LENGTH), MASK), draws(arrays, case), 1.0
    for expected in cases[case]["trace"]:
        t = float(np.float32(t))
        b = 10 * (t * (1 - t)) ** 0.25
        step = min(1 / 12, 1 / ((b + 1) / t + b / (1 - t))) if t < 1 else 1 / 12
        eta, s = b * step / (1 - t) if t < 1 else 0.0, t - step
        logits, hidden = ask(arrays, tokens), tokens == MASK
        probs = jnp.where(hidden[..., None], jax.nn.softmax(at_most(logits, 0.9)), jax.nn.one_hot(tokens, MASK))
        chance = chances(*(jnp.float64(number) for number in (eta, t, t, s)), hidden, jnp.zeros(tokens.shape))
        tokens, t = race(with_mask(probs, chance), next(uniform)), s
        np.testing.assert_array_equal(tokens, expected)
    np.testing.assert_array_equal(without_masks(arrays, tokens), arrays[f"seq/{case}"])


def without_masks(arrays, tokens):
    """The last step there: what is still hidden becomes the likeliest token."""
    likeliest = candidates(None, ask(arrays, tokens), jnp.float64(0), None, None)
    return jnp.where(tokens == MASK, likeliest, tokens)


@pytest.mark.few(4)
@pytest.mark.parametrize(("probs", "cut", "steps", "noise"), RADD)
def test_radd(golden, probs, cut, steps, noise):
    """A row needs the network only where it changes: no more evaluations than RADD counts."""
    (arrays, cases), name = golden, f"radd/{probs}_{cut}_s{steps}_{noise}"
    process = absorbing(MASK, NOISE[noise]())
    distribution_of, parameterization = jax.jit(partial(DISTRIBUTIONS[probs], process)), leave_one_out(process)
    tokens, changes = jnp.full((3, LENGTH), MASK), 0
    times, uniform = np.linspace(1, EPSILON, steps + 1), draws(arrays, name)
    for step, t in enumerate(times[:-1]):
        logits, hidden, now = ask(arrays, tokens), tokens == MASK, jnp.full(tokens.shape, t)
        moves = distribution_of(
            tokens, parameterization.log_ratio(logits, tokens, now), now - (1 - EPSILON) / steps, now
        )
        if step == steps - 1:
            moves = without_mask(process, tokens, moves, jax.nn.softmax(logits))
        if cut == "direct":
            drawn = race(moves, spread(next(uniform), hidden))
        else:
            shown = hidden
            if step < steps - 1:
                shown = hidden & (next(uniform) < 1 - moves[..., MASK])
            raced = gumbel(spread(next(uniform), shown))
            if cut == "top_k":  # by rank there
                order = jnp.argsort(-logits, axis=-1)[..., : raced.shape[-1]]
                raced = jnp.put_along_axis(jnp.zeros(logits.shape), order, raced, axis=-1, inplace=False)
            token = candidates(raced[..., :MASK], logits, jnp.float64(1), *CUTS[cut])
            drawn = jnp.where(shown, token, MASK)
        moved = jnp.where(hidden, drawn, tokens)
        changes, tokens = changes + int((moved != tokens).any(axis=1).sum()), moved
    np.testing.assert_array_equal(tokens, arrays[f"seq/{name}"])
    assert changes <= cases[name]["update_cnt"]


@pytest.mark.few(6)
@pytest.mark.parametrize(("rule", "temperature", "weight", "steps"), SMDM)
def test_smdm(golden, rule, temperature, weight, steps):
    """SMDM may draw the mask token; the position then stays masked."""
    (arrays, _), name = golden, f"smdm/{rule}_T{temperature}_cfg{weight}_s{steps}"
    tokens = jnp.full((1, LENGTH), MASK + 1).at[:, :5].set(arrays["smdm/prompt"])
    guidance = {"guidance": Weight(jnp.float64(weight)), "prompt": tokens <= MASK} if weight else {}
    times, uniform = np.linspace(1, EPSILON, steps + 1), draws(arrays, name)
    for t, s in itertools.pairwise((*times[:-1], 0.0)):
        hidden = tokens > MASK
        if not hidden.any():
            break
        logits = ask(arrays, tokens, vocab=MASK + 1, **guidance)
        stays = kept_masks(jnp.float64(t), jnp.float64(t), jnp.float64(s), hidden, jnp.zeros(tokens.shape))
        shown = hidden & (spread(next(uniform), hidden) < 1 - stays) if rule == "origin" else hidden
        raced = gumbel(spread(next(uniform), shown))
        drawn = candidates(raced if temperature else None, logits, jnp.float64(1), None, None)
        if rule == "greddy":
            sure = CONFIDENCES["probability"](jax.random.key(0), jax.nn.softmax(logits[0]), drawn[0])
            planned = jnp.int32(hidden.sum() * (1 - s / t))
            shown = chosen("quota", sure, hidden[0], planned, jnp.float64(0))[None]
        tokens = jnp.where(shown, jnp.where(drawn == MASK, MASK + 1, drawn), tokens)
    np.testing.assert_array_equal(jnp.minimum(tokens, MASK), arrays[f"seq/{name}"])


@pytest.mark.few(3)
@pytest.mark.parametrize(("sampler", "weight"), UNIDISC)
def test_unidisc(golden, sampler, weight):
    """Six text tokens are given, ten image tokens drawn. Guidance precedes excluding the other modality's tokens."""
    (arrays, _), name = golden, f"unidisc/{sampler}_cfg{weight}"
    tokens = jnp.asarray(arrays["unidisc/x0"]).at[:, 6:].set(MASK)
    guidance = {"guidance": Weight(jnp.float64(weight), ramp=True), "prompt": tokens != MASK} if weight else {}
    of_text = jnp.arange(LENGTH)[:, None] < 6
    times, uniform = np.linspace(1, EPSILON, 9), draws(arrays, name)
    planned = arrays["unidisc/adap_sche/arccos_n10_s8"][0]
    for t, s, count in zip(times[:-1], times[1:], planned, strict=True):
        hidden = tokens == MASK
        logits = jnp.where(of_text == (jnp.arange(MASK) < 11), ask(arrays, tokens, t, **guidance), -jnp.inf)
        probs, u = jax.nn.softmax(logits), next(uniform)
        if sampler == "ddpm":
            stays = kept_masks(jnp.float64(t), jnp.float64(t), jnp.float64(s), hidden, jnp.zeros(tokens.shape))
            drawn = race(with_mask(probs, stays), u)
            tokens = jnp.where(hidden, drawn, tokens)
            continue
        if sampler == "maskgit":
            drawn = (probs.cumsum(axis=-1) < u.reshape(2, LENGTH, 1)).sum(axis=-1).astype(jnp.int32)
            probability = jax.vmap(CONFIDENCES["probability"], (None, 0, 0))(jax.random.key(0), probs, drawn)
            sure = jnp.log(probability) + 4.5 * t * next(uniform)
        else:
            drawn, sure = (
                candidates(gumbel(u[..., :MASK]), logits, jnp.float64(1), None, None),
                jnp.asarray(next(uniform)),
            )
        shown = jax.vmap(partial(chosen, "quota"), (0, 0, None, None))(sure, hidden, jnp.int32(count), jnp.float64(0))
        tokens = jnp.where(shown, drawn, tokens)
    np.testing.assert_array_equal(tokens, arrays[f"seq/{name}"])
