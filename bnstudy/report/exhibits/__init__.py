"""Exhibits: from the evidence on an experiment to a finding on its page, one file each.

Importing this package registers them all; ``frame`` has what surrounds each of them.
Every one has an answer for runs that are missing, censored, diverged or alone.
"""

from bnstudy.report.exhibits import (
    batch_size,
    curves,
    evaluation_statistics,
    final_accuracy,
    interaction,
    kaplan_meier,
    learning_rates,
    printed_values,
    ranking,
    steps_to_target,
)
from bnstudy.report.exhibits.frame import EXHIBITS, exhibit, make

__all__ = [
    "EXHIBITS",
    "batch_size",
    "curves",
    "evaluation_statistics",
    "exhibit",
    "final_accuracy",
    "interaction",
    "kaplan_meier",
    "learning_rates",
    "make",
    "printed_values",
    "ranking",
    "steps_to_target",
]
