"""Activations against width and depth: what is measured, what is promised, and what was found at full size."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.cli import main as cli
from mdlm_jax.exact.check_parametrization import Row, as_json, check_parametrization, show_rows
from mdlm_jax.exact.coordinates import activations
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives.autoregressive import ar
from mdlm_jax.report.coordinates_page import coordinates_page
from mdlm_jax.sampling.network import reading

STORED = pathlib.Path(__file__).parents[2] / "experiments" / "results" / "coordinates"
FLAT = {"ar": 1.2, "masked": 1.2, "sedd": 1.3, "gidd": 1.2}  # sedd's weights make few tokens count: it needs more width
TINY = [f"--config.model.{pair}" for pair in ("layers=1", "width=32", "heads=2", "key_value_heads=2", "mlp_width=32")]
ROWS = [
    Row("standard", "width", "stream", (1, 2, 4), (1.0, 1.0, 1.0), (1.0, 1.5, 2.3)),
    Row("mup", "width", "logits", (1, 2, 4), (1.0, 0.7, 0.5), (1.0, 0.95, 0.9)),
    Row("completep", "depth", "stream", (1, 2), (1.0, 0.7), (1.0, 1.0)),
]


def test_activations_are_those_of_the_network():
    model = transformer(Architecture(7, 2, 8, 2, 2, 16), Execution())
    params, tokens = jax.jit(model.init)(jax.random.key(0)), jnp.arange(6).reshape(1, 6)
    view = reading(tokens, tokens[..., None], tokens[..., None], jnp.zeros(1))
    objective = ar(7)
    found = jax.jit(lambda params: activations(model, objective, params, view))(params)
    hidden = jax.jit(lambda params: model.hidden(params, view, objective.mask)[0])(params)
    np.testing.assert_array_equal(found["embedding"][0], params["ends"]["embedding"]["embedding"][tokens])
    np.testing.assert_allclose(found["logits"], model.head(params, hidden), rtol=1e-4, atol=1e-6)
    normed = found["stream"][0] / jnp.sqrt(jnp.square(found["stream"][0]).mean(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(normed, hidden, rtol=1e-4)
    assert found["key"].shape == (2, 6, 8) and found["up"].shape == (2, 6, 16)


def test_what_is_judged():
    standard, mup, completep = ROWS
    assert standard.holds is None and standard.spread == 2.3
    assert mup.holds and mup.spread == 1 / 0.9, "the size of the logits is not judged"
    assert completep.holds is False and completep.spread == 1 / 0.7
    assert as_json("ar", ROWS)["rows"][2]["holds"] is False


def test_page_and_table(capsys):
    page = coordinates_page("ar", ROWS)
    assert (
        "standard, width times 4: activations vary by at most a factor of 2.30 (stream); nothing is promised." in page
    )
    assert "not flat, as it should be" in page and "against_depth" in page
    show_rows("ar", ROWS)
    told = capsys.readouterr().out
    assert "1.00 0.70 0.50" in told and "FAILS" in told and "flat" in told


def test_width_of_a_tiny_network():
    """A sixteenth of the acceptance grid: updates are flat under muP and grow with the width in the standard one."""
    rows = check_parametrization(
        "ar",
        "base",
        [*TINY, "--config.optim.lr=0.003"],
        widths=(1, 4),
        depths=(1,),
        steps=2,
        seeds=1,
        parametrizations=("standard", "mup"),
    )
    spread = {(row.parametrization, row.activation): row.updates[-1] for row in rows if row.growth == "width"}
    assert all(1 / 1.5 < spread["mup", name] < 1.5 for name in ("key", "value", "up", "stream", "logits"))
    assert all(spread["standard", name] > 2 for name in ("key", "value", "up"))


@pytest.mark.slow
@pytest.mark.parametrize("objective", FLAT)
def test_ends_of_the_grid(objective):
    """CompleteP over 8 times the width and 4 times the depth."""
    process = ["--config.objective.process=uniform"] if objective == "sedd" else []
    rows = check_parametrization(
        objective, "base", process, widths=(1, 8), depths=(1, 4), parametrizations=("completep",)
    )
    assert len(rows) == 12 and all(row.spread <= FLAT[objective] for row in rows), rows


@pytest.mark.parametrize("objective", FLAT)
def test_stored_grid(objective):
    """8 times the width and 4 times the depth: flat where promised, and not in the standard network."""
    rows = json.loads((STORED / f"{objective}.json").read_text(encoding="utf-8"))["rows"]
    promised = {("mup", "width"), ("completep", "width"), ("completep", "depth")}
    judged = [row for row in rows if (row["parametrization"], row["growth"]) in promised]
    assert len(judged) == 18 and {len(row["times"]) for row in judged} == {3, 4}
    for row in judged:
        sizes = [] if row["activation"] == "logits" else [row["sizes"]]
        assert all(max(values) <= FLAT[objective] * min(values) for values in (row["updates"], *sizes)), row
    for growth in ("width", "depth"):
        standard = [row for row in rows if (row["parametrization"], row["growth"]) == ("standard", growth)]
        assert max(max(row["updates"]) for row in standard) > {"width": 2, "depth": 1.2}[growth]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--parametrization", "--vocab", "3"], "--vocab=3: not read with --parametrization; accepted: --config.KEY"),
        (["--out", "page"], "--out=page: read with --parametrization; accepted: without --out"),
        (["--parametrization", "--config.model.heads=5"], "config.model.heads is 5; accepted: a divisor of"),
    ],
)
def test_wrong_use(capsys, words, told):
    with pytest.raises(SystemExit) as ended:
        cli.main(["check", "ar", *words])
    assert ended.value.code == 2 and told in capsys.readouterr().err
