"""Charts of claims: every effect with its interval, against what was registered of it."""

import math
from collections.abc import Sequence

import pandas as pd

from bnstudy.judging import Outcome, Row, Verdict
from bnstudy.plan import Claim, Plan
from bnstudy.report import drawing, text
from bnstudy.report.captions import source_line
from bnstudy.report.model import Chart, Finding, Table
from bnstudy.report.verdicts import TESTS, claimed, claimed_range, effect

KINDS = {"times": "ratios", "points": "points"}
TITLES = {
    "ratios": "claims about ratios",
    "points": "claims about accuracy, in percentage points",
    "others": "claims in other units",
}
READ = (
    "Grey: where the claim says that the effect lies, up to its registered line or between its "
    "registered margins. Point and bar: estimate and interval, 90% for claims of equivalence, "
    "else 95%. Filled circle: supported; cross: refuted; open circle: undecided; diamond: "
    "explored, without a verdict. Verdicts rest on p after Holm's correction over all claims, "
    "the intervals are not corrected: a bar may lie wholly in the grey and the claim be undecided."
)
WIDE = 20.0  # points: beyond this the axis is linear near 0 only
OTHER = "explored"  # how the other ways to compute a claim are marked
WORDS = {
    Outcome.SUPPORTED: "supported",
    Outcome.REFUTED: "refuted",
    None: "explored",
}


def mark(outcome: Outcome | None) -> str:
    """Return the word by which a figure marks an outcome."""
    return WORDS.get(outcome, "undecided")


def effects(plan: Plan, verdicts: Sequence[Verdict]) -> tuple[Finding, ...]:
    """Return charts of all claims with an effect: ratios, points, other units.

    Units are not mixed: an effect in units of its own spread would say how sure
    it is, not how large.
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
    points = pd.concat(
        [
            _points(each.claim, [each.result], mark(each.outcome), [each.claim.sentence])
            for each in verdicts
        ],
        ignore_index=True,
    )
    points.insert(0, "claim", [each.claim.id for each in verdicts])
    counts = [
        f"{count} {word}"
        for word in ("supported", "refuted", "undecided", "explored only")
        if (count := int((points["mark"] == word.split()[0]).sum()))
    ]
    sentence = f"Of {len(verdicts)} {TITLES[kind]}: {text.listing(counts)}"
    if len(verdicts) == 1:
        sentence = f"Of 1 {TITLES[kind].replace('claims', 'claim')}: {counts[0]}"
    name, anchor = f"index-{kind}", f"effects-{kind}"
    figure = drawing.effect_intervals(points, scales(points), _source(plan))
    rows = tuple(
        (each.claim.sentence, mark(each.outcome), effect(each.result), claimed(each.claim))
        for each in verdicts
    )
    table = Table(
        f"Effects and claimed ranges: {TITLES[kind]}", ("Claim", "Mark", "Effect", "Claimed"), rows
    )
    chart = Chart(name, drawing.to_svg(figure, name, sentence, READ), READ, table, _csv(points))
    return Finding(anchor, sentence, READ, (), chart)


def judgement_chart(plan: Plan, verdict: Verdict) -> Chart | None:
    """Return one claim's chart: the registered computation, then the other ways; None if empty."""
    claim = verdict.claim
    ways = [claim, *map(claim.varied, claim.robustness)]
    rows = [verdict.result, *verdict.robustness]
    kept = [pair for pair in zip(ways, rows, strict=True) if pair[1].effect is not None]
    if not kept:
        return None
    points = pd.concat(
        [
            _points(way, [row], mark(verdict.outcome) if row is rows[0] else OTHER,
                    [f"{row.label}, {TESTS.get(row.test, row.test)}"])
            for way, row in kept
        ],
        ignore_index=True,
    )  # fmt: skip
    name = f"{verdict.experiment}-claim-{claim.id}"
    title = f"{mark(verdict.outcome).capitalize()}: {claim.sentence}"
    read = (
        "Grey: where the claim says that the effect lies. Mark and bar: estimate and interval, "
        "the registered computation first, then, as diamonds, the registered other ways."
    )
    figure = drawing.effect_intervals(points, scales(points), _source(plan), words=False)
    svg = drawing.to_svg(figure, name, title, read)
    return Chart(name, svg, read, None, _csv(points))


def _points(claim: Claim, rows: Sequence[Row], word: str, labels: Sequence[str]) -> pd.DataFrame:
    """Return rows of one claim for the figure, shares of accuracy as percentage points."""
    factor = 100.0 if claim.unit == "points" else 1.0
    table = []
    for row, label in zip(rows, labels, strict=True):
        found = row.effect
        ends = (found.estimate, found.low, found.high) if found else (math.nan,) * 3
        values = (factor * end for end in (*ends, *claimed_range(claim)))
        table.append((row.unit, label, word, *values))
    columns = ["unit", "label", "mark", "estimate", "low", "high", "claimed_low", "claimed_high"]
    return pd.DataFrame(table, columns=columns)


def scales(points: pd.DataFrame) -> dict[str, drawing.Scale]:
    """Return the axis of every unit, in the order of the rows."""
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
