"""Features of earlier steps (dLLM-Cache) against the algorithm as published, and what must not change with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.feature_cache import Layer, Reuse
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives.base import full
from mdlm_jax.sampling import Confidence, Trained, left_padded, sample
from mdlm_jax.sampling.guidance import Weight, Without
from mdlm_jax.sampling.network import Network, new_features, read, reading

VOCABULARY, LENGTH, GIVEN = 11, 20, 6
PLAIN = Architecture(VOCABULARY, 3, 32, 4, 2, 48, rope_base=100.0)
TIMED = PLAIN._replace(layers=2, time_conditioning=True, qk_norm=True, mlp="gelu", attention_bias=True)


def first_tokens():
    return np.asarray(jax.random.randint(jax.random.key(2), (3, GIVEN), 0, VOCABULARY))


@pytest.fixture(autouse=True)
def exact_products():
    with jax.default_matmul_precision("highest"):
        yield


def made(architecture, **execution):
    """A network and parameters far from those at the start, where adaLN does nothing and attention is near uniform."""
    model, random = transformer(architecture, Execution(use_segments=False, **execution)), np.random.default_rng(1)

    def drawn(path, leaf):
        is_scale = "scale" in jax.tree_util.keystr(path)
        return jnp.asarray(is_scale + 0.2 * random.normal(size=leaf.shape), leaf.dtype)

    return model, jax.tree_util.tree_map_with_path(drawn, jax.eval_shape(model.init, jax.random.key(0)))


def rows(steps):
    """What is read in each step: two tokens of every row are placed between one and the next, prompts stay."""
    random = np.random.default_rng(0)
    text = np.concatenate([first_tokens(), np.full((3, LENGTH - GIVEN), VOCABULARY)], axis=1)
    for _ in range(steps):
        yield text.copy()
        for row in text:
            row[random.choice(np.arange(GIVEN, LENGTH), 2, replace=False)] = random.integers(VOCABULARY, size=2)


def read_all(model, params, reuse, steps):
    """The hidden states of every step."""
    network = Network(model, params, jnp.zeros((3, LENGTH), jnp.int32))
    positions = jnp.broadcast_to(jnp.arange(LENGTH)[:, None], (3, LENGTH, 1))
    read = jax.jit(
        lambda tokens, t, cache: model.hidden(params, reading(tokens, positions, positions, t), full, cache=cache)
    )
    cache = None if reuse is None else new_features(network, reuse)
    for index, tokens in enumerate(rows(steps)):
        out, cache = read(jnp.asarray(tokens, jnp.int32), jnp.full(3, 1 - index / steps), cache)
        yield np.asarray(out)


def published(params, a, reuse):
    """A reader of one row by the published algorithm, of a network without adaLN: loops, two regions, keys unturned."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    ends, blocks, kept, steps = params["ends"], params["blocks"], {}, iter(range(99))
    regions = {"prompt": np.arange(GIVEN), "response": np.arange(GIVEN, LENGTH)}
    intervals = {"prompt": reuse.prompt_interval, "response": reuse.response_interval}

    def norm(x, scale):
        return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + a.norm_epsilon) * scale

    def turned(x, positions):
        half = x.shape[-1] // 2
        angle = (positions[:, None] * a.rope_base ** (-np.arange(half) / half))[:, None]
        (one, two), cos, sin = (x[..., :half], x[..., half:]), np.cos(angle), np.sin(angle)
        return np.concatenate([one * cos - two * sin, two * cos + one * sin], axis=-1)

    def attend(keys, values, queries, at):
        keys, values = (x.reshape(LENGTH, a.key_value_heads, a.head_width) for x in (keys, values))
        keys, queries, out = turned(keys, np.arange(LENGTH)), turned(queries.reshape(len(at), a.heads, -1), at), []
        for head in range(a.heads):
            group = head // (a.heads // a.key_value_heads)
            scores = np.exp(queries[:, head] @ keys[:, group].T / np.sqrt(a.head_width))
            out.append(scores / scores.sum(axis=1, keepdims=True) @ values[:, group])
        return np.concatenate(out, axis=1)

    def layer(index, step, x):
        w, anew = jax.tree.map(lambda leaf: leaf[index], blocks), {}
        normed = norm(x, w["norm_1"]["RMSNorm_0"]["scale"])
        for region, positions in regions.items():
            here = normed[positions]
            v = here @ w["value"]["kernel"]
            if index == 0 or step % intervals[region] == 0:
                anew[region] = np.arange(len(positions))
                empty = {name: np.zeros_like(here) for name in ("attention", "mlp")}
                kept[index, region] = {"k": here @ w["key"]["kernel"], "v": v} | empty
            elif region == "response" and reuse.updated:
                old = kept[index, region]
                cosine = (v * old["v"]).sum(axis=1) / np.linalg.norm(v, axis=1) / np.linalg.norm(old["v"], axis=1)
                anew[region] = np.argsort(cosine)[: reuse.updated]
                old["k"][anew[region]] = here[anew[region]] @ w["key"]["kernel"]
                old["v"] = v

        def all_of(name):
            return np.concatenate([kept[index, region][name] for region in regions])

        for region, chosen in anew.items():
            at = regions[region][chosen]
            mixed = attend(all_of("k"), all_of("v"), normed[at] @ w["query"]["kernel"], at)
            kept[index, region]["attention"][chosen] = mixed @ w["attention_out"]["kernel"]
        x = x + all_of("attention")
        normed = norm(x, w["norm_2"]["RMSNorm_0"]["scale"])
        for region, chosen in anew.items():
            here = normed[regions[region][chosen]]
            gate = here @ w["gate"]["kernel"]
            up = gate / (1 + np.exp(-gate)) * (here @ w["up"]["kernel"])
            kept[index, region]["mlp"][chosen] = up @ w["down"]["kernel"]
        return x + all_of("mlp")

    def read(tokens):
        step, x = next(steps), ends["embedding"]["embedding"][tokens]
        for index in range(a.layers):
            x = layer(index, step, x)
        return norm(x, ends["norm"]["RMSNorm_0"]["scale"])

    return read


