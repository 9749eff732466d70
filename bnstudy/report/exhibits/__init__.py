"""Exhibits: from the evidence on an experiment to a finding on its page, one file each.

Importing this package registers them all; ``frame`` has what surrounds each of them.
Every one has an answer for runs that are missing, censored, diverged or alone.
"""

from bnstudy.report.exhibits import (
    batch_noise,
    batch_size,
    curves,
    evaluation_statistics,
    final_accuracy,
    gamma_beta,
    histograms,
    interaction,
    kaplan_meier,
    layer_lines,
    learning_rates,
    percentiles,
    printed_values,
    probe_agreement,
    probe_readings,
    probe_series,
    ranking,
    steps_to_target,
    variance_shift,
)
from bnstudy.report.exhibits.frame import EXHIBITS, exhibit, make

__all__ = [
    "EXHIBITS",
    "batch_noise",
    "batch_size",
    "curves",
    "evaluation_statistics",
    "exhibit",
    "final_accuracy",
    "gamma_beta",
    "histograms",
    "interaction",
    "kaplan_meier",
    "layer_lines",
    "learning_rates",
    "make",
    "percentiles",
    "printed_values",
    "probe_agreement",
    "probe_readings",
    "probe_series",
    "ranking",
    "steps_to_target",
    "variance_shift",
]
