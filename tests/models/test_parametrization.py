"""Parametrizations against the tables of their papers, and against the standard network at the base shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.build.plan import plan
from mdlm_jax.config import load_config
from mdlm_jax.errors import UserError
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.layout import names_of
from mdlm_jax.models.parametrization import FOLDED, output_multiplier, rule_of
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives.base import causal
from mdlm_jax.sampling.network import reading
from mdlm_jax.training.optimizer import hyperparameters, make_optimizer

V, L = 11, 6
BASE = Architecture(
    V, layers=1, width=16, heads=2, key_value_heads=1, mlp_width=24, base_width=16, base_layers=1, base_head_width=8
)
WIDE = BASE._replace(layers=4, width=64, mlp_width=96)  # m = 4, l = 4, heads four times as wide
VARIANTS = {
    "plain": {},
    "tied": {"tied_head": True, "head_bias": True, "attention_bias": True, "mlp_bias": True},
    "timed": {"time_conditioning": True, "time_width": 8, "qk_norm": True},
    "read": {"learned_positions": 8, "norm": "layernorm", "qkv_bias": True, "mlp": "gelu"},
    "vectors": {"input_width": 4},
}
# (Adam's learning rate, its epsilon, the weight in use) over those of the base, with m the width and l the depth over
# the base's: muP's table 8 (arXiv 2203.03466) and CompleteP's table 1 (arXiv 2505.01618) with alpha = 1
HIDDEN = lambda m, l: (1 / m, 1 / (m * l), 1)  # noqa: E731
OUT = lambda m, l: (1 / m, 1 / (m * l), 1 / l)  # noqa: E731
INSIDE = lambda m, l: (1, 1 / (m * l), 1)  # noqa: E731
ENDS = lambda m, l: (1, 1 / m, 1)  # noqa: E731
PUBLISHED = {
    **dict.fromkeys(("key", "value", "gate", "up"), HIDDEN),
    "query": lambda m, l: (1 / m, 1 / (m * l), m**-0.5),  # scores over d instead of its root, and heads grow by m
    **dict.fromkeys(("attention_out", "down"), OUT),
    **dict.fromkeys(("norm_1", "norm_2"), INSIDE),
    **dict.fromkeys(("embedding", "norm", "head"), ENDS),
}


def logits(model, params):
    tokens = jnp.arange(2 * L).reshape(2, L) % V
    positions = jnp.broadcast_to(jnp.arange(L), (2, L))[..., None]
    view = reading(tokens, positions, positions, jnp.full(2, 0.3))
    if model.architecture.input_width:
        view = view._replace(noisy=jnp.sin(jnp.arange(2 * L * 4.0)).reshape(2, L, 4))
    return np.asarray(jax.jit(lambda params: model.head(params, model.hidden(params, view, causal)[0]))(params))


def network(architecture, **execution):
    return transformer(architecture, Execution(**execution))


def random(architecture):
    """Parameters none of which is 0."""
    shapes = jax.eval_shape(network(architecture).init, jax.random.key(0))
    leaves, tree = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return tree.unflatten(0.3 * jax.random.normal(*pair) for pair in zip(keys, (x.shape for x in leaves), strict=True))


@pytest.mark.parametrize(("name", "deep"), [("mup", 1), ("completep", 4)])
def test_rules_are_those_of_the_papers(name, deep):
    wide = WIDE._replace(parametrization=name)
    found = jax.tree.leaves_with_path(jax.eval_shape(network(wide).init, jax.random.key(0)))
    assert {names_of(path)[1] for path, _ in found} == set(PUBLISHED)
    for path, _ in found:
        rule = rule_of(wide, names_of(path))
        published = PUBLISHED[names_of(path)[1]](4, deep)
        np.testing.assert_allclose((rule.rate, rule.epsilon, rule.weight), published, rtol=1e-12)
    assert output_multiplier(wide) == 1 / 4


@pytest.mark.parametrize(("name", "layers"), [("standard", 4), ("mup", 4), ("completep", 1)])
def test_initial_variances(name, layers):
    """SMDM's, 2 / 5 / width and 1 / width / layers^2; embedding and head of the two others at the base's width."""
    wide = WIDE._replace(vocab_size=300, parametrization=name)
    params = jax.jit(network(wide).init)(jax.random.key(0))
    ends = 0.4 / (64 if name == "standard" else 16)
    expected = dict.fromkeys(("query", "key", "value", "gate", "up"), 0.4 / 64)
    expected |= dict.fromkeys(("attention_out", "down"), 1 / 64 / layers**2)
    for module, variance in expected.items():
        drawn = np.asarray(params["blocks"][module]["kernel"])
        assert abs(drawn.var() / variance - 1) < 5 * (2 / drawn.size) ** 0.5
    for drawn in (params["ends"]["embedding"]["embedding"], params["ends"]["head"]):
        assert abs(np.asarray(drawn).var() / ends - 1) < 5 * (2 / drawn.size) ** 0.5


@pytest.mark.parametrize(("name", "variant"), [("mup", "plain"), *(("completep", variant) for variant in VARIANTS)])
def test_at_the_base_shape_it_is_the_standard_network(name, variant):
    """Bitwise: initial weights, logits and an update."""
    base = BASE._replace(**VARIANTS[variant])
    changed = base._replace(parametrization=name)
    one, other = (jax.jit(network(a).init)(jax.random.key(0)) for a in (base, changed))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    params = random(base)
    np.testing.assert_array_equal(logits(network(base), params), logits(network(changed), params))
    if variant == "plain":
        updates = [updated(a, params, 1e-3)[0] for a in (base, changed)]
        jax.tree.map(np.testing.assert_array_equal, *updates)


@pytest.mark.parametrize(("variant", "scan"), [("plain", True), *((variant, False) for variant in VARIANTS)])
def test_the_network_computes_with_multiplied_weights(variant, scan):
    """The standard network with scores over d, branches over l and logits over m gives the same logits."""
    wide = WIDE._replace(**VARIANTS[variant])
    params = random(wide)
    blocks = dict(params["blocks"])
    query = "query_norm" if wide.qk_norm else "query"
    # 1 / sqrt(32) sqrt(8 / 32) = sqrt(8) / 32: over the width of a head, and equal at the base's
    blocks[query] = jax.tree.map(lambda leaf: leaf * (8 / 32) ** 0.5, blocks[query])
    for module in ("attention_out", "down"):
        blocks[module] = jax.tree.map(lambda leaf: leaf / 4, blocks[module])
    plain = logits(network(wide), {"ends": params["ends"], "blocks": blocks})
    bias = np.asarray(params["ends"].get("head_bias", 0.0))
    model = network(wide._replace(parametrization="completep"), scan_layers=scan)
    found = logits(model, params)
    np.testing.assert_allclose(found, (plain - bias) / 4 + bias, rtol=2e-5, atol=1e-5)
    once = model.by_layer(params)
    assert FOLDED in once
    np.testing.assert_allclose(logits(model, once), found, rtol=2e-5, atol=1e-5)


def updated(architecture, params, gradient, name="adamw", learning_rate=1.0, weight_decay=0.0):
    """The first update of (parameters, the objective's own) with the same gradient everywhere."""
    optimizer = make_optimizer(
        name,
        decay="constant",
        final=1.0,
        beta_1=0.9,
        beta_2=0.95,
        epsilon=1e-3,
        clip=1e9,
        decay_everything=False,
        architecture=architecture,
    )
    trainable = params, {"embedding": jnp.ones((2, 2))}
    numbers = hyperparameters(learning_rate, weight_decay, 0, 10)

    @jax.jit
    def first(trainable):
        state = optimizer.init(trainable)._replace(hyperparams=numbers)
        gradients = jax.tree.map(lambda leaf: jnp.full(leaf.shape, gradient), trainable)
        return optimizer.update(gradients, state, trainable)[0]

    return first(trainable)


@pytest.mark.parametrize("name", ["mup", "completep"])
def test_update_by_formula(name):
    """-rate g / (g + epsilon), each with its factor, and a decay of learning rate times weight decay at every width."""
    wide = WIDE._replace(parametrization=name)
    params = random(wide)
    found, own = updated(wide, params, 1e-3, weight_decay=0.5)
    for path, update in jax.tree.leaves_with_path(found):
        names = names_of(path)
        rate, epsilon, _ = PUBLISHED[names[1]](4, 4 if name == "completep" else 1)
        value = -rate / (1 + epsilon)
        leaf = params[names[0]][names[1]] if names[-1] == "head" else None
        if names[-1] == "kernel":
            leaf = params["blocks"][names[1]]["kernel"]
        np.testing.assert_allclose(update, value if leaf is None else value - 0.5 * leaf, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(own["embedding"], -1 / 2, rtol=1e-5)  # an objective's own parameters stay as they are


def test_adapters_are_refused():
    config = load_config("base", ["--config.model.parametrization=mup", "--config.model.lora_rank=2"])
    with pytest.raises(
        UserError, match=r"^config.model.parametrization is 'mup'; accepted: standard where .*lora_rank"
    ):
        plan(config)


def test_a_config_describes_the_base_shape():
    given = ("parametrization=completep", "base_width=32", "base_layers=1", "base_head_width=8")
    found = plan(load_config("base", [f"--config.model.{one}" for one in given])).architecture
    assert (found.parametrization, found.base_width, found.base_layers, found.base_head_width) == (
        "completep",
        32,
        1,
        8,
    )
    with pytest.raises(UserError, match="config.model.base_layers is 1; it has no effect when"):
        load_config("base", ["--config.model.parametrization=mup", "--config.model.base_layers=1"])