@pytest.mark.parametrize(("scan_layers", "share"), [(False, 0.25), (True, 0.25), (False, 0.0)])
def test_hidden_states_match_the_published_algorithm(scan_layers, share):
    """Thirteen steps cover all four kinds, and both regions twice. Share 0 updates at the intervals alone."""
    model, params = made(PLAIN, scan_layers=scan_layers)
    reuse, steps = Reuse(GIVEN, 4, 3, int((LENGTH - GIVEN) * share)), 13
    readers = [published(params, PLAIN, reuse) for _ in first_tokens()]
    plain = read_all(model, params, None, steps)
    apart = []
    for step, tokens in zip(read_all(model, params, reuse, steps), rows(steps), strict=True):
        expected = np.stack([read(text) for read, text in zip(readers, tokens, strict=True)])
        np.testing.assert_allclose(step, expected, atol=1e-4)
        apart.append(np.abs(step - next(plain)).max())
    exact = [index % 12 == 0 for index in range(steps)]  # where both regions are computed anew
    assert (np.array(apart)[exact] < 1e-4).all() and np.delete(apart, np.flatnonzero(exact)).min() > 1e-3


@pytest.mark.slow
def test_updating_all_positions_recomputes_the_response():
    model, params = made(TIMED, scan_layers=True)
    share = read_all(model, params, Reuse(GIVEN, 4, 100, LENGTH - GIVEN), 6)
    whole = read_all(model, params, Reuse(GIVEN, 4, 1, 1), 6)
    for one, other in zip(share, whole, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "architecture, execution, arguments",
    [
        (PLAIN._replace(layers=2), {"attention": "blocked"}, {"block_size": 2, "rule": "threshold", "limit": 0.3}),
        (TIMED, {"attention": "library", "scan_layers": True}, {"temperature": 0.0, "guidance": 1.0}),
        (PLAIN, {}, {"guidance": 1.0, "guidance_interval": 1, "guidance_ramp": True}),
    ],
)
def test_intervals_of_one_step_change_nothing(architecture, execution, arguments):
    """Prompts differ in length."""
    model, params = made(architecture, **execution)
    prompt = left_padded([first_tokens()[0].tolist(), first_tokens()[1, 2:].tolist(), first_tokens()[2].tolist()])
    plan = Confidence(**arguments)
    plain, trace = sample(jax.random.key(0), model, params, prompt, plan._replace(guidance_interval=None), LENGTH)
    always = plan._replace(cache="features", prompt_interval=1, response_interval=1)
    tokens, trace_always = sample(jax.random.key(0), model, params, prompt, always, LENGTH)
    np.testing.assert_array_equal(tokens, plain)
    np.testing.assert_array_equal(trace_always.step, trace.step)
    np.testing.assert_array_equal(trace_always.evaluations, trace.evaluations)
    np.testing.assert_allclose(trace_always.log_probability, trace.log_probability, atol=1e-5)


