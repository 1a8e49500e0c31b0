"""A damaged record in a run's folder is refused in one line that names the file and what is wrong."""

import json

import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.runs.attempts import NOBODY, Attempt, last_attempt, path_of
from mdlm_jax.runs.execution import config_of_run
from mdlm_jax.runs.extension import Extension, read_extensions
from mdlm_jax.runs.inputs import Inputs, read_inputs
from mdlm_jax.runs.lineage import Lineage, read_lineage
from mdlm_jax.runs.rewind import Rewind, read_rewinds
from mdlm_jax.sweeps.launched import Launched, read_launched
from tests.runs.here import config_of

READERS = {
    "rewinds.json": (read_rewinds, [Rewind(3, 9, "spike")]),
    "extensions.json": (read_extensions, [Extension(4, 8, "hold", 4)]),
    "lineage.json": (read_lineage, Lineage("a", "branch", 3, 60, {"exact": 1e9})),
    "inputs.json": (read_inputs, Inputs(257, "a1", "b2", "")),
}


def text_of(record) -> str:
    """As runs write it."""
    many = isinstance(record, list)
    return json.dumps([one._asdict() for one in record] if many else record._asdict())


def damaged(record) -> list[str]:
    """Files that hold something else, or one field that is missing, unknown or of another type."""
    many, fields = isinstance(record, list), (record[0] if isinstance(record, list) else record)._asdict()
    bad = [{**fields, key: [fields[key]]} for key in fields] + [{**fields, key: True} for key in fields]
    bad += [{key: fields[key] for key in fields if key != missing} for missing in fields]
    bad += [{**fields, "more": 1}, 1, None, [], "x"]
    texts = [json.dumps([one] if many else one) for one in bad]
    return [*texts, "", "{", "null", "3", "{}" if many else "[]", "[" * 100_000, "9" * 5000]


@pytest.mark.parametrize("name", READERS)
def test_damaged_record_is_refused(tmp_path, name):
    read, whole = READERS[name]
    assert not read(tmp_path)
    path = tmp_path / name
    path.write_text(text_of(whole))
    assert read(tmp_path) == whole
    for text in damaged(whole):
        path.write_text(text)
        with pytest.raises(UserError) as refused:
            read(tmp_path)
        line = str(refused.value)
        assert line.startswith(f"{path}: not the ") and "accepted: " in line and "\n" not in line, text
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not the "):
        read(tmp_path)


def test_damaged_submission_and_attempt(tmp_path):
    """Neither stops a sweep: such an attempt counts as failed, such a submission as none."""
    (tmp_path / "attempts").mkdir()
    for record in (Launched("slurm", "7", 1.5), Attempt(1, NOBODY, 2.5)):
        for text in damaged(record):
            (tmp_path / "launched.json").write_text(text)
            path_of(tmp_path, 1).write_text(text)
            if record == Attempt(1, NOBODY, 2.5):
                found = last_attempt(tmp_path)
                assert found == Attempt(1, NOBODY, 2.5) or "not the record of an attempt" in found.cause, text
            else:
                assert read_launched(tmp_path) in (None, Launched("slurm", "7", 1.5)), text
    submission, attempt = Launched("slurm", "7", 1.5, 2), Attempt(1, NOBODY._replace(pid=3), 2.5)
    (tmp_path / "launched.json").write_text(text_of(submission))
    path_of(tmp_path, 1).write_text(json.dumps(attempt._asdict() | {"owner": attempt.owner._asdict()}))
    assert read_launched(tmp_path) == submission and last_attempt(tmp_path) == attempt


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"train.mesh_fsdp": [4, "x"]}, "config.train.mesh_fsdp is 'x'; accepted: int"),
        ({"train.remat": ["none", "often"]}, "config.train.remat is 'often'; accepted: none"),
        ({"train.loss_chunk": [4, 0]}, "config.train.loss_chunk is 0; accepted: at least 1"),
        ({"data.path": [4]}, "not the record of a run's execution (data.path: [4])"),
        ({"data.path": 4}, "not the record of a run's execution (data.path: 4)"),
        ({"optim.lr": [1e-2, 1.0]}, "not the record of a run's execution (optim.lr: [0.01, 1.0])"),
        ({"nothing": [1, 2]}, "not the record of a run's execution (nothing: [1, 2])"),
        (None, "not the record of a run's execution (key 'changed' is None, expected dict"),
    ],
)
def test_damaged_execution_is_refused(tmp_path, changed, said):
    from mdlm_jax.config import to_json

    (tmp_path / "config.json").write_text(to_json(config_of()))
    (tmp_path / "execution.json").write_text(json.dumps([{"step": 1, "changed": changed}]))
    with pytest.raises(UserError) as refused:
        config_of_run(tmp_path)
    assert str(refused.value).startswith(f"{tmp_path}/execution.json: {said}")
