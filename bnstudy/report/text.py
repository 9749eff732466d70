"""The one formatter: every number, list and missing value of a report becomes text here.

NaN, infinity and None become :data:`MISSING`, and a minus is a real minus sign.
The same quantity has the same number of digits on every page.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import pandas as pd

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


def significant(value: float | None) -> str:
    """Write a number with three significant digits and without an exponent: 272,000, 0.0357."""
    if value is None or not math.isfinite(value):
        return MISSING
    if abs(value) <= 1e-9:
        return f"{value:g}"
    rounded = float(f"{value:.3g}")
    digits = max(0, 2 - math.floor(math.log10(abs(rounded))))
    text = decimal(rounded, digits)
    return text.rstrip("0").rstrip(".") if digits else text


def percent(value: float | None, digits: int = 1) -> str:
    """Write a share in 0..1 as a percentage: 84.3%."""
    text = decimal(None if value is None else 100 * value, digits)
    return text if text == MISSING else f"{text}%"


def points(value: float | None, digits: int = 1, *, sign: bool = True) -> str:
    """Write a difference of shares in percentage points, without the unit: +22.8."""
    return decimal(None if value is None else 100 * value, digits, sign=sign)


def effect(value: float, unit: str) -> str:
    """Write the size of an effect, without its unit: +1.20 (points), 13.4 (times), −0.498."""
    if unit == "points":
        return points(value, 2)
    return factor(value) if unit == "times" else decimal(value, 3, sign=True)


def effect_interval(interval: Interval | None, unit: str) -> str:
    """Write an effect with its unit and interval: 10.6 times (95% CI 9.06 to 12.5)."""
    if interval is None or not math.isfinite(interval.estimate):
        return MISSING
    estimate = f"{effect(interval.estimate, unit)} {unit}"
    ends = span(effect(interval.low, unit), effect(interval.high, unit))
    if ends == MISSING:
        return f"{estimate}, no interval"
    return f"{estimate} ({confidence(interval)} {ends})"


def p_value(value: float | None, *, smallest: bool = False) -> str:
    """Write a p, which is never 0: 0.0012, < 0.0001; ≤ 0.0012 if no test could give less."""
    if value is None:
        return MISSING
    if value < 1e-4:
        return "< 0.0001"
    return f"{'≤ ' * (smallest and value < 1)}{value:.2g}"


def p_equation(value: float, *, smallest: bool = False) -> str:
    """Write a p in a sentence: p = 0.0012, p < 0.0001, p ≤ 0.0012."""
    written = p_value(value, smallest=smallest)
    return f"p {written}" if written[0] in "<≤" else f"p = {written}"


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
    # a geometric mean of whole numbers is one only up to rounding
    is_whole = abs(value) >= 100 or abs(value - round(value)) < 1e-9
    return decimal(value, 0 if is_whole else 1)


def factor(value: float | None) -> str:
    """Write a ratio: three digits, but two decimals from 0.1 to 10: 0.0384, 4.12, 272,000."""
    if value is None:
        return MISSING
    if math.isfinite(value) and abs(value) >= 99.95:
        return decimal(float(f"{value:.3g}"), 0)
    if 0 < abs(value) < 0.0995:  # two decimals would leave a digit or none of it
        return significant(value)
    return decimal(value, 1 if abs(value) >= 9.995 else 2)


def epochs(value: float) -> str:
    """Write a time in epochs, as the axis of a curve has it: 0.2, 1.0."""
    return decimal(value, 1)


def epoch_count(value: float) -> str:
    """Write how many epochs were done: 1 epoch, 2.4 epochs."""
    whole = abs(value - round(value)) < 1e-9
    return count(round(value), "epoch") if whole else f"{epochs(value)} epochs"


def power_of_ten(value: float) -> str:
    """Write a power of ten with superscript digits: 10⁻⁴; any other number as it is."""
    exponent = round(math.log10(value)) if value > 0 else 0
    superscript = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{superscript}" if math.isclose(value, 10.0**exponent) else f"{value:g}"


def tick(value: float) -> str:
    """Write a tick label: whole from 1 on, with thousands separators, else as short as possible."""
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


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


def certainty(interval: Interval, write: Writer) -> str:
    """Write interval and number of pairs for the end of a sentence."""
    seeds = count(interval.n, "seed")
    ends = interval_span(interval, write)
    if ends == MISSING:
        return f"{seeds}: no interval"
    return f"{confidence(interval)} {ends}, {seeds}"


def mean_and_range(values: Iterable[float], write: Writer) -> str:
    """Write the mean of some values with the lowest and highest: 84.0% (81.2% to 85.1%)."""
    numbers = list(values)
    if not numbers:
        return MISSING
    mean = write(math.fsum(numbers) / len(numbers))
    return mean if len(numbers) == 1 else f"{mean} ({write(min(numbers))} to {write(max(numbers))})"


def csv(table: pd.DataFrame) -> str:
    """Write a table as CSV, numbers to twelve digits."""
    return table.to_csv(index=False, lineterminator="\n", float_format="%.12g")


def fixed(digits: int, *, sign: bool = False) -> Writer:
    """Return what writes numbers with a fixed count of decimals, for use as a ``write``."""
    return partial(decimal, digits=digits, sign=sign)


def whole_percent(value: float | None) -> str:
    """Write a share in 0..1 as a percentage without decimals: 84%."""
    return percent(value, 0)


def loss_difference(value: float | None) -> str:
    """Write a difference of two cross-entropies: +0.012."""
    return loss(value, sign=True)


def percentiles(values: Iterable[float]) -> str:
    """Write percentiles of one quantity in their order: −0.52 / 0.10 / 0.71."""
    return " / ".join(decimal(float(value), 2) for value in values) or MISSING


def signed_tick(value: float) -> str:
    """Write a tick label of an axis of effects, as short as possible: −0.5, 1.2, 30."""
    return f"{value:g}".replace("-", MINUS)


def fine_percent(value: float | None) -> str:
    """Write a share in 0..1 as a percentage with two decimals: 84.31%."""
    return percent(value, 2)


def unsigned_points(value: float | None) -> str:
    """Write the size of a difference of shares in percentage points, without the unit: 22.8."""
    return points(value, sign=False)


def whole(value: float | None) -> str:
    """Write a number without decimals, such as a number of images: 1,234."""
    return decimal(value, 0)


def percent_tick(value: float) -> str:
    """Write a tick label of an axis of shares as a percentage: 70%, 82.5%."""
    return f"{100 * value:g}%"
