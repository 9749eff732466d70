"""Progress of a study, reported to a listener: a console, a notebook, or nobody.

Only data are handed over; :mod:`bnstudy.report.console` turns them into text.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """Runs that a call would train, and an estimate of the time they take.

    Attributes
    ----------
    statuses
        For each experiment, how many of its runs have each status.  A run that
        several experiments share counts for the last of them.
    runs, stacks, single_runs
        Runs to train; of their jobs, those of several runs and of one.
    image_passes
        How many times a training image is used, over all runs.
    workers
        Number of processes.
    seconds
        Estimated wall time.
    measured
        Whether the estimate uses the speed of finished runs of the study.
    """

    statuses: Mapping[str, Mapping[str, int]]
    runs: int
    stacks: int
    single_runs: int
    image_passes: int
    workers: int
    seconds: float
    measured: bool


@dataclass(frozen=True)
class Progress:
    """State of a study that is being trained.

    Attributes
    ----------
    done_runs, runs
        Runs that have ended, of those to train.
    done_passes, image_passes
        The same in image-passes, since runs differ in length.
    seconds
        Time since training began.
    """

    done_runs: int
    runs: int
    done_passes: int
    image_passes: int
    seconds: float

    @property
    def seconds_left(self) -> float:
        """Estimated time to the end, at the speed so far; infinite before the first run ended."""
        if not self.done_passes:
            return float("inf")
        return (self.image_passes - self.done_passes) / self.done_passes * self.seconds


class Listener:
    """Receives what :func:`~bnstudy.runs.runner.run_study` reports, and ignores it.

    A subclass overrides the methods it has a use for.
    """

    def note(self, line: str) -> None:
        """Receive a line for the user."""

    def planned(self, workload: Workload) -> None:
        """Receive what would be trained, in a dry run."""

    def progressed(self, progress: Progress) -> None:
        """Receive the progress: when training begins, and whenever runs have ended."""
