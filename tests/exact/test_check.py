"""`mdlm-jax check`: every objective of the package keeps its promises, and a wrong one is found out."""

import textwrap

import pytest

from mdlm_jax.cli import main as cli
from mdlm_jax.exact.check_objective import maker
from mdlm_jax.exact.promises import check_promises
from mdlm_jax.objectives import OBJECTIVES

# `unified` has two modalities, which no toy distribution has: tests/objectives/test_unified.py
VARIANTS = {name: [] for name in OBJECTIVES if name != "unified"} | {
    "masked in blocks": ["block_size=1"],
    "masked in steps": ["num_steps=16"],
    "masked complementary": ["complementary=True", "schedule=cosine"],
    "masked md4": ["epsilon_convention=md4"],
    "d3pm uniform": ["process=uniform", "num_steps=64"],
    "d3pm hybrid": ["process=hybrid", "num_steps=64", "auxiliary=0.01"],
    "sedd uniform": ["process=uniform"],
    "sedd scaled": ["score=scaled"],
    "sedd hybrid": ["process=hybrid", "score=denoiser", "block_size=1"],
    "tauldr uniform": ["process=uniform"],
    "csm implicit": ["form=implicit"],
}


FEW = ("any_order", "gidd", "masked in blocks")  # the others take a minute


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "variant", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]
)
def test_every_objective_passes_the_check(variant):
    overrides = [f"--config.objective.{override}" for override in VARIANTS[variant]]
    rows = check_promises(maker(variant.split()[0], "configs/base.py", overrides), vocab=3, length=2, draws=4000)
    assert len(rows) >= 4
    assert all(row.holds for row in rows), rows


WRONG = {
    "a weight that is off by a tenth": """
        def make(mask_id):
            right = any_order(mask_id)
            loss = lambda objective_params, logits, view: 0.9 * right.token_loss(objective_params, logits, view)
            return right._replace(token_loss=loss)
    """,
    "the same of one that is reported by another": """
        def make(mask_id):
            right = masked(mask_id, linear())
            loss = lambda objective_params, logits, view: 0.9 * right.token_loss(objective_params, logits, view)
            return right._replace(token_loss=loss)
    """,
    "the full posterior where the leave-one-out distribution is meant": """
        def make(mask_id):
            right = udlm(mask_id, linear()).evaluate
            return right._replace(parameterization=lambda objective_params: full_posterior(uniform(mask_id, linear())))
    """,
    "a given token that is scored": """
        def make(mask_id):
            right = any_order(mask_id)
            no_prompt = lambda example: example._replace(prompt_mask=example.prompt_mask & False)
            view = lambda objective_params, key, example, u: right.view(objective_params, key, no_prompt(example), u)
            return right._replace(view=view)
    """,
}
IMPORTS = """
from mdlm_jax.objectives.any_order import any_order
from mdlm_jax.objectives.parameterizations import full_posterior
from mdlm_jax.objectives.masked import masked
from mdlm_jax.objectives.score_entropy import udlm
from mdlm_jax.processes.mixture import uniform
from mdlm_jax.schedules import linear
"""


def exit_code(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["check", *arguments])
    printed = capsys.readouterr()
    return stopped.value.code, printed.out, printed.err


@pytest.mark.few(2)
@pytest.mark.parametrize("mistake", WRONG)
def test_mistakes_in_user_objectives_are_found(mistake, tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(IMPORTS + textwrap.dedent(WRONG[mistake]))
    code, out, _ = exit_code(capsys, f"{path}:make", "--draws=20000")
    assert code == 1 and "FAILS" in out


def test_correct_user_objective_passes(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(IMPORTS + "def make(mask_id):\n    return udlm(mask_id, linear())\n")
    code, out, _ = exit_code(capsys, f"{path}:make", "--draws=4000")
    assert code == 0 and "FAILS" not in out and out.count("holds") == 6


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["sed"], "config.objective.name is 'sed'; accepted: ar, any_order"),
        (["masked", "--length=1"], "--length=1; accepted: 2 or more"),
        (["masked", "--vocab=50", "--length=3"], "125,000 sequences; accepted: at most 1,000"),
        (["no.py:make"], "no.py: no such file; accepted: FILE.py:FUNCTION"),
        (["masked", "--config.objective.block_size=3"], "config.objective.block_size is 3; accepted: a divisor of"),
        (["gidd", "--config.objective.uniform_share=1.5"], "uniform_share is 1.5; accepted: above 0 and below 1"),
        (["sedd", "--config.objective.process=uniform", "--config.objective.score=scaled"], "score='scaled'; accepted"),
    ],
)
def test_bad_input_gets_one_line(arguments, line, capsys):
    code, _, err = exit_code(capsys, *arguments)
    assert code == 2 and line in err and err.count("\n") == 1
