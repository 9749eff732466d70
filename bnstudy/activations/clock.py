"""The time of a recording: steps, the passes of a step, the calls of a pass, and what is due."""

from collections.abc import Mapping

from bnstudy.activations.hooks import Switch
from bnstudy.activations.reading.measurements import MODES, Occurrence
from bnstudy.activations.schedule import Due


class StepClock:
    """Counts steps, passes and calls, and turns the hooks of layers on where one is due.

    Parameters
    ----------
    schedule
        By mode, the steps to record.
    switch
        Read by the hooks of layers.

    Attributes
    ----------
    step
        Number of optimizer steps done.
    paused
        Whether nothing is due for now.
    events
        Number of calls recorded in this step.
    """

    def __init__(self, schedule: Mapping[str, Due], switch: Switch) -> None:
        self._schedule, self._switch = schedule, switch
        self.step, self.paused, self.events = 0, False, 0
        self._in_pass, self._mode = False, ""
        self._dues: dict[str, bool] = {}  # of this step: a schedule is asked once
        self._passes = dict.fromkeys(MODES, 0)
        self._calls: dict[tuple[int, str], int] = {}

    def due(self, mode: str | None) -> bool:
        """Return whether passes in a mode are recorded in this step; None is no mode."""
        if mode is None or self.paused:
            return False
        known = self._dues.get(mode)
        if known is None:
            known = self._dues[mode] = bool(self._schedule[mode](self.step))
        return known

    def listen(self) -> None:
        """Turn hooks on between passes if anything could be due: parts may be called alone."""
        self._switch.on = self.due("train") or self.due("eval")

    def start_step(self, step: int) -> None:
        """Go to a step, in which nothing was called yet."""
        self.step, self.events = step, 0
        self._dues.clear()
        self._passes = dict.fromkeys(MODES, 0)
        self._calls.clear()
        self.listen()

    def start_pass(self, mode: str | None) -> None:
        """Begin a pass through the whole model."""
        self._in_pass, self._mode = True, mode or ""
        self._calls.clear()
        self._switch.on = self.due(mode)
        if mode is not None:
            self._passes[mode] += 1

    def end_pass(self) -> None:
        """End a pass through the whole model."""
        self._in_pass = False
        self.listen()

    def mode(self, alone: str | None) -> str | None:
        """Return the mode of the pass, or ``alone`` if a part of the model is called by itself."""
        return (self._mode or None) if self._in_pass else alone

    def count_call(self, index: int, kind: str) -> int:
        """Return the number of earlier calls of a layer in this pass, and count one more."""
        call = self._calls.get((index, kind), 0)
        self._calls[index, kind] = call + 1
        self.events += 1
        return call

    def occurrence(self, index: int, mode: str, call: int, tensor: str) -> Occurrence:
        """Return when and where a tensor is seen now."""
        number = max(self._passes[mode] - 1, 0)
        return Occurrence(self.step, MODES.index(mode), number, index, call, tensor)
