"""How good generated text is, from its tokens: how likely a judge or a known source finds it, and how varied it is.

A MAUVE-style divergence is left out: no well-kept library computes it without PyTorch.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.stats import entropy

from mdlm_jax.data import Example
from mdlm_jax.data.markov import entropy_rate
from mdlm_jax.errors import UserError
from mdlm_jax.models.transformer import Model
from mdlm_jax.objectives.autoregressive import ar, ar_without_start
from mdlm_jax.training.loss import look

POSITIONS = 2048  # the judge computes the logits of so many positions at once, or of one row

Tokens = Int[Array | np.ndarray, "B L"]
Drawn = Bool[Array | np.ndarray, "B L"]  # tokens that a sampler drew; the others were given
Law, Laws = Float[np.ndarray, "V"], Float[np.ndarray, "V V"]  # of a Markov source: stationary, transitions


class Estimate(NamedTuple):
    value: float  # NaN where there is nothing to measure
    standard_error: float  # over rows; NaN where one row or an infinite value leaves none


class Quality(NamedTuple):
    """Nats are per drawn token. What was not measured is None."""

    rows: int
    tokens: int  # drawn
    entropy: Estimate  # nats: `unigram_entropy`
    distinct_2: Estimate  # share: `distinct`
    judge_nats: Estimate | None = None  # likely is not good: repetition is likely, and shows in the entropy alone
    source_nats: Estimate | None = None  # infinite where `impossible` is above 0
    source_entropy: float | None = None  # what source_nats is for the source's own text at these positions
    impossible: int | None = None  # drawn tokens whose probability under the source is 0
    divergence: Estimate | None = None  # nats: `source_divergence`

    @property
    def perplexity(self) -> float | None:
        """Generative perplexity, exp(judge_nats). It means nothing without the entropy beside it."""
        return None if self.judge_nats is None else math.exp(min(self.judge_nats.value, 700.0))


def measure(
    tokens: Tokens,
    drawn: Drawn,
    vocab: int,
    judge: Callable[[np.ndarray], np.ndarray] | None = None,
    source: tuple[Law, Laws] | None = None,
) -> Quality:
    """All that can be known of the drawn tokens of B rows. Each is scored given all tokens before it, also given ones.

    `judge` gives the nats of every token, NaN where it has none: `negative_log_likelihood` of some network. Raises
    UserError for tokens outside the vocabulary.
    """
    tokens, drawn = _checked(tokens, vocab, drawn)
    num_drawn, variety = drawn.sum(axis=1), (unigram_entropy(tokens, vocab, drawn), distinct(tokens, 2, drawn))
    found = Quality(len(tokens), int(num_drawn.sum()), *variety)
    if judge is not None:
        nats = np.asarray(judge(tokens), np.float64)
        judged = drawn & ~np.isnan(nats)
        found = found._replace(judge_nats=_ratio(nats.sum(axis=1, where=judged), judged.sum(axis=1)))
    if source is not None:
        nats = np.where(drawn, _source_nats(tokens, *source), 0)
        own = np.append(entropy(source[0]), np.full(tokens.shape[1] - 1, entropy_rate(*source)))
        found = found._replace(
            source_nats=_ratio(nats.sum(axis=1), num_drawn),
            source_entropy=float((drawn @ own).sum() / max(found.tokens, 1)),
            impossible=int(np.isinf(nats).sum()),
            divergence=source_divergence(tokens, source[1], drawn),
        )
    return found


def unigram_entropy(tokens: Tokens, vocab: int, drawn: Drawn | None = None) -> Estimate:
    """Nats of the distribution of the tokens inside each row, the mean over rows (MDLM; ReMDM, arXiv 2503.00307).

    It is at most log L, so only rows of one length compare. Raises UserError for tokens outside 0 .. V - 1.
    """
    tokens, drawn = _checked(tokens, vocab, drawn)
    each = [entropy(np.bincount(row[kept])) for row, kept in zip(tokens, drawn, strict=True) if kept.any()]
    return _ratio(np.array(each), np.ones(len(each)))


def distinct(tokens: Tokens, n: int, drawn: Drawn | None = None) -> Estimate:
    """Share of different n-grams among the n-grams of all rows (arXiv 1510.03055) that were drawn whole.

    It falls with the number of rows, so only equal numbers compare. The error is a jackknife over rows.
    """
    tokens, drawn = _checked(tokens, None, drawn)
    count = max(tokens.shape[1] - n + 1, 0)
    grams, whole = (np.stack([field[:, i : i + count] for i in range(n)], axis=-1) for field in (tokens, drawn))
    row, position = np.nonzero(whole.all(axis=-1))
    if not row.size:
        return Estimate(math.nan, math.nan)
    kinds, kind = np.unique(grams[row, position], axis=0, return_inverse=True)
    kind, in_row = np.unique(np.stack([kind.reshape(-1), row]), axis=1)  # every pair once
    lost = np.bincount(in_row[np.bincount(kind)[kind] == 1], minlength=len(tokens))
    of_row = np.bincount(row, minlength=len(tokens))
    without = ((len(kinds) - lost) / np.maximum(len(row) - of_row, 1))[of_row < len(row)]
    spread = math.sqrt(without.var() * (len(without) - 1)) if len(without) > 1 else math.nan
    return Estimate(len(kinds) / len(row), spread)


def negative_log_likelihood(
    model: Model, params: Any, tokens: Tokens, context: int, reads_start: bool = True
) -> Float[np.ndarray, "B L"]:
    """Nats of every token given those before it, under a network trained by `ar` on rows of `context` tokens.

    Longer rows are read in windows, each like a row of the training, that overlap by half or more: after the first one
    every token has half a context before it. Without a start symbol (`reads_start` False) the first token has no
    distribution: NaN. The network runs with its own `Execution`; logits and nats are float32. Raises UserError for a
    context below 1 and tokens outside the vocabulary.
    """
    tokens, _ = _checked(tokens, model.architecture.vocab_size)
    if context < 1:
        raise UserError(f"context {context}: accepted is 1 or more, the tokens of a row in the judge's training")
    (num_rows, length), first = tokens.shape, int(not reads_start)
    found, end = np.full(tokens.shape, np.nan, np.float32), first
    at_once = min(max(POSITIONS // (width := min(context + first, length)), 1), num_rows)
    index = np.resize(np.arange(num_rows), (-(-num_rows // at_once), at_once))  # the last batch may repeat rows
    # the last window ends with the row: all have one shape, and are one program
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
    """Exact -log p of each row under the stationary chain, in nats per token; infinite for a row of probability 0."""
    return _source_nats(_checked(tokens, len(stationary))[0], stationary, transitions).mean(axis=1)


def _source_nats(tokens: np.ndarray, stationary: Law, transitions: Laws) -> Float[np.ndarray, "B L"]:
    with np.errstate(divide="ignore"):
        return -np.log(np.append(stationary[tokens[:, :1]], transitions[tokens[:, :-1], tokens[:, 1:]], axis=1))


def source_divergence(tokens: Tokens, transitions: Laws, drawn: Drawn | None = None) -> Estimate:
    """Divergence of the text from the chain in nats per token, by its pairs: sum_ij c_ij / N log(c_ij / c_i / P_ij).

    Less the bias of counts, (numbers c_ij above 0 - numbers c_i above 0) / 2N (Miller-Madow), so it may fall below 0;
    that is too little where many pairs are rare. The error is an infinitesimal jackknife over rows, about 1.4 times too
    large at a divergence of 0. Infinite for a pair of probability 0. Not seen: first tokens, and dependence
    beyond pairs, so whole rows diverge by this or more. Raises UserError for tokens outside 0 .. V - 1.
    """
    vocab = len(transitions)
    tokens, drawn = _checked(tokens, vocab, drawn)
    row, position = np.nonzero(drawn[:, 1:])
    before, after = tokens[row, position], tokens[row, position + 1]
    pairs = np.bincount(before * vocab + after, minlength=vocab**2).reshape(vocab, vocab)
    free_numbers = (pairs > 0).sum() - (pairs > 0).any(axis=1).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        nats = np.log(pairs / pairs.sum(axis=1, keepdims=True)) - np.log(transitions)
    found = _ratio(np.bincount(row, nats[before, after], len(tokens)), np.bincount(row, minlength=len(tokens)))
    return found._replace(value=found.value - float(free_numbers) / (2 * max(len(row), 1)))


def _ratio(sums: np.ndarray, counts: np.ndarray) -> Estimate:
    """Of two sums over rows; its error is the spread of what each row adds beyond the mean rate."""
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
