"""From a plan and its tables to a verdict on every claim."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bnstudy.config import canonical_json
from bnstudy.inference import holm
from bnstudy.judging.decisions import ALPHA, Finding, allows_no_effect, decide, examine
from bnstudy.judging.measures import Run
from bnstudy.judging.samples import RunKey, Sample, finished_runs, take_sample
from bnstudy.judging.sentence import write_sentence
from bnstudy.judging.verdict import Outcome, Row, Verdict
from bnstudy.plan import Claim, Plan, PlannedExperiment
from bnstudy.runs.tables import Tables


@dataclass(frozen=True, eq=False)
class _Case:
    """A claim with what its runs say, before the family is looked at."""

    claim: Claim
    planned: PlannedExperiment
    sample: Sample
    finding: Finding | None
    outcome: Outcome | None
    reason: str

    @property
    def p(self) -> float:
        """What the claim brings to the family: 1 if it is already decided."""
        return self.finding.p if self.finding and self.outcome is None else 1.0


def judge(plan: Plan, tables: Tables, frozen: Mapping[str, Any]) -> tuple[Verdict, ...]:
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

    Returns
    -------
    tuple of Verdict
        A claim that is not in the frozen plan as it is now is DEVIATED.  One
        whose runs are not all there is INADMISSIBLE.  Both count in the family
        with p = 1, and so does a frozen claim that the plan no longer has.

    Raises
    ------
    ConfigError
        If a claim's measure is unknown, or does not take its options.
    """
    runs = finished_runs(plan, tables)
    now = json.loads(canonical_json(plan.canonical()))
    changed = next((part for part in ("profile", "seeds", "data") if now[part] != frozen[part]), "")
    cases = [
        _case(claim, plan, planned, runs, frozen, changed)
        for planned in plan.experiments
        for claim in planned.claims
    ]
    family = [case for case in cases if case.claim.family == "confirmatory"]
    size = len(family) + _given_up(plan, frozen)
    p = [case.p for case in family] + [1.0] * (size - len(family))
    adjusted = dict(zip([case.claim.id for case in family], holm(np.array(p)), strict=False))
    return tuple(_verdict(case, plan, runs, adjusted.get(case.claim.id), size) for case in cases)


def _case(
    claim: Claim,
    plan: Plan,
    planned: PlannedExperiment,
    runs: Mapping[RunKey, Run],
    frozen: Mapping[str, Any],
    changed: str,
) -> _Case:
    sample = take_sample(claim, plan, planned, runs)
    finding = None if sample.missing else examine(claim, sample.values)
    deviation = f"the {changed} of the plan changed after the runs began" if changed else ""
    deviation = deviation or _deviation(claim, planned, frozen)
    if deviation:
        return _Case(claim, planned, sample, finding, Outcome.DEVIATED, deviation)
    if sample.missing:
        reason = "missing are " + ", ".join(sample.missing)
        return _Case(claim, planned, sample, finding, Outcome.INADMISSIBLE, reason)
    reason = _nothing_to_learn(claim, sample, finding)
    return _Case(claim, planned, sample, finding, Outcome.INCONCLUSIVE if reason else None, reason)


def _nothing_to_learn(claim: Claim, sample: Sample, finding: Finding | None) -> str:
    """Return why complete data cannot decide a claim, or nothing."""
    if sample.lost:
        return "every run diverged"
    if sample.seeds == 1:
        return "one seed says nothing about the spread"
    supported = finding is not None and finding.as_claimed
    if sample.crowded and (claim.direction == "within" or (supported and allows_no_effect(claim))):
        # Cut at one horizon, two arms look alike however different they are.
        return "more than half of the runs of an arm were cut short"
    return ""


def _deviation(claim: Claim, planned: PlannedExperiment, frozen: Mapping[str, Any]) -> str:
    """Return how a claim differs from the frozen plan, in words; empty if it does not."""
    experiments = {each["name"]: each for each in frozen["experiments"]}
    before = experiments.get(planned.experiment.name)
    if before is None or claim.id not in before.get("claims", {}):
        return "it was registered after the runs began"
    arms = {arm.name: arm.canonical() for arm in planned.arms}
    for name in claim.estimand.arm_names:
        if before["arms"].get(name) != json.loads(canonical_json(arms[name])):
            return f"arm {name} changed after the runs began"
    registered, wanted = before["claims"][claim.id], json.loads(canonical_json(claim.canonical()))
    changed = sorted(name for name in wanted if registered.get(name) != wanted[name])
    return f"its {', '.join(changed)} changed after the runs began" if changed else ""


def _given_up(plan: Plan, frozen: Mapping[str, Any]) -> int:
    """Return how many confirmatory claims were frozen that the plan no longer has."""
    ids = {claim.id for claim in plan.claims if claim.family == "confirmatory"}
    registered = [
        (name, claim)
        for experiment in frozen["experiments"]
        for name, claim in experiment.get("claims", {}).items()
    ]
    return sum(claim["family"] == "confirmatory" and name not in ids for name, claim in registered)


def _verdict(
    case: _Case, plan: Plan, runs: Mapping[RunKey, Run], adjusted: float | None, family: int
) -> Verdict:
    claim, sample = case.claim, case.sample
    judged = claim.family == "confirmatory"
    tested = judged and case.finding is not None and case.outcome is not Outcome.DEVIATED
    outcome, reason = case.outcome, case.reason
    if outcome is None and judged and case.finding is not None and adjusted is not None:
        outcome = decide(adjusted, case.finding.as_claimed)
        if outcome is Outcome.INCONCLUSIVE:
            reason = f"p is above {ALPHA:g} after Holm's correction"
    if not judged:
        outcome = None
    verdict = Verdict(
        claim=claim,
        experiment=case.planned.experiment.name,
        outcome=outcome,
        reason=reason,
        result=_row(claim, "as registered", case.finding, with_p=tested),
        p_adjusted=float(adjusted) if tested and adjusted is not None else None,
        family=family,
        seeds=sample.seeds,
        runs=sample.runs,
        censored=sample.censored,
        diverged=sample.diverged,
        robustness=tuple(_robustness(case, plan, runs, with_p=tested)),
        crowded=sample.crowded,
    )
    return replace(verdict, sentence=write_sentence(verdict))


def _robustness(case: _Case, plan: Plan, runs: Mapping[RunKey, Run], *, with_p: bool) -> list[Row]:
    rows = []
    for variant in case.claim.robustness:
        other = case.claim.varied(variant)
        sample = take_sample(other, plan, case.planned, runs)
        finding = None if sample.missing else examine(other, sample.values)
        rows.append(_row(other, variant.label, finding, with_p=with_p))
    return rows


def _row(claim: Claim, label: str, finding: Finding | None, *, with_p: bool) -> Row:
    unit = claim.unit
    if finding is None:
        return Row(label, claim.test, None, unit, None, None)
    p = finding.p if with_p else None
    return Row(label, finding.test, finding.effect, unit, p, finding.as_claimed)
