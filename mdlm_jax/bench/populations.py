"""Many small models in one program, and one model on many devices, each compared with one model on one device."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from statistics import median

import jax

from mdlm_jax.bench.cases import DEVICES, POPULATIONS, Case
from mdlm_jax.bench.jax_side import in_turns, make_side
from mdlm_jax.errors import UserError


def beside_one(case: Case, others: Sequence[Case], rounds: int) -> list[dict]:
    """For each of the others: seconds per step, and its tokens per second over those of `case`."""
    single, rows = make_side(case), []
    for other in others:
        side = make_side(other)
        turns = in_turns(side, single, rounds)
        share = other.members * other.batch_size / case.batch_size
        rows.append(
            {
                "members": other.members,
                "devices": other.devices,
                "seconds": median(turn["ours"]["seconds"] for turn in turns),
                "times_one": share * median(turn["base"]["seconds"] / turn["ours"]["seconds"] for turn in turns),
                "times_one_cpu": share
                * median(turn["base"]["cpu_seconds"] / turn["ours"]["cpu_seconds"] for turn in turns),
                "compile_seconds": side.compile_seconds,
            }
        )
    return rows


def populations(case: Case, rounds: int) -> list[dict]:
    """Populations of 1, 4 and 16 members, each member with the batch of one."""
    return beside_one(case, [case._replace(members=members) for members in POPULATIONS], rounds)


def over_devices(case: Case, rounds: int) -> list[dict]:
    """The same batch over 1, 2, 4 and 8 devices; on a CPU over as many parts of it, in a process of its own.

    Those parts share its cores, so that nothing is gained: what is lost is the price of splitting. Raises UserError
    where that process fails.
    """
    if jax.default_backend() != "cpu":
        return _over(case, rounds)
    flags = f"--xla_force_host_platform_device_count={max(DEVICES)}"
    done = subprocess.run(
        [sys.executable, "-m", "mdlm_jax.bench.populations", json.dumps(case), str(rounds)],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise UserError(f"a step over {max(DEVICES)} devices is not measured: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def _over(case: Case, rounds: int) -> list[dict]:
    counts = [count for count in DEVICES if count <= jax.device_count()]
    return beside_one(case, [case._replace(devices=count) for count in counts], rounds)


if __name__ == "__main__":
    print(json.dumps(_over(Case(*json.loads(sys.argv[1])), int(sys.argv[2]))))