def guided(model, params, reuse, interval, weight, steps):
    """Hidden states of every step with guidance, by the package."""
    network = Network(
        model,
        params,
        jnp.zeros((3, LENGTH), jnp.int32),
        guidance=Weight(jnp.float32(weight)),
        without=(Without(jnp.broadcast_to(jnp.arange(LENGTH) < GIVEN, (3, LENGTH)), jnp.ones((3, LENGTH), bool)),),
    )
    cache = new_features(network, reuse, interval)
    step = jax.jit(lambda tokens, cache: read(network, cache, tokens, jnp.zeros(3)))
    for tokens in rows(steps):
        hidden, cache = step(jnp.asarray(tokens, jnp.int32), cache)
        yield np.asarray(hidden), cache


@pytest.mark.parametrize("reuse", [Reuse(GIVEN, 4, 3, 3), Reuse(GIVEN, 1, 1, 0)])
def test_guidance_matches_the_published_algorithm(reuse):
    """Rows are read without their prompt in the first five steps, then in every third: 1 to 5, 7, 10 and 13.

    Both ways of reading have features and clocks of their own. l + w r, where r is the last difference.
    """
    model, params = made(PLAIN)
    interval, weight, steps = 3, 0.7, 14
    with_prompt, without = ([published(params, PLAIN, reuse) for _ in range(3)] for _ in range(2))
    differences, both_ways = [None] * 3, []
    drawn = list(guided(model, params, reuse, interval, weight, steps))
    for number, (tokens, (found, _)) in enumerate(zip(rows(steps), drawn, strict=True), start=1):
        expected, both = [], (number - 1) % interval == 0 or number <= 5
        both_ways += [number] * both
        for row, text in enumerate(tokens):
            hidden = with_prompt[row](text)
            if both:
                masked = np.where(np.arange(LENGTH) < GIVEN, VOCABULARY, text)
                differences[row] = hidden - without[row](masked)
            expected.append(hidden + weight * differences[row])
        np.testing.assert_allclose(found, expected, atol=2e-4)
    cache = drawn[-1][1]
    assert both_ways == [1, 2, 3, 4, 5, 7, 10, 13]
    np.testing.assert_array_equal(cache.given.step, steps)
    np.testing.assert_array_equal(cache.without.step, 8)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "architecture, execution, arguments",
    [
        (TIMED, {"scan_layers": True}, {}),
        (PLAIN, {}, {"rule": "threshold", "limit": 0.3}),
        (TIMED, {}, {"rule": "factor", "limit": 1.5, "guidance": 1.0}),
        (TIMED, {}, {"rule": "factor", "limit": 1.5, "guidance": 1.0, "guidance_interval": 3}),
        (PLAIN, {"scan_layers": True}, {"rule": "entropy_bound", "confidence": "entropy", "limit": 1.0, "steps": None}),
    ],
)
def test_rows_do_not_depend_on_their_batch(architecture, execution, arguments):
    """The row's prompt is shorter, so it is padded, and the other rows take more steps in a block."""
    model, params = made(architecture, **execution)
    prompts = [first_tokens()[0, 2:].tolist(), *first_tokens()[1:].tolist()]
    plan = Confidence(block_size=7, cache="features", prompt_interval=5, response_interval=3)
    plan = plan._replace(**arguments)
    together, trace = sample(jax.random.key(1), model, params, left_padded(prompts), plan, LENGTH)
    length = len(prompts[0]) + LENGTH - GIVEN
    tokens, trace_alone = sample(jax.random.key(1), model, params, np.array(prompts[:1]), plan, length)
    np.testing.assert_array_equal(together[0, -length:], tokens[0])
    np.testing.assert_array_equal(trace.step[0, -length:], trace_alone.step[0])
    # features carry what one step rounds into the next ones; what depends on another row is off by tenths
    np.testing.assert_allclose(trace.log_probability[0, -length:], trace_alone.log_probability[0], atol=2e-4)
    if arguments:
        assert len(set(trace.evaluations.tolist())) > 1


