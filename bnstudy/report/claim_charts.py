"""Charts of claims: each effect with its interval, against the registered range."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from bnstudy.judging import Analysis, Outcome, Verdict, claimed_range
from bnstudy.plan import Claim, Plan
from bnstudy.report import drawing, text
from bnstudy.report.captions import source_line
from bnstudy.report.model import Chart, Finding, Table
from bnstudy.report.sentences import TESTS, shown_effect, write_claimed_range

KINDS = {"times": "ratios", "points": "points"}
TITLES = {
    "ratios": "claims about ratios",
    "points": "claims about accuracy, in percentage points",
    "others": "claims in other units",
}
CAPTION = (
    "Grey: the effects that agree with the claim, up to its registered line or between its "
    "registered margins. Point and bar: estimate and interval, 90% for claims of equivalence, "
    "else 95%. Filled circle: supported; cross: refuted; open circle: undecided; open square: a "
    "premise failed, so that the effect means nothing; diamond: explored, without a verdict. "
    "Verdicts rest on p after Holm's correction over the claims of a family, the intervals are not "
    "corrected: a claim may be undecided though its bar lies in the grey."
)
WIDE = 20.0  # percentage points: beyond this the axis is linear near 0 only
ROBUSTNESS = "explored"  # mark of the analyses that decide nothing
MARKS = {
    Outcome.SUPPORTED: "supported",
    Outcome.REFUTED: "refuted",
    Outcome.PREMISE_FAILED: "premise failed",
    None: "explored",
}
COUNTED_MARKS = {
    "supported": "supported",
    "refuted": "refuted",
    "undecided": "undecided",
    "premise failed": "with a failed premise",
    "explored": "explored only",
}


def mark(outcome: Outcome | None) -> str:
    """Return the name of the mark that a figure gives to an outcome."""
    return MARKS.get(outcome, "undecided")


def effect_charts(plan: Plan, verdicts: Sequence[Verdict]) -> tuple[Finding, ...]:
    """Return one chart of all claims with an effect per kind of unit: ratios, points, others.

    Units are not mixed: on a common scale, each effect in units of its own
    spread, a chart would show how certain an effect is and not how large.
    """
    found = []
    for kind in TITLES:
        mine = [
            verdict
            for verdict in verdicts
            if verdict.result.effect is not None
            and KINDS.get(verdict.result.unit, "others") == kind
        ]
        if mine:
            found.append(_finding(plan, kind, mine))
    return tuple(found)


def _finding(plan: Plan, kind: str, verdicts: Sequence[Verdict]) -> Finding:
    points = pd.DataFrame(
        [
            _point(each.claim, each.result, mark(each.outcome), each.claim.sentence)
            for each in verdicts
        ]
    )
    points.insert(0, "claim", [each.claim.id for each in verdicts])
    counts = [
        f"{count} {name}"
        for word, name in COUNTED_MARKS.items()
        if (count := int((points["mark"] == word).sum()))
    ]
    sentence = f"Of {len(verdicts)} {TITLES[kind]}: {text.listing(counts)}"
    if len(verdicts) == 1:
        sentence = f"Of 1 {TITLES[kind].replace('claims', 'claim')}: {counts[0]}"
    name, anchor = f"index-{kind}", f"effects-{kind}"
    figure = drawing.effect_intervals(points, axis_scales(points), _source(plan))
    rows = tuple(
        (
            each.claim.sentence,
            mark(each.outcome),
            text.effect_interval(shown_effect(each, each.result), each.result.unit),
            write_claimed_range(each.claim),
        )
        for each in verdicts
    )
    table = Table(
        f"Effects and claimed ranges: {TITLES[kind]}", ("Claim", "Mark", "Effect", "Claimed"), rows
    )
    svg = drawing.to_svg(figure, name, sentence, CAPTION)
    return Finding(anchor, sentence, CAPTION, (), Chart(name, svg, CAPTION, table, _csv(points)))


def judgement_chart(plan: Plan, verdict: Verdict) -> Chart | None:
    """Return the chart of one claim: its registered analysis, then the others; None if empty."""
    claim = verdict.claim
    claims = [claim, *map(claim.varied, claim.robustness)]
    void = verdict.outcome is Outcome.PREMISE_FAILED  # and so is every other analysis of it
    others = mark(verdict.outcome) if void else ROBUSTNESS
    marks = [mark(verdict.outcome), *[others] * len(claim.robustness)]
    points = [
        _point(each, analysis, name, f"{analysis.label}, {TESTS.get(analysis.test, analysis.test)}")
        for each, analysis, name in zip(
            claims, (verdict.result, *verdict.robustness), marks, strict=True
        )
        if analysis.effect is not None
    ]
    if not points:
        return None
    table = pd.DataFrame(points)
    name = f"{verdict.experiment}-claim-{claim.id}"
    title = f"{mark(verdict.outcome).capitalize()}: {claim.sentence}"
    caption = (
        "Grey: the effects that agree with the claim. Mark and bar: estimate and interval, first "
        "of the registered analysis, then, as diamonds, of the robustness analyses."
    )
    if void:
        caption = (
            "Grey: the effects that agree with the claim. Open squares: a premise of the claim "
            "failed, so that these effects mean nothing."
        )
    figure = drawing.effect_intervals(table, axis_scales(table), _source(plan), words=False)
    svg = drawing.to_svg(figure, name, title, caption)
    return Chart(name, svg, caption, None, _csv(table))


def _point(claim: Claim, analysis: Analysis, mark: str, label: str) -> dict[str, Any]:
    """Return one row of a figure's table, with shares of accuracy as percentage points."""
    factor = 100.0 if claim.unit == "points" else 1.0
    effect, (claimed_low, claimed_high) = analysis.effect, claimed_range(claim)
    estimate, low, high = (effect.estimate, effect.low, effect.high) if effect else (math.nan,) * 3
    return {
        "unit": analysis.unit,
        "label": label,
        "mark": mark,
        "estimate": factor * estimate,
        "low": factor * low,
        "high": factor * high,
        "claimed_low": factor * claimed_low,
        "claimed_high": factor * claimed_high,
    }


def axis_scales(points: pd.DataFrame) -> dict[str, drawing.Scale]:
    """Return the scale of the axis of every unit, in the order of the rows."""
    found = {}
    for unit in dict.fromkeys(points["unit"]):
        if unit == "times":
            found[unit] = drawing.Scale("Ratio", log=True)
            continue
        if unit == "points":
            rows = points.loc[points["unit"] == unit, ["estimate", "low", "high"]]
            wide = bool((rows.abs().max(axis=None)) > WIDE)
            label = "Percentage points" + (", logarithmic beyond 1" if wide else "")
            found[unit] = drawing.Scale(label, linear=1.0 if wide else 0.0)
            continue
        found[unit] = drawing.Scale(f"In {'units ' if unit.startswith('of ') else ''}{unit}")
    return found


def _source(plan: Plan) -> str:
    return source_line(plan, text.count(len(plan.seeds), "seed"))


def _csv(points: pd.DataFrame) -> str:
    return points.to_csv(index=False, lineterminator="\n", float_format="%.12g")
