"""What each objective shows and scores, on packed documents with prompts and padding."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import chi2

from mdlm_jax.data import Example
from mdlm_jax.objectives import OBJECTIVES
from mdlm_jax.objectives.any_order import any_order, any_order_causal
from mdlm_jax.objectives.autoregressive import ar, ar_without_start
from mdlm_jax.objectives.block import block
from mdlm_jax.objectives.masked import masked, masked_lm
from mdlm_jax.processes import PROCESSES
from mdlm_jax.schedules import cosine, linear, polynomial
from tests.once import once

V, DRAWS = 100, 5040  # 5040 draws: every count of hidden tokens comes equally often, up to 10 and 12 tokens
ROWS = {
    "one document": ([1] * 12, []),
    "three documents": ([1] * 5 + [2] * 6 + [3], []),
    "prompts": ([1] * 6 + [2] * 6, [0, 1, 6, 7, 8]),
    "infilling": ([1] * 12, [0, 3, 4, 11]),
    "padding": ([1] * 4 + [2] * 5 + [0] * 3, []),
    "all at once": ([1] * 4 + [2] * 5 + [0] * 3, [0, 5, 8, 10]),
    "one token": ([1] + [0] * 11, []),
    "nothing to score": ([1] * 3 + [0] * 9, [0, 1, 2]),
}
HIDING = {
    "any_order": lambda: any_order(V),
    "masked linear": lambda: masked(V, linear()),
    "masked epsilon": lambda: masked(V, linear(1e-3), time_epsilon=1e-3),
    "masked cosine": lambda: masked(V, cosine()),
    "masked square": lambda: masked(V, polynomial(2.0)),
    "masked_lm": lambda: masked_lm(V, 0.3),
}
ORDERED = {"ar": lambda: ar(V), "any_order_causal": lambda: any_order_causal(V)}
rows = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


def example_of(row) -> Example:
    segments, given = row
    prompt_mask = np.zeros(len(segments), bool)
    prompt_mask[given] = True
    return Example(
        jnp.arange(len(segments), dtype=jnp.int32) + 20, jnp.array(segments, jnp.int32), jnp.array(prompt_mask)
    )


def eligible_of(example):
    return np.asarray((example.segments > 0) & ~example.prompt_mask)


masked_lm_of = functools.cache(functools.partial(masked_lm, V))  # of a rate


@functools.cache
def viewer(objective):
    def one(key, example, u):
        return jax.tree.map(lambda field: field[0], objective.view((), key, example, u))

    return jax.jit(jax.vmap(one, (0, None, 0)))


def many_views(objective, example):
    """One view a draw, with u spread over [0, 1), as arrays [DRAWS, ...]."""
    u = (jnp.arange(DRAWS) + 0.5) / DRAWS
    return jax.tree.map(np.asarray, viewer(objective)(jax.random.split(jax.random.key(0), DRAWS), example, u))


def one_view(objective, example):
    return jax.tree.map(lambda field: field[DRAWS // 3], many_views(objective, example))


@pytest.mark.parametrize("objective", HIDING)
@rows
def test_exactly_the_masked_tokens_have_a_loss(objective, row):
    """No prompt token or padding is ever masked."""
    objective = once(HIDING[objective])
    example = example_of(row)
    eligible = eligible_of(example)
    views = many_views(objective, example)
    hidden = views.tokens == V
    assert not hidden[:, ~eligible].any()
    np.testing.assert_array_equal(views.tokens[~hidden], np.broadcast_to(example.tokens, hidden.shape)[~hidden])
    np.testing.assert_array_equal(views.weight > 0, hidden)
    assert np.isfinite(views.weight).all()
    for field, whole in ((views.targets, example.tokens), (views.segments, example.segments)):
        np.testing.assert_array_equal(field, np.broadcast_to(whole, field.shape))
    np.testing.assert_array_equal(views.positions[0, :, 0], np.arange(12))
    assert hidden.any() == eligible.any() and (views.constant == 0).all()


@rows
def test_any_order_weighs_each_token_once(row):
    """The weights of a draw add up to the number of tokens, and each token's expected weight is 1."""
    example = example_of(row)
    eligible = eligible_of(example)
    views = many_views(once(HIDING["any_order"]), example)
    np.testing.assert_allclose(views.weight.sum(axis=1), eligible.sum(), rtol=1e-6)
    error = views.weight.std(axis=0) / DRAWS**0.5
    assert (np.abs(views.weight.mean(axis=0) - eligible) <= 5 * error).all()
    if eligible.any():
        np.testing.assert_allclose(np.diff(np.bincount((views.tokens == V).sum(axis=1))[1:]), 0, atol=1)


