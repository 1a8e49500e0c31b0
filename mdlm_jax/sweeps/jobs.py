"""The runs of a sweep as jobs, and the order in which they start."""

import pathlib
from collections.abc import Collection, Hashable, Sequence
from typing import NamedTuple

# FLOPs that take as long as the rest of a step, whatever its size; only the order of magnitude matters. On a core 1 ms
# at 50 GFLOP/s (benchmarks/dispatch.py measures it), on an accelerator 0.2 ms at 100 TFLOP/s.
CORE_STEP, ACCELERATOR_STEP = 5e7, 2e10


class Job(NamedTuple):
    """A run to train, with any runs that are trained in the same program."""

    folder: pathlib.Path  # the run's folder; its last part is the run's name
    flops: float  # of the steps that the run takes itself
    steps: int  # at its end
    forgiven: int = 0  # number of attempts before this launch
    mates: tuple = ()  # other jobs of the same program
    shape: Hashable = None  # equal for runs that can share compiled programs; None: unknown
    parent: pathlib.Path | None = None  # of a branch: the folder of the run that it continues
    birth_step: int = 0  # of a branch: the step of the parent's checkpoint

    @property
    def together(self) -> tuple["Job", ...]:
        """This job and its mates."""
        return (self, *self.mates)

    @property
    def total_flops(self) -> float:
        """FLOPs of this job and its mates."""
        return sum(job.flops for job in self.together)

    @property
    def runs(self) -> dict[pathlib.Path, int]:
        """Folder -> number of earlier attempts, the form that a worker takes."""
        return {job.folder: job.forgiven for job in self.together}

    def length(self, step_flops: float) -> float:
        """The predicted time of this job, as the FLOPs that take as long.

        Args:
            step_flops: CORE_STEP or ACCELERATOR_STEP.
        """
        return self.total_flops + (self.steps - self.birth_step) * step_flops


def longest_first(jobs: Sequence[Job], step_flops: float = ACCELERATOR_STEP) -> list[Job]:
    """Sorts jobs by their predicted time."""
    return sorted(jobs, key=lambda job: job.length(step_flops), reverse=True)


def preferred(
    jobs: Sequence[Job], step_flops: float, shape: Hashable = None, taken: Collection[Hashable] = ()
) -> list[Job]:
    """Sorts jobs for a worker that is free: runs of its last shape, then of shapes that nobody has, then the others.

    A shape is thus compiled by one worker, until no other shape is left: then the others help with its runs. Runs that
    are equally welcome start longest first, so the runs at the end are short and workers end at about the same time.

    Args:
        jobs: The jobs that wait.
        step_flops: As in `Job.length`.
        shape: The shape of the worker's last run.
        taken: The shapes of the runs of the other workers.
    """

    def welcome(job: Job) -> tuple[bool, bool, float]:
        own = job.shape is not None and job.shape == shape
        return own, job.shape is None or job.shape not in taken, job.length(step_flops)

    return sorted(jobs, key=welcome, reverse=True)
