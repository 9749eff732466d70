"""Where the time of a run goes: seconds by phase."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

TRAINING = ("drawing", "gathering", "forward", "backward", "training")
PHASES = ("building", *TRAINING, "readings", "population readings", "probes", "rest")


class PhaseClock:
    """Adds up the seconds spent in each phase of a run.

    The phases are those of :data:`PHASES`: making networks; drawing orders, masks and noise;
    gathering images; forward, with the loss; backward, with the optimizer's step (``training``
    is what an engine cannot split into these); readings by running and by population
    statistics; probes; and the rest.
    """

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Count the time spent inside the ``with`` block; blocks must not be nested."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[phase] += time.perf_counter() - before

    def split(self, phase: str, parts: Mapping[str, float]) -> None:
        """Move seconds from a phase to its parts."""
        for part, seconds in parts.items():
            self._seconds[part] += seconds
            self._seconds[phase] -= seconds

    def seconds(self, runs: int = 1) -> dict[str, float]:
        """Return the seconds of each phase so far, divided by a number of runs."""
        rest = time.perf_counter() - self._started - sum(self._seconds.values())
        found = {**self._seconds, "rest": rest}
        return {phase: found[phase] / runs for phase in PHASES if phase in found}
