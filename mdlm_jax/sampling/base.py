"""What all samplers share: what training fixed, what a call is given, and what it returns."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, Int

from mdlm_jax.objectives.base import Parameterization
from mdlm_jax.sampling.network import Network
from mdlm_jax.schedules import Schedule, linear

BUCKET = 64  # positions: prompts whose lengths round up to the same multiple share a program


class Trained(NamedTuple):
    """What the training of a network fixes for every sampler."""

    schedule: Schedule = linear()  # t -> P(a token is masked)
    parameterization: Callable[[Any], Parameterization] | None = None  # objective_params -> Parameterization
    objective_params: Any = ()  # the objective's own parameters
    reads_start: bool = True  # a start symbol, the mask, stood before the first token of a row
    block_size: int = 0  # tokens of a block, for a network that sees no later blocks; 0: it sees the whole row
    shift: bool = False  # a position predicts the token after the one it reads
    suppress: tuple[int, ...] = ()  # tokens that are never drawn, such as a mask inside the vocabulary
    num_steps: int = 0  # steps of a process in discrete time, for each block; 0: continuous time
    shuffled_share: float = 1.0  # of tokens drawn first, in random order, by `ordered`; the rest follows in order
    text_length: int = 0  # positions of text in rows of text and image; 0: all of a row is text


class Request(NamedTuple):
    """What `sample` was called with, for the checks of a sampler."""

    prompt: Int[np.ndarray, "B P"]
    length: int
    vocab: int
    trained: Trained

    @property
    def first(self) -> Int[np.ndarray, "B"]:
        """The first position of each row that is to be drawn."""
        masked = self.prompt == self.vocab
        first = masked.argmax(axis=1) if masked.size else np.zeros(len(masked), int)
        return np.where(masked.any(axis=1), first, self.prompt.shape[1])


class Context(NamedTuple):
    """What the compiled program of a sampler is given besides its config, the network and the tokens."""

    trained: Trained
    bucket: int  # the first position to draw, rounded up: static, so that prompts near in length share a program
    first: Int[Array, ""]  # the first position to draw in any row
    temperature: Float[Array, ""]  # the config's, traced
    limit: Float[Array, ""]  # the config's, traced; 0 where it has none


class Trace(NamedTuple):
    """When each token was drawn, and how likely it was."""

    step: Int[Array, "B L"]  # the step that drew the token that stayed, from 0; -1: given, or after the end of a text
    log_probability: Float[Array, "B L"]  # its log probability then, in nats at temperature 1; 0 where it was given
    evaluations: Int[Array, "B"]  # network evaluations that the row needed


@runtime_checkable
class Sampler(Protocol):
    """A sampler: a NamedTuple with what a user may choose, and the two methods below.

    Fields named `temperature`, `limit` and `guidance` are traced: no value of them needs another compilation, except
    that a temperature or a guidance of 0 is another program. All other fields are part of the compiled program.

    A class may declare what it cannot do in the class attribute `cannot`, a set with any of "pad" (prompts of several
    lengths), "infill" (masks inside a prompt) and "blocks" (networks trained in blocks), and which objectives it serves
    in a method `serves(objective, objective_params) -> bool`. Without these, everything is accepted.
    """

    def check(self, request: Request) -> None:
        """Raises UserError, in one line, where these settings do not fit each other or the request.

        `sampling.checks` has already checked the prompt, and each field that several samplers share.
        """

    def draw(
        self, keys: Array, network: Network, tokens: Int[Array, "B L"], context: Context
    ) -> tuple[Int[Array, "B L"], Trace]:
        """Draws a token for every mask. Runs inside `jax.jit`.

        Args:
            keys: One key per row. A row must use no other.
            network: Evaluated by `sampling.read`, then `sampling.logits_of`.
            tokens: Prompts, and the mask (V) where a token is to be drawn. -1 pads a row at its left.
            context: What training fixed, and the traced settings.

        Returns:
            The tokens without masks, and their trace.
        """
        ...


def left_padded(prompts: Sequence[Sequence[int]]) -> Int[np.ndarray, "B P"]:
    """Prompts of several lengths as one array: -1 at the left of the shorter ones.

    >>> left_padded([[5, 6, 7], [8]]).tolist()
    [[5, 6, 7], [-1, -1, 8]]
    """
    width = max(map(len, prompts), default=0)
    rows = [[-1] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    return np.array(rows, np.int32).reshape(len(prompts), width)
