"""What was surprising in a study, found by rules from its verdicts."""

from collections.abc import Callable, Mapping, Sequence

from bnstudy.judging import Outcome, Row, Verdict
from bnstudy.judging.decisions import POWER
from bnstudy.report import text
from bnstudy.report.model import Link, Statement, Surprise
from bnstudy.report.verdicts import claimed_range, effect

RULE = (
    "A claim counts as surprising if it is refuted; if its interval lies wholly on the side that "
    "the literature denies, though there is no verdict of it; if it is undecided, though "
    f"simulated studies with the pilot's effect find it in at least {POWER:.0%} of cases; or if "
    "it is supported, but a registered other way of computing it points elsewhere."
)
Rule = Callable[[Verdict, Mapping[str, float]], str]


def surprises(
    verdicts: Sequence[Verdict], power: Mapping[str, float] | None = None
) -> tuple[Surprise, ...]:
    """Return what was surprising, kind by kind.

    Parameters
    ----------
    verdicts
        On the plan's claims.
    power
        By claim, from a calibration of the plan, where there is one.
    """
    rules: Mapping[str, Rule] = {
        "Refuted": _refuted,
        "Against the literature": _against,
        "Undecided although powered": _undecided,
        "Depends on how it is computed": _fragile,
    }
    found = []
    for kind, rule in rules.items():
        said = [(verdict, rule(verdict, power or {})) for verdict in verdicts]
        statements = tuple(
            Statement(sentence, Link(verdict.experiment, f"claim-{verdict.claim.id}"))
            for verdict, sentence in said
            if sentence
        )
        if statements:
            found.append(Surprise(kind, statements))
    return tuple(found)


def _refuted(verdict: Verdict, power: Mapping[str, float]) -> str:
    return _said(verdict) if verdict.outcome is Outcome.REFUTED else ""


def _against(verdict: Verdict, power: Mapping[str, float]) -> str:
    open_still = verdict.outcome is None or verdict.outcome is Outcome.INCONCLUSIVE
    return _said(verdict) if open_still and _outside(verdict) else ""


def _undecided(verdict: Verdict, power: Mapping[str, float]) -> str:
    known = power.get(verdict.claim.id, 0.0)
    if verdict.outcome is not Outcome.INCONCLUSIVE or known < POWER:
        return ""
    return f"{_said(verdict)}; power {known:.0%}"


def _fragile(verdict: Verdict, power: Mapping[str, float]) -> str:
    other = [row for row in verdict.robustness if row.as_claimed is False]
    if verdict.outcome is not Outcome.SUPPORTED or not other:
        return ""
    return f"{_said(verdict)}, but {text.listing(map(_way, other))}"


def _said(verdict: Verdict) -> str:
    return f"{verdict.claim.sentence.rstrip('.')}: {effect(verdict.result)}"


def _way(row: Row) -> str:
    return f"{row.label}: {effect(row)}"


def _outside(verdict: Verdict) -> bool:
    """Return whether a verdict's interval lies wholly outside of what is claimed."""
    found = verdict.result.effect
    if found is None:
        return False
    low, high = claimed_range(verdict.claim)
    return found.high < low or found.low > high
