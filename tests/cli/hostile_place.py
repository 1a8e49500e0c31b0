"""What the lines of hostile.py name: runs, texts, models, and damaged ones of each."""

import pathlib
import shutil

from mdlm_jax.image_tokenizers.store import made
from mdlm_jax.laws import write_fits
from mdlm_jax.sweeps import sweep
from mdlm_jax.sweeps.experiment import load_experiment
from mdlm_jax.sweeps.plan import plan_runs
from tests import run_folders as runs
from tests.data.made_pictures import write_folder
from tests.harness.models import LLAMA_SMALL, model_folder, task_folder
from tests.laws.known import known_fit
from tests.report.test_leaderboard import folder_of
from tests.runs.here import train_here

TEXT = "It was the best of times, it was the worst of times. " * 40
FILES = {
    "text": TEXT,
    "long_text": TEXT,
    "binary": bytes(range(256)) * 9,
    "nothing.txt": "",
    "broken_gz.txt.gz": b"\\x1f\\x8b\\x08rest is missing",
    "broken_jsonl.jsonl": '{"text": "a"}\n{"text": ',
    "jsonl.jsonl": '{"text": "It was the best of times"}\n' * 40,
    "pairs.jsonl": '{"prompt": "It", "answer": " was"}\n' * 2,
    "chats.jsonl": '{"messages": [{"role": "user", "content": "It"}]}\n',
    "bad_pairs.jsonl": '{"prompt": "It"}\n',
    "long_pairs.jsonl": '{"prompt": "It", "answer": "' + TEXT + '"}\n',
    "broken_json.json": '[{"run_id": ',
    "list_json.json": "[1, null]",
    "number_image.jsonl": '{"image": 5, "text": "a"}\n',
    "raising.py": "def get_config():\n    raise KeyError('x')\n\ngrid = f = get_config\nTITLE = ''\n",
    "none_config.py": "def get_config():\n    return None\n",
    "dict_config.py": "def get_config():\n    return {'steps': 3}\n",
    "no_grid.py": "TITLE = 'x'\n",
    "empty_grid.py": "TITLE = 'x'\ndef grid():\n    return []\n",
    "bad_grid.py": "TITLE = 'x'\ndef grid():\n    return [3]\n",
}
SWEEP = f"""
TITLE = "One run."
def grid():
    from mdlm_jax.configs import base
    config = base.get_config()
    config.update_from_flattened_dict({runs.TINY | {"steps": 2, "objective.name": "ar"}!r})
    return [config]
"""


def make_place(folder: pathlib.Path) -> dict[str, str]:
    """Makes everything in a folder; from placeholders to paths."""
    found = {}
    for name, content in (FILES | {"sweep.py": SWEEP}).items():
        path = folder / (f"{name}.txt" if name in ("text", "long_text") else name)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        found[name.partition(".")[0]] = path
    text = {"data__source": "text", "data__path": str(found["text"])}
    for name, keys in {
        "masked": {"objective__name": "masked", **text},
        "ar": {"objective__name": "ar", **text},
        "blocks": {"objective__name": "masked", "objective__block_size": 4, **text},
    }.items():
        found[name] = folder / name
        train_here(found[name], steps=2, **keys)
    for name in ("broken_run", "list_run", "edited_run", "bare_run", "sampled"):
        found[name] = shutil.copytree(found["masked"], folder / name)
    config = found["masked"] / "config.json"
    (found["broken_run"] / "config.json").write_text(config.read_text()[:99])
    (found["list_run"] / "config.json").write_text("[]")
    (found["edited_run"] / "config.json").write_text(config.read_text().replace('"masked"', '"ar"'))
    shutil.rmtree(found["bare_run"] / "checkpoints")
    (found["bare_run"] / "result.json").unlink()
    found["runs"] = folder / "runs"
    experiment = load_experiment(found["sweep"])
    sweep.prepare(plan_runs(experiment.configs, experiment.run_ids), found["runs"])
    train_here(found["runs"] / experiment.run_ids[0], steps=2, objective__name="ar")
    found["stored"] = folder / "stored"
    sweep.report(experiment, found["runs"], found["stored"], found["stored"] / "results.json")
    found["fits"], found["damaged_fits"] = folder / "fits.json", folder / "damaged_fits.json"
    write_fits(found["fits"], {"masked": known_fit(draws=100)})
    found["damaged_fits"].write_text(found["fits"].read_text().replace('"loss": [', '"loss": [NaN, '))
    for name in ("model", "broken_model", "list_model"):
        found[name] = model_folder(folder / name, LLAMA_SMALL)
    (weights,) = found["broken_model"].glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-9])
    (found["list_model"] / "config.json").write_text("[]")
    found["pictures"] = write_folder(folder / "pictures", 60)
    found["bad_pictures"] = write_folder(folder / "bad_pictures", 60)
    (found["bad_pictures"] / "0007.png").write_bytes(b"no image")
    found["codes"] = folder / "codes.safetensors"
    found["codes"].write_bytes(
        made({"kind": "levels", "height": 8, "width": 8, "channels": 3, "patch": 1, "levels": 4}, {}).content
    )
    found["harnessed"] = folder_of(folder / "a", "a")
    found["tasks"], found["empty"] = task_folder(folder / "tasks"), folder / "empty"
    found["empty"].mkdir()
    return {name: str(path) for name, path in found.items()} | {
        name: str(folder / "fresh" / name) for name in ("new", "out")
    }
