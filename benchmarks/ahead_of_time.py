"""Compiles SMDM's train step for TPUs and GPUs that are not attached: memory, products and bytes between chips.

    pip install 'libtpu==0.0.42.*'        # the version that jax 0.10.2 requires; compiling needs no TPU
    JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 python benchmarks/ahead_of_time.py sizes [NAME ..]  # or meshes, remat, pairs
    # with the packages of benchmarks/h200.py; without a GPU nothing is autotuned
    JAX_PLATFORMS=cpu XLA_FLAGS=--xla_gpu_autotune_level=0 python benchmarks/ahead_of_time.py gpus    # or pairs_gpus

Programs compile one after another, and each is stored in results/ahead_of_time.json. A stopped run resumes from there.
"""

import json
import math
import pathlib
import re
import sys
import time
from typing import NamedTuple

import jax
from jax.experimental import topologies
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.compiled import read_compiled  # noqa: E402
from benchmarks.h200 import h200s  # noqa: E402
from mdlm_jax.build import build  # noqa: E402
from mdlm_jax.configs import smdm, unidisc_small  # noqa: E402
from mdlm_jax.files import write_whole  # noqa: E402
from mdlm_jax.models.ladder import SMDM  # noqa: E402
from mdlm_jax.models.layout import AXES, ROWS  # noqa: E402
from mdlm_jax.sweeps.plan import memory_of, plan_runs  # noqa: E402
from mdlm_jax.training.sharding import RUNNERS  # noqa: E402
from mdlm_jax.training.step import make_train_step  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"


class Case(NamedTuple):
    size: str
    topology: str
    mesh: tuple[int, int, int, int]  # data, fsdp, sequence, tensor
    batch_size: int = 256
    remat: str = "full"
    objective: str = "masked"
    length: int = 2048
    attention: str = "einsum"
    float8: bool = False

    @property
    def name(self) -> str:
        return json.dumps(self)


def _on_gpus(size: str, mesh: tuple[int, int, int, int] = (1, 8, 1, 1), **others) -> Case:
    return Case(size, f"h200:{math.prod(mesh)}", mesh, **{"attention": "library"} | others)


CASES = {
    # every size on 64 chips, four rows a chip; an eighth of each width is whole tiles of eight rows
    "sizes": [Case(size, "v5p:4x4x4", (8, 8, 1, 1)) for size in SMDM],
    "meshes": [
        Case("6M", "v5p:4x4x4", (1, 64, 1, 1)),
        Case("6M", "v5p:2x2x1", (1, 4, 1, 1), batch_size=16),
        Case("6M", "v5p:2x2x1", (1, 2, 2, 1), batch_size=16),
        Case("6M", "v5p:2x2x1", (1, 2, 1, 2), batch_size=16),
        Case("6M", "v5p:2x2x1", (1, 4, 1, 1), batch_size=16, objective="ar"),
        Case("1028M", "v5p:4x4x4", (1, 64, 1, 1)),
        # the same batch on 1,024 chips: a row is split over four of them
        Case("1028M", "v5p:8x8x16", (32, 8, 4, 1)),
        Case("1028M", "v5p:8x8x16", (32, 8, 2, 2)),
        Case("1028M", "v5p:8x8x16", (128, 8, 1, 1), batch_size=1024),
        Case("2121M", "v5e:4x4", (1, 16, 1, 1), batch_size=64),
    ],
    "gpus": [
        _on_gpus("6M"),
        _on_gpus("170M"),
        _on_gpus("1028M"),
        _on_gpus("2121M"),
        _on_gpus("1028M", attention="einsum"),
        _on_gpus("1028M", objective="ar"),
        _on_gpus("1028M", objective="blocks"),
        _on_gpus("1028M", float8=True),
        _on_gpus("1028M", (2, 4, 1, 1)),
        _on_gpus("1028M", (1, 2, 2, 2)),
        _on_gpus("170M", (1, 1, 1, 1), batch_size=16, remat="none"),
        _on_gpus("1028M", (1, 1, 1, 1), batch_size=8),
    ],
    # rows of text and image of UniDisc's small study
    "pairs": [Case("113M", "v5p:4x4x4", (8, 8, 1, 1), batch_size=512, objective="unidisc_small", length=384)],
    "pairs_gpus": [_on_gpus("113M", batch_size=512, objective="unidisc_small", length=384)],
    "remat": [Case("6M", "v5p:2x2x1", (1, 4, 1, 1), batch_size=16, remat=remat) for remat in ("none", "dots", "full")],
}