@pytest.mark.parametrize("scan_layers", [False, True])
def test_rows_keep_features_until_due(scan_layers):
    """The clocks of three rows: the whole prompt and response; some positions of the response; none, the row waits."""
    model, params = made(PLAIN, scan_layers=scan_layers)
    network = Network(model, params, jnp.zeros((3, LENGTH), jnp.int32))
    positions = jnp.broadcast_to(jnp.arange(LENGTH)[:, None], (3, LENGTH, 1))
    reuse = Reuse(GIVEN, 4, 3, 2)
    first, second, *_ = (reading(jnp.asarray(text, jnp.int32), positions, positions, jnp.zeros(3)) for text in rows(2))
    _, cache = model.hidden(params, first, full, cache=new_features(network, reuse))
    clocks = cache._replace(step=jnp.array([12, 1, 12]), active=jnp.array([True, True, False]))
    _, after = model.hidden(params, second, full, cache=clocks)
    np.testing.assert_array_equal(after.step, [13, 2, 12])
    for layer in range(1, PLAIN.layers):
        for name in Layer._fields:
            old, new = (_of_layer(found.layers, layer, name) for found in (cache, after))
            anew = (old != new).reshape(3, LENGTH, -1).any(axis=2)
            assert anew[0, GIVEN:].all() and not anew[1, :GIVEN].any() and not anew[2].any()
            # values tell what changed: those of the response are new in every step
            assert anew[1].sum() == (LENGTH - GIVEN if name == "values" else 2)


def _of_layer(layers, index, name):
    """Of layers that are apart, or one array of all."""
    return np.asarray(getattr(layers, name)[index] if isinstance(layers, Layer) else getattr(layers[index], name))


def test_rows_that_begin_apart_are_refused():
    infilled = np.array(first_tokens())
    infilled[1, 3] = VOCABULARY
    with pytest.raises(UserError, match="first positions to sample are 3 and 6; accepted: one position"):
        sample(jax.random.key(0), *made(PLAIN), infilled, Confidence(cache="features"), LENGTH)


def test_empty_prompt_is_all_response():
    model, params = made(PLAIN, scan_layers=True)
    plan = Confidence(cache="features", response_interval=4, update_share=0.5)
    tokens, trace = sample(jax.random.key(0), model, params, first_tokens()[:, :0], plan, LENGTH)
    assert (np.asarray(tokens) < VOCABULARY).all()
    np.testing.assert_array_equal(trace.evaluations, LENGTH)


@pytest.mark.slow
def test_step_flops_match_the_compiler():
    """Each kind of step computes its positions alone, in every layer after the first."""
    wide, (prompt, length, updated) = Architecture(VOCABULARY, 2, 256, 4, 4, 512), (32, 64, 8)
    positions = jnp.arange(length)[None, :, None]
    view = reading(jnp.zeros((1, length), jnp.int32), positions, positions, jnp.zeros(1))

    def flops(layers, step):
        model = transformer(wide._replace(layers=layers), Execution(use_segments=False))

        def forward(params):
            network = Network(model, params, view.tokens)
            cache = new_features(network, Reuse(prompt, 100, 7, updated))._replace(step=jnp.full(1, step))
            return model.hidden(params, view, full, cache=cache)

        params = jax.eval_shape(model.init, jax.random.key(0))
        return jax.jit(forward).lower(params).compile().cost_analysis()["flops"]

    first = flops(1, 0)
    a_layer = {step: flops(2, step) - first for step in (0, 7, 100, 1)}
    # multiplications at a position: query, key, out, the MLP's three and the scores; and those of its value alone
    at_a_position, of_a_value = 3 * 256 * 256 + 3 * 256 * 512 + 2 * length * 256, 256 * 256
    for step, (computed, values) in {7: (32, 32), 100: (40, 64), 1: (8, 32)}.items():
        expected = (at_a_position * computed + of_a_value * values) / (at_a_position + of_a_value) / length
        assert a_layer[step] / a_layer[0] == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    "arguments",
    [
        {"update_share": 0.5},
        {"cache": "features", "prompt_interval": 0},
        {"cache": "features", "response_interval": -1},
        {"cache": "features", "update_share": -0.1},
        {"cache": "features", "update_share": 1.5},
        {"cache": "features", "guidance_interval": 2},
        {"cache": "features", "guidance": 1.0, "guidance_interval": 0},
        {"guidance": 1.0, "guidance_interval": 2},
    ],
)
def test_bad_cache_options_are_refused(arguments):
    with pytest.raises(UserError, match="accepted"):
        sample(jax.random.key(0), *made(PLAIN), first_tokens(), Confidence(**arguments), LENGTH)


def test_block_networks_have_no_feature_cache():
    with pytest.raises(UserError, match="accepted: none, prefix, dual"):
        sample(
            jax.random.key(0), *made(PLAIN), first_tokens(), Confidence(cache="features"), LENGTH, Trained(block_size=5)
        )
