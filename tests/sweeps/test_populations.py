"""Runs of a sweep that train as one program."""

import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.sweeps import launchers, sweep
from mdlm_jax.sweeps.experiment import load_experiment
from tests.sweeps.test_experiment import write

POPULATION = """
'''Four seeds, and a run of more steps.'''
from mdlm_jax.configs import base
from tests.run_folders import TINY

TITLE = "seeds"

def grid():
    configs = []
    for seed in range(5):
        config = base.get_config()
        config.update_from_flattened_dict(TINY | {"steps": 8 if seed < 4 else 9, "seed": seed})
        configs.append(config)
    return configs
"""


@pytest.mark.slow
def test_populations_equal_single_runs(tmp_path):
    for path in (tmp_path / "one", tmp_path / "other"):
        path.mkdir()
    experiment = load_experiment(write(tmp_path, POPULATION))
    launcher = launchers.in_populations(launchers.local(1), 3)
    assert sweep.run(experiment, tmp_path / "one", launcher) == sweep.Summary(done=5, failed=0, left=0)
    assert sweep.run(experiment, tmp_path / "other", launchers.local(1)) == sweep.Summary(done=5, failed=0, left=0)
    # 3 and 1 of four seeds, and one of other steps: two runs name the one that has their log
    together, alone = (
        [
            log
            for path in (tmp_path / name).glob("*/log.txt")
            if (log := path.read_text()).startswith("trained together")
        ]
        for name in ("one", "other")
    )
    assert len(together) == 2 and len(set(together)) == 1 and not alone
    losses = [
        {result.run_id: result.loss for result in sweep.collect(experiment, tmp_path / name)[0]}
        for name in ("one", "other")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_population_size_is_checked():
    with pytest.raises(UserError, match="--population=0; accepted: 1 or more"):
        launchers.in_populations(launchers.local(1), 0)
