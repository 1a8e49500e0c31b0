"""The continuous diffusion language model: its bound by quadrature, its gradient, and its size."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.data import Batch, Example
from mdlm_jax.errors import UserError
from mdlm_jax.exact import ToyDistribution, entropy, expected_nats, gauss_legendre, random_toy_distribution
from mdlm_jax.exact.evidence import leave_one_out
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, Model, transformer
from mdlm_jax.objectives.base import View
from mdlm_jax.objectives.gaussian import LOG_SNR, embedding, evidence, gaussian, readout_nats
from mdlm_jax.processes.gaussian_vectors import alpha_sigma, prior_nats
from mdlm_jax.training.loss import look, nats
from mdlm_jax.training.optimizer import hyperparameters, make_optimizer
from mdlm_jax.training.step import StepOptions, initial_state, make_train_step


def toy_probs():
    return np.array([0.6, 0.3, 0.1])


def normal_grid(step: float, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """(points [n, dimensions], weights): the trapezoidal rule, which for a normal distribution gains digits at every
    halving."""
    axis = np.arange(-7, 7 + step / 2, step)
    points = np.array(list(itertools.product(axis, repeat=dimensions)))
    return points, (step / np.sqrt(2 * np.pi)) ** dimensions * np.exp(-(points**2).sum(axis=1) / 2)


def exact_nats(objective_params, logits_of, toy: ToyDistribution, num_times: int, step: float) -> float:
    """E over x, t and the noise of the objective's nats, by quadrature. `logits_of`: (noisy, log_snr) -> f[n L V]."""
    vectors = embedding(objective_params)
    length, width = toy.length, vectors.shape[-1]
    objective = gaussian(toy.vocab, width)
    noise, noise_weight = normal_grid(step, length * width)
    noise = jnp.asarray(noise.reshape(-1, length, width))
    positions, n = jnp.zeros((len(noise), length, 1), jnp.int32), len(noise)

    @jax.jit
    def mean_at(x, t):
        log_snr, clean = LOG_SNR(t), vectors[x]
        alpha, sigma = alpha_sigma(log_snr)
        noisy, x = alpha * clean + sigma * noise, jnp.broadcast_to(x, (n, length))
        levels = jnp.full((n, 1), t)
        view = View(x, x, jnp.ones((n, length)), levels, positions, positions, x, jnp.zeros(n), noisy)
        each = objective.token_loss(objective_params, logits_of(noisy, LOG_SNR(levels)), view).sum(axis=1)
        return noise_weight @ each + prior_nats(clean, LOG_SNR(jnp.ones(1, t.dtype))).sum()

    times, weights = gauss_legendre(num_times)
    chances = toy.probability.ravel()
    return sum(
        chance * weight * float(mean_at(jnp.asarray(x), jnp.asarray(t)))
        for x, chance in zip(toy.tokens, chances, strict=True)
        for t, weight in zip(times, weights, strict=True)
    )


def on_a_line():
    return {"embedding": jnp.asarray([[1.0], [-1.0]])}


def on_a_circle():
    angle = np.array([0.0, 2.0, 4.5])
    return {"embedding": jnp.asarray(np.stack([np.cos(angle), np.sin(angle)], axis=1))}


def knows(probs):
    return lambda noisy, log_snr: jnp.broadcast_to(jnp.log(probs), (*noisy.shape[:2], len(probs)))


@pytest.mark.parametrize(("objective_params", "step"), [(on_a_line, 0.2), (on_a_circle, 0.25)], ids=["line", "circle"])
def test_one_token_bound_is_the_entropy(objective_params, step):
    """The best logits are the token distribution alone: the objective adds the evidence of the noisy vector."""
    with jax.enable_x64(True):
        num = len(objective_params()["embedding"])
        probs = toy_probs()[:num] / toy_probs()[:num].sum()
        found = exact_nats(objective_params(), knows(probs), ToyDistribution(probs), 60, step)
        assert found == pytest.approx(entropy(ToyDistribution(probs)), abs=2e-3)


def test_uniform_network_costs_log_v():
    with jax.enable_x64(True):
        found = exact_nats(on_a_circle(), knows(np.ones(3) / 3), ToyDistribution(toy_probs()), 60, 0.25)
        assert found == pytest.approx(np.log(3), abs=2e-3)


def of_two_positions(joint, vectors):
    """The best network of a toy distribution of two positions: the distribution of each given the noisy other."""
    joint = jnp.asarray(joint)

    def logits(noisy, log_snr):
        shown = jax.nn.softmax(evidence(vectors, noisy, log_snr), axis=-1)
        distributions = jax.vmap(lambda shown: leave_one_out(joint, shown))(shown)
        return jnp.log(distributions)

    return logits


