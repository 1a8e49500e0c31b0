"""Matrix products of 8-bit floats, for chips that support them (Micikevicius et al., arXiv 2209.05433).

Operands are rounded to e4m3 (3 bits of mantissa), gradients to e5m2 (2 bits, more range). Each array is scaled so that
its largest entry becomes the largest number of the format. The scale comes from the array itself, not from its history:
that takes one more pass over the array and needs no state. The product takes the 8-bit arrays themselves. If they were
cast back first, XLA could drop the rounding.
"""

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax.linen import fp8_ops
from jaxtyping import Array, Float

from mdlm_jax.errors import UserError

FIRST_CAPABILITY = 8.9  # the first compute capability of NVIDIA with float8: Ada, then Hopper and Blackwell


class Rounded(NamedTuple):
    """An array in 8 bits: its value is numbers * scale."""

    numbers: Array
    scale: Float[Array, ""]


def rounded(x: Float[Array, "*n"], dtype) -> Rounded:
    """Rounds `x` to the 8-bit type `dtype`, scaled so that max |x| becomes the largest number of the type."""
    # the inverse of a smaller number would be infinite
    largest = jnp.maximum(jnp.max(jnp.abs(x)).astype(jnp.float32), 1e-30)
    scale = fp8_ops.compute_scale(largest, jnp.float32(1), fp8_ops.get_fp8_max(dtype, jnp.float32))
    return Rounded(fp8_ops.quantize(x, dtype, scale, jnp.float32), scale)


def float8_product(x: Array, w: Array, dimension_numbers, precision=None, preferred_element_type=None) -> Array:
    """x [.. d] times w [d m], both rounded to 8 bits, summed in float32. The gradient is rounded too.

    A Flax dense layer calls it in place of `jax.lax.dot_general`, so it has the same signature. It computes only the
    product of a dense layer, and ignores `precision` and `preferred_element_type`.
    """
    assert dimension_numbers == (((x.ndim - 1,), (0,)), ((), ())) and w.ndim == 2, "not a dense layer"
    return _product(x, w)


@jax.custom_vjp
def _product(x, w):
    return _forward(x, w)[0]


def _dot(x: Rounded, y: Rounded, axes_x, axes_y, dtype) -> Array:
    over = ((tuple(axes_x), tuple(axes_y)), ((), ()))
    summed = jax.lax.dot_general(x.numbers, y.numbers, over, preferred_element_type=jnp.float32)
    return (summed * (x.scale * y.scale)).astype(dtype)


def _forward(x, w):
    kept = rounded(x, jnp.float8_e4m3fn), rounded(w, jnp.float8_e4m3fn)
    return _dot(*kept, [x.ndim - 1], [0], x.dtype), kept


def _backward(kept, gradient):
    (x, w), rounded_gradient, last = kept, rounded(gradient, jnp.float8_e5m2), gradient.ndim - 1
    of_x = _dot(rounded_gradient, w, [last], [1], gradient.dtype)
    return of_x, _dot(x, rounded_gradient, range(last), range(last), gradient.dtype)


_product.defvjp(_forward, _backward)


def check_float8(device: jax.Device) -> None:
    """Checks that the chip supports 8-bit products.

    Raises:
        UserError: The chip does not support them.
    """
    capability = str(getattr(device, "compute_capability", "")) if device.platform == "gpu" else ""
    if not re.fullmatch(r"\d+\.\d+", capability) or float(capability) < FIRST_CAPABILITY:  # AMD's capability is a name
        accepted = f"False, or a GPU of compute capability {FIRST_CAPABILITY} or above"
        raise UserError(f"config.train.float8 is True, on a {device.device_kind}; accepted: {accepted}")
