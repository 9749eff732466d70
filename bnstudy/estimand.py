"""How the runs of some arms become one number a seed, as frozen data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from bnstudy.errors import ConfigError

Option: TypeAlias = bool | int | float | str

SUMMARIES = ("value", "slope", "range", "knee", "order")
SCALES = ("difference", "ratio")
LEVEL_SCALES = ("linear", "log", "log2", "log10")


@dataclass(frozen=True)
class Estimand:
    """How the runs of some arms become one number a seed.

    Attributes
    ----------
    measure
        What is read of each run: a name of :data:`bnstudy.claims.MEASURES`.
    arms
        One, two or four groups of arms, by name.  Two are compared, the first
        to the second; four are a 2x2: with both treatments, the first alone,
        the second alone, neither.
    options
        Of the measure, for example ``{"target": 0.8, "epochs": 5}``.
    baseline_options
        Those that differ for every group but the first: the same arm may be
        read in two ways.
    summary
        What a group comes to in each seed: the ``value`` of its one arm; over
        several arms the ``slope`` on their levels, the ``range`` of levels in
        decades whose arms have a positive value, the ``knee`` of a fit by two
        lines; or all its values, whose ``order`` is tested.
    levels
        The level of each arm of a group, in its order, for example batch sizes.
    level_scale
        How levels enter: ``linear``, ``log``, ``log2`` or ``log10``.
    scale
        ``difference`` between groups, or ``ratio``: then measures are taken as
        natural logarithms, and one value a group comes out as a ratio again.
    """

    measure: str
    arms: tuple[tuple[str, ...], ...]
    options: Mapping[str, Option] = field(default_factory=dict)
    baseline_options: Mapping[str, Option] = field(default_factory=dict)
    summary: str = "value"
    levels: tuple[float, ...] = ()
    level_scale: str = "linear"
    scale: str = "difference"

    def __post_init__(self) -> None:
        one_of("measure scale", self.scale, SCALES)
        one_of("summary", self.summary, SUMMARIES)
        one_of("level scale", self.level_scale, LEVEL_SCALES)
        if len(self.arms) not in (1, 2, 4) or not all(self.arms):
            raise ConfigError(
                f"an estimand compares 1, 2 or 4 groups of arms, got {len(self.arms)} "
                f"({self.arms!r})"
            )
        width = 1 if self.summary == "value" else len(self.levels)
        if self.summary == "value" and self.levels:
            raise ConfigError(f"levels are for slopes, ranges, knees and orders, got {self.levels}")
        if self.summary != "value" and len(set(self.levels)) < 2:
            raise ConfigError(
                f"a {self.summary} needs at least two different levels, got {self.levels}"
            )
        if any(len(group) != width for group in self.arms):
            raise ConfigError(
                f"each group of a {self.summary} must have {width} arms, got {self.arms!r}"
            )
        if self.summary == "order" and len(self.arms) > 1:
            raise ConfigError("an order is tested within one group of arms, got several")
        logarithmic = self.level_scale != "linear" or self.summary == "range"
        if logarithmic and min(self.levels, default=1.0) <= 0:
            raise ConfigError(f"levels on a logarithmic scale must be positive, got {self.levels}")
        if self.summary == "range" and self.scale == "ratio":
            raise ConfigError("a range is in decades already: give it the scale 'difference'")

    @property
    def in_ratios(self) -> bool:
        """Whether the number of a seed is the logarithm of a ratio, not a slope or a knee."""
        return self.scale == "ratio" and self.summary == "value"

    def options_of(self, place: int) -> dict[str, Option]:
        """Return the options that a group of arms is read with: 0 for the first."""
        return {**self.options, **(self.baseline_options if place else {})}

    @property
    def arm_names(self) -> tuple[str, ...]:
        """Every arm, once, in order."""
        return tuple(dict.fromkeys(name for group in self.arms for name in group))


def one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a word that is not among the choices.

    Raises
    ------
    ConfigError
        Naming them.
    """
    if value not in choices:
        raise ConfigError(f"a {name} must be one of {', '.join(choices)}, got {value!r}")
