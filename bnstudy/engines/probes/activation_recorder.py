"""Probe ``activations``: the public recorder, over the whole run."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from bnstudy.activations import Statistic, histogram, watch
from bnstudy.activations.recorder import Recorder
from bnstudy.config import Step
from bnstudy.engines.observer import Training
from bnstudy.engines.probes.probe import ProbedRun, table
from bnstudy.engines.run_record import MEASURE_COLUMNS


class Activations:
    """The public recorder, :func:`bnstudy.activations.watch`, with its options.

    Parameters
    ----------
    run
        The run to probe.
    histogram
        Options of :func:`bnstudy.activations.histogram`, for a histogram of layers'
        inputs only: it makes ``bins + 2`` rows per layer and recorded step.
    **options
        Of ``watch``.
    """

    def __init__(
        self, run: ProbedRun, histogram: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        self._options = options
        if histogram is not None:
            asked = options.get("stats", "default")
            stats = [asked] if isinstance(asked, str) else list(asked)
            self._options = {**options, "stats": [*stats, inputs_histogram(histogram)]}
        self._recorder: Recorder | None = None

    def __call__(self, step: Step, training: Training) -> None:
        """Attach the recorder before the first step; its own hooks record the others."""
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
    """Return a histogram that is recorded of layers' inputs, not of their outputs."""
    made = histogram(**options)
    return replace(made, bind=lambda site: made.bind(site) if site.kind == "in" else None)
