"""Sentences on claims and verdicts: the outcome, the registered rule, the runs behind it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bnstudy.inference import Interval, smallest_p
from bnstudy.judging import (
    Analysis,
    Calibration,
    FamilyError,
    Outcome,
    Verdict,
    claimed_range,
)
from bnstudy.judging.verdict_rules import ALPHA
from bnstudy.plan import JUDGED_FAMILIES, Claim, Estimand, Option, Plan
from bnstudy.report import text

OPENINGS = {
    Outcome.SUPPORTED: "The data support",
    Outcome.REFUTED: "The data contradict",
    Outcome.INCONCLUSIVE: "The data do not decide",
    Outcome.PREMISE_FAILED: "A failed premise leaves nothing to judge in",
    Outcome.INADMISSIBLE: "There are no data to judge",
    Outcome.DEVIATED: "A changed plan cannot judge",
    None: "Explored without a verdict:",
}
COUNTED = {
    Outcome.SUPPORTED: "supported",
    Outcome.REFUTED: "refuted",
    Outcome.INCONCLUSIVE: "undecided",
    Outcome.PREMISE_FAILED: "with a failed premise",
    Outcome.INADMISSIBLE: "not to be judged",
    Outcome.DEVIATED: "changed after the first run",
}
TESTS = {
    "sign-flip": "exact paired sign-flip test",
    "t": "paired t test",
    "sign": "sign test",
    "tost": "two one-sided t tests",
    "beyond-margin": "t test against the margin",
    "page": "Page's test of an order",
}
SIGN_TESTS = ("sign-flip", "sign")  # whose p counts arrangements of signs
NOT_CALIBRATED = (
    "No calibration of this plan is stored yet, so it is unknown how often the plan errs and how "
    "often it finds a true effect: bnstudy plan calibrate simulates it."
)


def write_sentence(verdict: Verdict) -> str:
    """Write a verdict in one sentence: effect, interval, p, seeds, censored and diverged runs."""
    clauses = [f'{OPENINGS[verdict.outcome]} "{verdict.claim.sentence.rstrip(".")}"']
    if verdict.reason:
        clauses[0] += f" ({verdict.reason})"
    effect, unit = shown_effect(verdict, verdict.result), verdict.result.unit
    if effect is not None:
        clauses.append(_estimate(effect, unit))
    if verdict.result.p is not None and verdict.p_adjusted is not None:
        smallest = is_smallest_p(verdict.result)
        adjusted = text.p_equation(verdict.p_adjusted, smallest=smallest).removeprefix("p ")
        clauses.append(
            f"{text.p_equation(verdict.result.p, smallest=smallest)}, after Holm's correction over "
            f"{text.count(verdict.family, f'{verdict.claim.family} claim')} {adjusted}"
        )
    if effect is not None:
        clauses.append(_runs(verdict))
    if held := sum(each.holds is True for each in verdict.premises):
        clauses.append(f"{held} of {text.count(len(verdict.premises), 'premise')} held")
    return "; ".join(clauses) + "."


def shown_effect(verdict: Verdict, analysis: Analysis) -> Interval | None:
    """Return the effect of a verdict's analysis; None if a premise failed, as it means nothing."""
    return None if verdict.outcome is Outcome.PREMISE_FAILED else analysis.effect


def write_premises(verdict: Verdict) -> str:
    """Write the premises of a verdict with their figures; nothing if it has none."""
    states = {True: "holds", False: "failed", None: "not tested"}
    found = [f"{each.kind} ({states[each.holds]}): {each.sentence}" for each in verdict.premises]
    return f"Premises: {'; '.join(found)}." if found else ""


def is_smallest_p(analysis: Analysis) -> bool:
    """Return whether a p is the smallest that the signs of so many seeds can give.

    A clearer effect would not have made it smaller: it is an upper bound, and so is the p
    that Holm's correction makes of it.
    """
    if analysis.p is None or analysis.effect is None or analysis.test not in SIGN_TESTS:
        return False
    return analysis.p <= smallest_p(analysis.effect.n) * (1 + 1e-9)


