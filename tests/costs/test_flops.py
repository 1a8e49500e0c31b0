import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mdlm_jax.costs.flops import (
    attended_pairs,
    flops_per_sequence,
    num_parameters,
    optimizer_flops,
    steps_for_budget,
)
from mdlm_jax.errors import UserError
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.ladder import SMDM
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives.base import View, causal, full

# Names, layers, heads, width, non-embedding parameters, parameters of the AR model (its embedding has no mask row),
# steps of 256 x 2048 tokens for 6e18, 1e19, 3e19, 6e19, 1e20 FLOPs: lit_gpt/config.py and the scripts of SMDM.
SMDM_GRID = """
6M 6 4 256 6294784 22678784 303004 505007 1515023 3030046 5050076
19M 8 6 384 18880896 43456896 101020 168366 505100 1010200 1683667
34M 8 8 512 33563136 66331136 56828 94714 284143 568286 947144
48M 9 9 576 47786688 84650688 39913 66523 199569 399138 665230
66M 10 10 640 65549440 106509440 29097 48496 145489 290978 484964
85M 13 10 640 85214080 126174080 22383 37305 111915 223830 373050
75M 16 8 640 75387520 116347520 25300 42167 126502 253005 421676
113M 12 12 768 113265408 162417408 16839 28066 84198 168396 280660
142M 15 12 768 141581568 190733568 13471 22452 67358 134717 224528
170M 18 12 768 169897728 219049728 11226 18710 56132 112264 187107
180M 14 14 896 179856768 237200768 10604 17674 53024 106048 176746
206M 16 14 896 205550464 262894464 9279 15465 46396 92792 154653
231M 18 14 896 231244160 288588160 8248 13747 41241 82482 137470
268M 16 16 1024 268469248 334005248 7104 11840 35522 71045 118408
302M 18 16 1024 302027776 367563776 6315 10525 31575 63151 105252
336M 20 16 1024 335586304 401122304 5683 9472 28418 56836 94727
472M 18 10 1280 471906560 553826560 4041 6736 20208 40417 67363
551M 21 10 1280 550557440 632477440 3464 5773 17321 34643 57739
571M 18 11 1408 571001728 661113728 3340 5567 16701 33403 55672
629M 24 10 1280 629208320 711128320 3031 5052 15156 30313 50522
666M 21 11 1408 666168448 756280448 2863 4771 14315 28631 47719
717M 19 12 1536 717285888 815589888 2659 4431 13295 26591 44318
761M 24 11 1408 761335168 851447168 2505 4175 12526 25052 41754
831M 22 12 1536 830541312 928845312 2296 3827 11482 22965 38275
944M 25 12 1536 943796736 1042100736 2020 3368 10104 20209 33682
1028M 20 14 1792 1027677952 1142365952 1855 3093 9279 18559 30932
1233M 24 14 1792 1233213184 1347901184 1546 2577 7733 15466 25777
1476M 22 16 2048 1476487168 1607559168 1291 2153 6459 12918 21530
1678M 25 16 2048 1677826048 1808898048 1136 1894 5683 11367 18946
2121M 28 17 2176 2121393280 2260657280 899 1498 4495 8991 14985
"""
ROWS = [line.split() for line in SMDM_GRID.split("\n") if line]
BUDGETS = (6e18, 1e19, 3e19, 6e19, 1e20)


def smdm_flops(name: str, mask, length: int = 2048):
    return flops_per_sequence(
        SMDM[name],
        sequence_length=length,
        pairs=attended_pairs(mask, length),
        positions=length,
        scored=length,
        noise_levels=1,
        views=1,
    )


def test_smdm_sizes_have_the_published_parameters():
    assert [row[0] for row in ROWS] == list(SMDM)
    for name, layers, heads, width, non_embedding, total, *_ in ROWS:
        size, parameters = SMDM[name], num_parameters(SMDM[name])
        assert (size.layers, size.heads, size.width) == (int(layers), int(heads), int(width))
        assert parameters.non_embedding == int(non_embedding)
        assert parameters.total - size.width == int(total)


def test_smdm_steps_for_budget():
    for name, *_, six, ten, thirty, sixty, hundred in ROWS:
        step = 256 * smdm_flops(name, full).six_nonembedding
        steps = tuple(steps_for_budget(budget, step) for budget in BUDGETS)
        assert steps == tuple(map(int, (six, ten, thirty, sixty, hundred))), name


def test_budget_below_one_step_is_refused():
    assert steps_for_budget(100.0, 100) == 1
    with pytest.raises(UserError, match="smaller than one step"):
        steps_for_budget(99.0, 100)


@pytest.mark.parametrize(
    ("name", "masked", "ar"),
    [
        ("6M", "3.30", "2.80"),
        ("85M", "1.64", "1.44"),
        ("170M", "1.48", "1.31"),
        ("472M", "1.29", "1.19"),
        ("1028M", "1.20", "1.13"),
        ("2121M", "1.15", "1.09"),
    ],
)
def test_exact_flops_over_six_nd_for_smdm(name, masked, ar):
    for mask, expected in ((full, masked), (causal, ar)):
        flops = smdm_flops(name, mask)
        assert f"{flops.exact / flops.six_nonembedding:.2f}" == expected


