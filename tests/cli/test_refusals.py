"""A missing input or a wrong name is refused before JAX is imported, which takes seconds."""

import json
import shlex
import subprocess
import sys

from tests import run_folders as runs

REFUSED = {
    "train --run /missing": "/missing/config.json: no such file",
    "train --run /new --from /missing": "/missing: no such file or folder",
    "train --run /new --config base --config.steps=-1": "config.steps is -1",
    "evaluate --run /missing": "/missing/config.json: no such file",
    "sample --run /missing": "/missing/config.json: no such file",
    "sample --run /missing --judge /missing": "accepted with --compare",
    "sample --run /missing --compare confidence --out /new": "/missing/config.json: no such file",
    "evaluate --run /missing --draws 0": "--draws=0; accepted: 1 or more",
    "evaluate --run /missing --pairs /pairs.jsonl": "/pairs.jsonl: no such file or folder",
    "sample --run /missing --count 0": "--count=0; accepted: 1 or more",
    "sample --run /missing --temperature -1": "--temperature=-1.0; accepted: 0 or more",
    "harness --run /missing --tasks x --out /new --limit 0": "--limit=0; accepted: 1 or more",
    "check masked --vocab 1": "--vocab=1; accepted: 2 or more",
    "check nothing --parametrization": "config.objective.name is 'nothing'",
    "harness --run /missing --tasks x --out /new": "/missing/config.json: no such file",
    "convert /missing --out /new": "/missing: no such file or folder",
    "check nothing": "config.objective.name is 'nothing'",
    "check masked --config.objective.schedule=x": "config.objective.schedule is 'x'",
    "fit /missing --out fits.json": "/missing: no such file or folder",
    "predict /missing --objective ar --parameters 1 --tokens 1": "/missing: no such file or folder",
    "next /missing --objective ar --budget 1": "/missing: no such file or folder",
    "leaderboard /missing --out page.html": "/missing: no such file or folder",
    "data build --path books.txt --out /new": "--path=books.txt: not read from --source=stdlib",
    "data tokenizer --field text --out /new --size 300": "--field=text: not read from --source=stdlib",
    "sweep plan missing": "missing: no such file",
    "sweep plan quickstart --mfu 0.3": "--mfu=0.3; accepted: with --hardware",
    "sweep run missing": "missing: no such file",
    "sweep retry missing": "missing: no such file",
    "sweep tune missing": "missing: no such file",
    "sweep sample missing": "missing: no such file",
    "sweep report missing": "missing: no such file",
    "sweep report missing.json": "missing.json: no such file or folder",
    "sweep status missing": "runs/missing: holds no runs",
    "sweep cancel missing": "runs/missing: holds no runs",
}
EACH = """
import contextlib, io, json, sys
sys.modules["jax"] = None  # importing it fails
from mdlm_jax.cli.main import main
for words in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            main(words)
        except SystemExit as ended:
            code = ended.code
        except ImportError as error:
            code = f"{error}"
    print(json.dumps([code, said.getvalue()]))
"""


def test_no_jax(tmp_path):
    asked = json.dumps([shlex.split(words) for words in REFUSED])
    done = subprocess.run(
        [sys.executable, "-c", EACH, asked], cwd=tmp_path, env=runs.environment(), capture_output=True, text=True
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for (words, expected), (code, said) in zip(REFUSED.items(), answers, strict=True):
        assert (code, said.count("\n")) == (2, 1) and expected in said, (words, code, said)
