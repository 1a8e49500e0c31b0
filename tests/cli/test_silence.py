"""Every verb that can take long says what it does, also where its output is no terminal."""

import pytest

from mdlm_jax.cli.main import main
from mdlm_jax.runs import say

VERBS = {
    "checking masked": "check masked --draws 64",
    "planning the runs": "sweep plan quickstart",
    "building the corpus": "data build --source text --path TEXT --out NEW --workers 1",
    "training the tokenizer": "data tokenizer --source text --path TEXT --out NEW.json --size 258",
}


@pytest.mark.slow
@pytest.mark.parametrize("told", VERBS)
def test_long_verbs_are_not_silent(tmp_path, monkeypatch, capsys, told):
    monkeypatch.setattr(say, "FIRST_SECONDS", 0)
    (tmp_path / "text.txt").write_text("to be or not to be, " * 100)
    words = VERBS[told].replace("TEXT", str(tmp_path / "text.txt")).replace("NEW", str(tmp_path / "new"))
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    err = capsys.readouterr().err
    assert ended.value.code == 0 and f"mdlm-jax: {told}, for 0 s .." in err and f"mdlm-jax: {told}: " in err
