"""The quality of generated text: its likelihood under a judge or a known source, and its diversity.

There is no MAUVE-style divergence: no well-kept library computes it without PyTorch.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.special import entr

from mdlm_jax.data import Example
from mdlm_jax.data.markov import entropy_rate
from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.judge import Judged
from mdlm_jax.models.transformer import Model
from mdlm_jax.objectives.autoregressive import ar, ar_without_start
from mdlm_jax.training.loss import look

POSITIONS = 2048  # positions whose logits the judge computes at once, if that is more than one row

Tokens = Int[Array | np.ndarray, "B L"]
Drawn = Bool[Array | np.ndarray, "B L"]  # True for tokens that a sampler drew; the others were given
Law, Laws = Float[np.ndarray, "V"], Float[np.ndarray, "V V"]  # of a Markov source: stationary, transitions


class Estimate(NamedTuple):
    """A number with its standard error."""

    value: float  # NaN where there is nothing to measure
    standard_error: float  # over rows; NaN for one row or an infinite value


class Quality(NamedTuple):
    """Measures of generated text. Other nats than the judge's are per drawn token; what was not measured is None."""

    rows: int
    tokens: int  # drawn
    entropy: Estimate  # nats: `unigram_entropy`
    distinct_2: Estimate  # share: `distinct`
    judge_nats: Estimate | None = None  # per token of the judge; repetition lowers it, and only entropy reveals that
    judge_bits_per_byte: Estimate | None = None  # None where tokens are no text
    source_nats: Estimate | None = None  # infinite where `impossible` is above 0
    source_entropy: float | None = None  # expected source_nats of the source's own text at these positions
    impossible: int | None = None  # drawn tokens whose probability under the source is 0
    divergence: Estimate | None = None  # nats: `source_divergence`

    @property
    def perplexity(self) -> float | None:
        """Generative perplexity, exp(judge_nats). Read it only together with the entropy."""
        return None if self.judge_nats is None else math.exp(min(self.judge_nats.value, 700.0))


def measure(
    tokens: Tokens,
    drawn: Drawn,
    vocab: int,
    judge: Callable[[np.ndarray, np.ndarray], Judged] | None = None,
    source: tuple[Law, Laws] | None = None,
) -> Quality:
    """Measures the drawn tokens of B rows. Each is scored given all tokens before it, the given ones included.

    Args:
        tokens: The rows.
        drawn: Which tokens a sampler drew.
        vocab: Number of tokens V, without the mask.
        judge: Maps tokens and which of them were drawn to what a judge says, such as `judge_tokens` or `judge_text`
            with some network; None to leave it out.
        source: The stationary distribution and the transitions of a Markov source; None to leave it out.

    Raises:
        UserError: A token is outside the vocabulary.
    """
    tokens, drawn = _checked(tokens, vocab, drawn)
    num_drawn, variety = drawn.sum(axis=1), (unigram_entropy(tokens, vocab, drawn), distinct(tokens, 2, drawn))
    found = Quality(len(tokens), int(num_drawn.sum()), *variety)
    if judge is not None:
        judged = judge(tokens, drawn)
        found = found._replace(judge_nats=ratio(judged.nats, judged.tokens))
        if judged.bytes is not None:
            found = found._replace(judge_bits_per_byte=ratio(judged.nats / math.log(2), judged.bytes))
    if source is not None:
        nats = np.where(drawn, _source_nats(tokens, *source), 0)
        own = np.append(entr(source[0]).sum(), np.full(tokens.shape[1] - 1, entropy_rate(*source)))
        found = found._replace(
            source_nats=ratio(nats.sum(axis=1), num_drawn),
            source_entropy=float((drawn @ own).sum() / max(found.tokens, 1)),
            impossible=int(np.isinf(nats).sum()),
            divergence=source_divergence(tokens, source[1], drawn),
        )
    return found


