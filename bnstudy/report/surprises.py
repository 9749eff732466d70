"""The surprising results of a study, found in its verdicts by written rules."""

from collections.abc import Callable, Mapping, Sequence

from bnstudy.judging import Analysis, Outcome, Verdict, claimed_range
from bnstudy.judging.verdict_rules import POWER
from bnstudy.report import text
from bnstudy.report.model import Link, Statement, Surprise

RULE = (
    "A claim counts as surprising if it is refuted; if its interval lies wholly on the side that "
    "the literature denies, though there is no verdict on it; if it is undecided, though at "
    f"least {text.percent(POWER, 0)} of simulated studies with the pilot's effect find it; or if "
    "it is supported, but one of its robustness analyses points elsewhere."
)
Rule = Callable[[Verdict, Mapping[str, float]], str]


def surprises(
    verdicts: Sequence[Verdict], power: Mapping[str, float] | None = None
) -> tuple[Surprise, ...]:
    """Return the surprising results, kind by kind.

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
        sentences = [(verdict, rule(verdict, power or {})) for verdict in verdicts]
        statements = tuple(
            Statement(sentence, Link(verdict.experiment, f"claim-{verdict.claim.id}"))
            for verdict, sentence in sentences
            if sentence
        )
        if statements:
            found.append(Surprise(kind, statements))
    return tuple(found)


def _refuted(verdict: Verdict, power: Mapping[str, float]) -> str:
    return _statement(verdict) if verdict.outcome is Outcome.REFUTED else ""


def _against(verdict: Verdict, power: Mapping[str, float]) -> str:
    undecided = verdict.outcome is None or verdict.outcome is Outcome.INCONCLUSIVE
    return _statement(verdict) if undecided and _outside(verdict) else ""


def _undecided(verdict: Verdict, power: Mapping[str, float]) -> str:
    known = power.get(verdict.claim.id, 0.0)
    if verdict.outcome is not Outcome.INCONCLUSIVE or known < POWER:
        return ""
    return f"{_statement(verdict)}; power {text.percent(known)}"


def _fragile(verdict: Verdict, power: Mapping[str, float]) -> str:
    opposed = [analysis for analysis in verdict.robustness if analysis.as_claimed is False]
    if verdict.outcome is not Outcome.SUPPORTED or not opposed:
        return ""
    effects = text.listing(f"{each.label}: {_effect(each)}" for each in opposed)
    return f"{_statement(verdict)}, but {effects}"


def _statement(verdict: Verdict) -> str:
    return f"{verdict.claim.sentence.rstrip('.')}: {_effect(verdict.result)}"


def _effect(analysis: Analysis) -> str:
    return text.effect_interval(analysis.effect, analysis.unit)


def _outside(verdict: Verdict) -> bool:
    """Return whether a verdict's interval lies wholly outside the claimed range."""
    effect = verdict.result.effect
    if effect is None:
        return False
    low, high = claimed_range(verdict.claim)
    return effect.high < low or effect.low > high
