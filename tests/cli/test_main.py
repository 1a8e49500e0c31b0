"""The command line as a user runs it, in processes of its own."""

import io
import json
import os
import re
import subprocess
import sys
import textwrap

import pytest
from rich.console import Console

from mdlm_jax.cli.main import exit_code, main
from mdlm_jax.sweeps.sweep import Summary
from tests import run_folders as runs


def mdlm_jax(*arguments: str, expect: int = 0, cwd=runs.ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mdlm_jax", *map(str, arguments)],
        env=runs.environment() | {"COLUMNS": "200"},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == expect, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


TRAIN = ["train", "--run", "RUN", "--config", "base"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--run", "RUN"], "config.json: no such file"),
        (["train", "--run", "RUN", "--config.steps=3"], "config.json: no such file"),
        (["train", "--run", "RUN", "--config", "configs/none.py"], "configs/none.py: no such file"),
        (["train", "--run", "RUN", "--config", "configs/base.py", "--config.step=3"], "the nearest is config.steps"),
        (["train", "--run", "/proc/a", "--config", "configs/base.py"], "--run=/proc/a: cannot be written"),
        (["evaluate", "--run", "RUN"], "config.json: no such file"),
        (["sweep", "plan", "experiments/none.py"], "experiments/none.py: no such file"),
        (
            ["sweep", "plan", "experiments/quickstart.py", "--hardware", "h200:8", "--mfu", "50"],
            "--mfu=50.0; accepted: above 0, and 1 at most",
        ),
        (
            ["sweep", "run", "experiments/quickstart.py", "--folder", "RUN", "--slurm", "gpus"],
            "--slurm gpus; accepted:",
        ),
        (["sweep", "status", "experiments/quickstart.py", "--folder", "RUN"], "holds no runs"),
        (["data", "tokenizer", "--size", "3", "--out", "RUN"], "at least 257"),
        ([*TRAIN, "steps=3"], "steps=3: not understood; accepted: --config.KEY=VALUE"),
        ([*TRAIN, "config.steps=3"], "config.steps=3: not understood"),
        ([*TRAIN, "\u2014config.steps=3"], "\u2014config.steps=3: not understood"),
        ([*TRAIN, "--", "--config.steps=3"], "--: not understood"),
        ([*TRAIN, "--config.steps"], "--config.steps: lacks a value; accepted: --config.steps=1000"),
        ([*TRAIN, "--config.steps", "3"], "3: not understood"),
        ([*TRAIN, "--conf", "base"], "--conf: not understood"),
        ([*TRAIN, "--config.objective.gamma=2"], "config.objective.gamma is 2.0; it has no effect when"),
        ([*TRAIN, "--processes", "-2"], "--processes=-2"),
        (["train", "--run", "RUN", "--config", "quickstart", "--config.steps=10"], "steps is 10; it has no effect"),
        (["evaluate", "--run", "RUN", "draws=3"], "draws=3: not understood; accepted: the options of"),
        (["evaluate", "--run", "RUN", "--draws", "many"], "invalid int value: 'many'"),
        (["sample"], "the following arguments are required: --run"),
        (["nonsense"], "invalid choice: 'nonsense'"),
        ([], "the following arguments are required: VERB"),
        (["config", "optim.lrr"], "config.optim.lrr is not a key; the nearest is config.optim.lr"),
        (["config", "optim.lr", "more"], "more: not understood"),
        (["sweep", "plan", "quickstart", "--price", "2"], "--price=2.0; accepted: with --hardware"),
        (["sweep", "plan", "quickstart", "--hardware", ""], "--hardware=; accepted: NAME:COUNT"),
        (
            ["sweep", "report", "quickstart", "--folder", "RUN"],
            "no such file or folder; accepted: the folder of a sweep",
        ),
        (["sweep", "report", "experiments/results/quickstart/results.json", "--store", "RUN"], "without --store"),
        (["sweep", "run", "quickstart", "--folder", "RUN", "--submit", "sbatch"], "a line with {command}"),
    ],
)
def test_wrong_input_gives_one_line(tmp_path, capfd, monkeypatch, arguments, message):
    """Exit code 2, and the run's folder is not created."""
    monkeypatch.chdir(runs.ROOT)
    with pytest.raises(SystemExit) as ended:
        main([argument.replace("RUN", str(tmp_path / "run")) for argument in arguments])
    told = "".join(capfd.readouterr())
    lines = [line for line in told.splitlines() if line.strip()]
    assert ended.value.code == 2 and len(lines) == 1, told
    assert lines[0].startswith("mdlm-jax: ") and message in lines[0]
    assert not (tmp_path / "run").exists()


