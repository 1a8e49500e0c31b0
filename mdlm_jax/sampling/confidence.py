"""Decoding by confidence: block after block, the network reads all tokens, and its surest predictions are unmasked.

LLaDA's low-confidence remasking, margin and entropy orders, Fast-dLLM's parallel decoding, EB-Sampler and dLLM-Cache
are settings of one sampler: what confidence is, the rule for how many tokens are unmasked, and which computation is
reused. `confidence_loop.py` is the algorithm.
"""

from typing import Any, NamedTuple

from jaxtyping import Array, Int

from mdlm_jax.errors import UserError
from mdlm_jax.objectives.base import Objective
from mdlm_jax.objectives.predictions import predicts_masked
from mdlm_jax.sampling.base import Context, Request
from mdlm_jax.sampling.confidence_loop import decode
from mdlm_jax.sampling.counts import COUNTS
from mdlm_jax.sampling.network import Network
from mdlm_jax.sampling.unmasking import CONFIDENCES, PLANNED, RULES

CACHES = ("none", "prefix", "dual", "sub_block", "features")
FEATURE_FIELDS = ("prompt_interval", "response_interval", "update_share", "guidance_interval")


class Confidence(NamedTuple):
    """Blocks from left to right; in each, steps that unmask the positions of the highest confidence.

    A block takes steps until no mask is left, or, by quota, its share of `steps`. One block alone begins, in each row,
    at its first mask. `cache` is what an evaluation reuses: none; `dual`, keys and values of all other blocks as they
    were when the block began; `prefix`, those of the blocks before it; `sub_block`, as `dual`, but read anew while the
    first token of the block is a mask (Fast-dLLM v2, in trained blocks); `features`, most of what each layer computed
    in earlier steps (dLLM-Cache, `models/feature_cache.py`). After a block with the token `stop`, the rest of a row is
    filled with it. `anneal` a orders by log p + a t Gumbel, where t is the masked share of the row.

    Reference: LLaDA (arXiv 2502.09992), Fast-dLLM (arXiv 2505.22618), dLLM-Cache (arXiv 2506.06295), MaskGIT (arXiv
    2202.04200: anneal).
    """

    temperature: float = 1.0  # divides the logits; 0 takes the likeliest token
    steps: int | None = None  # of the rules quota and dynamic; None: one per token
    top_k: int | None = None  # draw from the k likeliest tokens
    top_p: float | None = None  # draw from the smallest set of tokens of this probability
    guidance: float = 0.0  # weight of classifier-free guidance by the prompt
    guidance_ramp: bool = False  # the weight grows from 0 as tokens are unmasked (UniDisc)
    guidance_min_time: float = 0.0  # at times t below it there is no guidance
    guidance_max_time: float = 1.0  # nor above this one
    stop: int | None = None  # id of the token that ends a text
    upstream_compat: bool = False  # with the errors of SDAR's code, which docs/how-to/decoding.md lists
    block_size: int | None = None  # tokens of a block, decoded from left to right; None: one block
    confidence: str = "probability"  # a key of unmasking.CONFIDENCES
    rule: str = "quota"  # a key of unmasking.RULES
    limit: float | None = None  # the number of the rule
    cache: str = "none"  # one of CACHES
    prompt_interval: int | None = None  # features: recompute the whole prompt every so many steps; None: 100
    response_interval: int | None = None  # features: recompute the whole response every so many steps; None: 7
    update_share: float | None = None  # features: share of the response that the other steps recompute; None: 0.25
    guidance_interval: int | None = None  # features: read rows without their prompt every so many steps; None: 1
    suppress: tuple[int, ...] = ()  # tokens that are never drawn
    anneal: float = 0.0  # noise of the order, less as masks go (MaskGIT)
    delay: tuple[int, ...] = ()  # tokens that are unmasked when no others are left
    counts: str = "linear"  # how a block's tokens are spread over its steps: a key of counts.COUNTS
    lead: bool = False  # the first token of a trained block comes first, by itself: the likeliest (Fast-dLLM v2)

    choices = {"confidence": tuple(CONFIDENCES), "rule": tuple(RULES), "cache": CACHES, "counts": tuple(COUNTS)}

    def serves(self, objective: Objective, objective_params: Any) -> bool:
        return predicts_masked(objective, objective_params)

    def check(self, request: Request) -> None:
        for name, accepted in self.choices.items():
            if getattr(self, name) not in accepted:
                raise UserError(f"{name} {getattr(self, name)!r}: accepted are {', '.join(accepted)}")
        _check_blocks(self, request)
        _check_rule(self, request)
        _check_features(self, request)

    def draw(self, keys: Array, network: Network, tokens: Int[Array, "B L"], context: Context):
        return decode(self, keys, network, tokens, context)


