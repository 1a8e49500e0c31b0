"""Which samplers serve an objective follows from what it declares."""

import jax
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.objectives import any_order, any_order_causal, ar, masked
from mdlm_jax.objectives.autoregressive import ar_without_start
from mdlm_jax.objectives.block import block
from mdlm_jax.objectives.d3pm import d3pm
from mdlm_jax.objectives.dropped_prompt import dropped_prompt
from mdlm_jax.objectives.gaussian import gaussian
from mdlm_jax.objectives.genmd4 import genmd4
from mdlm_jax.objectives.jumps import csm, tauldr
from mdlm_jax.objectives.masked import masked_lm, masked_plain
from mdlm_jax.objectives.score_entropy import duo, gidd, sedd, udlm
from mdlm_jax.processes.matrix import discretised_gaussian
from mdlm_jax.processes.mixture import absorbing, hybrid, uniform
from mdlm_jax.sampling.samplers import SAMPLERS, in_blocks, samplers_for
from mdlm_jax.schedules import cosine, linear

V = 5
MASKS = ("ancestral", "first_hitting", "confidence", "remasking")
PROCESS = ("posterior", "tweedie", "euler", "tau_leaping", "predictor_corrector")
UNIFORM = (*PROCESS, "metropolis")
EXPECTED = {
    "ar": lambda: (ar(V), ("autoregressive",)),
    "ar without start": lambda: (ar_without_start(V), ("autoregressive",)),
    "any_order_causal": lambda: (any_order_causal(V), ("ordered",)),
    "any_order": lambda: (any_order(V), (*MASKS, *PROCESS)),
    "masked": lambda: (masked(V, cosine()), (*MASKS, *PROCESS)),
    "masked in steps": lambda: (masked(V, linear(), num_steps=8), (*MASKS, *PROCESS)),
    "masked_plain": lambda: (masked_plain(V, linear()), (*MASKS, *PROCESS)),
    "masked_lm": lambda: (masked_lm(V), (*MASKS, *PROCESS)),
    "masked, prompts dropped": lambda: (dropped_prompt(masked(V, linear()), V, 0.1), (*MASKS, *PROCESS)),
    "masked in blocks": lambda: (block(masked(V, linear()), 2, 4), (*MASKS, *PROCESS)),
    # Tweedie tau-leaping reverses noise that treats all tokens alike
    "genmd4": lambda: (genmd4(V), ("posterior", "euler", "tau_leaping", "predictor_corrector")),
    # a chain of steps has no rates, and no states between the steps
    "d3pm absorbing": lambda: (d3pm(absorbing(V, linear()), 8, 0.0), ("posterior", *MASKS)),
    "d3pm hybrid": lambda: (d3pm(hybrid(V, linear(), 0.5), 8, 0.0), ("posterior",)),
    "d3pm of a matrix": lambda: (d3pm(discretised_gaussian(V, 8), 8, 0.0), ("posterior",)),
    "sedd raw": lambda: (sedd(absorbing(V, linear()), "raw"), PROCESS),
    "sedd scaled": lambda: (sedd(absorbing(V, linear()), "scaled"), ("posterior", *MASKS, *PROCESS[1:])),
    "sedd uniform": lambda: (sedd(uniform(V, linear()), "raw"), UNIFORM),
    "tauldr": lambda: (tauldr(absorbing(V, linear())), ("posterior", *MASKS, *PROCESS[1:])),
    "gidd": lambda: (gidd(V, linear(), 0.2, 1.0), PROCESS),
    "udlm": lambda: (udlm(V, linear()), UNIFORM),
    "duo": lambda: (duo(V), UNIFORM),
    "csm": lambda: (csm(V, linear(), "denoising"), UNIFORM),
    "gaussian": lambda: (gaussian(V), ("gaussian",)),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_samplers_of_an_objective(name):
    objective, expected = EXPECTED[name]()
    assert samplers_for(objective, objective.init(jax.random.key(0))) == expected


def test_every_sampler_serves_an_objective():
    served = {name for expected in EXPECTED.values() for name in expected()[1]}
    assert served == set(SAMPLERS)
    assert "gaussian" not in in_blocks(tuple(SAMPLERS)) and "confidence" in in_blocks(tuple(SAMPLERS))


def test_objectives_without_a_process_have_no_sampler():
    objective = masked(V, linear())._replace(parameterization=None)
    with pytest.raises(UserError, match="declares no noise process"):
        samplers_for(objective, ())
