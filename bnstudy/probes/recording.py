"""Probe ``activations``: the public recorder, over the whole run."""

from typing import Any

import pandas as pd

from bnstudy.activations import watch
from bnstudy.activations.recorder import Recorder
from bnstudy.config import Step
from bnstudy.observer import Training
from bnstudy.probes.base import Scene, table
from bnstudy.record import MEASURE_COLUMNS


class Activations:
    """The public recorder: :func:`bnstudy.activations.watch`, with its options."""

    def __init__(self, scene: Scene, **options: Any) -> None:
        self._options = options
        self._recorder: Recorder | None = None

    def __call__(self, step: Step, training: Training) -> None:
        """Attach the recorder before the first step; it sees the others by itself."""
        if step.count == 0:
            self._recorder = watch(training.net, training.optimizer, **self._options)

    def close(self) -> pd.DataFrame:
        """Detach; return the recording."""
        if self._recorder is None:
            return table(())
        self._recorder.close()
        frame = self._recorder.frame()
        frame = frame.astype(dict.fromkeys(("layer", "tensor", "stat"), str))
        return frame[list(MEASURE_COLUMNS[1:])]