def _check_blocks(sampler: Confidence, request: Request) -> None:
    trained, size = request.trained.block_size, sampler.block_size
    free = trained or request.length - int(request.first.min())
    if size is not None and (size < 1 or free % size):
        what = "tokens of a block in training" if trained else "tokens from the first to draw"
        if not trained and 1 <= size < free:
            what += f", or a length of {request.length - free % size}"
        raise UserError(f"block_size {size}: accepted is a divisor of the {free} {what}")
    num_blocks = free // (size or free)
    if trained:
        num_blocks *= -(-request.length // trained)
    if sampler.steps is not None and sampler.rule not in PLANNED:
        raise UserError(
            f"steps {sampler.steps}: {sampler.rule} takes as many as it needs; accepted with quota and dynamic"
        )
    if sampler.steps is not None and sampler.steps % num_blocks:
        raise UserError(f"steps {sampler.steps}: accepted is a multiple of the {num_blocks} blocks")


def _check_rule(sampler: Confidence, request: Request) -> None:
    confidence, rule, limit = sampler.confidence, sampler.rule, sampler.limit
    if (limit is None) != (rule == "quota"):
        raise UserError(f"limit {limit}: accepted is a number with rule {', '.join(r for r in RULES if r != 'quota')}")
    if limit is not None and not limit >= 0:
        raise UserError(f"limit {limit}: accepted is 0 or more")
    if rule == "entropy_bound" and confidence != "entropy":
        raise UserError(f"confidence {confidence}: entropy_bound adds up entropies; accepted: entropy")
    if sampler.counts != "linear" and (rule not in PLANNED or sampler.steps is None):
        raise UserError(f"counts {sampler.counts}: accepted with steps, and rule {' or '.join(PLANNED)}")
    for name, value in {"cache": sampler.cache == "sub_block" and sampler.cache, "lead": sampler.lead}.items():
        if value and not (request.trained.block_size and request.trained.shift):
            raise UserError(f"{name} {value}: accepted for networks trained in blocks with a shift")
    sdar = request.trained.block_size and confidence == "probability" and rule in PLANNED
    if sampler.upstream_compat and not sdar:
        accepted = f"in trained blocks, with confidence probability and rule {' or '.join(PLANNED)}"
        raise UserError(f"upstream_compat {sampler.upstream_compat}: it has SDAR's errors; accepted {accepted}")
    anneal = sampler.anneal
    if not anneal >= 0 or (anneal and (confidence, rule) != ("probability", "quota")):
        raise UserError(f"anneal {anneal}: accepted is 0 or more, with confidence probability and rule quota")


def _check_features(sampler: Confidence, request: Request) -> None:
    for name in FEATURE_FIELDS:
        value = getattr(sampler, name)
        if value is None:
            continue
        if sampler.cache != "features":
            raise UserError(f"{name} {value}: cache {sampler.cache} has none; accepted with features")
        if not (0 <= value <= 1 if name == "update_share" else value >= 1):
            raise UserError(f"{name} {value}: accepted is {'0 to' if name == 'update_share' else 'at least'} 1")
    if sampler.guidance_interval is not None and not sampler.guidance:
        raise UserError(f"guidance_interval {sampler.guidance_interval}: accepted with guidance")
    if sampler.cache != "features":
        return
    if request.trained.text_length and sampler.guidance:
        raise UserError(f"guidance {sampler.guidance} with cache features: not for rows of text and image; accepted: 0")
    if request.first.min() < request.first.max():
        positions = f"{request.first.min()} and {request.first.max()}"
        raise UserError(
            f"cache features: the first positions to sample are {positions}; accepted: one position for all rows"
        )
    if request.trained.block_size:
        raise UserError("cache features: a network trained in blocks keeps finished ones; accepted: none, prefix, dual")