def config_of(case: Case) -> ConfigDict:
    """SMDM's published recipe, on a data source that needs no files; or a preset of its own."""
    if case.objective == "unidisc_small":
        config = unidisc_small.get_config()
        config.eval.sequences = 1
        return _executed(config, case)
    config = smdm.get_config()
    config.objective.name = "masked" if case.objective == "blocks" else case.objective
    config.objective.block_size = 16 if case.objective == "blocks" else 0
    if case.objective != "masked":
        config.objective.epsilon_convention, config.objective.independent_times = "none", False
    config.data.source, config.data.path, config.data.tokenizer = "markov", "vocab=8,concentration=0.3", "bytes"
    config.data.sequence_length, config.eval.sequences = case.length, 1
    config.model.size = case.size
    return _executed(config, case)


def _executed(config: ConfigDict, case: Case) -> ConfigDict:
    """The config with the batch, the mesh and the kernels of a case."""
    config.train.batch_size, config.train.remat, config.train.attention = case.batch_size, case.remat, case.attention
    config.train.float8 = case.float8
    for axis, size in zip(AXES, case.mesh, strict=True):
        config.train[f"mesh_{axis}"] = size
    return config


def compile_case(case: Case) -> dict:
    """The compiler's report on one train step, for one chip."""
    config = config_of(case)
    kind, _, count = case.topology.partition(":")
    if kind == "h200":
        jax.default_backend = lambda: "gpu"  # which attention `library` asks before it takes cuDNN's
        devices = h200s(int(count)).devices
    else:
        devices = topologies.get_topology_desc(case.topology, "tpu").devices
    built = build(config, devices)
    make_runner, axis_name = RUNNERS["jit"]
    step = make_train_step(built.model, built.objective, built.optimizer, built.options, axis_name)
    runner, rows = make_runner(step, built.mesh), NamedSharding(built.mesh, P(None, ROWS))
    state = runner.abstract(built.make_state, *built.initial)
    batch = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((1, case.batch_size, *leaf.shape[1:]), leaf.dtype, sharding=rows),
        built.data.batch(0),
    )
    start = time.process_time()
    program = runner.steps.lower(state, batch, 1).compile()
    seconds = time.process_time() - start
    text = program.as_text()
    reserved, read = program.memory_analysis(), read_compiled(text)
    (planned,) = plan_runs([config])
    return {
        **case._asdict(),
        "parameters": planned.parameters.total,
        "state_bytes": reserved.argument_size_in_bytes,
        "temporary_bytes": reserved.temp_size_in_bytes,
        "planned_bytes": memory_of(planned, built.mesh.size).total,
        "flops": read.flops,
        "planned_flops": built.plan.flops_per_step.exact / built.mesh.size,
        "kernels": sorted(set(re.findall(r"__cu[\w$]+|f8e\w+", text))),
        "sent_bytes": read.bytes_by_kind(),
        "collectives": [one._asdict() for one in sorted(read.collectives, key=lambda one: -one.sent * one.times)[:12]],
        "compile_cpu_seconds": round(seconds, 1),
    }


def table(found: list[dict]) -> str:
    """One line per program, ordered by chips, mesh and size."""
    kinds = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")
    named = "size | chips | data x fsdp x sequence x tensor | objective | attention | rows | remat | "
    named += "state, GB | temporary memory, GB | planned memory, GB | TFLOP | planned TFLOP | " + " | ".join(
        f"{kind}, MB" for kind in kinds
    )
    lines = [f"| {named} |", "|---" * (named.count("|") + 1) + "|"]
    for one in sorted(found, key=lambda one: (one["topology"], [*one["mesh"]], one["parameters"], one["objective"])):
        objective = one["objective"] + (", 8 bits" if one["float8"] else "")
        cells = [one["size"], one["topology"], " x ".join(map(str, one["mesh"])), objective, one["attention"]]
        cells += [one["batch_size"], one["remat"]]
        cells += [f"{one[key] / 1e9:.2f}" for key in ("state_bytes", "temporary_bytes", "planned_bytes")]
        cells += [f"{one[key] / 1e12:.2f}" for key in ("flops", "planned_flops")]
        cells += [f"{one['sent_bytes'].get(kind, 0) / 1e6:,.0f}" for kind in kinds]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def stored() -> dict:
    path = RESULTS / "ahead_of_time.json"
    return json.loads(path.read_text()) if path.exists() else {}


def main() -> None:
    which, *names = sys.argv[1:]
    for case in CASES[which]:
        if case.name in stored() or names and case.size not in names:
            continue
        one = compile_case(case)
        found = stored() | {case.name: one}
        write_whole(RESULTS / "ahead_of_time.json", json.dumps(found, indent=1) + "\n")
        write_whole(RESULTS / "ahead_of_time.md", table(list(found.values())))
        print(table([one]).splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
