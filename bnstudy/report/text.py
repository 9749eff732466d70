"""The one formatter: how the report writes numbers, lists and missing values.

What cannot be written as a number (NaN, infinity, None) becomes :data:`MISSING`.
A minus is a real minus sign.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence

from bnstudy.inference import Interval

Writer = Callable[[float], str]

MISSING = "–"
MINUS = "\u2212"


def decimal(value: float | None, digits: int, *, sign: bool = False) -> str:
    """Write a number with a fixed count of decimals and thousands separators: 1,234.50."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{abs(value):,.{digits}f}"
    negative = value < 0 and float(text.replace(",", "")) != 0
    return (MINUS if negative else "+" if sign else "") + text


def typeset(sentence: str) -> str:
    """Give the negative numbers of a sentence their minus sign, but no formula: B^(-1/2)."""
    return re.sub(r"(?<!\S)-(?=\d)", MINUS, sentence)


def percent(value: float | None, digits: int = 1) -> str:
    """Write a share in 0..1 as a percentage: 84.3%."""
    text = decimal(None if value is None else 100 * value, digits)
    return text if text == MISSING else f"{text}%"


def points(value: float | None, digits: int = 1, *, sign: bool = True) -> str:
    """Write a difference of shares in percentage points, without the unit: +22.8."""
    return decimal(None if value is None else 100 * value, digits, sign=sign)


def fine_points(value: float | None) -> str:
    """Write a small difference of shares in percentage points: +0.05."""
    return points(value, 2)


def loss(value: float | None, *, sign: bool = False) -> str:
    """Write a cross-entropy, or a difference of two: 0.512."""
    return decimal(value, 3, sign=sign)


def target(value: float) -> str:
    """Write a target accuracy with no more decimals than it has: 70%, 82.5%."""
    return f"{100 * value:.6g}%"


def steps(value: float | None) -> str:
    """Write a number of optimizer steps: whole, or with one decimal below 100."""
    if value is None or not math.isfinite(value):
        return MISSING
    whole = abs(value) >= 100 or float(value).is_integer()
    return decimal(value, 0 if whole else 1)


def factor(value: float | None) -> str:
    """Write a ratio with three digits, whole from 100 on: 4.12, 13.4, 272,000."""
    if value is None:
        return MISSING
    if math.isfinite(value) and abs(value) >= 99.95:
        return decimal(float(f"{value:.3g}"), 0)
    return decimal(value, 1 if abs(value) >= 9.995 else 2)


def epochs(value: float) -> str:
    """Write a time in epochs, as the axis of a curve has it: 0.2, 1.0."""
    return decimal(value, 1)


def epoch_count(value: float) -> str:
    """Write how many epochs were done: 1 epoch, 2.4 epochs."""
    whole = abs(value - round(value)) < 1e-9
    return count(round(value), "epoch") if whole else f"{epochs(value)} epochs"


def rate(value: float) -> str:
    """Write a learning rate as one would say it: 0.03, 10."""
    return f"{value:g}"


def duration(seconds: float) -> str:
    """Write seconds as the two largest units that matter: 2 h 5 min, 48 s."""
    if not math.isfinite(seconds):
        return MISSING
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def rough_duration(seconds: float) -> str:
    """Write seconds in the unit a person would use: 48 s, 5 min, 2.1 h."""
    if not math.isfinite(seconds):
        return MISSING
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def general(value: float, digits: int) -> str:
    """Write a number of any size with some significant digits, in Python's general format."""
    return f"{value:.{digits}g}"


def span(low: str, high: str) -> str:
    """Write a range of two written numbers."""
    return MISSING if MISSING in (low, high) else f"{low} to {high}"


def interval_span(interval: Interval, write: Writer) -> str:
    """Write the ends of an interval by a function of this module; no interval is a dash."""
    return span(write(interval.low), write(interval.high))


def confidence(interval: Interval) -> str:
    """Name the interval: 95% CI."""
    return f"{100 * interval.confidence:g}% CI"


def count(number: int, noun: str, plural: str = "") -> str:
    """Write a count with its noun: 1 seed, 16 seeds."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listing(items: Iterable[str], last: str = "and") -> str:
    """Write a list as in a sentence: a, b and c.

    Items with a comma outside of brackets are kept apart by semicolons.
    """
    words: Sequence[str] = list(items)
    if len(words) < 2:
        return "".join(words)
    if any(", " in re.sub(r"\(.*?\)", "", word) for word in words):
        return f"{'; '.join(words[:-1])}; {last} {words[-1]}"
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def opened(sentence: str) -> str:
    """Write a sentence that begins with a name, with a capital letter."""
    return f"{sentence[:1].upper()}{sentence[1:]}"


def setting(value: object) -> str:
    """Write the value of a run's setting."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)
