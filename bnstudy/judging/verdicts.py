"""The verdict on each claim of a plan, from the tables of its runs."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from bnstudy.config import canonical_json
from bnstudy.inference import Interval, holm
from bnstudy.judging.measures import Run, RunName, finished_runs
from bnstudy.judging.premises import TestedPremise, check_premise
from bnstudy.judging.samples import Sample, take_sample
from bnstudy.judging.verdict_rules import (
    Outcome,
    TestedEffect,
    allows_no_effect,
    decide,
    examine,
    undecided_reason,
)
from bnstudy.plan import JUDGED_FAMILIES, Claim, Plan, PlannedExperiment
from bnstudy.runs.tables import Tables

# Outcomes of claims whose p would mean nothing: they count with p = 1.
UNTESTED = (Outcome.DEVIATED, Outcome.INADMISSIBLE, Outcome.PREMISE_FAILED)


@dataclass(frozen=True)
class Analysis:
    """A claim computed in one way: as registered, or as one of its robustness checks.

    Attributes
    ----------
    label
        Name of this way of computing the claim.
    test
        Name of the test.
    effect
        Estimate and interval in the natural unit of ``unit``; None if it
        could not be computed.
    unit
        ``points``, ``times``, or a noun.
    p
        Uncorrected, in (0, 1]; None where nothing was tested.
    as_claimed
        Whether the estimate lies where the claim says; None without one.
    """

    label: str
    test: str
    effect: Interval | None
    unit: str
    p: float | None
    as_claimed: bool | None


@dataclass(frozen=True)
class Verdict:
    """The verdict of a study on a claim.

    Attributes
    ----------
    claim
        The claim, with the rule that was followed.
    experiment
        Name of its experiment.
    outcome
        The verdict word.  An explored claim has none, unless a premise of it failed.
    reason
        Why it is neither supported nor refuted; else empty.
    result
        The registered analysis.
    p_adjusted
        After Holm's correction over the family; None where nothing was tested.
    family
        Number of claims of its family that were corrected for together; 0 if explored.
    seeds
        Number of seeds in the plan: the number of pairs, since no run is left out.
    runs, censored, diverged
        Number of runs that were read, and of those that were censored or diverged.
    robustness
        The other registered analyses.
    crowded
        Whether in some arm more than half of the runs were censored or
        diverged: the effect is then that within the horizon, and the arms may
        lie further apart.
    premises
        Its premises with their figures, whether they hold or not.
    sample
        The numbers per seed that it rests on; left out of :meth:`as_dict`.
    """

    claim: Claim
    experiment: str
    outcome: Outcome | None
    reason: str
    result: Analysis
    p_adjusted: float | None
    family: int
    seeds: int
    runs: int
    censored: int
    diverged: int
    robustness: tuple[Analysis, ...]
    crowded: bool = False
    premises: tuple[TestedPremise, ...] = ()
    sample: Sample | None = field(default=None, compare=False, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as plain data for JSON, with None for an infinite end."""
        record = asdict(replace(self, sample=None))
        del record["sample"]
        record["claim"] = self.claim.canonical()
        finite: dict[str, Any] = _without_infinities(record)
        return finite


@dataclass(frozen=True, eq=False)
class _Case:
    """A claim tested on its runs, before the correction over the family."""

    claim: Claim
    planned: PlannedExperiment
    sample: Sample
    examined: TestedEffect | None
    premises: tuple[TestedPremise, ...]
    outcome: Outcome | None
    reason: str

    @property
    def p(self) -> float:
        """The claim's p in the family: 1 if its outcome is already known."""
        return self.examined.p if self.examined and self.outcome is None else 1.0


