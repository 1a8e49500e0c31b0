"""No key is ignored: a key that the objective, source, schedule or runner does not read is refused."""

import itertools

import pytest

from mdlm_jax.build.objective import read_keys
from mdlm_jax.build.plan import plan
from mdlm_jax.config import combinations, flatten, is_read, load_config, override, with_objective
from mdlm_jax.configs import base, smdm
from mdlm_jax.configs.checks import refuse_unread, unread_keys
from mdlm_jax.errors import UserError
from mdlm_jax.objectives import OBJECTIVES
from mdlm_jax.processes import PROCESSES
from mdlm_jax.sweeps.experiment import load_experiment
from tests.run_folders import ROOT

PRESETS = ("base", "quickstart", "smdm", "text8", "owt", "char", "novels_small", "unified_shapes", "unified_digits")
PRESETS += ("unified_muddit", "unidisc_small")
# what each of eight objectives does not read, and values that mean nothing to those that do
EIGHT = ("ar", "any_order", "masked_lm", "genmd4", "duo", "gaussian", "masked_plain", "udlm")
NONSENSE = {
    "schedule": "square",
    "power": -3.0,
    "epsilon_convention": "ours",
    "epsilon": 5.0,
    "mask_rate": 9.0,
    "num_steps": -4,
    "process": "none",
    "mask_share": 7.0,
    "uniform_share": -1.0,
    "gamma": -5.0,
    "auxiliary": -2.0,
    "score": "best",
    "embedding_width": -8,
    "form": "round",
}
VALID = {
    "schedule": "cosine",
    "power": 3.0,
    "epsilon_convention": "md4",
    "epsilon": 1e-4,
    "mask_rate": 0.3,
    "num_steps": 10,
    "process": "uniform",
    "mask_share": 0.3,
    "uniform_share": 0.1,
    "gamma": 0.5,
    "auxiliary": 0.01,
    "score": "denoiser",
    "embedding_width": 8,
    "form": "implicit",
}


def load(*overrides, config="base"):
    return load_config(config, [f"--config.{override}" for override in overrides])


@pytest.mark.parametrize(("objective", "key"), list(itertools.product(EIGHT, NONSENSE)))
def test_nonsense_is_refused(objective, key):
    with pytest.raises(UserError, match=f"config.objective.{key} is "):
        load(f"objective.name={objective}", f"objective.{key}={NONSENSE[key]}")


@pytest.mark.few(8)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_unread_objective_key_is_refused(objective):
    """On the command line whatever its value; in a file or a grid where it differs from the default."""
    read = read_keys(objective)
    for key, value in VALID.items():
        for given in (value, base.KEYS[f"objective.{key}"].default):
            if f"objective.{key}" not in read:
                with pytest.raises(UserError, match=rf"config.objective.{key} is .*; it has no effect when .*, only"):
                    load(f"objective.name={objective}", f"objective.{key}={given}")
        config = base.get_config()
        config.objective.name, config.objective[key] = objective, value
        if f"objective.{key}" not in read:
            with pytest.raises(UserError, match=f"config.objective.{key} is "):
                refuse_unread(config)


@pytest.mark.few(6)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_table_matches_the_factories(objective):
    """The table declares the readers of each key; the parameters of the factories imply the same."""
    for process, schedule, convention, blocks in itertools.product(
        PROCESSES, ("linear", "polynomial"), ("none", "md4"), (0, 4)
    ):
        if process == "gaussian_matrix" and objective in ("sedd", "tauldr"):
            continue  # refused
        config = base.get_config()
        config.objective.update(
            name=objective, process=process, schedule=schedule, epsilon_convention=convention, block_size=blocks
        )
        expected = read_keys(objective, config.objective)
        if objective not in ("d3pm", "tauldr", "sedd") and not blocks:
            expected -= {"objective.block_low"}
        unread = unread_keys(dict(flatten(config)))
        found = {f"objective.{name}" for name in config.objective} - unread.keys()
        assert found == {name for name in expected if is_used(config, name)}


