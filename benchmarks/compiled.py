"""Reads what one device does in a compiled program from the text of its HLO: products, and bytes between devices.

XLA's own count of FLOPs counts the body of a loop once. Here a body counts as often as its loop runs it: the trip count
that the loop carries, or the constant that its condition compares with.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
BYTES |= {"f8e4m3fn": 1, "f8e5m2": 1}
KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")

INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (.*?) ([a-z][a-z0-9-]*)\((.*)$")
ARRAY = re.compile(r"\b([a-z][a-z0-9]*)\[([\d,]*)\]")
CALLED = re.compile(r"(?:calls|to_apply|true_computation|false_computation)=%?([\w.-]+)")


class Instruction(NamedTuple):
    name: str
    type: str
    operation: str
    rest: str  # operands and attributes


class Collective(NamedTuple):
    kind: str
    sent: float  # bytes that a device sends each time, on a ring
    devices: int  # that take part together
    times: int  # in a run of the program
    source: str  # the operation of the Python program


class Compiled(NamedTuple):
    flops: float  # of matrix products on one device
    collectives: tuple[Collective, ...]

    def bytes_by_kind(self) -> dict[str, float]:
        """Bytes that a device sends in one run of the program, by kind of collective."""
        sums = Counter()
        for one in self.collectives:
            sums[one.kind] += one.sent * one.times
        return dict(sums)


def read_compiled(text: str) -> Compiled:
    """`text` is `as_text()` of a compiled program with one module."""
    computations, entry = _computations(text)
    types = {one.name: one.type for body in computations.values() for one in body}
    flops, collectives = 0.0, []
    for one, times in _executed(computations, entry, 1):
        if one.operation in ("convolution", "dot"):
            flops += times * _product_flops(one, types)
        kind = one.operation.removesuffix("-start")
        if kind in KINDS:
            sent, devices = _sent(one, kind)
            source = re.search(r'op_name="([^"]*)"', one.rest)
            collectives.append(Collective(kind, sent, devices, times, source[1] if source else ""))
    return Compiled(flops, tuple(collectives))


def _computations(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """Instructions by computation, and the name of the entry computation."""
    computations, entry, body = {}, "", []
    for line in text.splitlines():
        if header := re.match(r"^(ENTRY )?%?([\w.-]+) .*\{$", line):
            body = computations[header[2]] = []
            entry = header[2] if header[1] else entry
        elif found := INSTRUCTION.match(line):
            body.append(Instruction(*found.groups()))
    return computations, entry


def _executed(computations: dict, name: str, times: int) -> Iterator[tuple[Instruction, int]]:
    """Every instruction that a computation runs, directly or through the computations it calls, and how often."""
    for one in computations[name]:
        yield one, times
        if one.operation == "while":
            condition, body = (re.search(rf"{part}=%?([\w.-]+)", one.rest)[1] for part in ("condition", "body"))
            known = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', one.rest)
            trips = int(known[1]) if known else _trips(computations, condition)
            yield from _executed(computations, body, times * trips)
        elif one.operation not in KINDS:
            for called in CALLED.findall(one.rest):
                if one.operation == "fusion" and (summed := _summed(computations[called])):
                    # a TPU scatters as it sums, written as a fusion of the sum with what a device keeps of it
                    groups = f"{summed.rest}, {one.rest}"
                    yield Instruction(one.name, one.type, "reduce-scatter", groups), times
                else:
                    yield from _executed(computations, called, times)


def _summed(body: list[Instruction]) -> Instruction | None:
    """The sum over devices in a fusion that keeps one part of it."""
    keeps = any(one.operation == "dynamic-slice" for one in body)
    return next((one for one in body if keeps and one.operation == "all-reduce"), None)


def _trips(computations: dict[str, list[Instruction]], condition: str) -> int:
    """The bound of a counter that starts at 0: loops of `scan` and `map` have no other condition."""
    run = [one for one, _ in _executed(computations, condition, 1)]
    constants = [one for one in run if one.operation == "constant" and one.type.startswith(("s32[]", "u32[]"))]
    bounds = [int(one.rest.split(")")[0]) for one in constants]
    if not bounds:
        return 1  # the loop over the steps of a dispatch, whose number is an argument: a turn is a step
    if len(bounds) != 1:
        raise ValueError(f"a loop whose condition has {len(bounds)} constants; accepted: one, its number of turns")
    return bounds[0]


def _arrays(type_: str) -> list[tuple[str, list[int]]]:
    return [(kind, [int(n) for n in dims.split(",") if n]) for kind, dims in ARRAY.findall(type_)]


def _sent(one: Instruction, kind: str) -> tuple[float, int]:
    """(bytes that a device sends on a ring of the participating devices, number of these devices)."""
    arrays = _arrays(re.sub(r"u32\[\](\{[^}]*\})?", "", one.type))
    if one.operation.endswith("-start") and kind != "all-reduce":
        arrays = arrays[len(arrays) // 2 :]  # what goes in stands before what comes out
    size = sum(BYTES[name] * math.prod(dims) for name, dims in arrays)
    if kind == "collective-permute":
        return float(size), 2
    devices = _group_size(one.rest)
    share = {"all-gather": 1 / devices, "all-reduce": 2 / devices, "reduce-scatter": 1.0, "all-to-all": 1 / devices}
    return size * (devices - 1) * share[kind], devices


def _group_size(attributes: str) -> int:
    """Number of devices in one group, in each of XLA's notations."""
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", attributes):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", found[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", found[2]))
    if found := re.search(r"replica_groups=\[(\d+),(\d+)\]<=", attributes):
        return int(found[2])
    if found := re.search(r"replica_groups=\{\{([\d,]*)\}", attributes):
        return len(found[1].split(","))
    raise ValueError(f"a collective without groups of devices that are understood: {attributes[:200]}")


def _product_flops(one: Instruction, types: dict[str, str]) -> float:
    """2 for every multiply-accumulate of a dot, or of a convolution (on a TPU, XLA turns dots into convolutions)."""
    (out,) = (dims for _, dims in _arrays(one.type))
    lhs, rhs = (_arrays(types[name])[0][1] for name in re.findall(r"%([\w.-]+)", one.rest.split(")")[0])[:2])
    if one.operation == "dot":
        contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", one.rest)[1]
        return 2.0 * math.prod(out) * math.prod(lhs[int(axis)] for axis in contracted.split(",") if axis)
    of_lhs, of_rhs, of_out = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", one.rest).groups()
    at = {
        side: dict(zip(labels, dims, strict=True))
        for side, labels, dims in (("lhs", of_lhs, lhs), ("rhs", of_rhs, rhs), ("out", of_out, out))
    }
    window = (
        dict(re.findall(r"(\w+)=([\dx_-]+)", found[1])) if (found := re.search(r"window=\{(.*?)\}", one.rest)) else {}
    )
    flops = 2.0 * at["out"]["b"] * at["out"]["f"] * at["rhs"]["i"]
    for axis in filter(str.isdigit, of_out):
        flops *= _touched(window, int(axis), at["lhs"][axis], at["rhs"][axis], at["out"][axis])
    return flops


def _touched(window: dict[str, str], axis: int, read: int, size: int, out: int) -> int:
    """Pairs of an output position and a window position that meet an input value: neither padding nor dilation."""

    def of(key: str, default: str) -> str:
        return window[key].split("x")[axis] if key in window else default

    stride, spread, hole = (int(of(key, "1")) for key in ("stride", "rhs_dilate", "lhs_dilate"))
    before = int(of("pad", "0_0").split("_")[0])
    place = np.arange(out)[:, None] * stride + np.arange(size) * spread - before
    return int(((place >= 0) & (place <= (read - 1) * hole) & (place % hole == 0)).sum())
