"""The ways to count training FLOPs, by name."""

from typing import NamedTuple


class Flops(NamedTuple):
    """Four ways to count the same training FLOPs. They differ 3.3x for SMDM's 6M model at L = 2048."""

    six_nonembedding: int  # 6 N_nonembedding D, SMDM's axis
    six_total: int  # 6 N_total D
    six_attention: int  # 6 N_nonembedding D + 12 layers L width D: every pair of tokens, masked or not
    exact: int  # every matrix product that a view needs


COUNTERS = Flops._fields
# what a table or an axis calls each counter
COUNTER_LABELS = {
    "six_nonembedding": "6ND without embeddings",
    "six_total": "6ND with embeddings",
    "six_attention": "6ND + attention",
    "exact": "counted exactly",
}