def verdict_record(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as plain data for JSON, together with its sentence."""
    return {**verdict.as_dict(), "sentence": write_sentence(verdict)}


def _estimate(effect: Interval, unit: str) -> str:
    name = "percentage points" if unit == "points" else unit
    estimate = f"estimated {text.effect(effect.estimate, unit)} {name}"
    ends = text.span(text.effect(effect.low, unit), text.effect(effect.high, unit))
    if ends == text.MISSING:
        return f"{estimate}, no interval from {text.count(effect.n, 'seed')}"
    return f"{estimate} ({text.percent(effect.confidence, 0)} interval {ends})"


def _runs(verdict: Verdict) -> str:
    sentence = f"{text.count(verdict.seeds, 'seed')}, {text.count(verdict.runs, 'run')}"
    for count, state in ((verdict.censored, "censored"), (verdict.diverged, "diverged")):
        sentence += f", {count or 'none'} {state}"
    if verdict.crowded:
        sentence += " (more than half of an arm, so the effect is that within the horizon)"
    return sentence


def write_tally(verdicts: Sequence[Verdict]) -> str:
    """Write how many claims of each family got which verdict; nothing if none is judged."""
    sentences = []
    for family in JUDGED_FAMILIES:
        outcomes = [each.outcome for each in verdicts if each.claim.family == family]
        found = [f"{n} {name}" for each, name in COUNTED.items() if (n := outcomes.count(each))]
        if outcomes:
            claims = text.count(len(outcomes), f"{family} claim")
            sentences.append(f"Of {claims} registered before the first run: {text.listing(found)}.")
    return " ".join(sentences)


def write_data_basis(verdict: Verdict) -> str:
    """Write which runs a verdict rests on, and that none of them was left out."""
    data = f"{text.count(verdict.runs, 'run')}, {text.count(verdict.seeds, 'seed')} of every arm"
    if verdict.result.effect is None:
        return f"The rule is about {data}; not all of them can be read."
    if verdict.outcome is Outcome.PREMISE_FAILED:
        return f"The rule is about {data}; no effect is shown, since a premise failed."
    censored = [f"{verdict.censored:,} censored"] * bool(verdict.censored)
    diverged = [f"{verdict.diverged:,} diverged"] * bool(verdict.diverged)
    exceptions = text.listing(censored + diverged) or "none censored or diverged"
    return f"Based on {data}; {exceptions}; none is left out."


def write_claimed_range(claim: Claim) -> str:
    """Write the effects that agree with a claim: below 1.00, 0.80 to 1.25."""
    low, high = claimed_range(claim)
    if claim.direction == "within":
        return text.span(text.effect(low, claim.unit), text.effect(high, claim.unit))
    above = claim.direction == "greater"
    return f"{'above' if above else 'below'} {text.effect(low if above else high, claim.unit)}"


def write_rule(claim: Claim) -> str:
    """Write the rule that was registered before the first run, in a sentence or two."""
    estimand = claim.estimand
    groups = [" + ".join(group) for group in estimand.arms]
    if estimand.baseline_options:  # the same arm may be measured in two ways
        groups[1::2] = [f"{each} ({_options(estimand.baseline_options)})" for each in groups[1::2]]
    compared = " against ".join(groups) if len(groups) < 4 else "; ".join(groups)
    measure = _measure(estimand.measure, estimand.options)
    measured = f"Measured: {measure}{_summary(estimand)}: {compared}."
    if not claim.judged:
        decision = f"As claimed if the {estimand.scale} is {_condition(claim)}; no verdict."
    else:
        decision = (
            f"Supported if the {estimand.scale} is {_condition(claim)} by the "
            f"{TESTS[claim.test]} at {ALPHA} after Holm's correction over the {claim.family} "
            "claims."
        )
    if claim.premises:
        kinds = text.listing(dict.fromkeys(premise.kind for premise in claim.premises))
        decision += f" Only if its premises hold: {kinds}."
    return " ".join([measured, decision, *_pilot(claim)])


def _condition(claim: Claim) -> str:
    natural = math.exp(claim.null) if claim.estimand.in_ratios else claim.null
    centre = text.effect(natural, claim.unit).lstrip("+")
    if claim.direction == "within":
        margin = text.effect(claim.margin or 0.0, claim.unit).lstrip("+")
        return f"within a margin of {margin} {claim.unit} around {centre}"
    return f"{claim.direction} than {centre} {claim.unit}"


def _pilot(claim: Claim) -> list[str]:
    if claim.pilot is None:
        return []
    effect, spread = text.significant(claim.pilot.effect), text.significant(claim.pilot.spread)
    return [
        f"Pilot seeds {claim.pilot.seeds[0]} to {claim.pilot.seeds[-1]}, which no claim uses, "
        f"gave {effect} with a standard deviation of {spread} on the scale of analysis "
        f"({write_pilot_arms(claim)})."
    ]


def write_pilot_arms(claim: Claim) -> str:
    """Write whether a claim's pilot was made with its present arms; a dash without a pilot."""
    if claim.pilot is None:
        return text.MISSING
    # A plan with other arms than those of the pilot has been refused.
    return f"same arms, {claim.pilot.arms}" if claim.pilot.arms else "arms not recorded"


def _summary(estimand: Estimand) -> str:
    if estimand.summary == "value":
        return ""
    if estimand.summary == "correlation":
        other = _measure(estimand.against, estimand.against_options)
        return f", its rank correlation with {other}"
    return f", its {estimand.summary} over levels"


def _measure(measure: str, options: Mapping[str, Option]) -> str:
    return f"{measure} ({_options(options)})" if options else measure


def _options(options: Mapping[str, Option]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(options.items()))


def write_reliability(plan: Plan, calibration: Calibration | None) -> tuple[str, ...]:
    """Write how often studies of a plan err, by simulation.

    Parameters
    ----------
    plan
        The study; nothing is written of one without judged claims.
    calibration
        Of this plan, if there is one.
    """
    if not any(claim.judged for claim in plan.claims):
        return ()
    if calibration is None:
        return (NOT_CALIBRATED,)
    return tuple(
        sentence
        for each in calibration.families
        for sentence in _family_reliability(calibration.studies, each)
    )


def _family_reliability(studies: int, found: FamilyError) -> tuple[str, str]:
    # 1.96 standard errors: a 95% interval of the simulation.
    margin = text.points(1.96 * found.standard_error, sign=False)
    return (
        f"In {studies:,} simulated studies of this plan without any true effect, "
        f"{text.percent(found.error)} decided at least one {found.family} claim wrongly "
        f"(simulation error ±{margin} points; the plan allows at most {text.percent(ALPHA, 0)}).",
        f"Simulated were the {text.count(len(found.claims), f'{found.family} claim')} of the "
        f"{found.size} that have a pilot; the others counted with p = 1.",
    )
