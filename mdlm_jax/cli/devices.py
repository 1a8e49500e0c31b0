"""Setup before the first computation: memory, the cache of compiled programs, other processes."""

import hashlib
import os
import pathlib
import platform
from collections.abc import Mapping

from mdlm_jax.errors import UserError

COMPILED = "/jax/core/compile/backend_compile_duration"  # jax's name of the event
LONG_COMPILATION = 0.5  # seconds; shorter ones leave little memory


def prepare_devices() -> None:
    """Imports jax and configures it: malloc on a CPU, and compiled programs are cached between runs."""
    from mdlm_jax.malloc import return_freed_memory, set_up_malloc

    if on_a_cpu():
        set_up_malloc()
    import jax

    def after(event: str, seconds: float, **_) -> None:
        if event == COMPILED and seconds > LONG_COMPILATION:
            return_freed_memory()

    if on_a_cpu():
        jax.monitoring.register_event_duration_secs_listener(after)

    for name, value in cache_settings(os.environ).items():
        jax.config.update(name, value)


def on_a_cpu() -> bool:
    """Whether this machine has no accelerator: only then do XLA's temporaries come from malloc."""
    return not any(pathlib.Path("/dev", name).exists() for name in ("nvidiactl", "accel0", "vfio"))


def cache_settings(environment: Mapping[str, str]) -> dict[str, str | float]:
    """The settings of jax's cache of compiled programs.

    Programs of any size are cached, because a run has many small ones. Each kind of processor has its own folder,
    because a home directory may be shared between machines and native code runs only on the kind it was compiled for.

    Args:
        environment: The environment variables. A setting that jax reads from one of them is left out.

    Returns:
        Names and values for `jax.config.update`.
    """
    folder = pathlib.Path(environment.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    settings = {
        "jax_compilation_cache_dir": str(folder / "mdlm-jax" / "compiled" / _processor()),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    return {name: value for name, value in settings.items() if name.upper() not in environment}


def _processor() -> str:
    """Eight hex digits, equal on machines whose processors have the same instruction set."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    known = [line for line in lines if line.startswith(("flags", "Features"))][:1] or [platform.processor()]
    return hashlib.sha256(known[0].encode()).hexdigest()[:8]


def check_processes(coordinator: str, processes: int, process: int) -> None:
    """Checks the options that join processes.

    Args:
        coordinator: Host:port of process 0.
        processes: The number of processes.
        process: The number of this one, from 0.

    Raises:
        UserError: Only some of the three options are given, or one has another form or is out of range.
    """
    if processes < 0 or bool(coordinator) != (processes > 0) or not 0 <= process < max(processes, 1):
        raise UserError(
            f"--coordinator={coordinator} --processes={processes} --process={process}; "
            "accepted: all three together, with --process from 0 to one less than --processes"
        )
    host, _, port = coordinator.rpartition(":")
    named = host and (":" not in host or host[0] + host[-1] == "[]")  # an IPv6 address stands in brackets
    if coordinator and not (named and port.isdecimal() and 0 < int(port) < 2**16):
        raise UserError(f"--coordinator={coordinator}; accepted: host:port of process 0, such as node1:1234")


def join_processes(coordinator: str, processes: int, process: int) -> None:
    """Initialises jax.distributed from the options or, without them, from SLURM or a TPU pod; else does nothing.

    The arguments are those of `check_processes`.
    """
    import jax

    if coordinator:
        jax.distributed.initialize(coordinator, processes, process)
    # tasks of an srun (not the batch script around it), hosts of a TPU pod, or slices of TPUs
    elif (
        int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1
        or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
        or int(os.environ.get("MEGASCALE_NUM_SLICES", "1")) > 1
    ):
        jax.distributed.initialize()
