#!/usr/bin/env bash
# wandb 0.31.0.
# Behaviour: the first wandb.init of a process reads the WANDB_ variables, and later ones keep what it read, with no error
#   or warning, until wandb.teardown() is called. Arguments of wandb.init are read each time.
# Seen: after an offline run, WANDB_MODE=disabled still gives a stored offline run and WANDB_PROJECT=second the project
#   "first"; mode="disabled" as an argument gives no run, and after wandb.teardown() the variables count.
# Misled: notebooks and workers that train several runs in one process and set WANDB_PROJECT or WANDB_MODE between them:
#   the later runs go to the first project, and a run that was to be disabled is recorded, or uploaded.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q wandb==0.31.0
cd "$work"
venv/bin/python - <<'PYTHON'
import glob
import os

import wandb


def started(**options):
    run = wandb.init(dir=".", **options)
    found = (run.settings.mode, run.settings.project, len(glob.glob("wandb/offline-run-*")))
    wandb.finish()
    return found


os.environ |= {"WANDB_MODE": "offline", "WANDB_PROJECT": "first", "WANDB_SILENT": "true"}
first = started()
os.environ |= {"WANDB_MODE": "disabled", "WANDB_PROJECT": "second"}
second = started()
argument = started(mode="disabled")
wandb.teardown()
after = started()
print(first, second, argument, after, sep="\n")
assert first == ("offline", "first", 1)
assert second == ("offline", "first", 2), "changed"
assert argument[0] == "disabled" and argument[2] == 2
assert after[0] == "disabled" and after[2] == 2
PYTHON
