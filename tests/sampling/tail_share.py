"""How often a tail is drawn: python -m tests.sampling.tail_share logits|distribution ROWS TAIL VOCABULARY"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from mdlm_jax import processes
from mdlm_jax.sampling.drawing import draw

DRAWS = {
    "logits": lambda key, logits: draw(key[None], logits[None], jnp.float32(1.0))[0][0],
    "distribution": lambda key, logits: processes.draw(key, jax.nn.softmax(logits)),
}


def share_of(kind: str, rows: int, tail: float, vocabulary: int) -> float:
    """Of tokens but the first, which has all but `tail` of the mass."""
    logits = jnp.full(vocabulary, np.log(tail / (1 - tail) / (vocabulary - 1))).at[0].set(0.0)

    @jax.jit
    def tokens(keys):
        return jax.lax.map(lambda key: DRAWS[kind](key, logits), keys, batch_size=50)

    return float((tokens(jax.random.split(jax.random.key(0), rows)) > 0).mean())


if __name__ == "__main__":
    kind, rows, tail, vocabulary = sys.argv[1:]
    print(share_of(kind, int(rows), float(tail), int(vocabulary)))