@pytest.mark.parametrize("objective", ["masked cosine", "masked square"])
def test_masked_weighs_each_token_once(objective):
    """The expected weight is the integral of -alpha' / (1 - alpha) x (1 - alpha) = 1."""
    example = example_of(ROWS["all at once"])
    views = many_views(once(HIDING[objective]), example)
    error = views.weight.std(axis=0) / DRAWS**0.5
    assert (np.abs(views.weight.mean(axis=0) - eligible_of(example)) <= 5 * error).all()


def test_any_order_masks_sets_uniformly():
    """Among the sets of one size every set is equally likely."""
    example = example_of(([1] * 5 + [0] * 7, []))
    hidden = many_views(once(HIDING["any_order"]), example).tokens[:, :5] == V
    for size in range(1, 6):
        sets = (hidden[hidden.sum(axis=1) == size] @ (1 << np.arange(5))).astype(int)
        counts = np.array([(sets == sum(1 << i for i in s)).sum() for s in itertools.combinations(range(5), size)])
        assert counts.sum() == DRAWS / 5
        assert (
            len(counts) == 1
            or chi2.sf(((counts / counts.mean() - 1) ** 2).sum() * counts.mean(), len(counts) - 1) > 1e-3
        )


@pytest.mark.parametrize(("u", "all_of_them"), [(0.0, False), (1 - 2**-24, True)])
def test_any_order_mask_counts_at_both_ends(u, all_of_them):
    """The first u masks one token and the last masks all."""
    num_tokens = jnp.array([1, 2, 3, 5, 7, 100, 1000, 1023, 1024, 2047, 2048])

    def view(num_tokens):
        segments = (jnp.arange(2048) < num_tokens).astype(jnp.int32)
        example = Example(jnp.zeros(2048, jnp.int32), segments, jnp.zeros(2048, bool))
        return any_order(V).view((), jax.random.key(0), example, jnp.float32(u))

    views = jax.jit(jax.vmap(view))(num_tokens)
    expected = num_tokens if all_of_them else jnp.ones(11)
    np.testing.assert_array_equal((views.tokens[:, 0] == V).sum(axis=1), expected)
    np.testing.assert_allclose(views.weight.sum(axis=(1, 2)), num_tokens, rtol=1e-5)


@pytest.mark.parametrize("rate", [0.15, 0.5, 1.0])
@pytest.mark.parametrize("row", [*ROWS.values(), ([1] * 40, [])], ids=[*ROWS, "forty tokens"])
def test_masked_lm_masks_its_share_exactly(rate, row):
    example = example_of(row)
    num_tokens = eligible_of(example).sum()
    views = many_views(masked_lm_of(rate), example)
    num_hidden = (views.tokens == V).sum(axis=1)
    assert (num_hidden == num_hidden[0]).all()
    # a half is rounded either way: 0.15 is not exact in float32
    assert num_hidden[0] == min(1, num_tokens) or abs(num_hidden[0] - rate * num_tokens) <= 0.5 + 1e-6
    np.testing.assert_allclose(views.weight.sum(axis=1), num_tokens, rtol=1e-6)


@rows
def test_ar_reads_only_its_own_document(row):
    example = example_of(row)
    view = one_view(once(ORDERED["ar"]), example)
    tokens, segments = np.asarray(example.tokens), np.asarray(example.segments)
    for position in range(12):
        starts = position == 0 or segments[position] != segments[position - 1]
        assert view.tokens[position] == (V if starts else tokens[position - 1])
    np.testing.assert_array_equal(view.targets, tokens)
    np.testing.assert_array_equal(view.weight, eligible_of(example))


def test_ar_without_start_predicts_the_next_token():
    example = example_of(([1] * 12, [0]))
    view = one_view(ar_without_start(V), example)
    np.testing.assert_array_equal(view.tokens, example.tokens[:-1])
    np.testing.assert_array_equal(view.targets, example.tokens[1:])
    np.testing.assert_array_equal(view.weight, np.ones(11))


