"""A synthetic source whose entropy rate is known exactly: a stationary Markov chain over V states."""

import numpy as np
from jaxtyping import Float, Int

from mdlm_jax.data.addressed import uniform
from mdlm_jax.data.rows import Rows, Splits
from mdlm_jax.data.tokenizer import state_tokenizer
from mdlm_jax.errors import UserError

ROWS = 2**40  # more than any run reads


def open_markov(path: str, length: int) -> Splits:
    """Opens the Markov source that `path` describes.

    Args:
        path: As in `parse_markov`.
        length: Tokens of a row.

    Raises:
        UserError: The path describes no Markov source.
    """
    vocab, concentration, seed = parse_markov(path)
    chain = markov_chain(vocab, concentration, seed)

    def rows(split: int) -> Rows:
        return Rows(ROWS, lambda numbers: sample_rows(*chain, (seed, split), numbers, length))

    return Splits(train=rows(0), validation=rows(1), bytes_per_token=1.0, tokenizer=state_tokenizer(vocab))


def markov_chain(
    vocab: int, concentration: float, seed: int
) -> tuple[Float[np.ndarray, "V"], Float[np.ndarray, "V V"]]:
    """A random Markov chain.

    Args:
        vocab: V, the number of states.
        concentration: Each row of P is drawn from a symmetric Dirichlet distribution with this concentration.
        seed: The seed of P.

    Returns:
        The stationary distribution pi and the transitions P, from row to column.
    """
    transitions = np.random.default_rng(seed).dirichlet(np.full(vocab, concentration), size=vocab)
    # pi P = pi together with sum(pi) = 1, as one overdetermined and consistent linear system.
    system = np.concatenate([transitions.T - np.eye(vocab), np.ones((1, vocab))])
    stationary = np.linalg.lstsq(system, np.append(np.zeros(vocab), 1.0), rcond=None)[0].clip(min=0)
    return stationary / stationary.sum(), transitions


def entropy_rate(stationary: Float[np.ndarray, "V"], transitions: Float[np.ndarray, "V V"]) -> float:
    """-sum_i pi_i sum_j P_ij log P_ij, in nats per token (Cover and Thomas, theorem 4.2.4)."""
    from scipy.special import xlogy  # importing it takes longer than all other imports for a corpus

    return float(-stationary @ xlogy(transitions, transitions).sum(axis=1))


def sample_rows(
    stationary: Float[np.ndarray, "V"],
    transitions: Float[np.ndarray, "V V"],
    seed: tuple[int, ...],
    rows: Int[np.ndarray, "n"],
    length: int,
) -> Int[np.ndarray, "n {length}"]:
    """Independent stationary sequences, each a function of the seed and its row number.

    Args:
        stationary: The distribution of the first token.
        transitions: P, from row to column.
        seed: The seed.
        rows: Row numbers.
        length: Tokens of a row.
    """
    first = np.cumsum(stationary)[:-1]
    following = np.cumsum(transitions, axis=1)[:, :-1]
    chance = uniform(*seed, rows[:, None], np.arange(length))
    tokens = np.empty((len(rows), length), np.int32)
    tokens[:, 0] = (first <= chance[:, :1]).sum(axis=1)
    for position in range(1, length):
        tokens[:, position] = (following[tokens[:, position - 1]] <= chance[:, position, None]).sum(axis=1)
    return tokens


def parse_markov(path: str) -> tuple[int, float, int]:
    """(vocab, concentration, seed) from 'vocab=16,concentration=0.3' with an optional ',seed=1' (0 if absent).

    Raises:
        UserError: A value is missing, unknown or out of range.
    """
    accepted = "data.path such as 'vocab=16,concentration=0.3' with an optional ',seed=1'"
    try:
        values = dict(item.split("=") for item in path.replace(" ", "").split(","))
        vocab, concentration = int(values.pop("vocab")), float(values.pop("concentration"))
        seed = int(values.pop("seed", "0"))
    except (ValueError, KeyError):
        raise UserError(f"data.path={path!r} describes no Markov source; accepted: {accepted}") from None
    if values or vocab < 2 or not 0 < concentration < float("inf") or seed < 0:
        raise UserError(f"data.path={path!r}: vocab >= 2, concentration > 0 and seed >= 0; accepted: {accepted}")
    return vocab, concentration, seed
