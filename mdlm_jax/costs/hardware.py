"""How fast this device could be: the denominator of model FLOP utilisation."""

import math
import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mdlm_jax.costs.prices import DATASHEET


class Peak(NamedTuple):
    """FLOP/s that all devices together could reach."""

    flops: float
    measure: Callable[[], float] | None  # measures it again; None where it is the datasheet's


@cache
def peak_of_devices() -> Peak:
    """The datasheet's peak, or where it is not known (a CPU) that of float32 matrix products, measured."""
    kind = jax.devices()[0].device_kind
    known = [rate for name, rate in DATASHEET.items() if kind.startswith(name)]
    return Peak(known[0] * jax.device_count(), None) if known else Peak(_measured(), _measured)


def _measured(width: int = 1024, rounds: int = 8) -> float:
    """FLOP/s of the fastest of several products: others that share the machine only ever slow one down."""
    square = jnp.ones((width, width))
    product = jax.jit(jnp.matmul)
    product(square, square).block_until_ready()
    fastest = math.inf
    for _ in range(rounds):
        start = time.perf_counter()
        product(square, square).block_until_ready()
        fastest = min(fastest, time.perf_counter() - start)
    rate = 2 * width**3 / fastest
    # the devices of one CPU share its cores
    return rate if jax.default_backend() == "cpu" else rate * jax.device_count()


def utilisation(peak: Peak, flops_per_second: float) -> tuple[float | None, Peak]:
    """(model FLOP utilisation, the peak from now on): a measured peak that is exceeded is measured again.

    None where it is exceeded still: more than all of a device is not a measurement.
    """
    if flops_per_second > peak.flops and peak.measure is not None:
        peak = peak._replace(flops=max(peak.flops, peak.measure()))
    share = flops_per_second / peak.flops
    return (share if share <= 1 else None), peak
