"""The probability of each order in which a random set comes first and the rest follows from left to right."""

import itertools
import math


def order_law(length: int, share: float) -> dict[tuple[int, ...], float]:
    """Of all orders. A set of k positions has share^k (1 - share)^(length - k), and each order of it 1 / k! of that.

    >>> order_law(2, 0.5)
    {(0, 1): 0.625, (1, 0): 0.375}
    """

    def probability(order: tuple[int, ...]) -> float:
        return sum(
            share**k * (1 - share) ** (length - k) / math.factorial(k)
            for k in range(length + 1)
            if list(order[k:]) == sorted(order[k:])
        )

    return {order: probability(order) for order in itertools.permutations(range(length))}
