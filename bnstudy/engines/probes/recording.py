"""Probe ``activations``: the public recorder, over the whole run."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from bnstudy.activations import Statistic, histogram, watch
from bnstudy.activations.recorder import Recorder
from bnstudy.config import Step
from bnstudy.engines.observer import Training
from bnstudy.engines.probes.base import Scene, table
from bnstudy.engines.record import MEASURE_COLUMNS


class Activations:
    """The public recorder: :func:`bnstudy.activations.watch`, with its options.

    Parameters
    ----------
    scene
        The run.
    histogram
        Options of :func:`bnstudy.activations.histogram`, for one of what comes
        into layers only: it makes ``bins + 2`` rows a layer and record.
    **options
        Of ``watch``.
    """

    def __init__(
        self, scene: Scene, histogram: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        self._options = options
        if histogram is not None:
            asked = options.get("stats", "default")
            stats = [asked] if isinstance(asked, str) else list(asked)
            self._options = {**options, "stats": [*stats, inputs_histogram(histogram)]}
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


def inputs_histogram(options: Mapping[str, Any]) -> Statistic:
    """Return the histogram that is recorded of layers' inputs, and not of their outputs."""
    made = histogram(**options)
    return replace(made, bind=lambda site: made.bind(site) if site.kind == "in" else None)
