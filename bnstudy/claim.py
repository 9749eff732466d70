"""What a claim about batch normalization is: a sentence that data can refute, as frozen data.

A claim names everything its verdict depends on before the first run: which
arms, what is read of each run, how that becomes one number a seed, the test,
and the direction or margin.  A claim can lose: 'there is some difference' is
not one, since no data could contradict it.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bnstudy.errors import ConfigError
from bnstudy.estimand import Estimand, Option, one_of

DIRECTIONS = ("greater", "less", "within")
TESTS = ("sign-flip", "t", "sign", "tost", "page")
FAMILIES = ("confirmatory", "exploratory")


@dataclass(frozen=True)
class Variant:
    """A robustness row: the claim computed in another registered way.  It has no verdict.

    Attributes
    ----------
    label
        What is different, in words.
    options
        Options of the measure that differ, for both sides.
    test, scale, unit, centre, margin
        What replaces the claim's, where given.
    """

    label: str
    options: Mapping[str, Option] = field(default_factory=dict)
    test: str | None = None
    scale: str | None = None
    unit: str | None = None
    centre: float | None = None
    margin: float | None = None


@dataclass(frozen=True)
class Pilot:
    """What pilot seeds, which no claim uses, said of the number a seed.

    Attributes
    ----------
    effect, spread
        Its mean and standard deviation, on the scale of analysis (a natural
        logarithm for a ratio).  Of an order: the rise from the first level to
        the last, and the deviation of seeds about the mean at each level.
    seeds
        Which they were.
    censored
        The share of runs that were censored in the arm with more of them.
    """

    effect: float
    spread: float
    seeds: tuple[int, ...]
    censored: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.effect) and 0 <= self.spread < math.inf):
            raise ConfigError(
                f"a pilot's effect and spread must be finite, got {self.effect!r} and "
                f"{self.spread!r}"
            )
        if not 0 <= self.censored <= 1:
            raise ConfigError(f"a pilot's censored share is in 0..1, got {self.censored!r}")
        if len(self.seeds) < 2:
            raise ConfigError(f"a pilot's spread needs two seeds or more, got {self.seeds!r}")


@dataclass(frozen=True)
class Claim:
    """A registered claim.

    Attributes
    ----------
    id
        Lower-case letters, digits and ``-``; unique in a plan.
    sentence
        What is claimed.
    source
        Who says so, with the year.
    quote
        The words of the lecture notes, where they say it; else empty.
    estimand
        The number a seed that it is about.
    unit
        Of that number: ``points`` for a difference of shares, ``times`` for a
        ratio, or any noun.
    direction
        ``greater`` or ``less`` than ``centre``, or ``within`` its margin.
    test
        ``sign-flip``, ``t``, ``sign`` or ``page`` (of an order), two-sided;
        ``tost`` of equivalence.
    centre
        In the natural unit; 0 if not given, 1 for a ratio.
    margin
        Of equivalence, in the natural unit: a distance from the centre, or for
        a ratio a factor above 1.
    family
        ``confirmatory``: judged, Holm-corrected with all of its kind in the
        plan.  ``exploratory``: an estimate without p or verdict.
    pilot
        What the pilot said; needed for the power of an equivalence claim.
    robustness
        Other ways of computing it, shown beside the verdict.
    """

    id: str
    sentence: str
    source: str
    estimand: Estimand
    unit: str
    direction: str
    test: str
    quote: str = ""
    centre: float | None = None
    margin: float | None = None
    family: str = "confirmatory"
    pilot: Pilot | None = None
    robustness: tuple[Variant, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", self.id):
            raise ConfigError(
                f"a claim's id must be lower-case letters, digits and '-', got {self.id!r}"
            )
        for name in ("sentence", "source", "unit"):
            if not getattr(self, name).strip():
                raise ConfigError(f"claim {self.id!r} needs a {name}, got none")
        if not re.search(r"\b(1[89]|20)\d\d\b", self.source) and not self.quote:
            raise ConfigError(
                f"the source of claim {self.id!r} must state a year, or the notes be quoted, "
                f"got {self.source!r}"
            )
        one_of("direction", self.direction, DIRECTIONS)
        one_of("test", self.test, TESTS)
        one_of("family", self.family, FAMILIES)
        labels = [variant.label for variant in self.robustness]
        if len(set(labels)) < len(labels) or not all(labels):
            raise ConfigError(f"robustness rows of claim {self.id!r} need a label each, once")
        self._check_rule()
        for variant in self.robustness:
            self.varied(variant)

    def _check_rule(self) -> None:
        if (self.direction == "within") != (self.test == "tost"):
            raise ConfigError(
                f"claim {self.id!r}: 'within' is tested by 'tost', and nothing else is, "
                f"got direction {self.direction!r} with test {self.test!r}"
            )
        if (self.estimand.summary == "order") != (self.test == "page"):
            raise ConfigError(
                f"claim {self.id!r}: an 'order' is tested by 'page', and nothing else is, "
                f"got summary {self.estimand.summary!r} with test {self.test!r}"
            )
        if (self.margin is not None) != (self.direction == "within"):
            raise ConfigError(
                f"claim {self.id!r}: a claim of equivalence, and no other, has a margin, "
                f"got {self.margin!r} with direction {self.direction!r}"
            )
        least = 1.0 if self.estimand.in_ratios else 0.0
        if self.margin is not None and not least < self.margin < math.inf:
            raise ConfigError(
                f"claim {self.id!r}: its margin must be above {least:g}, got {self.margin!r}"
            )
        if (
            self.centre is not None
            and not (-math.inf if least == 0 else 0) < self.centre < math.inf
        ):
            raise ConfigError(
                f"claim {self.id!r}: its centre must be finite, and positive for a ratio, "
                f"got {self.centre!r}"
            )
        if self.test == "page" and self.centre not in (None, 0.0):
            raise ConfigError(f"claim {self.id!r}: an order has no centre, got {self.centre!r}")

    @property
    def null(self) -> float:
        """The centre on the scale of analysis: a logarithm for a ratio."""
        if not self.estimand.in_ratios:
            return self.centre or 0.0
        return math.log(1.0 if self.centre is None else self.centre)

    @property
    def analysis_margin(self) -> float:
        """The margin on the scale of analysis: a logarithm for a ratio; 0 without one."""
        if self.margin is None:
            return 0.0
        return math.log(self.margin) if self.estimand.in_ratios else self.margin

    def varied(self, variant: Variant) -> "Claim":
        """Return the claim computed in another way, itself without robustness rows.

        Raises
        ------
        ConfigError
            If the two do not fit.
        """
        changes: dict[str, Any] = {
            name: value
            for name in ("test", "unit", "centre", "margin")
            if (value := getattr(variant, name)) is not None
        }
        estimand: dict[str, Any] = {
            "options": {**self.estimand.options, **variant.options},
            "scale": variant.scale or self.estimand.scale,
        }
        return replace(self, estimand=replace(self.estimand, **estimand), robustness=(), **changes)

    def canonical(self) -> dict[str, Any]:
        """Return the claim as plain data: everything that its verdict depends on."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def _plain(value: Any) -> Any:
    """Return nested data as lists, dicts and floats: 5 and 5.0 are one setting."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