def test_errors_are_one_line(tmp_path, capsys):
    """Even where what they name has line breaks."""
    (tmp_path / "a.jsonl").write_text('{"a\\nb": 1}\n')
    for words in (
        ["data", "build", "--source", "text", "--path", f"{tmp_path}/a.jsonl", "--out", f"{tmp_path}/out"],
        ["evaluate", "--run", f"{tmp_path}/a\nb"],
        ["train", "--run", "a\nb", "x\ny"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        # on a slow machine the verb also says what it is doing
        lines = [line for line in capsys.readouterr().err.splitlines() if line and not line.endswith(" ..")]
        assert ended.value.code == 2 and len(lines) == 1 and lines[0].startswith("mdlm-jax: "), lines


def test_config_describes_keys(capsys):
    for words, shown in (("config", "optim.lr "), ("config model", "model.width"), ("config seed", "read: always")):
        with pytest.raises(SystemExit) as ended:
            main(words.split())
        assert not ended.value.code and shown in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["config", "objective.gamma"])
    assert capsys.readouterr().out.splitlines() == [
        "config.objective.gamma: how fast the uniform noise comes and goes",
        "  default: 1.0",
        "  accepted: above 0 and at most 2",
        "  read: only when objective.name is gidd, or objective.process is gidd",
        "  science: fixed for a run",
    ]


def process(*arguments, **options):
    words = [sys.executable, "-m", "mdlm_jax", *map(str, arguments)]
    return subprocess.run(words, env=runs.environment() | options.pop("env", {}), cwd=runs.ROOT, text=True, **options)


def test_quick_answers_import_no_jax(tmp_path):
    """Version, help and refused configs answer at once."""
    run = ["--run", tmp_path / "run", "--config", "quickstart"]
    for arguments in (
        ["--version"],
        ["--help"],
        ["train", *run, "--config.steps=3"],
        ["train", *run, "--config.stepz=3"],
    ):
        code = f"import sys; sys.argv[1:] = {list(map(str, arguments))!r}\nfrom mdlm_jax.cli.main import main\n"
        code += "try: main()\nexcept SystemExit: print('jax' in sys.modules, 'rich' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=runs.ROOT)
        assert done.stdout.splitlines()[-1] == "False False", done.stdout + done.stderr


def test_full_device_and_closed_pipe():
    with open("/dev/full", "w") as full:
        done = process("config", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2 and done.stderr == "mdlm-jax: No space left on device\n"
    reader, writer = os.pipe()
    os.close(reader)
    done = process("config", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == 141 and done.stderr == ""


def test_tables_for_a_closed_pipe(capfd, monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(os, "dup2", lambda *streams: None)  # rich would redirect the output of the tests
    assert exit_code(lambda: Console(file=Closed()).print("a table")) == 141


def test_messages_that_cannot_be_shown_are_lost():
    with open("/dev/full", "w") as full:
        assert process("config", "x", stdout=full, stderr=full).returncode == 2
    words = [sys.executable, "-m", "mdlm_jax", "config"]
    closed = subprocess.run(["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *words], env=runs.environment(), cwd=runs.ROOT)
    assert closed.returncode == 0


def test_terminal_without_utf8():
    done = process("sweep", "plan", "no\u00e9l", env={"PYTHONIOENCODING": "ascii"}, capture_output=True)
    assert done.returncode == 2 and "no?l: no such file" in done.stderr


def test_command_prints_one_line(tmp_path):
    """The same in a process of its own."""
    assert mdlm_jax("evaluate", "--run", tmp_path, expect=2).count("\n") == 1


def evaluated(run, *options) -> dict:
    """What `evaluate` prints, without its progress."""
    said = mdlm_jax("evaluate", "--run", run, *options).splitlines()
    return json.loads("\n".join(line for line in said if not line.startswith("mdlm-jax: ")))


def test_train_evaluate_and_train_again(tmp_path):
    run = tmp_path / "run"
    keys = {"steps": 4, "train__validate_every": 2, "train__loggers": "tensorboard"}
    assert "nats per token" in runs.train(run, **keys)
    result = json.loads((run / "result.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    assert [line["step"] for line in lines if "validation_loss" in line] == [2, 4]
    seconds = {"seconds_left", "data_wait_seconds", "compile_seconds"}
    assert {"tokens_per_second", "mfu", "loss_mean", *seconds} <= set(lines[1])
    assert any((run / "tensorboard").iterdir())
    first, again = (evaluated(run) for _ in range(2))
    assert first == again
    assert first["nats_per_token"] == pytest.approx(result["loss"], rel=1e-6) and first["step"] == 4
    assert evaluated(run, "--draws", 5)["draws"] == 5
    mdlm_jax("train", "--run", run)  # done already: says the result, trains nothing
    assert len((run / "metrics.jsonl").read_text().splitlines()) == len(lines)


@pytest.mark.slow
def test_sweep_from_plan_to_report(tmp_path):
    """Real training of twelve tiny runs, one of which diverges."""
    (tmp_path / "experiments").mkdir()
    experiment = tmp_path / "experiments" / "tiny.py"
    experiment.write_text(
        textwrap.dedent(f"""
            import sys
            sys.path.insert(0, {str(runs.ROOT)!r})
            from mdlm_jax.configs import base

            TITLE = "Twelve tiny runs"


            def grid():
                found = []
                for objective in ("ar", "masked"):
                    for budget in (2e7, 4e7):
                        for size in ("1k", "4k", "8k"):
                            config = base.get_config()
                            config.update_from_flattened_dict({runs.TINY!r})
                            config.objective.name, config.budget, config.model.size = objective, budget, size
                            if (objective, budget, size) == ("ar", 4e7, "8k"):
                                config.optim.lr = config.optim.clip = 1e30
                            found.append(config)
                return found
        """)
    )
    folder = tmp_path / "runs"
    assert "12 runs" in mdlm_jax("sweep", "plan", experiment)
    out = mdlm_jax("sweep", "run", experiment, "--folder", folder, expect=1)
    assert "11 runs done, 1 failed" in out and "learning rate 1e+30" in out
    status = mdlm_jax("sweep", "status", experiment, "--folder", folder)
    assert "11 done, 1 failed" in status
    (line,) = [line for line in status.splitlines() if line.startswith("ar-4e7-8k")]
    assert " failed " in line and "learning rate 1e+30" in line
    page = (folder / "report.html").read_text()
    assert "Twelve tiny runs" in page and "1e+30" in page
    # nothing is fetched; the names of XML are not addresses
    assert not re.search(r"""(src|href|@import|url)\W{1,3}(https?:)?//""", page)
    assert (folder / "isoflops.png").stat().st_size > 5000 and (folder / "isoflops.svg").exists()
    before = {path: path.stat().st_mtime for path in folder.glob("*/result.json")}

    def again(verb):
        mdlm_jax("sweep", verb, experiment, "--folder", folder, expect=1)
        return [path.parent.name for path, time in before.items() if path.stat().st_mtime != time]

    assert again("run") == []
    (failed,) = again("retry")
    assert failed.startswith("ar-4e7-8k")


@pytest.mark.slow
def test_corpus_from_text_to_samples(tmp_path):
    """Tokenizer, corpus, training and sampling on the standard library's text."""
    tokenizer, corpus, run = tmp_path / "bpe.json", tmp_path / "corpus", tmp_path / "run"
    assert "400 tokens" in mdlm_jax("data", "tokenizer", "--size", 400, "--out", tokenizer)
    assert "documents" in mdlm_jax("data", "build", "--tokenizer", tokenizer, "--out", corpus, "--workers", 2)
    runs.train(
        run,
        data__source="tokens",
        data__path=str(corpus),
        data__tokenizer=str(tokenizer),
        objective__name="ar",
        steps=3,
    )
    out = mdlm_jax("sample", "--run", run, "--prompt", "def", "--length", 8, "--count", 2)
    assert out.count("def") == 2
    assert "accepted: autoregressive" in mdlm_jax("sample", "--run", run, "--sampler", "ancestral", expect=2)


def test_a_stopped_sweep_exits_with_130(monkeypatch, tmp_path, capsys):
    """Ctrl-C ends the pool when its runs have saved; the command then names what is left."""
    monkeypatch.setattr("mdlm_jax.sweeps.sweep.run", lambda *_: Summary(done=6, failed=0, left=33))
    with pytest.raises(SystemExit, match="130"):
        main(["sweep", "run", "quickstart", "--folder", str(tmp_path)])
    line = f"{tmp_path}: stopped with 6 runs done, 0 failed, 33 left; the same command resumes them\n"
    assert capsys.readouterr().out == line
