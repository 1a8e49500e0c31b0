"""The suite: every case in alternation with the base and, if there is one, with PyTorch."""

import os
import pathlib
import platform
import tempfile
from collections.abc import Callable
from statistics import median

import jax

from mdlm_jax.bench import torch_process
from mdlm_jax.bench.cases import SUITES, Case, Suite
from mdlm_jax.bench.data_and_checkpoints import checkpoint_seconds, data_tokens_per_second
from mdlm_jax.bench.jax_side import Side, in_turns, make_side, measured_rates
from mdlm_jax.bench.populations import over_devices, populations
from mdlm_jax.bench.torch_process import timed
from mdlm_jax.costs.prices import DATASHEET
from mdlm_jax.errors import UserError
from mdlm_jax.runs.say import doing

CHECKED_STEPS = 2  # whose losses must agree; they are also the warm-up
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}  # relative
STATE_PASSES = 8  # parameters, gradients and two moments, each read and written at least once


def run_suite(
    name: str, torch_python: str | None, keep: Callable[[dict], None], say: Callable[[str], None] = print
) -> dict:
    """Every number of a suite, as JSON values.

    Args:
        name: A key of SUITES.
        torch_python: A Python that has torch, or None.
        keep: Gets the numbers so far after each case.
        say: Gets one line for each case that is done or left out.

    Raises:
        UserError: No case could be measured.
    """
    suite = SUITES[name]
    base = next(iter(suite.cases.values()))
    found = {"machine": machine(), "suite": name, "rates": {}, "steps": {}, "left_out": []}

    def leave_out(why: str) -> None:
        found["left_out"].append(why)
        say(why)

    reference = None
    for label, case in suite.cases.items():
        if case.dtype not in found["rates"]:
            with doing(f"the peak rate in {case.dtype}"):
                found["rates"][case.dtype] = measured_rates(case.dtype, suite.matmul_width)._asdict()
        try:
            with doing(label):
                side, beside = _made(case, torch_python, suite)
                reference = reference or side
                turns = in_turns(side, reference, suite.rounds)
        except (jax.errors.JaxRuntimeError, UserError) as error:  # out of memory; PyTorch's loss is another
            leave_out(f"{label}: {str(error).splitlines()[0]}")
            continue
        found["steps"][label] = row = _row(case, base, side, reference, turns, found["rates"][case.dtype]) | beside
        say(f"{label}: {1e3 * row['seconds']:,.1f} ms a step, {row['share_of_matmul']:.2f} of a matmul's rate")
        keep(found)
    if reference is None:
        raise UserError(f"no case of the suite {name} could be measured: {found['left_out'][0]}")
    with doing("populations"):
        found["populations"] = populations(suite.small, suite.rounds)
    try:
        with doing("over devices"):
            found["over_devices"] = over_devices(suite.small, suite.rounds)
    except UserError as error:
        leave_out(str(error))
    if torch_python is None:
        leave_out("PyTorch is not measured: no --torch-python=PYTHON that has torch")
    try:
        with doing("data"):
            found["data_tokens_per_second"] = data_tokens_per_second(base.length, batches=20)
    except UserError as error:
        leave_out(str(error))
    with tempfile.TemporaryDirectory() as folder, doing("a checkpoint"):
        found["checkpoint"] = checkpoint_seconds(reference.state(), pathlib.Path(folder))
    return found


def _made(case: Case, torch_python: str | None, suite: Suite) -> tuple[Side, dict]:
    """The side of this package for a case and, if requested, its comparison with PyTorch."""
    if not (case.beside_torch and torch_python):
        return make_side(case), {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        (folder / "matmul.json").write_text(str(suite.matmul_width))
        side = make_side(case, folder, CHECKED_STEPS + suite.rounds)
        return side, {"torch": beside_torch(case, side, torch_process.start(torch_python, folder), suite)}


def _row(case: Case, base: Case, side: Side, reference: Side, turns: list[dict], rates: dict) -> dict:
    seconds = median(turn["ours"]["seconds"] for turn in turns)
    tokens = case.steps_per_dispatch * case.batch_size * case.length
    state_bytes = case.steps_per_dispatch * 4 * STATE_PASSES * side.parameters
    floor = max(side.flops / rates["matmul"], state_bytes / rates["copy"])
    kind = jax.devices()[0].device_kind
    peak = next((rate for name, rate in DATASHEET.items() if kind.startswith(name)), rates["matmul"])

    def times_the_base(clock: str) -> float:
        ratio = median(turn["base"][clock] / turn["ours"][clock] for turn in turns)
        return ratio * tokens / (base.batch_size * base.length)

    return {
        "case": case._asdict(),
        "parameters": side.parameters,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "flops": side.flops,
        "state_bytes": state_bytes,
        "floor_seconds": floor,
        "mfu": side.flops / seconds / peak,
        "share_of_matmul": side.flops / seconds / rates["matmul"],
        "times_the_base": times_the_base("seconds"),
        "times_the_base_cpu": times_the_base("cpu_seconds"),
        "memory_bytes": side.memory_bytes,
        "memory_of_base_bytes": reference.memory_bytes,
        "compile_seconds": side.compile_seconds,
        "turns": turns,
    }


def beside_torch(case: Case, ours: Side, peer: torch_process.Peer, suite: Suite) -> dict:
    """Steps in turns with PyTorch's: the same weights, the same corrupted batches. Raises UserError where the losses of
    the first steps differ: that would not be the same work.
    """
    for _ in range(CHECKED_STEPS):
        loss, other = ours.step(), torch_process.ask(peer, "step").value
        if abs(loss - other) > TOLERANCE[case.dtype] * abs(other):
            raise UserError(f"PyTorch's loss is {other}, ours {loss}: not the same work")
    turns = []
    for _ in range(suite.rounds):
        mine = timed(ours.step)
        theirs, matmul = torch_process.ask(peer, "step"), torch_process.ask(peer, "matmul")
        turns.append({"ours": mine._asdict(), "torch": theirs._asdict(), "torch_matmul": matmul._asdict()})
    memory = torch_process.ask(peer, "memory").value
    torch_process.stop(peer)

    def ratio(clock: str) -> float:
        return median(turn["torch"][clock] / turn["ours"][clock] for turn in turns)

    return {
        "version": peer.version,
        "seconds": median(turn["torch"]["seconds"] for turn in turns),
        "torch_over_ours": ratio("seconds"),
        "torch_over_ours_cpu": ratio("cpu_seconds"),
        "matmul": 2 * suite.matmul_width**3 / min(turn["torch_matmul"]["seconds"] for turn in turns),
        "memory_bytes": memory,
        "memory_over_torch": ours.memory_bytes / memory,
        "turns": turns,
    }


def machine() -> dict:
    """The machine of the measurement."""
    processor = pathlib.Path("/proc/cpuinfo")
    lines = processor.read_text().splitlines() if processor.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cpu": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }
