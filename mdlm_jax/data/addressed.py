"""Random numbers by address: what stands at (seed, row, place) needs no generator, so any process can ask for it."""

import numpy as np


def uniform(*address: int | np.ndarray) -> np.ndarray:
    """Uniform float64 in [0, 1) at the broadcast integer coordinates: splitmix64's mixer over each coordinate in turn.

    Source: Steele, Lea and Flood, 'Fast splittable pseudorandom number generators' (OOPSLA 2014), figure 15.
    """
    state = np.zeros(np.broadcast_shapes(*(np.shape(coordinate) for coordinate in address)), np.uint64)
    with np.errstate(over="ignore"):
        for coordinate in address:
            state = state + np.asarray(coordinate).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)) * 2.0**-53
