"""Console text of the commands: what is to be trained, how far it is, and what was found."""

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich import progress as bars
from rich.console import Console

from bnstudy.judging import Calibration, finished_runs, pilot_of, take_sample
from bnstudy.plan import Pilot, Plan
from bnstudy.report.captions import capped_sentence
from bnstudy.report.text import decimal, general, percent, rough_duration
from bnstudy.runs.progress import Listener, Progress, Workload
from bnstudy.runs.runner import Summary
from bnstudy.runs.tables import Tables

LINE_SECONDS = 10.0  # between two lines of progress where there is no terminal
# The first runs include the start of their processes, so they say little about the time left.
FIRST_RUNS = 4
STATUSES = ("done", "diverged", "damaged", "missing")


class StudyConsole(Listener):
    """Writes the progress of a study: a bar on a terminal, elsewhere a line now and then.

    As a context manager it removes the bar even if training ends early.

    Parameters
    ----------
    write
        Receives each line.
    """

    def __init__(self, write: Callable[[str], None] = print) -> None:
        self._write = write
        self._last_line = 0.0
        self._bar: bars.Progress | None = None

    def note(self, line: str) -> None:
        """Write the line."""
        self._write(line)

    def planned(self, workload: Workload) -> None:
        """Write what would be trained, a line per experiment and one for all."""
        for line in workload_lines(workload):
            self._write(line)

    def progressed(self, progress: Progress) -> None:
        """Move the bar, or write a line if the last one is old enough."""
        if self._bar is None and sys.stderr.isatty():
            self._bar = _start_bar(progress)
        if self._bar is not None:
            done, passes = progress.done_runs, progress.done_passes
            self._bar.update(self._bar.task_ids[0], completed=passes, runs=done)
            if progress.done_runs == progress.runs:
                self._bar.stop()
        elif (
            FIRST_RUNS <= progress.done_runs < progress.runs
            and progress.seconds - self._last_line >= LINE_SECONDS
        ):
            self._last_line = progress.seconds
            left = rough_duration(progress.seconds_left)
            self._write(f"{progress.done_runs} of {progress.runs} runs, about {left} left")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _start_bar(progress: Progress) -> bars.Progress:
    bar = bars.Progress(
        bars.TextColumn("training"),
        bars.BarColumn(),
        bars.TextColumn("{task.fields[runs]} of {task.fields[all_runs]} runs"),
        bars.TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    bar.add_task("", total=progress.image_passes, runs=0, all_runs=progress.runs)
    bar.start()
    return bar


def data_lines(plan: Plan) -> list[str]:
    """Return a line for a study whose arms ask for more images than there are."""
    sentence = capped_sentence(plan.data, plan.capped())
    return [sentence] if sentence else []


def workload_lines(workload: Workload) -> list[str]:
    """Return what would be trained, a line per experiment and one for all."""
    lines = []
    for experiment, statuses in workload.statuses.items():
        counts = ", ".join(f"{statuses[each]} {each}" for each in STATUSES if each in statuses)
        runs = sum(statuses.values())
        lines.append(f"{experiment}: {runs} runs ({counts or 'shared with others'})")
    basis = "at the speed of the runs that are there" if workload.measured else "at assumed speeds"
    return [
        *lines,
        f"{workload.runs} runs to train, {workload.stacks} stacks and "
        f"{workload.single_runs} single runs, "
        f"{decimal(workload.image_passes / 1e6, 1)} M image-passes, "
        f"about {rough_duration(workload.seconds)} with {workload.workers} workers ({basis})",
    ]


def summary_lines(summary: Summary) -> list[str]:
    """Return the failures of a call of :func:`~bnstudy.runs.runner.run_study`, and its result."""
    return [*(f"failed: {line}" for line in summary.failed), _summary_line(summary)]


def _summary_line(summary: Summary) -> str:
    if summary.interrupted:
        return (
            f"interrupted: {summary.trained} runs trained, {summary.left} left; "
            "run the same command again to go on"
        )
    if summary.left:
        return f"{summary.skipped} runs are there, {summary.left} to train"
    if not summary.trained and not summary.failed:
        return f"nothing to train: all {summary.skipped} runs are there"
    clauses = [f"{summary.trained} runs trained in {rough_duration(summary.wall_seconds)}"]
    if summary.skipped:
        clauses.append(f"{summary.skipped} were there")
    if summary.failed:
        clauses.append(f"{len(summary.failed)} failed")
    return ", ".join(clauses)


def calibration_lines(study: str, calibration: Calibration) -> list[str]:
    """Return a line per family on its simulated error, and one per claim on its power."""
    return [
        *(
            f"study {study}: family-wise error of {len(each.claims)} of {each.size} {each.family} "
            f"claims {decimal(each.error, 3)} (standard error {decimal(each.standard_error, 3)}) "
            f"in {calibration.studies:,} null studies"
            for each in calibration.families
        ),
        *(
            f"{claim}: found in {percent(power)} of studies with the pilot's effect"
            for claim, power in calibration.power.items()
        ),
    ]


def pilot_lines(plan: Plan, tables: Tables) -> list[str]:
    """Return what pilot runs say of each claim's number, as lines to paste into the claims.

    Effect and spread are on the scale of analysis.  Each line has the hash of the arms that
    the pilot was made with, so that a plan with other arms is refused.
    """
    runs = finished_runs(plan, tables)
    lines = []
    for planned in plan.experiments:
        for claim in planned.claims:
            sample = take_sample(claim, plan, planned, runs)
            if sample.missing:
                lines.append(f"{claim.id}: missing are {', '.join(sample.missing)}")
            elif sample.seeds < 2:
                lines.append(f"{claim.id}: a pilot's spread needs two seeds or more, got 1")
            else:
                found = pilot_of(sample, planned.arms_digest(claim))
                lines.append(f"{claim.id}: {pilot_line(found)}")
    return lines


def pilot_line(pilot: Pilot) -> str:
    """Return a pilot as the argument of a :class:`~bnstudy.plan.Claim`, numbers rounded."""
    effect, spread = general(pilot.effect, 4), general(pilot.spread, 4)
    censored = f", {general(pilot.censored, 4)}" if pilot.censored else ""
    first, last = pilot.seeds[0], pilot.seeds[-1]
    return (
        f"pilot=Pilot({effect}, {spread}, tuple(range({first}, {last + 1})){censored}, "
        f'arms="{pilot.arms}"),'
    )
