"""What every sampler shares: how it is asked, what it tells of its work, and how one token is drawn."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdlm_jax.objectives.base import Parameterization
from mdlm_jax.schedules import Schedule, linear

BUCKET = 64  # positions: prompts whose lengths round up to the same multiple share a program


class Plan(NamedTuple):
    """Which sampler, and its arguments."""

    sampler: str  # a key of SAMPLERS
    length: int  # L: tokens in all, the prompt and what pads it included
    temperature: float = 1.0  # divides the logits; 0 takes the likeliest token
    steps: int | None = None  # of the grid of times, where there is one; None: as many as there are tokens
    schedule: Schedule = linear()  # ancestral: the one of the training
    reads_start: bool = True  # autoregressive: the network was trained to begin with the mask
    parameterization: Callable[..., Parameterization] | None = (
        None  # samplers of a process: the objective's, objective_params -> Parameterization
    )
    objective_params: Any = ()  # its argument: the objective's own parameters
    top_k: int | None = None  # draws are from the k likeliest tokens
    top_p: float | None = None  # .. and from the smallest set of tokens that has this probability
    correctors: int | None = None  # predictor_corrector: corrector steps after each step; None: 2
    guidance: float = 0.0  # weight of classifier-free guidance by what is given; 0: none
    guidance_ramp: bool = False  # the weight grows from 0 to that as noise goes (UniDisc)
    stop: int | None = None  # token that ends a text
    trained_blocks: int = 0  # the network was trained in blocks of so many tokens and sees no later ones; 0: it was not
    bucket: int = 0  # set by `sample`: the prompt's width, rounded up, so that prompts near in length share a program
    shift: bool = False  # .. and a position predicts the token after the one it reads
    upstream_compat: bool = False  # with the errors of SDAR's and ReMDM's code, which docs/how-to/decoding.md lists
    # confidence:
    block_size: int | None = None  # tokens of a block, decoded from left to right; None: one block
    confidence: str = "probability"  # a key of placing.CONFIDENCES
    rule: str = "quota"  # a key of placing.RULES
    limit: float | None = None  # of the rule
    cache: str = "none"  # none | prefix | dual | features
    prompt_interval: int | None = None  # features: steps from one reading of the whole prompt to the next; None: 100
    response_interval: int | None = None  # .. of the whole response; None: 7
    update_share: float | None = None  # .. the part of the response that is computed in the other steps; None: 0.25
    suppress: tuple[int, ...] = ()  # tokens that are never drawn
    anneal: float = 0.0  # noise of the order, less as masks go (MaskGIT)
    delay: tuple[int, ...] = ()  # tokens that are placed when nothing else is left
    # remasking:
    strategy: str = "cap"  # a key of remasking.STRATEGIES
    eta: float | None = None  # how much of what is there goes in a step; None: the strategy's own
    loop_on: float = 0.55  # loop: the time at which tokens begin to go
    loop_off: float = 0.05  # .. and at which they end to
    loop_alpha: float = 0.9  # .. and the share of positions that hold a token in between


class TracedArguments(NamedTuple):
    """What a plan says that nothing has to be compiled anew for."""

    first: Int[Array, ""]  # the first position to be drawn in any row
    temperature: Float[Array, ""]
    limit: Float[Array, ""]
    objective_params: Any


class Trace(NamedTuple):
    """What was placed when."""

    step: Int[Array, "B L"]  # in which step a token was placed for good, from 0; -1: given, or past the end
    log_probability: Float[Array, "B L"]  # nats that the network gave it then, at temperature 1; 0 where it was given
    evaluations: Int[Array, "B"]  # times the network had to run for a row


def left_padded(prompts: Sequence[Sequence[int]]) -> Int[np.ndarray, "B P"]:
    """Prompts of several lengths as one array: -1 at the left of the shorter ones."""
    width = max(map(len, prompts), default=0)
    rows = [[-1] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    return np.array(rows, np.int32).reshape(len(prompts), width)


def draw(
    keys: Array,
    logits: Float[Array, "B V"],
    temperature: Float[Array, ""],
    top_k: int | None = None,
    top_p: float | None = None,
) -> tuple[Int[Array, "B"], Float[Array, "B"]]:
    """One token a row, of the likeliest by `filtered`, and its log probability in nats at temperature 1, unfiltered.

    The default Gumbel noise of float32 ends near 16: a tail of 1% over 5e4 tokens is drawn 0.7% of the time, a hidden
    top-p (MD4, arXiv 2406.04329, appendix G). mode='high' moves the end to where it does not matter.
    """
    scaled = filtered(logits / jnp.where(temperature > 0, temperature, 1.0), top_k, top_p)
    drawn = jax.vmap(lambda key, row: jax.random.categorical(key, row, mode="high"))(keys, scaled)
    tokens = jnp.where(temperature > 0, drawn, logits.argmax(axis=-1)).astype(jnp.int32)
    log_probability = jax.nn.log_softmax(logits, axis=-1)
    return tokens, jnp.take_along_axis(log_probability, tokens[:, None], axis=-1)[:, 0]


def filtered(logits: Float[Array, "*n V"], top_k: int | None, top_p: float | None) -> Float[Array, "*n V"]:
    """Logits with -inf for tokens outside the k likeliest, and outside the smallest set that holds top_p of what is
    left."""
    if top_k is not None:
        least = jax.lax.top_k(logits, top_k)[0][..., -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if top_p is not None and top_p < 1:
        ordered = jnp.sort(logits, axis=-1, descending=True)
        probs = jax.nn.softmax(ordered, axis=-1)
        # a token is in the set while those before it hold less than top_p: the likeliest always is
        inside = probs.cumsum(axis=-1) - probs < top_p
        least = jnp.where(inside, ordered, jnp.inf).min(axis=-1, keepdims=True)
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return logits
