"""Hours and money on named hardware."""

import math
from typing import NamedTuple

from mdlm_jax.errors import UserError

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


class Hardware(NamedTuple):
    """The hardware of one run."""

    name: str
    devices: int
    peak: float  # dense bfloat16 FLOP/s of one device
    memory: float  # bytes of one device
    dollars: float  # an hour of one device


# Memory from the datasheets. Prices are what a device cost on demand early in 2026, of GPUs about the middle of the
# clouds' and of TPUs Google's own in the US: they are there to compare runs, and --price replaces them.
DEVICES = {
    "a100": ("NVIDIA A100", 80e9, 2.0),
    "h100": ("NVIDIA H100", 80e9, 3.0),
    "h200": ("NVIDIA H200", 141e9, 3.6),
    "v4": ("TPU v4", 32 * 2**30, 3.22),
    "v5e": ("TPU v5e", 16 * 2**30, 1.20),
    "v5p": ("TPU v5", 95 * 2**30, 4.20),
    "v6e": ("TPU v6", 32 * 2**30, 2.70),
}
CPU_CORE = (96e9, 4e9, 0.05)  # float32 with AVX2 at 3 GHz; memory and price of a core of a rented machine


def parse_hardware(text: str, price: float | None = None) -> Hardware:
    """The hardware that a text such as `h200:8` names.

    Args:
        text: NAME:COUNT, or NAME for one device.
        price: Dollars for an hour of one device, instead of the listed price.

    Raises:
        UserError: The name is unknown, or the price is negative.
    """
    name, colon, count = text.partition(":")
    count = count if colon else "1"
    if name not in DEVICES and name != "cpu" or not count.isdecimal() or int(count) < 1:
        raise UserError(f"--hardware={text}; accepted: NAME:COUNT, with a name of {', '.join(DEVICES)} or cpu (cores)")
    if price is not None and not 0 <= price < math.inf:
        raise UserError(f"--price={price}; accepted: dollars for an hour of one device, 0 or more")
    if name == "cpu":
        peak, memory, dollars = CPU_CORE
    else:
        kind, memory, dollars = DEVICES[name]
        peak = DATASHEET[kind]
    return Hardware(name, int(count), peak, float(memory), dollars if price is None else price)


def check_mfu(mfu: float) -> None:
    """Raises UserError for a model FLOP utilisation that is not above 0, or above 1."""
    if not 0 < mfu <= 1:
        raise UserError(f"--mfu={mfu}; accepted: above 0, and 1 at most")


def hours(flops: float, hardware: Hardware, mfu: float) -> float:
    """Hours of a run of `flops` at a model FLOP utilisation of `mfu`."""
    return flops / (hardware.devices * hardware.peak * mfu) / 3600


def dollars(flops: float, hardware: Hardware, mfu: float) -> float:
    """Dollars of a run, which do not depend on the number of devices at equal utilisation."""
    return hours(flops, hardware, mfu) * hardware.devices * hardware.dollars


def flops_for(dollars: float, hardware: Hardware, mfu: float) -> float:
    """FLOPs that an amount of dollars pays for at a model FLOP utilisation of `mfu`."""
    return dollars / hardware.dollars * 3600 * hardware.peak * mfu