def judge(
    plan: Plan,
    tables: Tables,
    frozen: Mapping[str, Any],
    *,
    runs: Mapping[RunName, Run] | None = None,
) -> tuple[Verdict, ...]:
    """Return the verdict on every claim of a plan, in its order.

    Parameters
    ----------
    plan
        The study, with its claims.
    tables
        From :func:`~bnstudy.runs.tables.read_tables`.
    frozen
        The plan as it was stored before the first run, from
        :func:`~bnstudy.runs.registration.stored_plan`.
    runs
        From :func:`~bnstudy.judging.measures.finished_runs`, where a report has read
        them already; else they are read from the tables.

    Returns
    -------
    tuple of Verdict
        A claim that differs from the frozen plan is DEVIATED; else one with missing
        runs, of its own or of a premise, is INADMISSIBLE; else one with a premise that
        does not hold is PREMISE FAILED.  All three count in their family with p = 1, and
        so does a frozen claim that the plan no longer has.

    Raises
    ------
    ConfigError
        If a claim's measure is unknown, or does not take its options.
    """
    runs = finished_runs(plan, tables) if runs is None else runs
    now = json.loads(canonical_json(plan.canonical()))
    changed = next((key for key in ("profile", "seeds", "data") if now[key] != frozen[key]), "")
    cases = [
        _case(claim, plan, planned, runs, frozen, changed)
        for planned in plan.experiments
        for claim in planned.claims
    ]
    sizes: dict[str, int] = {}
    adjusted: dict[str, float] = {}
    undecided: dict[str, str] = {}
    for family in JUDGED_FAMILIES:
        members = [case for case in cases if case.claim.family == family]
        # A claim cannot leave its family: giving up a hopeless one would help the others.
        sizes[family] = len(members) + _given_up(plan, frozen, family)
        p = [case.p for case in members] + [1.0] * (sizes[family] - len(members))
        adjusted |= dict(zip([case.claim.id for case in members], holm(np.array(p)), strict=False))
        undecided |= {
            case.claim.id: undecided_reason(case.examined, p, position)
            for position, case in enumerate(members)
            if case.examined
        }
    return tuple(
        _verdict(
            case,
            plan,
            runs,
            adjusted.get(case.claim.id),
            sizes.get(case.claim.family, 0),
            undecided.get(case.claim.id, ""),
        )
        for case in cases
    )


def _case(
    claim: Claim,
    plan: Plan,
    planned: PlannedExperiment,
    runs: Mapping[RunName, Run],
    frozen: Mapping[str, Any],
    changed: str,
) -> _Case:
    sample = take_sample(claim, plan, planned, runs)
    examined = _examined(claim, sample)
    premises = tuple(check_premise(each, plan, planned, runs) for each in claim.premises)
    deviation = f"the {changed} of the plan changed after the runs began" if changed else ""
    deviation = deviation or _deviation(claim, planned, frozen)
    outcome, reason = _known_outcome(claim, sample, examined, premises, deviation)
    return _Case(claim, planned, sample, examined, premises, outcome, reason)


def _known_outcome(
    claim: Claim,
    sample: Sample,
    examined: TestedEffect | None,
    premises: tuple[TestedPremise, ...],
    deviation: str,
) -> tuple[Outcome | None, str]:
    """Return the outcome, with its reason, that is known without the family; None if none is."""
    failed = [each.sentence for each in premises if each.holds is False]
    # nothing deviates in a claim without a verdict: what counts is that the comparison is void
    if failed and not claim.judged:
        return Outcome.PREMISE_FAILED, "; ".join(failed)
    if deviation:
        return Outcome.DEVIATED, deviation
    absent = dict.fromkeys((*sample.missing, *(name for each in premises for name in each.missing)))
    if absent:
        return Outcome.INADMISSIBLE, "missing are " + ", ".join(absent)
    if failed:
        return Outcome.PREMISE_FAILED, "; ".join(failed)
    reason = _undecidable(claim, sample, examined)
    return Outcome.INCONCLUSIVE if reason else None, reason


def _examined(claim: Claim, sample: Sample) -> TestedEffect | None:
    if sample.missing:
        return None
    return examine(claim, sample.values, sample.both_censored, sample.one_censored)


