"""`unified` on worlds of two text and two image tokens: entropies by summation against its own views and losses."""

import functools
import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.exact import ToyDistribution, expected_nats, masked_oracle, tanh_sinh
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.layers import Execution
from mdlm_jax.models.transformer import transformer
from mdlm_jax.objectives.any_order import mask_tokens
from mdlm_jax.objectives.base import cross_entropy, loss_mask
from mdlm_jax.objectives.modality_tasks import TASKS, Task, draw_task, parse_tasks, row_of_task
from mdlm_jax.objectives.noised import importance_sampled_times
from mdlm_jax.objectives.unified import any_order_of_modalities, noise_of_modalities, unified
from mdlm_jax.schedules import cosine, linear, polynomial
from mdlm_jax.training.loss import look, nats

TEXT, V, L = 2, 5, 4  # ids 0 and 1 are text, 2 to 4 image
LOG2 = math.log(2)


def toy_of(kind):
    """p over [2, 2, 3, 3], written in one vocabulary."""
    p = np.zeros((2, 2, 3, 3))
    if kind == "random":
        p[:] = np.random.default_rng(0).dirichlet(np.full(36, 0.3)).reshape(p.shape)
    elif kind == "copies":  # one bit, seen at every position
        p[0, 0, 0, 0] = p[1, 1, 1, 1] = 0.5
    elif kind == "twins":  # two bits of text, and another one at both positions of the image
        p[:, :, 0, 0] = p[:, :, 1, 1] = 1 / 8
    elif kind == "parity":  # the first word is the parity of the image
        for a, b, c in itertools.product(range(2), repeat=3):
            p[a ^ b, c, a, b] = 1 / 8
    probability = np.zeros((V,) * L)
    probability[:TEXT, :TEXT, TEXT:, TEXT:] = p
    return ToyDistribution(probability)


def entropies(toy):
    """H of each task, by its definition."""

    def entropy(p):
        p = p[p > 0]
        return float(-(p * np.log(p)).sum())

    joint, text, image = (entropy(toy.probability.sum(axes)) for axes in ((), (2, 3), (0, 1)))
    found = {"joint": joint, "text": text, "image": image}
    return found | {"image_given_text": joint - text, "text_given_image": joint - image}


@functools.cache
def masked_nats(kind, task):
    """(sets of masks, scored positions, mean nats of each position for each set), by the package's own loss."""
    toy = toy_of(kind)
    probability = toy.probability.ravel()
    tokens = jnp.asarray(toy.tokens[probability > 0])
    rows = row_of_task(Example(tokens, jnp.ones_like(tokens), jnp.zeros(tokens.shape, bool)), TASKS[task], TEXT, V)
    scored = np.asarray(loss_mask(rows))[0]
    sets = np.array([s for s in itertools.product((False, True), repeat=L) if not (np.array(s) & ~scored).any()])
    oracle, token_loss = masked_oracle(toy), cross_entropy

    def of_row(row, hidden):
        view = jax.tree.map(lambda field: field[0], mask_tokens(row, hidden, 1.0, V, jnp.float32(0.5)))
        return token_loss((), oracle(view), view)

    each = jax.jit(jax.vmap(jax.vmap(of_row, (None, 0)), (0, None)))(rows, jnp.asarray(sets))
    return sets, scored, np.tensordot(probability[probability > 0], np.asarray(each, np.float64), 1)


def exact_nats(kind, task, schedules, weighting="bound", independent=False):
    """The mean nats of a task: quadrature over times, and enumeration of sequences and of sets of masks."""
    sets, scored, table = masked_nats(kind, task)
    times, weights = tanh_sinh(40)
    first, second = np.indices((40, 40)).reshape(2, -1) if independent else (np.arange(40), np.arange(40))
    with jax.enable_x64(True):
        levels = jax.jit(
            jax.vmap(lambda t, t_image: noise_of_modalities(*schedules, weighting, t, t_image, jnp.arange(L) >= 2))
        )
        masked, weight = (np.asarray(value) for value in levels(times[first], times[second]))
    chance = np.where(sets, masked[:, None], np.where(scored, 1 - masked[:, None], 1)).prod(axis=2)  # [times, sets]
    total = ((chance @ table) * weight).sum(axis=1)
    return float(total @ (weights[first] * (weights[second] if independent else 1)))


@pytest.mark.few(4)
@pytest.mark.parametrize("schedules", [(linear, linear), (linear, partial(polynomial, 2.0)), (linear, cosine)])
@pytest.mark.parametrize("kind", ["random", "copies", "parity"])
def test_every_task_is_tight(kind, schedules):
    """With the exact denoiser the joint bound is H(T, I) for each pair of schedules, and the other tasks their own."""
    schedules = [schedule() for schedule in schedules]
    for task, known in entropies(toy_of(kind)).items():
        assert exact_nats(kind, task, schedules) == pytest.approx(known, abs=2e-5), task


