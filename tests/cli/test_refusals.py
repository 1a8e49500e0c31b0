"""A missing input or a wrong name is refused before JAX is imported, which takes seconds."""

import json
import shlex
import subprocess
import sys

from mdlm_jax.cli.sampler_options import CHOICES, SAMPLER_FIELDS
from mdlm_jax.config import load_config, to_json
from mdlm_jax.sampling.confidence import Confidence
from mdlm_jax.sampling.samplers import SAMPLERS
from mdlm_jax.sampling.text import fields
from tests import run_folders as runs

REFUSED = {
    "train --run /missing": "/missing/config.json: no such file",
    "train --run /new --from /missing": "/missing: no such file or folder",
    "train --run /new --config base --config.steps=-1": "config.steps is -1",
    "evaluate --run /missing": "/missing/config.json: no such file",
    "sample --run /missing": "/missing/config.json: no such file",
    "sample --run /missing --judge /missing": "accepted with --compare",
    "sample --run /missing --compare confidence --out /new": "/missing/config.json: no such file",
    "evaluate --run /missing --draws 1": "--draws=1; accepted: 2 or more",
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
    "train --run {run} --config.optim.lr=1": "holds another run, which differs in optim.lr: 0.01 -> 1.0",
    "train --run {run} --branch x": "--branch=x; accepted: RUN@STEP",
    "train --run {run} --processes 2": "--processes=2 --process=0; accepted: all three together",
    "train --run /new --from {run} --recipe x": "--recipe=x; accepted: diffullama",
    "evaluate --run {run} --likelihood x": "--likelihood=x; accepted: elbo",
    "evaluate --run {run} --path /missing.txt": "--path: no file matches '/missing.txt'",
    "evaluate --run {run} --path {text} --field text": "names .txt files alone; accepted: without --field",
    "evaluate --run {run} --path {text} --protocol x": "--protocol=x; accepted: sedd, mdlm",
    "evaluate --run {run} --length 9999": "--length=9999; accepted: 1 to 16",
    "evaluate --run {run} --source text --data /missing.txt": "--data: no file matches",
    "sample --run {run} --sampler x": "no sampler 'x'; accepted: autoregressive",
    "sample --run {run} --sampler confidence:x=1": "'x=1' sets no field; accepted: FIELD=VALUE with temperature",
    "sample --run {run} --sampler ancestral --rule quota": "--rule=quota: sampler ancestral has no such field",
    "sample --run {run} --rule x": "--rule=x; accepted: quota",
    "sample --run {run} --top-p 2": "--top-p=2.0; accepted: above 0 and at most 1",
    "sample --run {run} --seed -1": "--seed=-1; accepted: 0 to",
    "sample --run {run} --out {text}/a": "cannot be written",
    "sample --run {run} --compare x --out /new": "no sampler 'x'",
    "harness --run {run} --tasks x --out /new --include-path /missing": "--include-path=/missing: no such folder",
    "harness --run {run} --tasks x --out /new --sampler x": "no sampler 'x'",
    "harness --run {run} --tasks x --out /new --shots-as-turns": "accepted: with --chat",
    "sweep plan {text}": "lacks grid()",
    "sweep plan quickstart --hardware x:1": "--hardware=x:1; accepted: NAME:COUNT",
    "sweep run quickstart --workers -1": "--workers=-1; accepted: 0 or more",
    "sweep run quickstart --folder {text}/a": "--folder={text}/a: cannot be written",
    "sweep run quickstart --submit x": "--submit='x'; accepted: a line with {command}",
    "sweep evaluate quickstart --likelihood orders --orders 3": "--orders=3; accepted: an even number",
    "evaluate --run {run} --source text --data {text} --validation-path /missing.txt": "--validation-path: no file",
    "sweep evaluate quickstart --likelihood elbo": "--likelihood=elbo; accepted: orders, left_to_right, confidence",
    "sweep report quickstart --folder /missing": "/missing: no such file or folder",
    "predict {text} --objective ar --parameters 1 --tokens 1": "holds no fits",
    "convert {run} --out {run}": "already exists; accepted: a new or empty folder",
    "convert {text} --out /new --dtype int8": "--dtype=int8; accepted: float32",
    "data build --source text --path {text} --field x --out /new": "names .txt files alone",
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
    run, text = tmp_path / "run", tmp_path / "text.txt"
    text.write_text("1")  # also the file of an experiment, without grid()
    (run / "checkpoints" / "2").mkdir(parents=True)  # as far as it is looked at before JAX is imported
    config = load_config("base", [f"--config.{key}={value}" for key, value in runs.TINY.items()])
    (run / "config.json").write_text(to_json(config))
    placed = [[filled(part, run=run, text=text) for part in pair] for pair in REFUSED.items()]
    asked = json.dumps([shlex.split(words) for words, _ in placed])
    done = subprocess.run(
        [sys.executable, "-c", EACH, asked], cwd=tmp_path, env=runs.environment(), capture_output=True, text=True
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for (words, expected), (code, said) in zip(placed, answers, strict=True):
        assert (code, said.count("\n")) == (2, 1) and expected in said, (words, code, said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "text.txt"]


def filled(words, **places):
    for name, path in places.items():
        words = words.replace("{" + name + "}", str(path))
    return words


def test_names_of_samplers():
    """What the command knows without JAX is what the samplers have."""
    assert {name: set(own) for name, own in SAMPLER_FIELDS.items()} == {name: set(fields(name)) for name in SAMPLERS}
    assert {name: set(own) for name, own in CHOICES.items()} == {
        name: set(own) for name, own in Confidence.choices.items()
    }
