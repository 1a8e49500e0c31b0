"""Measurements of programs for decoding.py: with and without a cache, first calls, number of compilations."""

from functools import partial
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np
from decoding_speed import flops, network, timed

from mdlm_jax.costs.flops import num_parameters
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Model
from mdlm_jax.objectives.base import causal
from mdlm_jax.sampling import Ancestral, Autoregressive, Confidence, Sampler, _run, left_padded, sample
from mdlm_jax.sampling.drawing import draw
from mdlm_jax.sampling.network import reading

SIZES = {"0.9M, V = 256": Architecture(256, 4, 128, 4, 4, 384), "8M, V = 4,096": Architecture(4096, 8, 256, 4, 4, 1024)}
DEEP, DEEP_LENGTH, BLOCK = Architecture(4096, 12, 256, 4, 4, 1024), 512, 32
LENGTH, EQUAL_STEPS = 1024, 32


def uncached(model: Model, length: int, num_steps: int):
    """The last `num_steps` tokens of rows of `length`, left to right, without a cache: each step reads the whole row.

    Every step costs the same, so a few steps give the time of all.
    """

    def run(params, key, tokens):
        params = model.by_layer(params)
        batch, positions = len(tokens), jnp.broadcast_to(jnp.arange(length), tokens.shape)[..., None]
        mask = jnp.full((batch, 1), model.architecture.vocab_size, jnp.int32)

        def step(n, tokens):
            before = jnp.concatenate([mask, tokens[:, :-1]], axis=1)
            hidden, _ = model.hidden(params, reading(before, positions, positions, jnp.zeros(batch)), causal)
            logits = model.head(params, jax.lax.dynamic_index_in_dim(hidden, n, axis=1, keepdims=False))
            keys = jax.vmap(jax.random.fold_in, (0, None))(jax.random.split(key, batch), n)
            return tokens.at[:, n].set(draw(keys, logits, jnp.float32(1))[0])

        return jax.lax.fori_loop(length - num_steps, length, step, tokens)

    return jax.jit(run)


def with_and_without_cache(rounds: int, rate: dict[str, float], sizes=SIZES, batches=(1, 4)) -> list[dict]:
    """Autoregressive rows of 1,024 tokens, with and without the cache, in turns."""
    rows = []
    for name, architecture in sizes.items():
        model, params = network(architecture)
        for batch in batches:
            tokens = np.zeros((batch, LENGTH), np.int32)
            again, key = uncached(model, LENGTH, EQUAL_STEPS), jax.random.key(0)

            def cached(key=key, model=model, params=params, given=tokens[:, :1]):
                return sample(key, model, params, given, Autoregressive(), LENGTH)

            def plain(params=params, key=key, tokens=tokens, again=again):
                return again(params, key, tokens)

            trace = jax.block_until_ready((cached(), plain()))[0][1]
            turns = [{"cached": timed(cached)[1], "uncached": timed(plain)[1]} for _ in range(rounds)]
            drawn = LENGTH - 1

            def step(label, clock, turn, drawn=drawn):
                return turn[label][clock] / (drawn if label == "cached" else EQUAL_STEPS)

            seconds = {label: median(step(label, "seconds", turn) for turn in turns) for label in turns[0]}
            a = architecture
            # every weight but the embedding's, keys and values of all positions
            floats = num_parameters(a).non_embedding + a.vocab_size * a.width + 2 * batch * LENGTH * a.layers * a.width
            rows.append(
                {
                    "size": name,
                    "rows": batch,
                    "cached_seconds": seconds["cached"] * drawn,
                    "uncached_seconds": seconds["uncached"] * drawn,
                    "ratio": median(step("uncached", "seconds", t) / step("cached", "seconds", t) for t in turns),
                    "ratio_cpu": median(
                        step("uncached", "cpu_seconds", t) / step("cached", "cpu_seconds", t) for t in turns
                    ),
                    "cached_floor_seconds": drawn * 4 * floats / rate["bytes_per_second"],
                    "uncached_floor_seconds": drawn
                    * batch
                    * flops(a, LENGTH, (LENGTH + 1) / 2, 1)
                    / rate["matmul_flops_per_second"],
                    "evaluations_beyond": int(np.asarray(trace.evaluations).max()) - drawn,
                    "turns": turns,
                }
            )
    return rows


def first_calls() -> list[dict]:
    """Seconds to the first tokens of 12 layers. Prompts of one length bucket share a program."""
    model, params = network(DEEP)
    samplers = {
        "confidence": Confidence(block_size=BLOCK),
        "confidence, prefix": Confidence(block_size=BLOCK, cache="prefix"),
        "confidence, dual": Confidence(block_size=BLOCK, cache="dual"),
        "autoregressive": Autoregressive(),
        "ancestral": Ancestral(),
    }
    rows = []
    for name, sampler in samplers.items():
        jax.clear_caches()
        # a row with one hidden block: the first tokens soon follow the compilation
        prompt = np.zeros((1, DEEP_LENGTH - BLOCK), np.int32)

        def call(seed, prompt=prompt, sampler=sampler):
            return sample(jax.random.key(seed), model, params, prompt, sampler, DEEP_LENGTH)

        _, first = timed(partial(call, 0))
        _, second = timed(partial(call, 1))
        rows.append({"plan": name, "first": first, "second": second, "programs": programs(sampler)})
    return rows


def programs(sampler: Sampler) -> dict[str, int]:
    """The number of programs that serve prompts of 5, 17, 40 and 64 tokens, on short rows of a small network.

    The number of blocks is static in a program: prompts are padded to one width where there are blocks.
    """
    model, params = network(Architecture(256, 1, 32, 2, 2, 64))
    prompts, length = [list(range(n)) for n in (5, 17, 40, 64)], 128
    in_blocks = getattr(sampler, "block_size", None) is not None
    _run.clear_cache()
    if not in_blocks:
        for prompt in prompts:
            sample(jax.random.key(0), model, params, np.array([prompt], np.int32), sampler, length)
    alone = _run._cache_size()
    _run.clear_cache()
    for prompt in prompts[:-1]:
        sample(jax.random.key(0), model, params, left_padded([prompt, prompts[-1]]), sampler, length)
    found = {"padded": _run._cache_size()}
    if not in_blocks:
        found["alone"] = alone
    else:
        whole = sampler._replace(block_size=None)
        _run.clear_cache()
        for prompt in prompts:
            # blocks begin behind the prompt, so the row is as long as it needs
            sample(jax.random.key(0), model, params, np.array([prompt], np.int32), whole, length)
        found["one block, alone"] = _run._cache_size()
    return found
