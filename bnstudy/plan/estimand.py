"""Estimand: the rule by which the runs of some arms become one number per seed, as frozen data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from bnstudy.config import check_choice
from bnstudy.errors import ConfigError

Option: TypeAlias = bool | int | float | str

SUMMARIES = ("value", "slope", "range", "knee", "order", "correlation")
SCALES = ("difference", "ratio")
LEVEL_SCALES = ("linear", "log", "log2", "log10")


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
            raise ConfigError("a range is already measured in decades: use the scale 'difference'")

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

    @property
    def usual_unit(self) -> str:
        """``times`` for a ratio, ``points`` for a difference of accuracies; else empty."""
        if self.in_ratios:
            return "times"
        return "points" if self.measure == "accuracy" and self.summary == "value" else ""

    def options_of(self, position: int) -> dict[str, Option]:
        """Return the options of the measure for the group at a position, from 0."""
        # Odd positions are baselines: the second of a pair, the second and fourth of a 2x2.
        return {**self.options, **(self.baseline_options if position % 2 else {})}

    @property
    def arm_names(self) -> tuple[str, ...]:
        """Every arm, once, in order."""
        return tuple(dict.fromkeys(name for group in self.arms for name in group))
