"""How fast this device could be: the denominator of model FLOP utilisation."""

import time

import jax
import jax.numpy as jnp

# dense bf16 FLOP/s of one device, from the vendors' datasheets
DATASHEET = {
    "NVIDIA H200": 989e12,
    "NVIDIA H100": 989e12,
    "NVIDIA A100": 312e12,
    "TPU v6": 918e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v4": 275e12,
}


def peak_flops() -> float:
    """FLOP/s of all devices together: the datasheet's, or where it is not known (a CPU) a measured float32 matmul's."""
    kind = jax.devices()[0].device_kind
    known = [rate for name, rate in DATASHEET.items() if kind.startswith(name)]
    if known:
        return known[0] * jax.device_count()
    width = 1024
    square = jnp.ones((width, width))
    product = jax.jit(jnp.matmul)
    product(square, square).block_until_ready()
    start = time.perf_counter()
    for _ in range(4):
        product(square, square).block_until_ready()
    rate = 4 * 2 * width**3 / (time.perf_counter() - start)
    # the devices of one CPU share its cores
    return rate if jax.default_backend() == "cpu" else rate * jax.device_count()
