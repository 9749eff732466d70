"""A claim about batch normalization: a sentence that data can refute, as frozen data.

Before the first run a claim names everything that its verdict depends on: the
arms, the measure of each run, how measures become one number per seed, the
test, and the direction or margin.  A claim can lose: 'there is some
difference' is not one, since no data could contradict it.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeAlias

from bnstudy.config import check_choice
from bnstudy.errors import ConfigError

Option: TypeAlias = bool | int | float | str

SUMMARIES = ("value", "slope", "range", "knee", "order", "correlation")
SCALES = ("difference", "ratio")
LEVEL_SCALES = ("linear", "log", "log2", "log10")
DIRECTIONS = ("greater", "less", "within")
TESTS = ("sign-flip", "t", "sign", "tost", "page")
FAMILIES = ("confirmatory", "exploratory")


@dataclass(frozen=True)
class Estimand:
    """Rule by which the runs of some arms become one number per seed.

    Attributes
    ----------
    measure
        Measure of each run: a name of :data:`bnstudy.judging.MEASURES`.
    arms
        One, two or four groups of arms, by name.  Two are compared, the first
        to the second; four are a 2x2: with both treatments, the first alone,
        the second alone, neither.
    options
        Of the measure, for example ``{"target": 0.8, "epochs": 5}``.
    baseline_options
        Options that differ for the second group of a pair: the same arm may be
        measured in two ways.
    summary
        Summary of a group in each seed: the ``value`` of its one arm; over
        several arms the ``slope`` on their levels, the ``range`` of levels in
        decades whose arms have a positive value, the ``knee`` of a fit by two
        lines; or all its values, whose ``order`` is tested.  A ``correlation``
        is the rank correlation with a second measure: over the arms in each
        seed, or of one arm over the seeds.
    levels
        The level of each arm of a group, in its order, for example batch sizes.
    level_scale
        Scale of the levels: ``linear``, ``log``, ``log2`` or ``log10``.
    scale
        ``difference`` between groups, or ``ratio``: then measures are taken as
        natural logarithms, and a single value per group is reported as a ratio.
    against, against_options
        The second measure of a correlation, and its options.
    """

    measure: str
    arms: tuple[tuple[str, ...], ...]
    options: Mapping[str, Option] = field(default_factory=dict)
    baseline_options: Mapping[str, Option] = field(default_factory=dict)
    summary: str = "value"
    levels: tuple[float, ...] = ()
    level_scale: str = "linear"
    scale: str = "difference"
    against: str = ""
    against_options: Mapping[str, Option] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("measure scale", self.scale, SCALES)
        check_choice("summary", self.summary, SUMMARIES)
        check_choice("level scale", self.level_scale, LEVEL_SCALES)
        if len(self.arms) not in (1, 2, 4) or not all(self.arms):
            raise ConfigError(
                f"an estimand compares 1, 2 or 4 groups of arms, got {len(self.arms)} "
                f"({self.arms!r})"
            )
        if (self.summary == "correlation") != bool(self.against):
            raise ConfigError(
                f"a correlation, and no other summary, is against a second measure, "
                f"got {self.summary!r} against {self.against!r}"
            )
        if self.summary == "correlation":
            self._check_correlation()
        else:
            self._check_levels()

    def _check_levels(self) -> None:
        if self.summary == "value" and self.levels:
            raise ConfigError(f"levels are for slopes, ranges, knees and orders, got {self.levels}")
        if self.summary != "value" and len(set(self.levels)) < 2:
            raise ConfigError(
                f"a {self.summary} needs at least two different levels, got {self.levels}"
            )
        width = 1 if self.summary == "value" else len(self.levels)
        if any(len(group) != width for group in self.arms):
            raise ConfigError(
                f"each group of a {self.summary} must have {width} arms, got {self.arms!r}"
            )
        # Page's test compares the levels within a seed; it has no second group to subtract.
        if self.summary == "order" and len(self.arms) > 1:
            raise ConfigError("an order is tested within one group of arms, got several")
        # A range is a difference of logarithms: its levels are positive even on a linear scale.
        logarithmic = self.level_scale != "linear" or self.summary == "range"
        if logarithmic and min(self.levels, default=1.0) <= 0:
            raise ConfigError(f"levels on a logarithmic scale must be positive, got {self.levels}")
        if self.summary == "range" and self.scale == "ratio":
            raise ConfigError("a range is in decades already: give it the scale 'difference'")

    def _check_correlation(self) -> None:
        # Two points always have a rank correlation of 1 or -1.
        if len(self.arms) != 1 or len(self.arms[0]) == 2:
            raise ConfigError(
                "a correlation is over one group of three arms or more, or over the seeds of one "
                f"arm, got {self.arms!r}"
            )
        if self.levels or self.scale != "difference":
            raise ConfigError(
                "ranks have no levels and no logarithm: a correlation takes the scale "
                f"'difference' and no levels, got {self.scale!r} and {self.levels}"
            )

    @property
    def in_ratios(self) -> bool:
        """True if the number per seed is the logarithm of a ratio, not a slope or a knee."""
        return self.scale == "ratio" and self.summary == "value"

    def options_of(self, position: int) -> dict[str, Option]:
        """Return the options of the measure for the group at a position, from 0."""
        # Odd positions are baselines: the second of a pair, the second and fourth of a 2x2.
        return {**self.options, **(self.baseline_options if position % 2 else {})}

    @property
    def arm_names(self) -> tuple[str, ...]:
        """Every arm, once, in order."""
        return tuple(dict.fromkeys(name for group in self.arms for name in group))


@dataclass(frozen=True)
class Variant:
    """A robustness check: the claim computed in another registered way, without a verdict.

    Attributes
    ----------
    label
        Short description of the difference.
    options
        Options of the measure that differ, for both groups.
    test, summary, scale, unit, centre, margin
        Replace those of the claim, where given.
    """

    label: str
    options: Mapping[str, Option] = field(default_factory=dict)
    test: str | None = None
    summary: str | None = None
    scale: str | None = None
    unit: str | None = None
    centre: float | None = None
    margin: float | None = None


@dataclass(frozen=True)
class Pilot:
    """Estimate of the number per seed from pilot seeds, which no claim uses.

    Attributes
    ----------
    effect, spread
        Mean and standard deviation, on the scale of analysis (a natural
        logarithm for a ratio).  Of an order: the rise from the first level to
        the last, and the deviation of seeds about the mean at each level.
    seeds
        The pilot seeds.
    censored
        Share of censored runs, in the arm that has more of them.
    arms
        Hash of the arms it was made with, 12 hex digits, as ``bnstudy plan pilot``
        prints it; empty if that was not recorded.
    """

    effect: float
    spread: float
    seeds: tuple[int, ...]
    censored: float = 0.0
    arms: str = ""

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
        if self.arms and not re.fullmatch(r"[0-9a-f]{12}", self.arms):
            raise ConfigError(
                f"the hash of a pilot's arms has 12 hex digits, got {self.arms!r}: paste the line "
                "that bnstudy plan pilot prints"
            )


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
    estimand
        The number per seed that it is about.
    direction
        ``greater`` or ``less`` than ``centre``, or ``within`` its margin.
    unit
        Of that number: any noun.  If not given, ``times`` for a ratio and
        ``points`` for a difference of accuracies.
    test
        ``sign-flip``, ``t``, ``sign`` or ``page`` (of an order), two-sided;
        ``tost`` of equivalence.  If not given, ``tost`` within a margin and
        ``sign-flip`` otherwise.
    quote
        The words of the lecture notes, where they say it; else empty.
    centre
        In the unit of the claim; 0 if not given, 1 for a ratio.
    margin
        Of equivalence, in the unit of the claim: a distance from the centre, or
        for a ratio a factor above 1.
    family
        ``confirmatory``: judged, Holm-corrected with all confirmatory claims of
        the plan.  ``exploratory``: an estimate without p or verdict.
    pilot
        Estimate from pilot seeds; needed for the power of an equivalence claim.
    robustness
        Other ways of computing it, shown beside the verdict.
    """

    id: str
    sentence: str
    source: str
    estimand: Estimand
    direction: str
    unit: str = ""
    test: str = ""
    quote: str = ""
    centre: float | None = None
    margin: float | None = None
    family: str = "confirmatory"
    pilot: Pilot | None = None
    robustness: tuple[Variant, ...] = ()

    def __post_init__(self) -> None:
        # Filled in here, so that the canonical form states them whether given or not.
        if not self.unit:
            object.__setattr__(self, "unit", self._usual_unit())
        if not self.test:
            object.__setattr__(self, "test", "tost" if self.direction == "within" else "sign-flip")
        self._check_texts()
        check_choice("direction", self.direction, DIRECTIONS)
        check_choice("test", self.test, TESTS)
        check_choice("family", self.family, FAMILIES)
        self._check_rule()
        for variant in self.robustness:  # an impossible one must not wait for the report
            self.varied(variant)

    def _check_texts(self) -> None:
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
        labels = [variant.label for variant in self.robustness]
        if len(set(labels)) < len(labels) or not all(labels):
            raise ConfigError(
                f"each robustness check of claim {self.id!r} needs a label of its own, got {labels}"
            )

    def _usual_unit(self) -> str:
        if self.estimand.in_ratios:
            return "times"
        is_accuracy = self.estimand.measure == "accuracy" and self.estimand.summary == "value"
        return "points" if is_accuracy else ""

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
        least = 1 if self.estimand.in_ratios else 0  # the margin that allows no deviation
        if self.margin is not None and not least < self.margin < math.inf:
            raise ConfigError(
                f"claim {self.id!r}: its margin must be above {least}, got {self.margin!r}"
            )
        lowest = 0 if self.estimand.in_ratios else -math.inf
        if self.centre is not None and not lowest < self.centre < math.inf:
            raise ConfigError(
                f"claim {self.id!r}: its centre must be finite, and positive for a ratio, "
                f"got {self.centre!r}"
            )
        if self.test == "page" and self.centre not in (None, 0.0):
            raise ConfigError(f"claim {self.id!r}: an order has no centre, got {self.centre!r}")

    @property
    def null(self) -> float:
        """The centre on the scale of analysis: its logarithm for a ratio."""
        if not self.estimand.in_ratios:
            return self.centre or 0.0
        return math.log(1.0 if self.centre is None else self.centre)

    @property
    def analysis_margin(self) -> float:
        """The margin on the scale of analysis: its logarithm for a ratio; 0 if not given."""
        if self.margin is None:
            return 0.0
        return math.log(self.margin) if self.estimand.in_ratios else self.margin

    def varied(self, variant: Variant) -> "Claim":
        """Return the claim computed in another way, itself without robustness checks.

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
            "summary": variant.summary or self.estimand.summary,
            "scale": variant.scale or self.estimand.scale,
        }
        return replace(self, estimand=replace(self.estimand, **estimand), robustness=(), **changes)

    def canonical(self) -> dict[str, Any]:
        """Return the claim as plain data: everything that its verdict depends on."""
        plain: dict[str, Any] = _plain(asdict(self))
        if self.pilot is not None and not self.pilot.arms:
            # Plans that were stored before this hash existed keep theirs.
            del plain["pilot"]["arms"]
        return plain


def _plain(value: Any) -> Any:
    """Return nested data as lists, dicts and floats: 5 and 5.0 are the same setting."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