def test_six_nd_with_attention_is_72ld2_plus_12lds():
    size, flops = SMDM["170M"], smdm_flops("170M", full)
    norms = (2 * size.layers + 1) * size.width  # 72 layers width^2 has no norms; SMDM's MLP adds the third matrix
    per_token = (96 * size.layers * size.width**2 + 6 * norms) + 12 * size.layers * size.width * 2048
    assert flops.six_attention == 2048 * per_token


# MDLM's table has the mask among V + 1 = 50258 tokens, and so does its head: one row and one bias more than ours.
def mdlm(layers: int, width: int, heads: int) -> Architecture:
    return Architecture(
        50257, layers, width, heads, heads, 4 * width, mlp="gelu", mlp_bias=True, head_bias=True, time_conditioning=True
    )


@pytest.mark.parametrize(
    ("size", "published"),
    [((8, 512, 8), 80_061_266), ((12, 768, 12), 169_627_218), ((24, 1024, 16), 424_477_010)],
)
def test_mdlm_parameters(size, published):
    architecture = mdlm(*size)
    assert num_parameters(architecture).total + architecture.width + 1 == published


@pytest.mark.parametrize(("size", "published"), [((12, 768, 12), 162_265_682), ((24, 1024, 16), 405_191_762)])
def test_radd_parameters(size, published):
    architecture = mdlm(*size)._replace(norm="layernorm", time_conditioning=False)
    assert num_parameters(architecture).total + architecture.width + 1 == published


def test_options_add_their_parameters():
    plain = Architecture(100, 2, 32, 4, 4, 64)
    count = lambda **options: num_parameters(plain._replace(**options))  # noqa: E731
    base = count()
    assert base.non_embedding == 2 * (4 * 32**2 + 3 * 32 * 64 + 2 * 32) + 32
    assert (base.embedding, base.head) == (101 * 32, 100 * 32)
    assert count(key_value_heads=2).non_embedding == base.non_embedding - 2 * 2 * 32 * 16
    assert count(qk_norm=True).non_embedding == base.non_embedding + 2 * 2 * 8
    assert count(qk_norm=True, norm="layernorm").non_embedding == base.non_embedding + 5 * 32 + 2 * 2 * 2 * 8
    assert count(attention_bias=True).non_embedding == base.non_embedding + 2 * 4 * 32
    assert count(attention_bias=True, key_value_heads=1).non_embedding == base.non_embedding + 2 * (
        2 * 32 + 2 * 8 - 2 * 32 * 24
    )
    assert count(mlp_bias=True).non_embedding == base.non_embedding + 2 * (2 * 64 + 32)
    assert count(norm="layernorm").non_embedding == base.non_embedding + 5 * 32
    assert count(tied_head=True).head == 0
    assert count(head_bias=True).head == base.head + 100
    assert base.total == 101 * 32 + base.non_embedding + 100 * 32


def test_six_total_has_embedding_and_head():
    """6 N D for all parameters: 6 L (V + 1 rows of the embedding, V of the head, and N) x width."""
    plain = Architecture(100, 2, 32, 4, 4, 64)
    shape = {"sequence_length": 16, "pairs": 1, "positions": 16, "scored": 1, "noise_levels": 1, "views": 1}
    flops = flops_per_sequence(plain, **shape)
    assert flops.six_total - flops.six_nonembedding == 6 * 16 * (101 * 32 + 100 * 32)
    tied = flops_per_sequence(plain._replace(tied_head=True), **shape)
    assert tied.six_total - tied.six_nonembedding == 6 * 16 * 101 * 32