def _undecidable(claim: Claim, sample: Sample, examined: TestedEffect | None) -> str:
    """Return why even complete data cannot decide a claim; empty if they can."""
    if sample.lost:
        return "every run diverged"
    if sample.seeds == 1:
        return "one seed says nothing about the spread"
    supported = examined is not None and examined.as_claimed
    if sample.crowded and (claim.direction == "within" or (supported and allows_no_effect(claim))):
        # Two arms that are both cut off at the horizon look alike however different they are.
        return "more than half of the runs of an arm were cut short"
    return ""


def _deviation(claim: Claim, planned: PlannedExperiment, frozen: Mapping[str, Any]) -> str:
    """Return in which respect a claim differs from the frozen plan; empty if it does not."""
    experiments = {each["name"]: each for each in frozen["experiments"]}
    before = experiments.get(planned.experiment.name)
    if before is None or claim.id not in before.get("claims", {}):
        return "it was registered after the runs began"
    arms = {arm.name: arm.canonical() for arm in planned.arms}
    for name in claim.arm_names:
        if before["arms"].get(name) != json.loads(canonical_json(arms[name])):
            return f"arm {name} changed after the runs began"
    registered, wanted = before["claims"][claim.id], json.loads(canonical_json(claim.canonical()))
    changed = sorted(name for name in wanted if registered.get(name) != wanted[name])
    return f"its {', '.join(changed)} changed after the runs began" if changed else ""


def _given_up(plan: Plan, frozen: Mapping[str, Any], family: str) -> int:
    """Return the number of frozen claims of a family that the plan no longer has in it."""
    ids = {claim.id for claim in plan.claims if claim.family == family}
    registered = [
        (name, claim)
        for experiment in frozen["experiments"]
        for name, claim in experiment.get("claims", {}).items()
    ]
    return sum(claim["family"] == family and name not in ids for name, claim in registered)


def _verdict(
    case: _Case,
    plan: Plan,
    runs: Mapping[RunName, Run],
    adjusted: float | None,
    family: int,
    undecided: str,
) -> Verdict:
    claim, sample, judged = case.claim, case.sample, case.claim.judged
    tested = judged and case.examined is not None and case.outcome not in UNTESTED
    outcome, reason = case.outcome, case.reason
    if outcome is None and judged and case.examined is not None and adjusted is not None:
        outcome = decide(adjusted, case.examined.as_claimed)
        if outcome is Outcome.INCONCLUSIVE:
            reason = undecided
    if not judged and outcome is not Outcome.PREMISE_FAILED:
        outcome = None
    return Verdict(
        claim=claim,
        experiment=case.planned.experiment.name,
        outcome=outcome,
        reason=reason,
        result=_analysis(claim, "as registered", case.examined, with_p=tested),
        p_adjusted=float(adjusted) if tested and adjusted is not None else None,
        family=family,
        seeds=sample.seeds,
        runs=sample.runs,
        censored=sample.censored,
        diverged=sample.diverged,
        robustness=tuple(_robustness(case, plan, runs, with_p=tested)),
        crowded=sample.crowded,
        premises=case.premises,
        sample=sample,
    )


def _robustness(
    case: _Case, plan: Plan, runs: Mapping[RunName, Run], *, with_p: bool
) -> list[Analysis]:
    analyses = []
    for variant in case.claim.robustness:
        other = case.claim.varied(variant)
        sample = take_sample(other, plan, case.planned, runs)
        examined = _examined(other, sample)
        analyses.append(_analysis(other, variant.label, examined, with_p=with_p))
    return analyses


def _analysis(claim: Claim, label: str, examined: TestedEffect | None, *, with_p: bool) -> Analysis:
    unit = claim.unit
    if examined is None:
        return Analysis(label, claim.test, None, unit, None, None)
    p = examined.test_p if with_p else None
    return Analysis(label, examined.test, examined.effect, unit, p, examined.as_claimed)


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinities(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinities(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Outcome) else value
