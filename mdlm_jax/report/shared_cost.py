"""What a sweep of branches costs: each trunk once and every decay, against the same runs from scratch."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from mdlm_jax.runs.result import Result
from mdlm_jax.style import number


class SharedCost(NamedTuple):
    """FLOPs of all runs of a sweep, some of which are branches."""

    trunks: int
    branches: int
    spent: float  # steps that runs share count once
    alone: float  # every run from scratch

    @property
    def sentence(self) -> str:
        """Both costs and their ratio, in words."""
        return (
            f"{self.branches} runs branch off {self.trunks} {'trunk' if self.trunks == 1 else 'trunks'}: "
            f"{number(self.spent)} FLOPs are spent, {number(self.alone)} would be by the same runs from scratch, "
            f"a ratio of {self.spent / self.alone:.3f}."
        )


def shared_cost(results: Sequence[Result], counter: str) -> SharedCost | None:
    """The cost of the runs that are done, by one counter; None if none is a branch.

    A trunk counts up to its last branch, unless it is one of the runs.
    """
    done = [run for run in results if run.status == "done"]
    branches = [run for run in done if run.kinship == "branch"]
    if not branches:
        return None
    inherited = defaultdict(float)
    for run in branches:
        inherited[run.parent] = max(inherited[run.parent], run.inherited_flops[counter])
    own = sum(run.own_flops[counter] for run in done)
    trunks = sum(flops for name, flops in inherited.items() if name not in {run.run_id for run in done})
    alone = own + sum(run.inherited_flops[counter] for run in branches)
    return SharedCost(len(inherited), len(branches), own + trunks, alone)