def unigram_entropy(tokens: Tokens, vocab: int, drawn: Drawn | None = None) -> Estimate:
    """The entropy of the token frequencies inside each row, in nats, averaged over rows.

    It is at most log L, so compare only rows of one length.

    Args:
        tokens: The rows.
        vocab: Number of tokens V, without the mask.
        drawn: Which tokens count; None: all.

    Raises:
        UserError: A token is outside the vocabulary.

    Reference: MDLM, arXiv 2406.07524; ReMDM, arXiv 2503.00307.
    """
    tokens, drawn = _checked(tokens, vocab, drawn)
    each = [
        entr(np.bincount(row[kept]) / kept.sum()).sum() for row, kept in zip(tokens, drawn, strict=True) if kept.any()
    ]
    return ratio(np.array(each), np.ones(len(each)))


def distinct(tokens: Tokens, n: int, drawn: Drawn | None = None) -> Estimate:
    """Distinct-n: the number of different n-grams over the number of all n-grams in all rows.

    It falls with the number of rows, so compare only equal numbers of rows. The error is a jackknife over rows.

    Args:
        tokens: The rows.
        n: Tokens of an n-gram.
        drawn: Only n-grams whose tokens were all drawn count; None: all.

    Reference: arXiv 1510.03055.
    """
    tokens, drawn = _checked(tokens, None, drawn)
    count = max(tokens.shape[1] - n + 1, 0)
    grams, whole = (np.stack([field[:, i : i + count] for i in range(n)], axis=-1) for field in (tokens, drawn))
    row, position = np.nonzero(whole.all(axis=-1))
    if not row.size:
        return Estimate(math.nan, math.nan)
    kinds, kind = np.unique(grams[row, position], axis=0, return_inverse=True)
    kind, in_row = np.unique(np.stack([kind.reshape(-1), row]), axis=1)  # each pair (n-gram, row) once
    lost = np.bincount(in_row[np.bincount(kind)[kind] == 1], minlength=len(tokens))
    of_row = np.bincount(row, minlength=len(tokens))
    without = ((len(kinds) - lost) / np.maximum(len(row) - of_row, 1))[of_row < len(row)]
    spread = math.sqrt(without.var() * (len(without) - 1)) if len(without) > 1 else math.nan
    return Estimate(len(kinds) / len(row), spread)


