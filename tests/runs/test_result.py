"""`result.json`: its schema, and damaged or duplicate files."""

import json

import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.runs.result import Result, read_result, read_results, validate, write_result

RESULT = Result(
    schema_version=1,
    run_id="ar-4k-1e10-0",
    objective="ar",
    size="4k",
    config_hash="0123abcd",
    seed=0,
    parameters_non_embedding=4144,
    parameters_total=12352,
    tokens=131072,
    tokens_per_step=1024,
    steps=128,
    unique_tokens=65536,
    epochs=2.0,
    flops={"six_nonembedding": 3.0e9, "six_total": 9.0e9, "six_attention": 5.0e9, "exact": 10**10},
    budget=1e10,
    budget_counter="exact",
    loss=2.5,
    loss_standard_error=0.01,
    loss_monte_carlo_error=0.0,
    draws=1,
    estimator="chain rule",
    bound="exact",
    bits_per_byte=3.6,
    learning_rate=3e-3,
    batch_size=8,
    wall_seconds=4.0,
    compile_seconds=1.0,
    device="cpu",
    versions={"jax": "0.10.2"},
    status="done",
    cause="",
)


def test_round_trip(tmp_path):
    path = write_result(tmp_path, RESULT)
    assert path == tmp_path / "result.json"
    assert read_result(path) == RESULT
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_failed_run_has_cause_without_loss(tmp_path):
    nothing = dict.fromkeys(("loss", "loss_standard_error", "loss_monte_carlo_error", "bits_per_byte"))
    failed = RESULT._replace(status="failed", cause="NaN loss at step 12", **nothing)
    assert read_result(write_result(tmp_path, failed)) == failed


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"schema_version": 2}, "schema_version is 2"),
        ({"steps": 1.5}, "key 'steps' is 1.5, expected int"),
        ({"steps": True}, "key 'steps'"),
        ({"loss": float("nan")}, "key 'loss' is nan"),
        ({"loss": None}, "key 'loss' is null"),
        ({"bound": "lower"}, "key 'bound' is 'lower', expected one of exact, upper, none"),
        ({"budget_counter": "flops"}, "key 'budget_counter'"),
        ({"status": "running"}, "key 'status'"),
        ({"flops": {"exact": 1.0}}, "key 'flops'"),
        ({"versions": {"jax": 10}}, "key 'versions'"),
        ({"colour": "red"}, "key 'colour' is not part"),
    ],
)
def test_schema_error_names_file_and_key(change, named):
    with pytest.raises(UserError) as caught:
        validate(RESULT._asdict() | change, "runs/a/result.json")
    assert "runs/a/result.json: " in str(caught.value)
    assert named in str(caught.value)


def test_missing_key_is_named(tmp_path):
    fields = RESULT._asdict()
    del fields["tokens"]
    (tmp_path / "result.json").write_text(json.dumps(fields))
    with pytest.raises(UserError, match="result.json: key 'tokens' is missing"):
        read_result(tmp_path / "result.json")


def test_invalid_result_is_not_written(tmp_path):
    with pytest.raises(UserError, match="key 'loss'"):
        write_result(tmp_path, RESULT._replace(loss=float("inf")))
    assert list(tmp_path.iterdir()) == []


def test_bad_file_does_not_hide_others(tmp_path):
    folders = [tmp_path / name for name in ("good", "truncated", "empty", "absent")]
    for folder in folders[:3]:
        folder.mkdir()
        write_result(folder, RESULT)
    whole = (folders[0] / "result.json").read_text()
    (folders[1] / "result.json").write_text(whole[: len(whole) // 2])
    (folders[2] / "result.json").write_text("")
    results, problems = read_results(folders)
    assert results == [RESULT]
    assert len(problems) == 3
    assert "truncated" in problems[0] and "not whole JSON" in problems[0]
    assert "empty" in problems[1]
    assert "absent" in problems[2] and "has not ended" in problems[2]


def test_duplicate_results_are_reported(tmp_path):
    """The result in the folder named after the run is used."""
    folders = [tmp_path / name for name in ("a copy", RESULT.run_id, "moved")]
    for folder, loss in zip(folders, (1.0, 2.0, 3.0), strict=True):
        folder.mkdir()
        write_result(folder, RESULT._replace(loss=loss))
    (folders[1] / "result (1).json").write_text("{}")
    results, problems = read_results(folders)
    assert [result.loss for result in results] == [2.0]
    used = folders[1] / "result.json"
    assert problems == [
        f"{folders[1] / 'result (1).json'}: a second result in this folder; result.json is used",
        f"{folders[0] / 'result.json'}: a second result of {RESULT.run_id}; {used} is used",
        f"{folders[2] / 'result.json'}: a second result of {RESULT.run_id}; {used} is used",
    ]
