"""A step with a non-finite loss is never saved."""

from mdlm_jax.runs import checkpoint
from tests.runs.here import train_here


def test_loss_is_checked_before_saving(tmp_path, monkeypatch):
    """Only the steps before the bad one are saved."""
    saved, save = [], checkpoint.save

    def noted(checkpoints, step, state):
        saved.append(step)
        save(checkpoints, step, state)

    monkeypatch.setattr(checkpoint, "save", noted)
    keys = {"optim__lr": 1e30, "optim__clip": 1e30, "optim__warmup_min": 20, "train__log_every": 1000}
    result = train_here(tmp_path / "run", steps=50, train__checkpoint_every=1, objective__name="ar", **keys)
    bad = int(result.cause.split(":")[0].removeprefix("step "))
    assert result.status == "failed" and saved == list(range(1, bad))