def test_two_token_bound_is_tight_when_optimal():
    """The bound is the entropy with the best network and larger with two others."""
    with jax.enable_x64(True):
        toy = random_toy_distribution(1, vocab=2, length=2)
        best = of_two_positions(toy.probability, embedding(on_a_line()))
        found = exact_nats(on_a_line(), best, toy, 40, 0.35)
        assert found == pytest.approx(entropy(toy), abs=2e-3)
        marginals = np.stack([toy.probability.sum(axis=1), toy.probability.sum(axis=0)])
        apart = exact_nats(
            on_a_line(), lambda noisy, _: jnp.broadcast_to(jnp.log(marginals), (len(noisy), 2, 2)), toy, 40, 0.35
        )
        assert apart == pytest.approx(sum(entropy(ToyDistribution(probs)) for probs in marginals), abs=2e-3)
        confident = exact_nats(on_a_line(), lambda noisy, log_snr: 2 * best(noisy, log_snr), toy, 40, 0.35)
        assert min(apart, confident) > found + 0.01


def test_drawn_nats_average_to_the_entropy():
    """The objective draws its own views of the toy distribution, in 16 dimensions with random vectors."""
    toy, objective, key = random_toy_distribution(2, vocab=3, length=2), gaussian(3), jax.random.key(0)
    vectors = embedding(objective.init(key))
    best = of_two_positions(toy.probability, vectors)

    def oracle(view):
        return best(view.noisy[None], LOG_SNR(view.t)[None])[0]

    mean, error = expected_nats(objective, oracle, toy, key, 40_000)
    assert error < 0.01 and abs(mean - entropy(toy)) < 3 * error + 2e-3


@pytest.mark.parametrize("log_snr", [-2.0, 0.0, 2.0, 4.0])
def test_readout_nats_are_an_upper_bound(log_snr):
    """E[-log softmax(evidence)_x] <= 2 log sum_v exp(-SNR |e(x) - e(v)|^2 / 8), by quadrature over z."""
    with jax.enable_x64(True):
        vectors = embedding(on_a_circle())
        alpha, sigma = alpha_sigma(jnp.asarray(log_snr))
        points, weight = normal_grid(0.1, 2)
        for x in range(3):
            noisy = alpha * vectors[x] + sigma * points
            log_p = jax.nn.log_softmax(evidence(vectors, noisy, jnp.full(len(points), log_snr)), axis=-1)[:, x]
            spent, bound = float(-weight @ log_p), float(readout_nats(vectors, jnp.asarray(x), log_snr))
            assert spent <= bound + 1e-15 and bound < 2 * np.log(3)
            assert bound < 1e-3 or log_snr < 4


def rows() -> Example:
    """Two rows, of which the second has a prompt and padding."""
    tokens = jnp.arange(12).reshape(2, 6) % 5
    segments = jnp.array([[1] * 6, [1, 1, 1, 1, 1, 0]])
    return Example(tokens, segments, jnp.array([[False] * 6, [True, True] + [False] * 4]))


def test_view_keeps_prompts_and_padding_clean():
    """All other vectors are alpha e(x) + sigma noise."""
    objective, key = gaussian(5, embedding_width=4), jax.random.key(0)
    objective_params = objective.init(key)
    np.testing.assert_allclose((embedding(objective_params) ** 2).sum(axis=1), 4, rtol=1e-5)
    example = Example(jnp.zeros(5000, jnp.int32), jnp.ones(5000, jnp.int32).at[-1].set(0), jnp.arange(5000) < 2)
    view = objective.view(objective_params, key, example, 0.6)
    alpha, sigma = map(float, alpha_sigma(LOG_SNR(jnp.float32(0.6))))
    left = np.asarray(view.noisy[0] - alpha * embedding(objective_params)[0])
    assert abs(left[2:-1].mean()) < 4 * sigma / 20_000**0.5
    np.testing.assert_allclose(left[2:-1].std(), sigma, rtol=4 / 40_000**0.5)
    np.testing.assert_allclose(
        view.noisy[0, jnp.array([0, 1, -1])], embedding(objective_params)[jnp.zeros(3, int)], rtol=1e-6
    )
    assert view.weight[0].sum() == 4997 and view.t.tolist() == [[pytest.approx(0.6)]]
    np.testing.assert_allclose(
        view.constant[0], 4997 * float(prior_nats(embedding(objective_params), LOG_SNR(jnp.ones(5)))[0]), rtol=1e-4
    )


