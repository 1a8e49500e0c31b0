"""A task that takes long is reported while it runs, and its duration afterwards."""

import re
import time

import pytest

from mdlm_jax.runs import say


@pytest.mark.parametrize("one_process", [False, True])
def test_only_long_tasks_are_reported(monkeypatch, capsys, one_process):
    with say.doing("a short task", one_process):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(say, "FIRST_SECONDS", 0.05)
    with say.doing("a long task", one_process):
        time.sleep(0.1)
    during, after = capsys.readouterr().err.splitlines()
    assert during == "mdlm-jax: a long task, for 0 s .." and re.fullmatch(r"mdlm-jax: a long task: 0\.\d s", after)
