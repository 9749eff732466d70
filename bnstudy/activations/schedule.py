"""Schedules of recording: on which steps, and in which mode."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from bnstudy.activations.reading.measurements import MODES
from bnstudy.errors import WatchError, unknown

Due = Callable[[int], bool]
When = int | str | Collection[int] | Due


@dataclass(frozen=True)
class Every:
    """Every so many steps, between two steps.

    Attributes
    ----------
    every
        Distance of the recorded steps, at least 1.
    start, stop
        First step recorded, and the step from which on none is (None: never).
    burst
        Number of consecutive steps each time.

    Examples
    --------
    >>> [step for step in range(12) if Every(5, burst=2)(step)]
    [0, 1, 5, 6, 10, 11]
    """

    every: int = 1
    start: int = 0
    stop: int | None = None
    burst: int = 1

    def __post_init__(self) -> None:
        numbers = (self.every, self.start, self.burst)
        if not all(
            isinstance(n, int) and n >= low for n, low in zip(numbers, (1, 0, 1), strict=True)
        ):
            raise WatchError(
                "a schedule needs every >= 1, start >= 0 and burst >= 1, "
                f"got {self.every!r}, {self.start!r} and {self.burst!r}"
            )

    def __call__(self, step: int) -> bool:
        """Return whether a step is due."""
        past = step - self.start
        return (
            past >= 0 and (self.stop is None or step < self.stop) and past % self.every < self.burst
        )


def logarithmic(step: int) -> bool:
    """Return whether a step is 0 or one of 1, 2, 5, 10, 20, 50, ...."""
    if step < 1:
        return step == 0
    return step in (m * 10 ** int(math.log10(step)) for m in (1, 2, 5))


def due(when: When) -> Due:
    """Return the schedule that a word, a number or a collection stands for.

    Parameters
    ----------
    when
        An integer (every so many steps, from 0), ``"log"`` (0, 1, 2, 5, 10,
        ...), ``"never"``, the steps themselves, or a function of the step.

    Raises
    ------
    WatchError
        If it is none of these.

    Examples
    --------
    >>> [step for step in range(30) if due("log")(step)]
    [0, 1, 2, 5, 10, 20]
    """
    if isinstance(when, bool) or (isinstance(when, str) and when not in ("log", "never")):
        raise WatchError(
            f"every must be an integer, 'log', 'never', steps or a function, got {when!r}"
        )
    if isinstance(when, int):
        return Every(when)
    if isinstance(when, str):
        return logarithmic if when == "log" else lambda _step: False
    if callable(when):
        return when
    steps = frozenset(when)
    return lambda step: step in steps


def by_mode(every: When | Mapping[str, When]) -> dict[str, Due]:
    """Return the schedules of training and evaluation.

    Parameters
    ----------
    every
        One schedule for training, evaluation passes not being recorded, or a
        mapping with the keys ``train`` and ``eval``.

    Raises
    ------
    WatchError
        If a mode is unknown or a schedule impossible.
    """
    if not isinstance(every, Mapping):
        return {"train": due(every), "eval": due("never")}
    for mode in every:
        if mode not in MODES:
            raise WatchError(unknown("mode", mode, MODES))
    return {mode: due(every.get(mode, "never")) for mode in MODES}