def negative_log_likelihood(
    model: Model, params: Any, tokens: Tokens, context: int, reads_start: bool = True
) -> Float[np.ndarray, "B L"]:
    """The nats of every token given those before it, under a network trained by `ar`.

    Rows longer than `context` are read in windows as long as a row in training. Windows overlap by half or more, so
    after the first window every token has at least half a context before it. Logits and nats are float32.

    Args:
        model: The network.
        params: Its parameters.
        tokens: The rows.
        context: Tokens of a row in the network's training.
        reads_start: The network reads a start symbol; otherwise the first token of a row has no distribution: NaN.

    Raises:
        UserError: The context is below 1, or a token is outside the vocabulary.
    """
    tokens, _ = _checked(tokens, model.architecture.vocab_size)
    if context < 1:
        raise UserError(f"context {context}: accepted is 1 or more, the tokens of a row in the judge's training")
    (num_rows, length), first = tokens.shape, int(not reads_start)
    found, end = np.full(tokens.shape, np.nan, np.float32), first
    at_once = min(max(POSITIONS // (width := min(context + first, length)), 1), num_rows)
    index = np.resize(np.arange(num_rows), (-(-num_rows // at_once), at_once))  # the last batch may repeat rows
    # the last window ends where the row ends: all windows have one shape and share one program
    for start in [*range(0, length - width, max(context // 2, 1)), length - width] if width > first else []:
        nats = _window_nats(params, tokens[index, start : start + width], model=model, reads_start=reads_start)
        found[:, end : start + width] = nats[:num_rows, end - start - first :]
        end = start + width
    return found


@partial(jax.jit, static_argnames=("model", "reads_start"))
def _window_nats(params, batches: Int[Array, "batches rows N"], *, model: Model, reads_start: bool):
    objective = (ar if reads_start else ar_without_start)(model.architecture.vocab_size)

    def nats(tokens):
        example = Example(tokens, jnp.ones_like(tokens), jnp.zeros(tokens.shape, bool))
        view = look(objective, (), jnp.zeros(len(tokens)), example, jnp.zeros(len(tokens)))  # `ar` has no noise
        logits = model.head(params, model.hidden(params, view, objective.mask)[0])
        return objective.token_loss((), logits, view)

    return jnp.concatenate(jax.lax.map(nats, batches))


def source_nll(tokens: Tokens, stationary: Law, transitions: Laws) -> Float[np.ndarray, "B"]:
    """Exact -log p of each row under a stationary Markov chain, in nats per token; infinite where p is 0.

    Args:
        tokens: The rows.
        stationary: The distribution of the first token.
        transitions: P, from row to column.
    """
    return _source_nats(_checked(tokens, len(stationary))[0], stationary, transitions).mean(axis=1)


def _source_nats(tokens: np.ndarray, stationary: Law, transitions: Laws) -> Float[np.ndarray, "B L"]:
    with np.errstate(divide="ignore"):
        return -np.log(np.append(stationary[tokens[:, :1]], transitions[tokens[:, :-1], tokens[:, 1:]], axis=1))


def source_divergence(tokens: Tokens, transitions: Laws, drawn: Drawn | None = None) -> Estimate:
    """The divergence of token pairs from a Markov chain, sum_ij c_ij / N log(c_ij / c_i / P_ij), in nats per token.

    The Miller-Madow bias, (number of c_ij above 0 - number of c_i above 0) / 2N, is subtracted, so the result may fall
    below 0; where many pairs are rare the correction is too small. The error is an infinitesimal jackknife over rows,
    about 1.4 times too large at a divergence of 0. The result is infinite if a pair of probability 0 occurs. First
    tokens and dependence beyond pairs do not count, so whole rows diverge by this or more.

    Args:
        tokens: The rows.
        transitions: P, from row to column.
        drawn: Only pairs whose second token was drawn count; None: all.

    Raises:
        UserError: A token is outside the vocabulary.
    """
    vocab = len(transitions)
    tokens, drawn = _checked(tokens, vocab, drawn)
    row, position = np.nonzero(drawn[:, 1:])
    before, after = tokens[row, position], tokens[row, position + 1]
    pairs = np.bincount(before * vocab + after, minlength=vocab**2).reshape(vocab, vocab)
    free_numbers = (pairs > 0).sum() - (pairs > 0).any(axis=1).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        nats = np.log(pairs / pairs.sum(axis=1, keepdims=True)) - np.log(transitions)
    found = ratio(np.bincount(row, nats[before, after], len(tokens)), np.bincount(row, minlength=len(tokens)))
    return found._replace(value=found.value - float(free_numbers) / (2 * max(len(row), 1)))


def ratio(sums: np.ndarray, counts: np.ndarray) -> Estimate:
    """The ratio of two sums over rows. Its error is the spread of each row's sum around the ratio times its count."""
    total, rows = counts.sum(), len(sums)
    value = float(sums.sum() / total) if total else math.nan
    if rows < 2 or not math.isfinite(value):
        return Estimate(value, math.nan)
    residual = sums - value * counts
    return Estimate(value, float(np.sqrt((residual**2).sum() * rows / (rows - 1)) / total))


def _checked(tokens: Tokens, vocab: int | None, drawn: Drawn | None = None) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.asarray(tokens, np.int64)
    if vocab is not None and len(outside := tokens[(tokens < 0) | (tokens >= vocab)]):
        raise UserError(f"token {outside[0]} is outside the vocabulary; accepted: 0 to {vocab - 1}")
    return tokens, np.ones(tokens.shape, bool) if drawn is None else np.asarray(drawn)
