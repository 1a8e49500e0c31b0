"""How large activations are, and how far a few steps of training move them, as a network grows.

Under muP neither depends on the width, under CompleteP neither on width or depth (arXiv 2203.03466, appendix D.1).
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array
from ml_collections import ConfigDict

from mdlm_jax.build import build, network
from mdlm_jax.config import override
from mdlm_jax.models.block import Block
from mdlm_jax.models.layers import Ends
from mdlm_jax.models.transformer import Model
from mdlm_jax.noise import noise_of
from mdlm_jax.objectives import Objective
from mdlm_jax.objectives.base import View
from mdlm_jax.training.loss import look
from mdlm_jax.training.step import make_train_step

INSIDE = ("key", "value", "up")  # layers of a block whose outputs are measured, over all blocks
QUICK = {"xla_backend_optimization_level": 0}  # what runs a few times: it compiles in half the time


class Shape(NamedTuple):
    parametrization: str
    width: int
    layers: int


class Measured(NamedTuple):
    """One activation at one shape, as root mean squares over positions, coordinates and seeds."""

    shape: Shape
    activation: str
    size: float  # before training
    update: float  # of its change over the steps


def measure(config: ConfigDict, shape: Shape, steps: int, seeds: int) -> list[Measured]:
    """Trains one shape from several seeds and measures its activations on the first batch.

    Args:
        config: The config of the narrowest and shallowest shape.
        shape: A shape with as many heads; its width is a multiple of the narrowest.
        steps: Steps of training.
        seeds: Runs to take the mean square over.
    """
    config = _at(config, shape)
    built = build(override(config, ["--config.train.scan_layers=true"]), jax.devices()[:1])
    unrolled = network(override(config, ["--config.train.scan_layers=false"])).model
    batches = [jax.tree.map(jnp.asarray, built.data.batch(number)) for number in range(steps)]

    def seen(state) -> dict[str, Array]:
        keys, u = noise_of(state.key, jnp.int32(0), batches[0].index, built.options.batch_size)
        view = look(built.objective, state.objective_params, keys, batches[0].example, u)
        return activations(unrolled, built.objective, state.params, view)

    train = make_train_step(built.model, built.objective, built.optimizer, built.options)
    begin, see, step = (jax.jit(function, compiler_options=QUICK) for function in (built.make_state, seen, train))
    squares: dict[str, list[tuple[float, float]]] = {}
    for seed in range(seeds):
        state = begin(jnp.uint32(seed), *built.initial[1:])
        before = see(state)
        for batch in batches:
            state, _ = step(state, batch)
        for name, after in see(state).items():
            size, update = (float(jnp.square(x).mean()) for x in (before[name], after - before[name]))
            squares.setdefault(name, []).append((size, update))
    means = {name: [sum(of_seed) / seeds for of_seed in zip(*pairs, strict=True)] for name, pairs in squares.items()}
    return [Measured(shape, name, size**0.5, update**0.5) for name, (size, update) in means.items()]


def activations(model: Model, objective: Objective, params: Any, view: View) -> dict[str, Array]:
    """The activations of a network by name: embedding, those of INSIDE, the residual stream at its end, logits.

    Args:
        model: The network, with layers that are not scanned.
        objective: The objective, for its mask function.
        params: The parameters.
        view: What the network reads.
    """
    found: dict[str, list[Array]] = {name: [] for name in ("embedding", *INSIDE, "stream")}

    def record(call, arguments, options, context):
        out = call(*arguments, **options)
        module, method = context.module, context.method_name
        if isinstance(module, Ends) and method == "start":
            found["embedding"].append(out[0])
        elif isinstance(module, Block) and method == "__call__":
            found["stream"] = [out[0]]
        elif method == "__call__" and module.name in INSIDE:
            found[module.name].append(out)
        return out

    with nn.intercept_methods(record):
        hidden, _ = model.hidden(params, view, objective.mask)
    return {name: jnp.stack(values) for name, values in found.items()} | {"logits": model.head(params, hidden)}


def _at(config: ConfigDict, shape: Shape) -> ConfigDict:
    """The config of a shape. One that is standard has no base shape."""
    m, values = config.model, {"parametrization": shape.parametrization, "width": shape.width, "layers": shape.layers}
    values["mlp_width"] = m.mlp_width * shape.width // m.width
    return override(config, [f"--config.model.{key}={value}" for key, value in values.items()])
