"""Samples of claims: one number per seed, from the runs of a claim's arms."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bnstudy.errors import NotMeasuredError
from bnstudy.inference import (
    FEWEST_CORRELATED,
    interaction,
    knees,
    paired_differences,
    rank_correlation_shares,
    rank_correlations,
    slopes,
    spans,
)
from bnstudy.judging.measures import Run, RunName, read
from bnstudy.plan import Claim, Estimand, Option, Pilot, Plan, PlannedExperiment


@dataclass(frozen=True)
class ArmReading:
    """The number that a claim reads of one run, or the reason why it reads none.

    Attributes
    ----------
    group
        Position of the arm's group in the estimand, from 1; a correlation, which has one
        group, counts its second measure as group 2.
    arm, seed
        The run.
    measure
        Name of what is read.
    status
        ``done``, ``diverged``, ``missing`` for a run that is not there, ``unreadable`` for one
        that does not hold what is read.
    value
        On the scale of the measure; None if the run is missing or unreadable.
    censored
        Whether the true value is at least this, but was not seen.
    """

    group: int
    arm: str
    seed: int
    measure: str
    status: str
    value: float | None = None
    censored: bool = False


@dataclass(frozen=True, eq=False)
class Sample:
    """The numbers of a claim, one per seed, and what happened to the runs they are from.

    Attributes
    ----------
    values
        (n,) on the scale of analysis, or (n, k) for an order; empty if some
        are missing, since a part of the seeds would be another sample.
    seeds
        Number of seeds of the plan.
    runs
        Number of runs read; an arm that is on both sides counts once.
    censored, diverged
        Number of these runs that were.
    crowded
        True if in some arm more than half of the runs were censored or diverged.
    lost
        True if every run diverged.
    missing
        Names of what is missing, with counts; empty if nothing is.
    both_censored
        (n,), True for a seed whose number could be larger and smaller, since
        runs on both sides of the comparison were censored.
    one_censored
        (n,), 1 for a seed whose number is at least this, -1 for one whose number
        is at most this, since runs on one side were censored; else 0.
    readings
        One per group, seed and arm, in this order; runs that are missing included.
    """

    values: np.ndarray
    seeds: int
    runs: int
    censored: int
    diverged: int
    crowded: bool
    lost: bool
    missing: tuple[str, ...]
    both_censored: np.ndarray
    one_censored: np.ndarray
    readings: tuple[ArmReading, ...]


def take_sample(
    claim: Claim, plan: Plan, planned: PlannedExperiment, runs: Mapping[RunName, Run]
) -> Sample:
    """Read every planned run of a claim and return its sample; no run is left out.

    Parameters
    ----------
    claim
        One of the experiment's.
    plan, planned
        The study, whose seeds are read, and the experiment.
    runs
        From :func:`~bnstudy.judging.measures.finished_runs`.

    Raises
    ------
    ConfigError
        If the claim's measure is unknown, or does not take its options.
    """
    return sample_estimand(claim.estimand, plan, planned, runs)


def sample_estimand(
    estimand: Estimand, plan: Plan, planned: PlannedExperiment, runs: Mapping[RunName, Run]
) -> Sample:
    """Return the sample of an estimand, of a claim or of a premise, as :func:`take_sample`.

    Parameters
    ----------
    estimand
        Whose arms are the experiment's.
    plan, planned, runs
        As for a claim.

    Raises
    ------
    ConfigError
        If the estimand's measure is unknown, or does not take its options.
    """
    seeds, name = sorted(plan.seeds), planned.experiment.name
    tally, groups = _Tally(), []
    for position, group in enumerate(estimand.arms):
        table = [
            [
                tally.read(estimand, position, arm, seed, runs.get((name, arm, seed)))
                for arm in group
            ]
            for seed in seeds
        ]
        groups.append(np.array(table))  # (n, arms of the group)
    if estimand.summary == "correlation":
        (group,) = estimand.arms
        others = [
            [tally.read_against(estimand, arm, seed, runs.get((name, arm, seed))) for arm in group]
            for seed in seeds
        ]
        groups.append(np.array(others))
        if len(group) == 1 and len(seeds) < FEWEST_CORRELATED:
            rule = f"seeds to correlate over, {FEWEST_CORRELATED} or more"
            tally.missing[rule] = {(group[0], seed) for seed in seeds}
    cut = Counter(arm for arm, _ in tally.censored | tally.diverged)
    total = len(seeds) * len(estimand.arm_names)
    both, one = _open_ends(estimand, seeds, tally.readings)
    return Sample(
        values=np.empty(0) if tally.missing else _summarized(estimand, groups),
        seeds=len(seeds),
        runs=total,
        censored=len(tally.censored),
        diverged=len(tally.diverged),
        crowded=any(2 * count > len(seeds) for count in cut.values()),
        lost=len(tally.diverged) == total,
        missing=tuple(
            f"{what} ({len(lacking)} of {len(seeds)})" for what, lacking in tally.missing.items()
        ),
        both_censored=both,
        one_censored=one,
        readings=tuple(tally.readings),
    )


def pilot_of(sample: Sample, arms: str) -> Pilot:
    """Return what a complete sample of pilot seeds says, as a claim registers it.

    Parameters
    ----------
    sample
        Of two seeds or more, with nothing missing.
    arms
        Hash of the arms, from :meth:`~bnstudy.plan.PlannedExperiment.arms_digest`.
    """
    values = sample.values
    if values.ndim == 1:
        effect, spread = values.mean(), values.std(ddof=1)
    else:
        means = values.mean(axis=0)
        within = values - values.mean(axis=1, keepdims=True) - means + means.mean()
        effect, spread = means[-1] - means[0], within.std(ddof=1)
    censored = {(each.arm, each.seed) for each in sample.readings if each.censored}
    most = max(Counter(arm for arm, _ in censored).values(), default=0)
    seeds = tuple(sorted({each.seed for each in sample.readings}))
    return Pilot(float(effect), float(spread), seeds, most / len(seeds), arms)


@dataclass
class _Tally:
    """Reads runs and notes what happened to them.

    Each kind of event keeps the set of (arm, seed) that it happened to, so that a run which a
    claim reads twice, on two sides or by two measures, counts once.
    """

    readings: list[ArmReading] = field(default_factory=list)
    missing: dict[str, set[tuple[str, int]]] = field(default_factory=dict)
    censored: set[tuple[str, int]] = field(default_factory=set)
    diverged: set[tuple[str, int]] = field(default_factory=set)

    def read(
        self, estimand: Estimand, position: int, arm: str, seed: int, run: Run | None
    ) -> float:
        """Return what is read of a run; 1 for what is missing, which is counted."""
        measure, options = estimand.measure, estimand.options_of(position)
        value = self._value(run, position + 1, arm, seed, measure, options)
        if estimand.scale == "ratio" and value <= 0:
            self._note_missing(f"{arm}: a ratio needs positive values", arm, seed)
            return 1.0
        return value

    def read_against(self, estimand: Estimand, arm: str, seed: int, run: Run | None) -> float:
        """Return the second measure of a run; 1 for what is missing, which is counted."""
        return self._value(run, 2, arm, seed, estimand.against, estimand.against_options)

    def _value(
        self,
        run: Run | None,
        group: int,
        arm: str,
        seed: int,
        measure: str,
        options: Mapping[str, Option],
    ) -> float:
        if run is None:
            self._note_missing(f"runs of {arm}", arm, seed)
            self.readings.append(ArmReading(group, arm, seed, measure, "missing"))
            return 1.0
        if run.diverged:
            self.diverged.add((arm, seed))
        try:
            reading = read(run, measure, options)
        except NotMeasuredError as error:
            self._note_missing(f"{arm}: {error}", arm, seed)
            self.readings.append(ArmReading(group, arm, seed, measure, "unreadable"))
            return 1.0
        if reading.censored:
            self.censored.add((arm, seed))
        status = "diverged" if run.diverged else "done"
        self.readings.append(
            ArmReading(group, arm, seed, measure, status, reading.value, reading.censored)
        )
        return reading.value

    def _note_missing(self, what: str, arm: str, seed: int) -> None:
        self.missing.setdefault(what, set()).add((arm, seed))


def _summarized(estimand: Estimand, groups: list[np.ndarray]) -> np.ndarray:
    """Return the number of each seed: groups of (n, k) -> (n,), or (n, k) for an order."""
    if estimand.scale == "ratio":
        groups = [np.log(table) for table in groups]
    if estimand.summary == "order":
        return groups[0]
    if estimand.summary == "correlation":
        first, second = groups
        if first.shape[1] > 1:
            return rank_correlations(first, second)
        return rank_correlation_shares(first[:, 0], second[:, 0])
    parts = [_group(estimand, table) for table in groups]
    if len(parts) == 1:
        return parts[0]
    if len(parts) == 2:
        return paired_differences(parts[0], parts[1])
    return interaction(*parts)


def _open_ends(
    estimand: Estimand, seeds: Sequence[int], readings: Iterable[ArmReading]
) -> tuple[np.ndarray, np.ndarray]:
    """Return which seeds are open to both sides, and to which side others are, (n,) each."""
    # The groups enter as first - second, or as (both - first) - (second - neither).
    signs = (1, -1) if len(estimand.arms) < 4 else (1, -1, -1, 1)
    larger, smaller = (np.zeros(len(seeds), dtype=bool) for _ in range(2))
    for each in readings:
        if not each.censored:
            continue
        at, group = seeds.index(each.seed), each.group - 1
        weights = _weights(estimand, group, each.arm)
        larger[at] |= any(weight * signs[group] > 0 for weight in weights)
        smaller[at] |= any(weight * signs[group] < 0 for weight in weights)
    return larger & smaller, larger.astype(int) - smaller


def _weights(estimand: Estimand, group: int, arm: str) -> tuple[float, ...]:
    """Return weights of an arm whose signs say how the number of its group moves with it."""
    if estimand.summary == "value":
        return (1.0,)
    if estimand.summary != "slope":
        return (1.0, -1.0)  # a knee or a rank may move either way
    levels = _scaled_levels(estimand)
    names = estimand.arms[group]
    return tuple(x - levels.mean() for x, name in zip(levels, names, strict=True) if name == arm)


def _scaled_levels(estimand: Estimand) -> np.ndarray:
    levels = np.array(estimand.levels)
    if estimand.level_scale == "linear":
        return levels
    return np.log(levels) / np.log({"log": np.e, "log2": 2, "log10": 10}[estimand.level_scale])


def _group(estimand: Estimand, table: np.ndarray) -> np.ndarray:
    if estimand.summary == "value":
        return np.asarray(table[:, 0])
    if estimand.summary == "range":
        return spans(table, np.array(estimand.levels))
    x = _scaled_levels(estimand)
    return slopes(table, x) if estimand.summary == "slope" else knees(table, x)
