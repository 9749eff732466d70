"""A verdict in one plain sentence, without a figure that is not a number."""

import math

from bnstudy.inference import Interval
from bnstudy.judging.verdict import Outcome, Row, Verdict

LEADS = {
    Outcome.SUPPORTED: "The data support",
    Outcome.REFUTED: "The data contradict",
    Outcome.INCONCLUSIVE: "The data do not decide",
    Outcome.INADMISSIBLE: "There are no data to judge",
    Outcome.DEVIATED: "A changed plan cannot judge",
    None: "Explored without a verdict:",
}


def write_sentence(verdict: Verdict) -> str:
    """Return what a verdict says, with effect, interval, p, seeds and what was cut short."""
    parts = [f'{LEADS[verdict.outcome]} "{verdict.claim.sentence.rstrip(".")}"']
    if verdict.reason:
        parts[0] += f" ({verdict.reason})"
    if verdict.result.effect is not None:
        parts.append(_effect(verdict.result, verdict.result.effect))
    if verdict.result.p is not None and verdict.p_adjusted is not None:
        parts.append(
            f"p {_p(verdict.result.p)}, after Holm's correction over "
            f"{_count(verdict.family, 'claim')} {_p(verdict.p_adjusted)}"
        )
    if verdict.result.effect is not None:
        parts.append(_runs(verdict))
    return "; ".join(parts) + "."


def _effect(row: Row, effect: Interval) -> str:
    estimate = write_effect(effect.estimate, row.unit)
    if not (math.isfinite(effect.low) and math.isfinite(effect.high)):
        return f"estimated {estimate}, no interval from {_count(effect.n, 'seed')}"
    low, high = (_number(end, row.unit) for end in (effect.low, effect.high))
    return f"estimated {estimate} ({100 * effect.confidence:g}% interval {low} to {high})"


def write_effect(value: float, unit: str) -> str:
    """Write an effect with its unit: +1.20 percentage points, 3.41 times, -0.498 exponent."""
    return f"{_number(value, unit)} {'percentage points' if unit == 'points' else unit}"


def _number(value: float, unit: str) -> str:
    if unit == "points":
        return f"{100 * value:+.2f}"
    if unit == "times" and 0.01 <= value < 10_000:
        return f"{value:.2f}"
    return plain(value)


def plain(value: float) -> str:
    """Write a number to three digits and without an exponent: 272,000, 0.0357, 0.0000417."""
    if not (1e-9 < abs(value) < math.inf):
        return f"{value:g}"
    rounded = float(f"{value:.3g}")
    digits = max(0, 2 - math.floor(math.log10(abs(rounded))))
    text = f"{rounded:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"= {value:.2g}"


def _runs(verdict: Verdict) -> str:
    words = f"{_count(verdict.seeds, 'seed')}, {_count(verdict.runs, 'run')}"
    for count, what in ((verdict.censored, "censored"), (verdict.diverged, "diverged")):
        words += f", {count or 'none'} {what}"
    if verdict.crowded:
        words += " (more than half of an arm, so the effect is that within the horizon)"
    return words


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else noun + 's'}"