def test_independent_times_are_no_bound():
    """One bit at four positions: 2/3 ln 2 where H is ln 2. Parity: (1 + 2/3 + 3/2) ln 2 where H is 3 ln 2."""
    schedules = linear(), linear()
    assert exact_nats("copies", "joint", schedules, independent=True) == pytest.approx(2 / 3 * LOG2, abs=2e-5)
    assert exact_nats("parity", "joint", schedules, independent=True) == pytest.approx(19 / 6 * LOG2, abs=2e-5)


def test_muddits_weight_is_off_by_a_known_factor():
    """A bit at both positions of the image: 1 over the share of masks gives 4 / pi ln 2, the bound's weight ln 2."""
    schedules = linear(), cosine()
    assert exact_nats("twins", "image_given_text", schedules) == pytest.approx(LOG2, abs=2e-5)
    found = exact_nats("twins", "image_given_text", schedules, weighting="muddit")
    assert found == pytest.approx(4 / np.pi * LOG2, abs=2e-5)


def test_unidiscs_weight_keeps_a_known_share():
    """Independent tokens cost the same at every time: the share kept is that of 5 t / (1 + 4 t)."""
    found = exact_nats("twins", "text", (linear(), linear()), weighting="unidisc")
    assert found == pytest.approx((5 / 4 - 5 / 16 * np.log(5)) * 2 * LOG2, abs=2e-5)


@pytest.mark.parametrize("task", TASKS)
def test_views_follow_their_levels(task):
    """Drawn views have the mean of the enumeration, within four standard errors."""
    toy = toy_of("random")
    objective = unified(V, TEXT, 2, {task: 1.0}, linear(), cosine())
    mean, error = expected_nats(importance_sampled_times(objective), masked_oracle(toy), toy, jax.random.key(0), 4000)
    assert abs(mean - entropies(toy)[task]) < 4 * error and error < 0.03


def test_mixture_of_tasks():
    """The loss of a mixture is the mean of its tasks' bounds, weighted by their shares."""
    toy, shares = toy_of("random"), {"joint": 0.5, "image_given_text": 0.2, "text": 0.3}
    objective = unified(V, TEXT, 2, shares, linear(), linear())
    mean, error = expected_nats(importance_sampled_times(objective), masked_oracle(toy), toy, jax.random.key(1), 8000)
    known = sum(share * entropies(toy)[task] for task, share in shares.items())
    assert abs(mean - known) < 4 * error and error < 0.03


def test_what_is_reported_is_tight():
    """The k-form on the rows of each task: H(T) + H(I | T) = H(I) + H(T | I) = H(T, I)."""
    toy, reported = toy_of("random"), any_order_of_modalities(V, TEXT, 2)
    for name, known in entropies(toy).items():
        # the rows that the task reads, inside the view
        view = lambda params, key, row, u, name=name: reported.view(  # noqa: E731
            params, key, row_of_task(row, TASKS[name], TEXT, V), u
        )
        mean, error = expected_nats(reported._replace(view=view), masked_oracle(toy), toy, jax.random.key(2), 4000)
        assert abs(mean - known) < 4 * error and error < 0.02, name


def test_only_the_joint_bound_is_a_bound():
    """Whatever is trained, what is reported is an upper bound."""
    both = linear(), cosine()
    plain = unified(V, TEXT, 2, {"joint": 1.0}, *both)
    others = [
        unified(V, TEXT, 2, {"joint": 1.0}, *both, independent_modalities=True),
        unified(V, TEXT, 2, {"joint": 1.0}, *both, weighting="muddit"),
        unified(V, TEXT, 2, {"joint": 1.0}, *both, weighting="unidisc"),
        unified(V, TEXT, 2, {"joint": 0.5, "text": 0.5}, *both),
    ]
    assert plain.bound == "upper" and {other.bound for other in others} == {"none"}
    assert {made.evaluate.bound for made in (plain, *others)} == {"upper"}


def test_task_and_level_share_one_number():
    """Evenly spread u give each task its share, and evenly spread levels within it."""
    shares = {"joint": 0.5, "text": 0.25, "image_given_text": 0.25}
    number, level = jax.vmap(lambda u: draw_task(shares, u))((jnp.arange(64) + 0.5) / 64)
    assert np.bincount(number).tolist() == [32, 16, 16]
    np.testing.assert_allclose(level[32:48], (np.arange(16) + 0.5) / 16, atol=1e-6)
    alone, same = draw_task({"image": 1.0}, jnp.float32(0.25))
    assert alone == 0 and same == 0.25


