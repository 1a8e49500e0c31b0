"""The gradient noise scale: at which batch size noise and gradient are of the same size.

Reference: McCandlish et al. 2018, arXiv 1812.06162, appendix A.1.
"""

from typing import NamedTuple

from jaxtyping import Array


class GradientNoise(NamedTuple):
    """Estimates from one step."""

    squared_norm: Array | float  # |G|^2 of the expected gradient; an estimate may be negative
    variance: Array | float  # the trace of the covariance of one row's gradient


def gradient_noise(small: Array | float, whole: Array | float, num_parts: int, batch_size: int) -> GradientNoise:
    """Unbiased estimates from the gradients of a batch and of its parts, for rows that are drawn independently.

    Their ratio, variance over squared norm, is the noise scale in rows. It is biased for one step: take the means of
    both over many steps first. The noise levels of a batch are stratified over its rows, which makes the gradient of
    the batch less noisy than independent rows would.

    Args:
        small: The mean over parts of the squared norm of the part's gradient (of its mean loss).
        whole: The squared norm of the batch's gradient, the mean of those of the parts.
        num_parts: Parts of the batch, 2 or more, with the same number of rows each.
        batch_size: Rows of the batch.
    """
    return GradientNoise(
        squared_norm=(num_parts * whole - small) / (num_parts - 1),
        variance=(small - whole) * batch_size / (num_parts - 1),
    )
