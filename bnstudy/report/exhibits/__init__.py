"""Exhibits: from the evidence on an experiment to a finding on its page, one file each.

Importing this package registers them all; ``frame`` has what surrounds each of them.
Every one has an answer for runs that are missing, censored, diverged or alone.
"""

from bnstudy.report.exhibits import (
    batch_noise,
    curves,
    gamma_beta,
    histograms,
    layer_lines,
    percentiles,
    probe_readings,
    probe_series,
    variance_shift,
)
from bnstudy.report.exhibits.frame import EXHIBITS, exhibit, make

__all__ = [
    "EXHIBITS",
    "batch_noise",
    "curves",
    "exhibit",
    "gamma_beta",
    "histograms",
    "layer_lines",
    "make",
    "percentiles",
    "probe_readings",
    "probe_series",
    "variance_shift",
]