def is_used(config, name):
    """`read_keys` counts what a part of it may need where that part itself is not there."""
    options = config.objective
    if name == "objective.power":
        return options.schedule == "polynomial"
    return name != "objective.epsilon" or options.epsilon_convention != "none"


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_time_width_needs_time_conditioning(objective):
    kinds = (
        itertools.product(PROCESSES, ("raw", "denoiser")) if objective == "sedd" else ((p, "raw") for p in PROCESSES)
    )
    for process, score in kinds if objective in ("sedd", "d3pm", "tauldr") else [("absorbing", "raw")]:
        config = base.get_config()
        config.objective.update(name=objective, process=process, score=score)
        try:
            timed = plan(config).architecture.time_conditioning
        except UserError:
            continue
        assert is_read(config, "model.time_width") == timed


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.path=a.txt"], "data.path is 'a.txt'; it has no effect when data.source is 'stdlib', only when"),
        (["data.field=body"], "only when data.source is text or tfds"),
        (["data.source=tokens", "data.path=x", "data.field=body"], "config.data.field is 'body'"),
        (["data.source=tokens", "data.validation_path=x"], "config.data.validation_path is 'x'"),
        (["data.source=markov", "data.tokenizer=bytes"], "config.data.tokenizer is 'bytes'"),
        (["data.source=markov", "data.keep_documents=True"], "config.data.keep_documents is True"),
        (["objective.power=3"], "it has no effect when objective.schedule is 'linear', only when"),
        (["objective.epsilon=1e-4"], "it has no effect when objective.epsilon_convention is 'none'"),
        (["objective.block_low=0.2"], "it has no effect when objective.block_size is 0, only when"),
        (
            ["objective.name=d3pm", "objective.epsilon_convention=smdm"],
            "accepted where objective.name is",
        ),
        (["optim.decay=constant", "optim.final=0.5"], "only when optim.decay is cosine or wsd"),
        (["optim.rewind_steps=7"], "only when optim.on_nonfinite is rewind"),
        (["optim.max_rewinds=7"], "only when optim.on_nonfinite is rewind"),
        (["optim.weight_decay=0", "optim.decay_everything=True"], "only when optim.weight_decay is not 0"),
        (["train.runner=pmap", "train.mesh_fsdp=2"], "only when train.runner is jit"),
        (["model.time_width=64"], "it has no effect when model.time_conditioning is False"),
        (["budget=1e12", "steps=10"], "it has no effect when budget is 1000000000000.0, only when budget is 0"),
        (["budget_counter=six_total"], "only when budget is not 0"),
    ],
)
def test_unread_key_gives_one_line(overrides, message):
    with pytest.raises(UserError) as refused:
        load(*overrides)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_steps_and_budget_exclude_each_other():
    with pytest.raises(UserError, match=r"config.steps is 10; it has no effect when budget is 30000000000.0"):
        load("steps=10", config="quickstart")
    assert load("budget=0", "steps=10", config="quickstart").steps == 10


@pytest.mark.slow
def test_presets_work_with_other_objectives():
    """Unread keys, and the keys that depend on them, return to the defaults; the rest stays."""
    for preset, objective in itertools.product(PRESETS, OBJECTIVES):
        refuse_unread(load(f"objective.name={objective}", config=preset))
    config = load("objective.name=d3pm", config="smdm")
    assert config.objective.epsilon_convention == "none" and not config.objective.independent_times
    assert (
        load("objective.name=masked_plain", "objective.epsilon_convention=md4", config="smdm").objective.epsilon == 1e-3
    )
    with pytest.raises(UserError, match="config.objective.independent_times is True"):
        load("objective.name=ar", "objective.independent_times=True", config="smdm")


def test_unread_key_in_file_is_refused(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from mdlm_jax.configs import base\n\n\ndef get_config():\n"
        "    config = base.get_config()\n    config.objective.gamma = 0.5\n    return config\n"
    )
    with pytest.raises(UserError, match=r"mine.py: config.objective.gamma is 0.5; it has no effect when"):
        load_config(str(path))
    experiment = path.read_text().replace("get_config", "grid", 1).replace("return config", "return [config]")
    path.write_text(f"TITLE = 'x'\n{experiment}")
    with pytest.raises(UserError, match=r"mine.py, run 0: config.objective.gamma is 0.5; it has no effect when"):
        load_experiment(path)


def test_with_objective_resets_and_refuses():
    config = smdm.get_config()
    other = with_objective(config, "sedd", process="uniform")
    assert (other.objective.process, other.objective.epsilon_convention) == ("uniform", "none")
    assert config.objective.name == "masked" and config.objective.epsilon_convention == "smdm"
    for keys, message in (({"gamma": 0.5}, "gamma is 0.5"), ({"gama": 0.5}, "is objective.gamma|nearest")):
        with pytest.raises(UserError, match=message):
            with_objective(config, "sedd", **keys)


def test_old_run_keeps_unread_keys():
    """A run from before such keys were refused resumes with its own config."""
    config = smdm.get_config()
    config.objective.name = "ar"
    assert override(config, []) == config
    assert override(config, ["--config.train.remat=full"]).objective == config.objective


def test_combinations_reset_as_overrides_do():
    found = combinations(smdm.get_config(), {"objective.name": ("ar", "masked"), "budget": (1e18, 2e18)})
    assert [(config.objective.name, config.budget, config.objective.epsilon_convention) for config in found] == [
        *(("ar", 1e18, "none"), ("ar", 2e18, "none")),
        *(("masked", 1e18, "smdm"), ("masked", 2e18, "smdm")),
    ]


def test_custom_objective(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from mdlm_jax.objectives import OBJECTIVES\n\n\ndef make(mask_id, rate):\n"
        "    return OBJECTIVES['masked_lm'](mask_id, rate)\n"
    )
    assert plan(load("objective.name=mine.py:make", "objective.mask_rate=0.4")).objective.bound == "none"
    with pytest.raises(
        UserError, match=r"config.objective.gamma is 0.5; mine.py:make does not read it, only objective.a"
    ):
        plan(load("objective.name=mine.py:make", "objective.gamma=0.5"))


def test_presets_plan():
    for preset in ("base", "quickstart", "char"):
        assert plan(load(config=preset)).steps > 0
    assert (ROOT / "configs").is_dir()
