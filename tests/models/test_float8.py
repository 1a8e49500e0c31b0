"""Products of 8-bit floats: what they round, what they let through, and what is learned with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.float8 import check_float8, float8_product, rounded
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives.base import full
from mdlm_jax.sampling.network import reading

OVER_INNER = (((1,), (0,)), ((), ()))


def exactly(found):
    return found.numbers.astype(jnp.float32) * found.scale


@pytest.mark.parametrize("dtype, bits, smallest", [("float8_e4m3fn", 3, 2.0**-9), ("float8_e5m2", 2, 2.0**-16)])
def test_rounds_to_nearest_at_any_scale(dtype, bits, smallest):
    """The error is at most half a unit of the last mantissa bit or half the smallest number, relative to the largest.

    The largest number is 448 (e4m3) or 57,344 (e5m2).
    """
    dtype = jnp.dtype(dtype)
    for scale in (1e-6, 1.0, 1e6):
        x = scale * jax.random.normal(jax.random.key(0), (4000,)) ** 5
        largest = float(jnp.abs(x).max())
        unit = largest / float(jnp.finfo(dtype).max)
        said = exactly(rounded(x, dtype))
        error = np.abs(said - x)
        assert (error <= 1.0001 * np.maximum(np.abs(x) * 2.0 ** -(bits + 1), smallest / 2 * unit)).all()
        assert float(jnp.abs(said).max()) == pytest.approx(largest, rel=1e-6)
    for tiny in (0.0, 1e-38):
        assert (exactly(rounded(jnp.array([0.0, tiny]), dtype)) <= tiny).all()


def test_product_uses_rounded_arrays():
    """Value and gradients are those of the product of the rounded arrays."""
    keys = jax.random.split(jax.random.key(1), 3)
    x, w, slope = (jax.random.normal(key, shape) for key, shape in zip(keys, ((5, 7), (7, 3), (5, 3)), strict=True))
    out, pull = jax.vjp(lambda x, w: float8_product(x, w, OVER_INNER), x, w)
    x8, w8 = (exactly(rounded(array, jnp.float8_e4m3fn)) for array in (x, w))
    slope8 = exactly(rounded(slope, jnp.float8_e5m2))
    np.testing.assert_allclose(out, x8 @ w8, rtol=1e-5)
    for found, expected in zip(pull(slope), (slope8 @ w8.T, x8.T @ slope8), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert float(jnp.abs(out - x @ w).max()) > 1e-3


def test_leading_axes_are_flattened():
    """A mesh that splits positions keeps two leading axes. bfloat16 arrays are summed in float32."""
    keys = jax.random.split(jax.random.key(1), 3)
    shapes = (2, 5, 7), (7, 3), (2, 5, 3)
    x, w, slope = (jax.random.normal(key, shape, jnp.bfloat16) for key, shape in zip(keys, shapes, strict=True))
    out, pull = jax.vjp(lambda x, w: float8_product(x, w, (((2,), (0,)), ((), ()))), x, w)
    flat, pull_flat = jax.vjp(lambda x, w: float8_product(x, w, OVER_INNER), x.reshape(-1, 7), w)
    np.testing.assert_array_equal(out.reshape(-1, 3), flat)
    for found, expected in zip(pull(slope), pull_flat(slope.reshape(-1, 3)), strict=True):
        assert found.dtype == jnp.bfloat16
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)


def test_gpus_multiply_in_8_bits():
    """The lowering for CUDA has one forward and two backward products."""
    x, w = jnp.ones((16, 32), jnp.bfloat16), jnp.ones((32, 16), jnp.bfloat16)

    def loss(x, w):
        return jnp.square(float8_product(x, w, OVER_INNER).astype(jnp.float32)).sum()

    text = jax.jit(jax.grad(loss, (0, 1))).trace(x, w).lower(lowering_platforms=("cuda",)).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) == 3 and all(line.count("xf8E") == 2 for line in products)


@pytest.mark.slow
def test_network_output_stays_close():
    architecture = Architecture(11, 2, 64, 4, 4, 96)
    plain, eighth = (transformer(architecture, Execution(use_segments=False, float8=on)) for on in (False, True))
    params = plain.init(jax.random.key(0))
    positions = jnp.arange(20)[None, :, None]
    view = reading(jax.random.randint(jax.random.key(1), (1, 20), 0, 11), positions, positions, jnp.zeros(1))
    one, other = (model.hidden(params, view, full)[0] for model in (plain, eighth))
    apart = jnp.linalg.norm(one - other) / jnp.linalg.norm(one)
    assert 1e-4 < apart < 0.1  # rounding moves an operand by up to 6%, by 2 to 3% in the mean square


def test_unsupported_chip_is_refused():
    with pytest.raises(UserError, match="config.train.float8 is True, on a cpu; accepted: False, or a GPU"):
        check_float8(jax.devices("cpu")[0])
