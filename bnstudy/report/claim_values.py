"""The numbers behind the verdicts: ``claims.csv``, from which anybody can recompute them.

Rows are written from the samples that the verdicts were judged by, so a run is not read
a second time.
"""

import csv
import io
from collections.abc import Iterator, Sequence

import numpy as np

from bnstudy.judging import ArmReading, Sample, Verdict
from bnstudy.plan import Claim

CLAIM_VALUES = "claims.csv"
# Described in docs/data.md, which a test compares with this list.
COLUMNS = (
    "claim",
    "experiment",
    "family",
    "test",
    "scale",
    "null",
    "margin",
    "seed",
    "value",
    "natural_value",
    "unit",
    "group",
    "arm",
    "level",
    "measure",
    "reading",
    "censored",
    "status",
)
Cell = str | float | int | bool | None


def claim_values_text(verdicts: Sequence[Verdict]) -> str:
    """Return the content of ``claims.csv``: one row per claim, seed and reading of an arm.

    Numbers have all their digits, since rounding could break a tie that a test counts.
    """
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(COLUMNS)
    for verdict in verdicts:
        if verdict.sample is not None:
            writer.writerows(_rows(verdict.claim, verdict.experiment, verdict.sample))
    return content.getvalue()


def _rows(claim: Claim, experiment: str, sample: Sample) -> Iterator[tuple[Cell, ...]]:
    """Yield the rows of a claim, seed by seed; what is not there is an empty cell."""
    estimand = claim.estimand
    margin = None if claim.margin is None else claim.analysis_margin
    scale = "log" if estimand.in_ratios else "linear"
    rule = (claim.id, experiment, claim.family, claim.test, scale, claim.null, margin)
    seeds = sorted({reading.seed for reading in sample.readings})
    # The sort is stable: within a seed the order of groups and arms stays.
    for reading in sorted(sample.readings, key=lambda each: each.seed):
        # A correlation counts its second measure as group 2, of the same arms.
        arms = estimand.arms[min(reading.group, len(estimand.arms)) - 1]
        position = arms.index(reading.arm)
        value = _value(sample, seeds.index(reading.seed), position)
        yield (
            *rule,
            reading.seed,
            value,
            value if value is None or not estimand.in_ratios else _exponential(value),
            claim.unit,
            reading.group,
            reading.arm,
            float(estimand.levels[position]) if estimand.levels else None,
            *_read(reading),
        )


def _value(sample: Sample, seed: int, arm: int) -> float | None:
    """Return the number of a seed, of an order that of the arm; None in an incomplete sample."""
    if not sample.values.size:
        return None
    return float(sample.values[seed, arm] if sample.values.ndim > 1 else sample.values[seed])


def _exponential(value: float) -> float:
    with np.errstate(over="ignore"):  # a ratio too large for a float is infinite
        return float(np.exp(value))


def _read(reading: ArmReading) -> tuple[Cell, ...]:
    value = None if reading.value is None else float(reading.value)
    censored = None if value is None else reading.censored
    return (reading.measure, value, censored, reading.status)
