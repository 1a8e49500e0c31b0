"""Experiment files, plans and whole sweeps, with children that write a result instead of training."""

import json
import subprocess

import pytest

from mdlm_jax.config import to_json
from mdlm_jax.errors import UserError
from mdlm_jax.runs import attempts
from mdlm_jax.runs.execution import config_of_run
from mdlm_jax.runs.finished import finished
from mdlm_jax.runs.loop import train
from mdlm_jax.sweeps import launch, launchers, slurm, states, sweep
from mdlm_jax.sweeps.experiment import Experiment, load_experiment
from mdlm_jax.sweeps.found import found_runs
from mdlm_jax.sweeps.launch import Slot
from mdlm_jax.sweeps.launched import write_launched
from mdlm_jax.sweeps.names import run_id
from mdlm_jax.sweeps.plan import plan_runs
from tests.report.fake_run import COMMAND
from tests.runs.here import config_of, interrupt, losses_of, signals_as_before, train_here
from tests.sweeps.test_experiment import EXPERIMENT, column, write


@pytest.fixture
def experiment(tmp_path):
    return load_experiment(write(tmp_path, EXPERIMENT))


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(launch, "slots", lambda workers: [Slot(frozenset(), {})] * (workers or 2))
    local = launchers.local(command=COMMAND)
    return lambda experiment, folder, *chosen: sweep.run(experiment, folder, local, *chosen)


def started(folder):
    return [line.strip() for path in sorted(folder.glob("*/starts")) for line in path.read_text().splitlines()]


def test_rerun_starts_only_missing_runs(tmp_path, experiment, run):
    folder = tmp_path / "runs"
    assert run(experiment, folder) == sweep.Summary(done=4, failed=0, left=0)
    names = [run_id(config) for config in experiment.configs]
    assert started(folder) == sorted(names)
    assert json.loads((folder / names[0] / "config.json").read_text())["budget"] == 1e10
    (folder / names[1] / "result.json").unlink()
    (folder / names[2] / "result.json").write_text("{")  # a result that was cut short is none
    assert run(experiment, folder) == sweep.Summary(done=4, failed=0, left=0)
    assert started(folder) == sorted(names + names[1:3])


def test_failure_waits_for_retry(tmp_path, experiment, run, capsys):
    """The end of its log is shown."""
    folder = tmp_path / "runs"
    failing = folder / run_id(experiment.configs[1])
    failing.mkdir(parents=True)
    (failing / "fails").touch()
    assert run(experiment, folder) == sweep.Summary(done=3, failed=1, left=0)
    out = capsys.readouterr().out
    assert "failed   ar-1e11-4k-lr0.01-seed0: exit code 3: the last words" in out
    assert "  | the last words" in out
    assert "3 done, 0 running, 1 failed, 0 left" in out
    (failing / "fails").unlink()
    assert run(experiment, folder) == sweep.Summary(done=3, failed=1, left=0)
    assert started(folder).count(failing.name) == 1
    assert run(experiment, folder, sweep.FAILED) == sweep.Summary(done=4, failed=0, left=0)
    assert len(started(folder)) == 5


def test_other_config_is_refused(tmp_path, experiment, run):
    """No run has started by then."""
    folder = tmp_path / "runs"
    experiment.configs[0].optim.clip = 2.0
    experiment.configs[1].optim.clip = 2.0
    sweep.prepare(plan_runs(experiment.configs[:2]), folder)
    with pytest.raises(UserError, match=r"^ar-1e10-4k-lr0.01-seed0 and 1 more: optim.clip: 2.0 -> 1.0: was started"):
        run(load_experiment(experiment.path), folder)
    assert started(folder) == []


def test_result_of_other_config_is_not_done(tmp_path, experiment, run):
    folder = tmp_path / "runs"
    run(experiment, folder)
    path = folder / run_id(experiment.configs[0])
    experiment.configs[0].optim.clip = 2.0
    (path / "config.json").write_text(to_json(experiment.configs[0]))
    assert finished(path) is None


def test_unwritable_folder_is_refused(tmp_path, experiment, run):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        run(experiment, tmp_path / "file" / "runs")


def status(folder):
    found = found_runs(folder)
    table = states.status_table(found.jobs, found.states)
    return {
        name: dict(zip(column(table, "run"), column(table, name), strict=True)) for name in ("state", "cause", "step")
    }


