"""What has to happen before the first computation: memory, the cache of compiled programs, other processes."""

import hashlib
import os
import pathlib
import platform
from collections.abc import Mapping

from mdlm_jax.errors import UserError


def prepare_devices() -> None:
    """Before jax is imported: memory is kept by the process; after: compiled programs are kept between runs."""
    from mdlm_jax.malloc import keep_freed_memory

    accelerators = ("nvidiactl", "accel0", "vfio")
    if not any(pathlib.Path("/dev", name).exists() for name in accelerators):
        keep_freed_memory()  # it is a CPU's temporaries that it is for
    import jax

    for name, value in cache_settings(os.environ).items():
        jax.config.update(name, value)


def cache_settings(environment: Mapping[str, str]) -> dict[str, str | float]:
    """What jax is told of its cache of compiled programs, but for what its own environment variables tell it.

    Programs of any size are kept: a run has many small ones. Those of another kind of processor, which a home may be
    shared with, lie apart: native code runs on its own kind only.
    """
    folder = pathlib.Path(environment.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    settings = {
        "jax_compilation_cache_dir": str(folder / "mdlm-jax" / "compiled" / _processor()),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    return {name: value for name, value in settings.items() if name.upper() not in environment}


def _processor() -> str:
    """Eight hex digits that machines share whose processors know the same instructions."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    known = [line for line in lines if line.startswith(("flags", "Features"))][:1] or [platform.processor()]
    return hashlib.sha256(known[0].encode()).hexdigest()[:8]


def join_processes(coordinator: str, processes: int, process: int) -> None:
    """jax.distributed: as told by the options, else as SLURM or a TPU pod says; alone otherwise."""
    if processes < 0 or bool(coordinator) != (processes > 0) or not 0 <= process < max(processes, 1):
        raise UserError(
            f"--coordinator={coordinator} --processes={processes} --process={process}; "
            "accepted: all three together, with --process from 0 to one less than --processes"
        )
    import jax

    if coordinator:
        jax.distributed.initialize(coordinator, processes, process)
    # the tasks of an srun, and not the batch script around it; the hosts of a TPU pod; its slices
    elif (
        int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1
        or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
        or int(os.environ.get("MEGASCALE_NUM_SLICES", "1")) > 1
    ):
        jax.distributed.initialize()
