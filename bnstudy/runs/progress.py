"""How far a study is: a bar on a terminal, now and then a line elsewhere."""

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 10.0
FIRST_RUNS = 4

Echo = Callable[[str], None]


def duration(seconds: float) -> str:
    """Return a time in the unit a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class StudyProgress:
    """Show how far a study is: a bar on a terminal, now and then a line elsewhere.

    Time left is reckoned by image-passes, since runs differ in length.
    """

    def __init__(self, runs: int, passes: int, echo: Echo) -> None:
        self.runs, self.passes, self.echo = runs, passes, echo
        self.done_runs = self.done_passes = 0
        self.started = self.last_line = time.perf_counter()
        self.bar: Progress | None = None

    def __enter__(self) -> Callable[[int, int], None]:
        if sys.stderr.isatty():
            self.bar = Progress(
                TextColumn("training"),
                BarColumn(),
                TextColumn("{task.fields[runs]} of {task.fields[all_runs]} runs"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self.task = self.bar.add_task("", total=self.passes, runs=0, all_runs=self.runs)
            self.bar.start()
        return self._tell

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def _tell(self, runs: int, passes: int) -> None:
        self.done_runs += runs
        self.done_passes += passes
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done_passes, runs=self.done_runs)
            return
        now = time.perf_counter()
        # the first runs pay for the start of their processes: no telling the time from them
        if runs and now - self.last_line >= LINE_SECONDS and self.done_runs >= FIRST_RUNS:
            self.last_line = now
            left = (self.passes - self.done_passes) / self.done_passes * (now - self.started)
            self.echo(f"{self.done_runs} of {self.runs} runs, about {duration(left)} left")
