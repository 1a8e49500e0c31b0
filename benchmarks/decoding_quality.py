"""Quality against speed for decoding.py: samplers of one checkpoint in turns, and the quality of their samples."""

from collections.abc import Callable
from functools import partial
from statistics import median

import jax
import numpy as np
from decoding_speed import flops, timed

from mdlm_jax.data.markov import markov_chain, parse_markov
from mdlm_jax.evaluation.quality import Quality, measure, negative_log_likelihood
from mdlm_jax.runs.restore import Run
from mdlm_jax.sampling import Ancestral, Confidence, Sampler, Trained, sample

BLOCK, BASE, FAST = 32, "LLaDA: one token a step", "threshold 0.9, dual"
AT_ONCE = 8  # rows drawn together

# what is compared; the base and the fast samplers share their confidence
SAMPLERS: dict[str, Sampler] = {
    BASE: Confidence(block_size=BLOCK),
    "prefix": Confidence(block_size=BLOCK, cache="prefix"),
    "dual": Confidence(block_size=BLOCK, cache="dual"),
    "threshold 0.9": Confidence(block_size=BLOCK, rule="threshold", limit=0.9),
    "threshold 0.9, prefix": Confidence(block_size=BLOCK, rule="threshold", limit=0.9, cache="prefix"),
    FAST: Confidence(block_size=BLOCK, rule="threshold", limit=0.9, cache="dual"),
    "threshold 0.6, dual": Confidence(block_size=BLOCK, rule="threshold", limit=0.6, cache="dual"),
    "factor 1, dual": Confidence(block_size=BLOCK, rule="factor", limit=1.0, cache="dual"),
    "ancestral, 1024 steps": Ancestral(steps=1024),
    "ancestral, 256 steps": Ancestral(steps=256),
}
# on text a token is slower to draw
OF_TEXT = (BASE, "dual", FAST, "threshold 0.6, dual", "ancestral, 256 steps")
# an order that does not look at the token drawn: exact where one token is placed at a time
MARGIN = {
    f"margin, {BASE}": Confidence(block_size=BLOCK, confidence="margin"),
    f"margin, {FAST}": Confidence(block_size=BLOCK, rule="threshold", limit=0.9, cache="dual", confidence="margin"),
}


def markov_measure(run: Run) -> Callable[[np.ndarray, np.ndarray], Quality]:
    """Nats under the source, and divergence from it."""
    source = markov_chain(*parse_markov(run.config.data.path))
    return lambda tokens, drawn: measure(tokens, drawn, len(source[0]), source=source)


def text_measure(judge: Run) -> Callable[[np.ndarray, np.ndarray], Quality]:
    """Nats under the judge, and entropy of the bytes."""
    model, config = judge.model, judge.config
    nats = partial(
        negative_log_likelihood,
        model,
        judge.params,
        context=config.data.sequence_length,
        reads_start=not config.data.extra_token,
    )
    return lambda tokens, drawn: measure(tokens, drawn, model.architecture.vocab_size, judge=nats)


def drawn_in_turns(
    run: Run, samplers: dict[str, Sampler], num_rows: int, length: int, scored: Callable, rate: float
) -> list[dict]:
    """Costs and quality of `num_rows` rows of every sampler, drawn `AT_ONCE` rows at a time in turns.

    All samplers are compiled on rows with one masked token before any is timed.
    """
    model = run.model
    prompt = np.zeros((min(AT_ONCE, num_rows), 0), np.int32)
    trained, found = Trained(parameterization=run.objective.parameterization), {name: [] for name in samplers}
    for turn in range(-1, -(-num_rows // len(prompt))):
        for name, sampler in samplers.items():
            if turn < 0:
                compile_only(model, run.params, prompt, sampler, length, trained)
                continue
            key = jax.random.fold_in(jax.random.key(0), turn)
            call = partial(sample, key, model, run.params, prompt, sampler, length, trained)
            (tokens, trace), spent = timed(call)
            found[name].append((np.asarray(tokens), jax.tree.map(np.asarray, trace), spent))
            print(f"  {name}, turn {turn}: {spent['seconds']:.1f} s", flush=True)
    return [
        row_of(name, found[name], found[BASE], sampler, run, length, scored, rate) for name, sampler in samplers.items()
    ]


def compile_only(model, params, prompt: np.ndarray, sampler: Sampler, length: int, trained: Trained) -> None:
    """Runs the program on rows with one masked token, which need one step."""
    given = np.zeros((len(prompt), length), np.int32)
    given[:, 0] = model.architecture.vocab_size  # the first position is masked: all blocks begin where they will
    jax.block_until_ready(sample(jax.random.key(0), model, params, given, sampler, length, trained))


def row_of(
    name: str, calls: list, base: list, sampler: Sampler, run: Run, length: int, scored: Callable, rate: float
) -> dict:
    tokens = np.concatenate([tokens for tokens, _, _ in calls])
    steps = np.concatenate([trace.step for _, trace, _ in calls])
    evaluations = np.concatenate([trace.evaluations for _, trace, _ in calls])
    # a step that unmasks something is one the algorithm needs
    needed = np.array([len(np.unique(row[row >= 0])) for row in steps])
    # the rows of a batch wait for the last of them
    run_for = np.mean([trace.evaluations.max() for _, trace, _ in calls])
    at_once = len(calls[0][0])
    quality = scored(tokens, steps >= 0)

    def per_row(clock):
        return median(spent[clock] for _, _, spent in calls) / at_once

    def ratio(clock):
        return median(one[clock] / other[clock] for (_, _, one), (_, _, other) in zip(base, calls, strict=True))

    work = evaluation_flops(sampler, run, length, run_for)
    return {
        "plan": name,
        "confidence": getattr(sampler, "confidence", None),
        "temperature": sampler.temperature,
        "rows": len(tokens),
        "seconds": per_row("seconds"),
        "cpu_seconds": per_row("cpu_seconds"),
        "faster": ratio("seconds"),
        "faster_cpu": ratio("cpu_seconds"),
        "floor_seconds": work / rate,
        "evaluations": float(evaluations.mean()),
        "evaluations_of_a_batch": float(run_for),
        "evaluations_beyond": int((evaluations - needed).max()),
        "quality": quality._asdict(),
        "turns": [spent for _, _, spent in calls],
    }


def evaluation_flops(sampler: Sampler, run: Run, length: int, evaluations: float) -> float:
    """FLOPs of one row: matrix products of the positions that its evaluations read.

    With a cache, each block starts with an evaluation of the whole row.
    """
    a, by_confidence = run.model.architecture, isinstance(sampler, Confidence)
    whole = flops(a, length, length, BLOCK if by_confidence else length / evaluations)
    if not by_confidence or sampler.cache == "none":
        return evaluations * whole
    read = BLOCK if sampler.cache == "dual" else (length + BLOCK) / 2
    blocks = length // BLOCK
    return blocks * whole + (evaluations - blocks) * flops(a, read, length, BLOCK)
