"""From a config to `unified`: what its keys describe, and what is refused."""

import pytest

from mdlm_jax.build.plan import plan
from mdlm_jax.config import load_config
from mdlm_jax.errors import UserError


def planned(*overrides):
    return plan(load_config("unified_shapes", [f"--config.{override}" for override in overrides]))


def test_preset_is_a_mixture_reported_by_the_joint_bound():
    made = planned()
    assert made.architecture.vocab_size == 271  # 15 words and 4^4 codes
    assert made.objective.bound == "none" and made.objective.evaluate.bound == "upper"
    assert planned("objective.tasks=joint=1").objective.bound == "upper"
    assert planned("objective.tasks=joint=1", "objective.independent_modalities=true").objective.bound == "none"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["data.source=stdlib"], "data.source='stdlib' has no images; accepted: shapes"),
        (["objective.tasks=both=1"], "objective.tasks='both=1'; accepted: such as joint=0.5"),
        (["objective.image_schedule=geometric"], "config.objective.image_schedule is 'geometric'; accepted: linear"),
        (["objective.weighting=snr"], "config.objective.weighting is 'snr'; accepted: bound, muddit, unidisc"),
        (["model.time_conditioning=true"], "False: unified"),
        (["objective.schedule=cosine"], "config.objective.schedule is 'cosine'"),
    ],
)
def test_bad_keys_are_one_line(overrides, line):
    with pytest.raises(UserError, match=line):
        planned(*overrides)