def test_rows_of_tasks():
    """A given modality stays as it is and has no loss; one that is left out is masked."""
    example = Example(np.array([0, 1, 2, 4]), np.ones(4, int), np.zeros(4, bool))
    found = {name: row_of_task(example, task, TEXT, V) for name, task in TASKS.items()}
    assert found["image_given_text"].tokens.tolist() == [0, 1, 2, 4]
    assert found["image_given_text"].prompt_mask.tolist() == [True, True, False, False]
    assert found["text"].tokens.tolist() == [0, 1, V, V]
    assert found["image"].tokens.tolist() == [V, V, 2, 4]
    assert not found["joint"].prompt_mask.any() and isinstance(found["text"].tokens, np.ndarray)
    assert Task(True, True, False) == TASKS["joint"]


def test_head_of_a_modality_is_the_masked_full_head():
    """Nats and gradients of heads of 2 and 3 ids equal those of all 5 with -inf for the other modality."""
    objective = unified(V, TEXT, 2, {"joint": 0.5, "text_given_image": 0.5}, linear(), cosine())

    def masked(objective_params, logits, view):
        same = (jnp.arange(V) >= TEXT) == (jnp.arange(L) >= 2)[:, None]
        return cross_entropy(objective_params, jnp.where(same, logits, -jnp.inf), view)

    rows = np.array(list(itertools.product([0, 1], [0, 1], [2, 3, 4], [2, 3, 4])))
    example = Example(rows, np.ones_like(rows), np.zeros(rows.shape, bool))
    view = look(objective, (), jax.random.split(jax.random.key(3), 36), example, (jnp.arange(36) + 0.5) / 36)
    for options in ({}, {"tied_head": True, "head_bias": True, "learned_positions": L}):
        model = transformer(Architecture(V, 1, 8, 2, 2, 16, **options), Execution())
        params = jax.tree.map(lambda leaf: 2 * leaf, jax.jit(model.init)(jax.random.key(0)))
        of_parts, of_all = (
            jax.jit(jax.value_and_grad(lambda params, own=own: nats(model, own, params, (), view, L), has_aux=True))  # noqa: B023
            for own in (objective, objective._replace(token_loss=masked, parts=()))
        )
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), of_parts(params), of_all(params))
        scored = nats(model, objective, params, (), view, L, scored_only=True)[0]
        assert float(scored) == pytest.approx(float(of_all(params)[0][0]), rel=1e-5)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: parse_tasks("joint"), "objective.tasks='joint'; accepted: such as"),
        (lambda: parse_tasks("joint=1,both=1"), "joint=1,both=1"),
        (lambda: parse_tasks("joint=0"), "joint=0"),
        (lambda: parse_tasks("joint=1,joint=2"), "each once"),
        (lambda: unified(V, V, 2, {"joint": 1.0}, linear(), linear()), "text_vocab=5; accepted: 1 to 4"),
        (lambda: unified(V, TEXT, 2, {"joint": 0.5}, linear(), linear()), "sum to 1"),
        (lambda: unified(V, TEXT, 2, {"joint": 1.0}, linear(), linear(), "snr"), "weighting='snr'; accepted: bound"),
    ],
)
def test_bad_values_are_refused(call, line):
    with pytest.raises(UserError, match=line):
        call()


def test_shares_are_scaled():
    assert parse_tasks("joint=3, text=1") == {"joint": 0.75, "text": 0.25}


def test_order_of_the_parts_changes_nothing():
    """Positions belong to the tokens: a row whose image is stored first has the same nats."""
    objective = unified(V, TEXT, 2, {"joint": 1.0}, linear(), cosine())
    row = Example(jnp.array([[0, 1, 2, 4]]), jnp.ones((1, 4), int), jnp.zeros((1, 4), bool))
    view = look(objective, (), jax.random.split(jax.random.key(0), 1), row, jnp.ones(1))
    turned = jnp.array([2, 3, 0, 1])
    other = view._replace(
        **{name: getattr(view, name)[:, turned] for name in ("tokens", "positions", "key_positions", "segments")},
        read_at=jnp.argsort(turned)[None],
    )
    model = transformer(Architecture(V, 2, 8, 2, 2, 16, learned_positions=L), Execution())
    params = jax.tree.map(lambda leaf: 2 * leaf, jax.jit(model.init)(jax.random.key(0)))
    first, second = (float(nats(model, objective, params, (), one, L)[0]) for one in (view, other))
    assert first == pytest.approx(second, rel=1e-5) and first > 0
