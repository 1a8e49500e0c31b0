"""Rewinds: the bad step alone determines the checkpoint, and training continues with the data after that step."""

import itertools

import jax
import numpy as np
import pytest

from mdlm_jax.runs import loop, rewind
from mdlm_jax.runs.rewind import BadLoss, Rewind, RunFailed, batch_number, batches, go_back, read_rewinds
from mdlm_jax.runs.saved import saved_steps
from tests.runs.here import assert_same_state, config_of, state_of, train_here


def test_rewind_skips_batches():
    """The batches from the checkpoint to the bad step are skipped."""
    rewinds = [Rewind(100, 131, "")]
    assert list(itertools.islice(batches(itertools.count, rewinds, 98), 4)) == [98, 99, 131, 132]
    assert list(itertools.islice(batches(itertools.count, rewinds, 105), 2)) == [136, 137]


def test_later_rewind_overrides_earlier():
    """A later rewind decides the batches from its checkpoint on, whether it lies before or after the earlier one."""
    rewinds = [Rewind(100, 131, ""), Rewind(60, 150, "")]
    assert [batch_number(rewinds, step) for step in (59, 60, 100, 120)] == [59, 150, 190, 210]
    rewinds = [Rewind(60, 81, ""), Rewind(100, 150, "")]
    assert list(itertools.islice(batches(itertools.count, rewinds, 59), 42)) == [59, *range(81, 121), 150]


@pytest.fixture
def folder(tmp_path):
    for step in (80, 100, 120, 127):
        (tmp_path / "checkpoints" / str(step)).mkdir(parents=True)
    return tmp_path


KEYS = {"optim__on_nonfinite": "rewind", "optim__rewind_steps": 25, "train__checkpoint_every": 20}
BAD = (131, "loss nan")


def back(folder, rewinds=(), steps=200, max_steps=None, **keys):
    return go_back(config_of(**KEYS | keys), folder, rewinds, BadLoss(*BAD), steps, max_steps)


def test_rewind_is_recorded(folder, capsys):
    assert back(folder) == [Rewind(100, 131, "step 131: loss nan")] == read_rewinds(folder)
    assert saved_steps(folder / "checkpoints") == [80, 100]
    told = "mdlm-jax: step 131: loss nan; going back to step 100, on with batch 131 of the data\n"
    assert capsys.readouterr().err == told


def test_second_rewind_skips_both_spans(folder):
    assert back(folder, [Rewind(100, 131, "")])[1:] == [Rewind(100, 162, "step 131: loss nan")]


def test_rewind_without_checkpoint_restarts(folder):
    assert back(folder, optim__rewind_steps=130)[0][:2] == (0, 131)
    assert saved_steps(folder / "checkpoints") == []


@pytest.mark.parametrize(
    ("keys", "rewinds", "told"),
    [
        ({"optim__on_nonfinite": "stop"}, [], "step 131: loss nan; last good checkpoint: 127"),
        ({"optim__max_rewinds": 1}, [Rewind(0, 50, "")], "max_rewinds = 1 rewinds did not help"),
        ({"data__epochs": 2, "max_steps": 230}, [], "data.epochs = 2 leaves no more data"),
    ],
)
def test_refused_rewind_fails_the_run(folder, keys, rewinds, told):
    with pytest.raises(RunFailed, match=told):
        back(folder, rewinds, **keys)
    assert saved_steps(folder / "checkpoints") == [80, 100, 120, 127] and not read_rewinds(folder)


RUN = KEYS | {"steps": 150, "objective__name": "ar", "optim__spike_deviations": 7.0, "train__log_every": 50}


def with_batches(monkeypatch, of_step):
    """Runs are given what `of_step(data, start)` iterates over."""

    def build(config, devices):
        built = original(config, devices)
        data = built.data
        return built._replace(data=data._replace(batches=lambda start: of_step(data, start)))

    original = loop.build
    monkeypatch.setattr(loop, "build", build)


def spoiled(data, start):
    """Batch 130 is noise, which no chain is likely to give."""
    for number in itertools.count(start):
        batch = data.batch(number)
        if number == 130:
            noise = np.random.default_rng(0).integers(0, 8, batch.example.tokens.shape, np.int32)
            batch = batch._replace(example=batch.example._replace(tokens=noise))
        yield batch


@pytest.mark.slow
def test_rewound_run_equals_clean_run(tmp_path, monkeypatch):
    """Bitwise the run that reads the other data from the start, also if it is killed during the rewind."""
    with monkeypatch.context() as patched:
        with_batches(patched, lambda data, start: map(data.batch, [*range(start, 100), *range(131, 200)]))
        train_here(tmp_path / "given", **RUN)
    with_batches(monkeypatch, spoiled)
    train_here(tmp_path / "rewound", **RUN)
    (past,) = read_rewinds(tmp_path / "rewound")
    assert past[:2] == (100, 131) and past.cause.startswith("step 131: loss ") and "(a spike)" in past.cause
    assert_same_state(tmp_path / "rewound", tmp_path / "given")

    class Killed(BaseException):
        pass

    def killed(*arguments):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(rewind, "write_whole", killed)
        with pytest.raises(Killed):
            train_here(tmp_path / "killed", **RUN)
    assert saved_steps(tmp_path / "killed" / "checkpoints") == [80, 100] and not read_rewinds(tmp_path / "killed")
    train_here(tmp_path / "killed", **RUN)
    assert read_rewinds(tmp_path / "killed") == [past]
    assert_same_state(tmp_path / "killed", tmp_path / "given")


def test_spike_is_skipped_if_configured(tmp_path, monkeypatch):
    """The weights after step 131 are those before it."""
    with_batches(monkeypatch, spoiled)
    keys = RUN | {"optim__on_nonfinite": "skip", "train__checkpoint_every": 65, "steps": 131}
    assert train_here(tmp_path / "run", **keys).status == "done"
    before, after = (state_of(tmp_path / "run", step)["params"] for step in (130, 131))
    jax.tree.map(np.testing.assert_array_equal, before, after)
