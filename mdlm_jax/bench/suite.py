"""The suite: every case in turns with the base, and with PyTorch where there is one."""

import os
import pathlib
import platform
import tempfile
from statistics import median

import jax

from mdlm_jax.bench import protocol
from mdlm_jax.bench.around import checkpoint_seconds, data_tokens_per_second
from mdlm_jax.bench.cases import SUITES, Case, Suite
from mdlm_jax.bench.many import over_devices, populations
from mdlm_jax.bench.ours import Side, in_turns, make_side, measured_rates
from mdlm_jax.bench.protocol import timed
from mdlm_jax.costs.hardware import DATASHEET
from mdlm_jax.errors import UserError

CHECKED_STEPS = 2  # whose losses have to agree; they also warm up
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}  # relative
STATE_PASSES = 8  # parameters, gradients and two moments, each read and written once: less no step can move


def run_suite(name: str, torch_python: str | None, say=print) -> dict:
    """Every number of a suite, as JSON can hold it. `say` is told what is done and what is left out."""
    suite = SUITES[name]
    base = next(iter(suite.cases.values()))
    found = {"machine": machine(), "suite": name, "rates": {}, "steps": {}, "left_out": []}

    def leave_out(why: str) -> None:
        found["left_out"].append(why)
        say(why)

    reference = None
    for label, case in suite.cases.items():
        if case.dtype not in found["rates"]:
            found["rates"][case.dtype] = measured_rates(case.dtype, suite.matmul_width)._asdict()
        try:
            side, beside = _made(case, torch_python, suite)
            reference = reference or side
            turns = in_turns(side, reference, suite.rounds)
        except jax.errors.JaxRuntimeError as error:  # such as too little memory for one of them
            leave_out(f"{label}: {str(error).splitlines()[0]}")
            continue
        found["steps"][label] = row = _row(case, base, side, reference, turns, found["rates"][case.dtype]) | beside
        say(f"{label}: {1e3 * row['seconds']:,.1f} ms a step, {row['share_of_matmul']:.2f} of a matmul's rate")
    found["populations"] = populations(suite.small, suite.rounds)
    try:
        found["over_devices"] = over_devices(suite.small, suite.rounds)
    except UserError as error:
        leave_out(str(error))
    if torch_python is None:
        leave_out("PyTorch is not measured: no --torch-python=PYTHON that has torch")
    try:
        found["data_tokens_per_second"] = data_tokens_per_second(base.length, batches=20)
    except UserError as error:
        leave_out(str(error))
    with tempfile.TemporaryDirectory() as folder:
        found["checkpoint"] = checkpoint_seconds(reference.state(), pathlib.Path(folder))
    return found


def _made(case: Case, torch_python: str | None, suite: Suite) -> tuple[Side, dict]:
    """Our side of a case, and what it did beside PyTorch from its first step on, where it is to."""
    if not (case.beside_torch and torch_python):
        return make_side(case), {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        (folder / "matmul.json").write_text(str(suite.matmul_width))
        side = make_side(case, folder, CHECKED_STEPS + suite.rounds)
        return side, {"torch": beside_torch(case, side, protocol.start(torch_python, folder), suite)}


def _row(case: Case, base: Case, side: Side, reference: Side, turns: list[dict], rates: dict) -> dict:
    seconds = median(turn["ours"]["seconds"] for turn in turns)
    tokens, state_bytes = case.batch_size * case.length, 4 * STATE_PASSES * side.parameters
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


def beside_torch(case: Case, ours: Side, peer: protocol.Peer, suite: Suite) -> dict:
    """Steps in turns with PyTorch's: the same weights, the same corrupted batches. Raises UserError where the losses of
    the first steps differ: that would not be the same work.
    """
    for _ in range(CHECKED_STEPS):
        loss, other = ours.step(), protocol.ask(peer, "step").value
        if abs(loss - other) > TOLERANCE[case.dtype] * abs(other):
            raise UserError(f"PyTorch's loss is {other}, ours {loss}: not the same work")
    turns = []
    for _ in range(suite.rounds):
        mine = timed(ours.step)
        theirs, matmul = protocol.ask(peer, "step"), protocol.ask(peer, "matmul")
        turns.append({"ours": mine._asdict(), "torch": theirs._asdict(), "torch_matmul": matmul._asdict()})
    memory = protocol.ask(peer, "memory").value
    protocol.stop(peer)

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
    """Where the numbers were measured."""
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