def test_status_of_the_folders(tmp_path, experiment, run):
    folder = tmp_path / "runs"
    with pytest.raises(UserError, match="holds no runs"):
        found_runs(folder)
    sweep.prepare(plan_runs(experiment.configs), folder)
    names = [run_id(config) for config in experiment.configs]
    assert set(status(folder)["state"].values()) == {"waiting"}
    (folder / names[1] / "fails").touch()
    run(experiment, folder)
    for name in (names[0], names[3]):
        (folder / name / "result.json").unlink()
    metrics = [{"step": 50, "loss": 3.5}, {"step": 60, "validation_loss": 3.0}]
    (folder / names[3] / "metrics.jsonl").write_text("\n".join(map(json.dumps, metrics)) + '\n{"step": 7')
    assert attempts.claim(folder / names[3], attempts.this_process(), forgiven=1)
    found = status(folder)
    assert [found["state"][name] for name in names] == ["stopped", "failed", "done", "running"]
    assert found["cause"][names[0]] == f"{folder / names[0] / 'result.json'}: not there, or not of this config"
    assert found["cause"][names[1]] == "exit code 3: the last words"
    assert found["step"][names[3]].startswith("50 / ")


def test_damaged_files_are_named(tmp_path, experiment, run):
    """The other runs are shown."""
    folder = tmp_path / "runs"
    run(experiment, folder)
    names = [run_id(config) for config in experiment.configs]
    (folder / names[0] / "result.json").write_text('{"schema_version": 1, "loss": 2.')
    (folder / names[1] / "result.json").unlink()
    (folder / names[1] / "attempts" / "1.json").write_text('{"number"')
    (folder / names[2] / "result.json").write_text((folder / names[3] / "result.json").read_text())
    (folder / "cut").mkdir()
    (folder / "cut" / "config.json").write_text('{"seed": 0,')
    assert [line.partition(" ")[0] for line in found_runs(folder).problems] == [f"{folder / 'cut' / 'config.json'}:"]
    found = status(folder)
    assert list(found["state"].values()).count("done") == 1
    assert f"{folder / names[0] / 'result.json'}: not whole JSON, line 1" in found["cause"][names[0]]
    assert f"{folder / names[1] / 'attempts' / '1.json'}: not the record of an attempt" in found["cause"][names[1]]
    assert found["cause"][names[2]] == f"{folder / names[2] / 'result.json'}: is the result of {names[3]}"


BROKEN = {"folder": None, "bytes": b"\xff\xfe", "digits": b"[" + b"9" * 5000 + b"]", "nested": b"[" * 20_000}


@pytest.mark.few(2)
@pytest.mark.parametrize("kind", BROKEN)
def test_unreadable_files_stop_no_verb(tmp_path, experiment, run, kind):
    """A result or metrics file that is a folder, not text, or JSON beyond what Python reads."""
    folder = tmp_path / "runs"
    run(experiment, folder)
    first, second, *_ = experiment.run_ids
    for path in (folder / first / "result.json", folder / second / "metrics.jsonl"):
        path.unlink(missing_ok=True)
        path.mkdir() if BROKEN[kind] is None else path.write_bytes(BROKEN[kind])
    found = status(folder)
    assert sorted(found["state"].values()).count("done") == 3
    assert f"{folder / first / 'result.json'}: " in found["cause"][first]
    assert f"{first}/result.json: " in "".join(sweep.report(experiment, folder)[1])
    assert f"{first}/result.json: " in "".join(sweep.report_stored(folder, tmp_path)[1])
    assert sweep.cancel(folder) == 1
    if BROKEN[kind] is not None:
        assert run(experiment, folder) == sweep.Summary(done=4, failed=0, left=0)


def test_cancelled_runs_start_when_rerun(tmp_path, experiment, run):
    folder = tmp_path / "runs"
    sweep.prepare(plan_runs(experiment.configs), folder)
    assert sweep.cancel(folder) == 4
    assert set(status(folder)["state"].values()) == {"cancelled"}
    assert run(experiment, folder) == sweep.Summary(done=4, failed=0, left=0)
    assert sweep.cancel(folder) == 0


def test_report_names_left_out_runs(tmp_path, experiment, run):
    folder = tmp_path / "runs"
    run(experiment, folder)
    names = [run_id(config) for config in experiment.configs]
    (folder / names[0] / "result.json").unlink()
    fewer = experiment._replace(configs=experiment.configs[:3])
    fewer.configs[1].optim.clip = 2.0
    path, left_out = sweep.report(fewer, folder)
    page = path.read_text()
    assert len(left_out) == 3
    assert "Two objectives" in page
    assert f"{names[0]}/result.json: not there" in page
    assert f"{names[1]}: its config is not that of" in page
    assert f"{names[3]}: not among the runs of" in page