def test_attended_pairs():
    for n in (1, 7, 512, 700):
        assert attended_pairs(full, n) == n * n
        assert attended_pairs(causal, n) == n * (n + 1) // 2
    assert attended_pairs(causal, 8192) == 8192 * 8193 // 2
    block = lambda query, key: query // 4 >= key // 4  # noqa: E731
    i, j = np.indices((30, 30))
    assert attended_pairs(block, 30) == np.sum(i // 4 >= j // 4)


@pytest.mark.parametrize("mlp", ["swiglu", "gelu"])
@pytest.mark.parametrize("key_value_heads", [4, 2])
def test_exact_flops_match_the_compiler(mlp, key_value_heads):
    """The compiler counts the matrix products of an unrolled forward and backward pass without element-wise parts."""
    a = Architecture(96, 2, 64, 4, key_value_heads, 128, mlp=mlp)
    positions, scored, head_width = 64, 48, a.head_width
    groups = a.heads // key_value_heads
    shapes = {
        "query": (64, 64),
        "key": (64, key_value_heads * head_width),
        "value": (64, key_value_heads * head_width),
        "output": (64, 64),
        "up": (64, 128),
        "down": (128, 64),
    } | ({"gate": (64, 128)} if mlp == "swiglu" else {})
    keys = iter(jax.random.split(jax.random.key(0), 50))
    layers = [{name: jax.random.normal(next(keys), shape) for name, shape in shapes.items()} for _ in range(a.layers)]
    params = (jax.random.normal(next(keys), (positions, 64)), layers, jax.random.normal(next(keys), (64, 96)))

    def loss(params):
        x, layers, head = params
        for layer in layers:
            query = (x @ layer["query"]).reshape(positions, a.heads, head_width)
            key, value = (
                jnp.repeat((x @ layer[name]).reshape(positions, -1, head_width), groups, axis=1)
                for name in ("key", "value")
            )
            scores = jnp.einsum("qhd,khd->hqk", query, key)
            x = x + jnp.einsum("hqk,khd->qhd", scores, value).reshape(positions, 64) @ layer["output"]
            gate = x @ layer["gate"] if mlp == "swiglu" else 1.0
            x = x + (gate * (x @ layer["up"])) @ layer["down"]
        return jnp.sum((x[:scored] @ head) ** 2)

    measured = jax.jit(jax.grad(loss)).lower(params).compile().cost_analysis()["flops"]
    counted = flops_per_sequence(
        a, sequence_length=48, pairs=positions * positions, positions=positions, scored=scored, noise_levels=1, views=1
    ).exact
    assert measured == pytest.approx(counted, rel=0.03)


def exact(architecture, positions=8, scored=8, noise_levels=1, views=1):
    return flops_per_sequence(
        architecture,
        sequence_length=8,
        pairs=64,
        positions=positions,
        scored=scored,
        noise_levels=noise_levels,
        views=views,
    )


def test_views_and_positions_count_in_exact_only():
    size = SMDM["6M"]
    once, twice, longer = exact(size), exact(size, views=2), exact(size, positions=16)
    assert twice[:3] == longer[:3] == once[:3]
    assert twice.exact == 2 * once.exact
    assert once.exact < longer.exact < twice.exact


@pytest.mark.parametrize("noise_levels", [1, 8])
def test_time_conditioning_counts_once_per_noise_level(noise_levels):
    size = Architecture(96, 2, 64, 4, 4, 128)
    told = size._replace(time_conditioning=True, time_width=16)
    matrices = 2 * 16 * 6 * 64 + 16 * 2 * 64 + 256 * 16 + 16 * 16
    more = exact(told, noise_levels=noise_levels).exact - exact(size, noise_levels=noise_levels).exact
    assert more == 3 * 2 * noise_levels * matrices


def test_input_vectors_count_projection_and_logits():
    size = Architecture(96, 2, 64, 4, 4, 128)
    vectors = size._replace(input_width=16)
    assert num_parameters(vectors).embedding == 0
    assert num_parameters(vectors).non_embedding - num_parameters(size).non_embedding == 16 * 64
    assert exact(vectors, scored=5).exact - exact(size, scored=5).exact == 3 * 2 * (8 * 16 * 64 + 3 * 5 * 96 * 16)


@pytest.mark.parametrize("noise_levels", [1, 64])
def test_exact_flops_of_vector_inputs_match_the_compiler(noise_levels):
    """Training is three times the compiler's count of a forward pass; element-wise parts are small at this width."""
    a = Architecture(96, 2, 256, 4, 4, 512, time_conditioning=True, time_width=256, input_width=128)
    model = transformer(a, Execution())
    params = jax.eval_shape(model.init, jax.random.key(0))
    real, whole = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct((1, 64), jnp.int32)
    positions = jax.ShapeDtypeStruct((1, 64, 1), jnp.int32)
    view = View(
        whole, whole, real(1, 64), real(1, noise_levels), positions, positions, whole, real(1), real(1, 64, 128)
    )

    def forward(params, view):
        return model.head(params, model.hidden(params, view, full)[0])

    measured = 3 * jax.jit(forward).lower(params, view).compile().cost_analysis()["flops"]
    scoring = 3 * 3 * 2 * 64 * 96 * 128
    counted = exact(a, positions=64, scored=64, noise_levels=noise_levels)
    pairs = 3 * 4 * (64 * 64 - 64) * 2 * 256
    assert measured == pytest.approx(counted.exact + pairs - scoring, rel=0.03)


@pytest.mark.parametrize(("mlp", "mlp_width"), [("swiglu", 96), ("gelu", 48)])
def test_flops_of_muon_match_the_compiler(mlp, mlp_width):
    """Of the update of optax, whose five steps are unrolled; its element-wise parts are a few in a hundred."""
    a = Architecture(96, 2, 64, 4, 2, mlp_width, mlp=mlp)
    shapes = jax.eval_shape(transformer(a, Execution()).init, jax.random.key(0))["blocks"]
    kernels = {name: jnp.zeros(leaves["kernel"].shape) for name, leaves in shapes.items() if "kernel" in leaves}
    muon = optax.contrib.scale_by_muon(
        weight_dimension_numbers=jax.tree.map(lambda _: optax.contrib.MuonDimensionNumbers(1, 2), kernels)
    )
    compiled = jax.jit(muon.update).lower(kernels, muon.init(kernels)).compile()
    assert compiled.cost_analysis()["flops"] == pytest.approx(optimizer_flops(a, "muon"), rel=0.05)
    assert optimizer_flops(a, "muon", ("blocks/*",)) == optimizer_flops(a, "adamw") == 0
