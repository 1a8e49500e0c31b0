#!/usr/bin/env bash
# ml_collections 1.1.0.
# Behaviour: ConfigDict(config) and copy.copy(config) copy the outermost level only, and not even that for a field that
#   another field refers to: such a field is one object in both, so that setting it in the copy sets it in the original.
# Seen: after `run = ConfigDict(base); run.lr = 5.0` the original has lr 5.0 too, where base.end is base.get_ref("lr") * 0.1.
# Misled: sweeps that make each run with ConfigDict(base) and then set its learning rate: all runs have the last one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q ml_collections==1.1.0
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import copy

from ml_collections import ConfigDict


def base():
    config = ConfigDict({"lr": 1.0, "steps": 10, "model": {"width": 64}})
    config.end = config.get_ref("lr") * 0.1
    return config


for make, shared in ((ConfigDict, True), (copy.copy, True), (copy.deepcopy, False)):
    original = base()
    run = make(original)
    run.lr, run.steps, run.model.width = 5.0, 20, 128
    print(make.__name__, "original:", original.to_dict())
    assert original.steps == 10
    assert (original.lr == 5.0) == shared and (original.model.width == 128) == shared, "changed"
template, runs = base(), []
for lr in (1e-3, 1e-2, 1e-1):
    run = ConfigDict(template)
    run.lr = lr
    runs.append(run)
print("a sweep of three rates:", [run.lr for run in runs])
assert [run.lr for run in runs] == [1e-1] * 3, "changed"
PYTHON
