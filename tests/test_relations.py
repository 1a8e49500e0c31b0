"""Contradictions between keys are refused without jax."""

import subprocess
import sys

import pytest

from mdlm_jax.config import load_config
from mdlm_jax.configs.relations import refuse_contradictions
from mdlm_jax.errors import UserError

SHAPE = ["model.size=", "model.layers=1", "model.width=8", "model.mlp_width=8"]
CONTRADICTIONS = {
    "microbatches": (["train.batch_size=16", "train.microbatches=7"], "train.microbatches is 7; accepted: a divisor"),
    "prompt": (["data.sequence_length=8", "data.prompt_tokens=8"], "data.prompt_tokens is 8; accepted: 0 to 7"),
    "blocks": (["data.sequence_length=8", "objective.block_size=3"], "objective.block_size is 3; accepted: a divisor"),
    "answers in one row": (
        ["data.source=chat", "train.loss_per=answer"],
        "data.padding is 'packed'; accepted: unread or scored, where train.loss_per is answer",
    ),
    "size and shape": (["model.width=8"], "model.width is 8; accepted: 0, where model.size is"),
    "no shape": (["model.size="], "model.layers is 0; accepted: at least 1 where model.size is empty"),
    "heads": (
        [*SHAPE, "model.heads=3", "model.key_value_heads=3"],
        "model.heads is 3; accepted: a divisor of model.width = 8",
    ),
    "grouped heads": (
        [*SHAPE, "model.heads=4", "model.key_value_heads=3"],
        "model.key_value_heads is 3; accepted: a divisor of model.heads = 4",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_one_line(name):
    overrides, line = CONTRADICTIONS[name]
    with pytest.raises(UserError, match=f"^config.{line}"):
        refuse_contradictions(load_config("base", [f"--config.{item}" for item in overrides]))


def test_train_refuses_before_jax(tmp_path):
    """`mdlm-jax train` answers such a config before the slow import of jax, and leaves no folder."""
    words = ["train", "--run", str(tmp_path / "run"), "--config=base", "--config.train.microbatches=7"]
    code = f"import sys; from mdlm_jax.cli.main import main\ntry: main({words!r})\n"
    code += "except SystemExit as end: print(end.code, 'jax' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.stdout.split() == ["2", "False"], found.stderr
    assert "config.train.microbatches is 7" in found.stderr and not (tmp_path / "run").exists()
