"""Opens a trained run for evaluation and sampling, without its corpus."""

import pathlib
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from mdlm_jax.build.network import network
from mdlm_jax.build.objective import objective_source_digest
from mdlm_jax.build.plan import Plan
from mdlm_jax.build.training import optimizer_of, state_of
from mdlm_jax.data.built_images import ImageLayout
from mdlm_jax.data.captioned import CAPTIONED, Layout, layout_of
from mdlm_jax.data.tokenizer import Tokenizer
from mdlm_jax.models.layout import AXES
from mdlm_jax.models.transformer import Model
from mdlm_jax.models.within_modality import within_modality
from mdlm_jax.objectives import Objective
from mdlm_jax.runs import checkpoint
from mdlm_jax.runs.execution import config_of_run
from mdlm_jax.runs.imported import open_imported
from mdlm_jax.runs.inputs import kept_tokenizer, read_inputs
from mdlm_jax.runs.saved import check_config
from mdlm_jax.runs.say import say
from mdlm_jax.training.evaluated import evaluated
from mdlm_jax.weights.source import holds_weights


class Run(NamedTuple):
    """A network with its weights, on one device."""

    config: ConfigDict
    plan: Plan
    model: Model
    objective: Objective
    vocab_size: int  # V of the network
    tokenizer: Tokenizer
    step: int  # of the checkpoint
    params: Any  # the averaged ones if the run has them
    objective_params: Any
    suppress: tuple[int, ...] = ()  # tokens of a public model that sampling never draws
    layout: Layout | ImageLayout | None = None  # where a row has its text and its image; None where all of it is text

    @property
    def shift(self) -> bool:
        """Whether a position predicts the token after the one it reads, in whole rows (Dream)."""
        return self.config.objective.shift


def open_run(folder: pathlib.Path, padded: bool = False) -> Run:
    """Opens the run in `folder` at its newest checkpoint, on one device; or a public model, at step 0.

    Args:
        folder: The run's folder.
        padded: Whether rows may have padding, though those of training had none.

    Raises:
        UserError: There is no run or no checkpoint, or it is damaged.
    """
    if holds_weights(folder):
        config, net, params, suppress = open_imported(folder, padded)
        return Run(config, net.plan, net.model, net.objective, net.vocab_size, net.tokenizer, 0, params, (), suppress)
    config, inputs = config_of_run(folder), read_inputs(folder)
    for axis in AXES:  # one device is enough, whatever mesh it was trained on
        config.train[f"mesh_{axis}"] = 1
    config.train.float8 = False  # its scales are shared by a batch, so a row would depend on the other rows
    vocab_size = inputs.vocab_size if inputs is not None else None
    own = config.copy_and_resolve_references()
    if config.data.source == "images":
        own.data.path = str(folder)  # it keeps the tokenizer of its corpus, and so its layout
    net = network(own, tokenizer=kept_tokenizer(folder), vocab_size=vocab_size, padded=padded)
    if inputs is not None and inputs.objective_source != objective_source_digest(config):
        say(f"the source of {config.objective.name} has changed since {folder} was trained with it")
    make_state, arguments = state_of(config, net, optimizer_of(config, net.plan.architecture))
    shapes = jax.eval_shape(make_state, *arguments)
    step, state = checkpoint.restore_on_one_device(folder / "checkpoints", shapes)
    check_config(folder, step)
    (params, objective_params), model = evaluated(state), net.model
    run = Run(config, net.plan, model, net.objective, net.vocab_size, net.tokenizer, step, params, objective_params)
    if config.data.source in CAPTIONED:
        run = run._replace(layout=layout_of(own.data.source, own.data.path))
    if run.layout is not None and run.objective.parts:
        run = run._replace(model=within_modality(model, run.layout.text_vocab, run.layout.text_length))
    return run