def test_varying_key_makes_groups(tmp_path, run):
    """A grid may be a dict too; its labels name the folders."""
    text = EXPERIMENT.replace("(1e10, 1e11)", "(16, 32)").replace("config.budget", "config.train.batch_size")
    folder = tmp_path / "runs"
    experiment = load_experiment(write(tmp_path, text))
    assert run(experiment, folder) == sweep.Summary(done=4, failed=0, left=0)
    found, problems = sweep.collect(experiment, folder)
    assert not problems and {result.objective for result in found} == {
        f"{name}, batch_size={rows}" for name in ("ar", "masked") for rows in (16, 32)
    }
    labelled = load_experiment(write(tmp_path, text.replace("return configs", "return dict(zip('abcd', configs))")))
    assert run(labelled, tmp_path / "other") == sweep.Summary(done=4, failed=0, left=0)
    assert sorted(path.name for path in (tmp_path / "other").glob("*/")) == ["a", "b", "c", "d"]
    assert len(sweep.collect(labelled, tmp_path / "other")[0]) == 4


def test_execution_keys_do_not_rerun(tmp_path, experiment, run):
    folder = tmp_path / "runs"
    run(experiment, folder)
    for config in experiment.configs:
        config.train.remat, config.train.mesh_fsdp = "full", 4
    assert run(experiment, folder) == sweep.Summary(done=4, failed=0, left=0)
    assert len(started(folder)) == 4 and len(sweep.collect(experiment, folder)[0]) == 4


def test_resumed_run_takes_new_execution_keys(tmp_path, capsys):
    """The change is recorded with its step, before the run starts."""
    keys = {"steps": 8, "train__checkpoint_every": 4, "objective__name": "ar"}
    train_here(tmp_path / "run", **keys)
    losses = losses_of(tmp_path / "run")
    interrupt(tmp_path / "run", 4)

    def train_as_started(folder, starting, jobs):
        for job in starting:
            with signals_as_before():
                train(config_of_run(job.folder), job.folder)

    changed = {"train__microbatches": 2, "train__log_every": 3}
    again = Experiment(tmp_path, "one", [config_of(**keys, **changed)], ("run",))
    assert sweep.run(again, tmp_path, train_as_started) == sweep.Summary(done=1, failed=0, left=0)
    (change,) = json.loads((tmp_path / "run" / "execution.json").read_text())
    assert change == {"step": 4, "changed": {"train.log_every": [1, 3], "train.microbatches": [1, 2]}}
    assert "run: train.microbatches: 1 -> 2, as the experiment has it now" in capsys.readouterr().err
    resumed = losses_of(tmp_path / "run")
    assert len(resumed) == len(losses) - 1  # step 7 is not logged any more
    assert resumed[-1] == pytest.approx(losses[-1], abs=2e-5)
    assert [result.run_id for result in sweep.collect(again, tmp_path)[0]] == ["run"]


def test_done_and_running_runs_keep_execution(tmp_path, experiment, run):
    folder = tmp_path / "runs"
    run(experiment, folder)
    names = experiment.run_ids
    for name in names[2:]:
        (folder / name / "result.json").unlink()
    assert attempts.claim(folder / names[3], attempts.this_process(), forgiven=1)
    for config in experiment.configs:
        config.train.remat = "full"
    sweep.run(experiment, folder, lambda *arguments: None)
    changed = [(folder / name / "execution.json").exists() for name in names]
    assert changed == [False, False, True, False]


def test_silent_queue_starts_nothing(tmp_path, experiment, run, monkeypatch):
    folder = tmp_path / "runs"
    sweep.prepare(plan_runs(experiment.configs), folder)
    waiting = folder.absolute() / experiment.run_ids[0]
    write_launched(waiting, slurm.NAME, "7_1", 0)
    said = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    monkeypatch.setattr(slurm, "_slurm", lambda *words: subprocess.CompletedProcess(words, 1, "", said))
    assert slurm.queued([waiting]) is None
    with pytest.raises(UserError, match="SLURM does not answer, so nothing is started"):
        run(experiment, folder)
    assert started(folder) == []
    gone = "slurm_load_jobs error: Invalid job id specified"
    monkeypatch.setattr(slurm, "_slurm", lambda *words: subprocess.CompletedProcess(words, 1, "", gone))
    assert slurm.queued([waiting]) == {}
