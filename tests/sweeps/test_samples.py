"""`samples.json`: read with its run, and damaged files."""

import functools
import json

import pytest

from mdlm_jax.report.samples import read_samples
from tests.synthetic import samples, sweep


@functools.cache
def two_runs():
    return sweep("ar", 1.0, (1e10,), bound="exact")[:2]


def folders_with(folder, texts):
    folders = {}
    for run, text in zip(two_runs(), texts, strict=True):
        folders[run.run_id] = folder / run.run_id
        folders[run.run_id].mkdir()
        (folders[run.run_id] / "samples.json").write_text(text)
    return folders


def test_samples_are_read_with_their_run(tmp_path):
    found, problems = read_samples(two_runs(), folders_with(tmp_path, [json.dumps(samples(0)), json.dumps(samples(1))]))
    assert problems == []
    assert [one.run for one in found] == two_runs()
    assert (found[0].judge, found[0].length, found[0].rows, found[0].device) == ("ar-judge", 64, 256, "1 x cpu")
    assert [plan.plan for plan in found[0].plans] == [sample["plan"] for sample in samples()["samples"]]
    assert found[0].plans[0].judge_nats == tuple(samples()["samples"][0]["judge_nats"])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda told: told.update(judge=None), "key 'judge' is None, expected str"),
        (lambda told: told.pop("samples"), "expected an object with a list 'samples'"),
        (lambda told: told["samples"][1].update(tokens_per_second=0), "sample 1: key 'tokens_per_second' is 0"),
        (lambda told: told["samples"][0].update(entropy=[1.0]), "sample 0: key 'entropy' is [1.0]"),
        (lambda told: told["samples"][0].update(judge_nats=[float("nan"), 1]), "sample 0: key 'judge_nats'"),
    ],
)
def test_bad_file_does_not_hide_others(tmp_path, change, named):
    told = samples()
    change(told)
    found, problems = read_samples(two_runs(), folders_with(tmp_path, [json.dumps(told), json.dumps(samples())]))
    assert [one.run for one in found] == two_runs()[1:]
    assert len(problems) == 1 and f"{two_runs()[0].run_id}/samples.json: " in problems[0] and named in problems[0]


def test_truncated_file_is_named(tmp_path):
    found, problems = read_samples(two_runs(), folders_with(tmp_path, ['{"judge": "a"', json.dumps(samples())]))
    assert len(found) == 1 and "not whole JSON" in problems[0]