@rows
def test_any_order_causal_orders_each_document(row):
    """Position j predicts the token at `target` after it read the previous one in the order, at `own`."""
    example = example_of(row)
    tokens, segments, prompt_mask = map(np.asarray, example)
    views = many_views(once(ORDERED["any_order_causal"]), example)
    for draw in range(0, DRAWS, 25):
        own, target = views.positions[draw].T
        np.testing.assert_array_equal(views.key_positions[draw], np.stack([own, own], axis=1))
        assert sorted(target) == list(range(12))
        np.testing.assert_array_equal(views.targets[draw], tokens[target])
        np.testing.assert_array_equal(views.segments[draw], segments[target])
        np.testing.assert_array_equal(views.weight[draw], eligible_of(example)[target])
        assert (np.diff(np.where(segments[target] > 0, segments[target], 99)) >= 0).all()
        for position in range(12):
            starts = position == 0 or views.segments[draw, position] != views.segments[draw, position - 1]
            assert own[position] == (-1 if starts else target[position - 1])
            assert views.tokens[draw, position] == (V if starts else tokens[own[position]])
        for document in set(segments) - {0}:
            order = target[segments[target] == document]
            given = order[prompt_mask[order]]
            np.testing.assert_array_equal(given, np.flatnonzero(prompt_mask & (segments == document)))
            np.testing.assert_array_equal(order[: len(given)], given)


def test_any_order_causal_draws_orders_uniformly():
    example = example_of(([1] * 3 + [2] + [0] * 8, []))
    views = many_views(once(ORDERED["any_order_causal"]), example)
    orders, counts = np.unique(views.positions[:, :3, 1], axis=0, return_counts=True)
    assert len(orders) == 6 and chi2.sf(((counts - DRAWS / 6) ** 2).sum() / (DRAWS / 6), 5) > 1e-3


@pytest.mark.parametrize("objective", [*HIDING, "ar", "any_order_causal"])
def test_token_loss_is_weighted_cross_entropy(objective):
    """Agrees with log softmax; prompts, padding and visible tokens cost nothing, whatever the logits."""
    objective = once((HIDING | ORDERED)[objective])
    view = one_view(objective, example_of(ROWS["all at once"]))
    logits = 30 * np.random.default_rng(0).normal(size=(12, V)).astype(np.float32)
    expected = -log_softmax(np.float64(logits), axis=1)[np.arange(12), view.targets] * view.weight
    assert (expected > 0).any()
    np.testing.assert_allclose(objective.token_loss((), jnp.asarray(logits), view), expected, rtol=1e-5, atol=1e-5)


NOISING = {
    "d3pm": lambda: OBJECTIVES["d3pm"](PROCESSES["hybrid"](V, linear(), 0.5), 10, 0.0),
    "sedd": lambda: OBJECTIVES["sedd"](PROCESSES["uniform"](V, linear()), "raw"),
    "gidd": lambda: OBJECTIVES["gidd"](V, linear(), 0.2, 1.0),
    "udlm": lambda: OBJECTIVES["udlm"](V, linear()),
    "tauldr": lambda: OBJECTIVES["tauldr"](PROCESSES["uniform"](V, linear())),
    "csm": lambda: OBJECTIVES["csm"](V, linear(), "implicit"),
    "genmd4": lambda: OBJECTIVES["genmd4"](V),
    "gaussian": lambda: OBJECTIVES["gaussian"](V),
    "masked, complementary": lambda: masked(V, cosine(), complementary=True),
}
NOISING |= {
    f"{name}, blocks": lambda name=name: block(NOISING[name](), 4, 12) for name in ("udlm", "masked, complementary")
}


@pytest.mark.few(2)
@pytest.mark.parametrize("name", NOISING)
def test_prompts_and_padding_stay_clean_and_free(name):
    """Holds at every time, in every view, for any logits. A row without loss tokens costs nothing at all."""
    objective = NOISING[name]()
    objective_params = objective.init(jax.random.key(0))
    keys, u = jax.random.split(jax.random.key(1), 100), jnp.linspace(0, 1, 100, endpoint=False)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None, 0))
    def look_and_score(key, example, u):
        view = objective.view(objective_params, key, example, u)
        logits = jax.random.normal(key, (*view.targets.shape, V))
        return view, objective.token_loss(objective_params, logits, view)

    for row in ROWS.values():
        example = example_of(row)
        eligible = eligible_of(example)
        views, loss = look_and_score(keys, example, u)
        assert (views.weight[..., ~eligible] == 0).all() and (loss[..., ~eligible] == 0).all()
        shown = np.asarray(views.tokens[..., :12])
        np.testing.assert_array_equal(
            shown[..., ~eligible], np.broadcast_to(example.tokens, shown.shape)[..., ~eligible]
        )
        assert jnp.isfinite(loss).all() and (eligible.any() or (views.constant == 0).all())
        if name not in ("gaussian", "csm") and eligible.any():
            assert (shown != np.asarray(example.tokens))[..., eligible].any()


def test_causal_mask_includes_the_diagonal():
    query, key = np.arange(4)[:, None], np.arange(4)[None]
    np.testing.assert_array_equal(ar(V).mask(query, key), np.tril(np.ones((4, 4), bool)))
