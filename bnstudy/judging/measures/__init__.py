"""The only reading of a run: every number that a claim, a premise or an exhibit takes from one.

``run`` has what is read, ``registry`` what a measure is, ``curves`` the measures of
learning curves, ``probes`` those of what probes saw.  A measure gives one number per
run; the functions beside them give the series that figures draw.
"""

from bnstudy.judging.measures.curves import curve_points, epoch_means, watched_images
from bnstudy.judging.measures.probes import (
    channel_percentiles,
    drift,
    layer_ratio,
    probe_at_loss,
    probe_rows,
    sorted_parameters,
)
from bnstudy.judging.measures.registry import MEASURES, find_measure, measure, read
from bnstudy.judging.measures.run import Reading, Run, RunName, finished_runs

__all__ = [
    "MEASURES",
    "Reading",
    "Run",
    "RunName",
    "channel_percentiles",
    "curve_points",
    "drift",
    "epoch_means",
    "find_measure",
    "finished_runs",
    "layer_ratio",
    "measure",
    "probe_at_loss",
    "probe_rows",
    "read",
    "sorted_parameters",
    "watched_images",
]