def small_network(key) -> tuple[Model, dict]:
    """A network that computes in what it is given: every position sees its own vector and the mean of all."""
    kernels = jax.random.normal(key, (3, 4, 4))
    params = {"in": kernels[0], "mixed": kernels[1], "ends": {"head": jax.random.normal(key, (4, 5))}}

    def hidden(params, view, mask, dropout_keys=None):
        mean = view.noisy.mean(axis=1, keepdims=True)
        return jnp.tanh(view.noisy @ params["in"] + mean @ params["mixed"]), None

    model = transformer(Architecture(5, 1, 4, 1, 1, 4, input_width=4), Execution())
    return model._replace(hidden=hidden, head=lambda params, hidden: hidden @ params["ends"]["head"]), params


def test_embedding_gradient_matches_finite_differences():
    """The vectors act on the network's input, on a position's evidence, on the predicted mean and on its target."""
    with jax.enable_x64(True):
        objective, key = gaussian(5, embedding_width=4), jax.random.key(1)
        model, params = small_network(key)
        objective_params, keys, u = objective.init(key), jax.random.split(key), jnp.array([0.45, 0.6])

        @jax.jit
        def total(objective_params):
            return nats(
                model, objective, params, objective_params, look(objective, objective_params, keys, rows(), u), 2
            )[0]

        slope = jax.grad(total)(objective_params)["embedding"]
        direction, size = jax.random.normal(jax.random.key(2), slope.shape), 1e-5
        above, below = (
            total({"embedding": objective_params["embedding"] + sign * size * direction}) for sign in (1, -1)
        )
        assert abs(float((slope * direction).sum())) > 0.1
        assert float((slope * direction).sum()) == pytest.approx(float((above - below) / (2 * size)), rel=1e-6)


def train_step_of(vocab_size: int, architecture: Architecture, batch_size: int, chunk: int):
    objective, model = gaussian(vocab_size), transformer(architecture, Execution())
    optimizer = make_optimizer(
        decay="constant", final=1.0, beta_1=0.9, beta_2=0.95, epsilon=1e-8, clip=1.0, decay_everything=False
    )
    step = make_train_step(model, objective, optimizer, StepOptions(batch_size, loss_chunk=chunk))
    numbers = hyperparameters(1e-2, 0.1, 1, 30)
    return step, lambda: initial_state(model, objective, optimizer, 0.0, jnp.uint32(0), numbers)


@pytest.mark.slow
def test_train_step_learns_tokens_and_vectors():
    """Tokens 0 and 1 are equally likely and 2, 3 and 4 never occur: log 2 nats instead of log 5."""
    architecture = Architecture(5, 1, 16, 2, 2, 32, input_width=16, time_conditioning=True)
    step, make_state = train_step_of(5, architecture, batch_size=32, chunk=3)
    state, step = jax.jit(make_state)(), jax.jit(step)
    tokens = jnp.asarray(np.random.default_rng(0).integers(2, size=(32, 6)), jnp.int32)
    batch = Batch(Example(tokens, jnp.ones_like(tokens), jnp.zeros(tokens.shape, bool)), jnp.arange(32))
    before, losses = state.objective_params["embedding"], []
    for _ in range(50):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[0] == pytest.approx(np.log(5), abs=0.5)
    assert np.mean(losses[-20:]) == pytest.approx(np.log(2), abs=0.2)
    assert float(jnp.abs(state.objective_params["embedding"] - before).max()) > 0.01


def test_train_step_memory_at_32000_tokens():
    """In chunks of 64 positions a step reserves less memory than two arrays of logits [B, L, V]."""
    vocab_size, length = 32000, 1024
    architecture = Architecture(vocab_size, 1, 64, 4, 4, 64, input_width=16, time_conditioning=True)
    step, make_state = train_step_of(vocab_size, architecture, batch_size=2, chunk=64)
    ids = jax.ShapeDtypeStruct((2, length), jnp.int32)
    batch = Batch(Example(ids, ids, jax.ShapeDtypeStruct(ids.shape, bool)), jax.ShapeDtypeStruct((2,), jnp.int32))
    compiled = jax.jit(step).lower(jax.eval_shape(make_state), batch).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 2 * (2 * length * vocab_size * 4)


def test_zero_embedding_width_is_refused():
    with pytest.raises(UserError, match="at least 1"):
        gaussian(5, embedding_width=0)
