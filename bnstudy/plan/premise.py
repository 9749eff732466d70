"""Premise of a claim: a condition on its runs without which its comparison means nothing.

A premise is registered with its claim before the first run and tested on the same runs.
:mod:`bnstudy.judging.premises` has the test of each kind.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bnstudy.config import check_choice
from bnstudy.errors import ConfigError, find, unknown
from bnstudy.plan.estimand import Estimand, Option

FLAT_COLUMNS = (
    "validation_accuracy",
    "validation_loss",
    "test_accuracy_population",
    "test_loss_population",
    "test_accuracy",
    "test_loss",
    "train_accuracy",
    "train_loss",
)


@dataclass(frozen=True)
class PremiseKind:
    """The arguments that premises of one kind take.

    Attributes
    ----------
    of_arms, of_estimand
        Whether it can be about arms, and about an estimand; it is about one of them.
    options
        Its options with their defaults; None for one that must be given.
    """

    of_arms: bool
    of_estimand: bool
    options: Mapping[str, Option | None]


KINDS: Mapping[str, PremiseKind] = {
    "trained": PremiseKind(True, False, {"above": 0.05, "epochs": 0.0}),
    "flat": PremiseKind(
        True,
        False,
        {"last": None, "tolerance": None, "epochs": 0.0, "column": "test_accuracy_population"},
    ),
    "equal-fit": PremiseKind(True, True, {"margin": None, "epochs": 0.0}),
    "effect-there": PremiseKind(False, True, {"direction": None}),
    "no-effect-there": PremiseKind(False, True, {"margin": None}),
    "bracketed": PremiseKind(False, True, {"best": "greatest", "share": 0.0}),
}
NUMBERS: Mapping[str, tuple[str, Callable[[float], bool]]] = {
    "above": ("between 0 and 1", lambda number: 0 < number < 1),
    "epochs": ("0 (all epochs) or above", lambda number: number >= 0),
    "last": ("above 0", lambda number: number > 0),
    "tolerance": ("above 0", lambda number: number > 0),
    "margin": ("above 0", lambda number: number > 0),
    "share": ("in 0..1", lambda number: 0 <= number <= 1),
}
CHOICES = {
    "direction": ("greater", "less"),
    "best": ("greatest", "least"),
    "column": FLAT_COLUMNS,
}


@dataclass(frozen=True)
class Premise:
    """A registered premise of a claim.

    Attributes
    ----------
    kind
        ``trained``: in every seed each arm's best accuracy within ``epochs`` (0: all) is at
        least ``above`` (0.05) above chance, on validation images, or on training images where
        none are held out.  Of a diverged run its last accuracy counts.

        ``flat``: the change of a ``column`` of the curve over the ``last`` epochs up to
        ``epochs`` is below ``tolerance`` in each arm, by the bounds of its interval over seeds.

        ``equal-fit``: two groups of arms have the same training loss after ``epochs``, within
        ``margin`` by the interval of the difference.  Of an estimand: another measure of
        training loss.

        ``effect-there``, the positive control: an estimand differs from no effect in a
        ``direction``, by its interval.

        ``no-effect-there``, the control arm: the interval of an estimand lies within
        ``margin`` of no effect.

        ``bracketed``: along the levels of an estimand the ``best`` value, the ``greatest`` or
        the ``least``, is at neither end in any group of arms: in at least a ``share`` of
        seeds, or in the mean over seeds (0).
    arms
        Groups of arms, by name, where the kind is about arms.
    options
        Options of the kind; those left out are filled in with their defaults.
    estimand
        The number per seed, or levels, where the kind is about an estimand.
    unit
        Unit of its figure; filled in where the kind or the estimand has a usual one.
        ``margin`` and ``tolerance`` are in this unit, accuracies in 0..1 and factors above 1
        for a ratio, as in a claim.
    """

    kind: str
    arms: tuple[tuple[str, ...], ...] = ()
    options: Mapping[str, Option] = field(default_factory=dict)
    estimand: Estimand | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        kind = find("kind of premise", self.kind, KINDS)
        self._check_subject(kind)
        # Filled in here, so that the canonical form states them whether given or not.
        object.__setattr__(self, "options", self._completed(kind))
        if not self.unit:
            object.__setattr__(self, "unit", self._usual_unit())
        if not self.unit.strip():
            raise ConfigError(
                f"premise {self.kind!r} needs the unit of its estimand, got none: give one"
            )
        if self.estimand is not None:
            self._check_estimand(self.estimand)

    def _check_subject(self, kind: PremiseKind) -> None:
        """Refuse arms or an estimand that the kind does not take, or neither or both."""
        subjects = ["arms"] * kind.of_arms + ["an estimand"] * kind.of_estimand
        given = ["arms"] * bool(self.arms) + ["an estimand"] * (self.estimand is not None)
        if len(given) != 1 or given[0] not in subjects:
            raise ConfigError(
                f"premise {self.kind!r} is about {' or '.join(subjects)}, got "
                f"{' and '.join(given) or 'neither arms nor an estimand'}"
            )
        if not all(isinstance(group, tuple) and group for group in self.arms):
            raise ConfigError(
                f"the arms of premise {self.kind!r} must be tuples of names, one per group, "
                f"got {self.arms!r}"
            )
        names = [name for group in self.arms for name in group]
        if len(set(names)) < len(names):
            raise ConfigError(f"premise {self.kind!r} names each arm once, got {self.arms!r}")
        groups = self.arms if self.estimand is None else self.estimand.arms
        if self.kind == "equal-fit" and len(groups) != 2:
            raise ConfigError(
                f"premise 'equal-fit' compares two groups of arms, got {len(groups)}: {groups!r}"
            )

    def _completed(self, kind: PremiseKind) -> dict[str, Option]:
        """Return the options with their defaults, each one checked."""
        for name in self.options:
            if name not in kind.options:
                raise ConfigError(unknown(f"option of premise {self.kind!r}", name, kind.options))
        options = {**kind.options, **self.options}
        completed = {name: value for name, value in options.items() if value is not None}
        if absent := [name for name in options if name not in completed]:
            raise ConfigError(f"premise {self.kind!r} needs {' and '.join(absent)}, got none")
        for name, value in completed.items():
            if name in CHOICES:
                check_choice(f"{name} of premise {self.kind!r}", value, CHOICES[name])
            else:
                _check_number(self.kind, name, value)
        self._check_epochs(completed)
        return completed

    def _check_epochs(self, options: Mapping[str, Option]) -> None:
        if "last" in options and 0 < float(options["epochs"]) <= float(options["last"]):
            raise ConfigError(
                f"the last epochs of premise {self.kind!r} must be fewer than all of them, got "
                f"{options['last']} of {options['epochs']}"
            )
        if self.estimand is not None and options.get("epochs"):
            raise ConfigError(
                f"premise {self.kind!r} of an estimand reads what the estimand says, got epochs "
                f"{options['epochs']} beside it: leave them out"
            )

    def _check_estimand(self, estimand: Estimand) -> None:
        if self.kind == "bracketed":
            if len(set(estimand.levels)) < max(3, len(estimand.levels)):
                raise ConfigError(
                    "premise 'bracketed' needs an estimand with three levels or more, all "
                    f"different, got {estimand.levels}"
                )
            return
        if estimand.summary == "order":
            raise ConfigError(
                f"premise {self.kind!r} needs a number per seed, and an order has none: "
                "take the slope"
            )
        if estimand.in_ratios and "margin" in self.options and float(self.options["margin"]) <= 1:
            raise ConfigError(
                f"the margin of premise {self.kind!r} is a factor above 1 where the estimand is a "
                f"ratio, got {self.options['margin']}"
            )

    def _usual_unit(self) -> str:
        if self.kind == "trained":
            return "accuracy"
        if self.kind == "flat":
            return "points" if "accuracy" in str(self.options["column"]) else "of loss"
        if self.kind == "bracketed":
            return "level"
        usual = "" if self.estimand is None else self.estimand.usual_unit
        return usual or ("of loss" if self.kind == "equal-fit" else "")

    @property
    def arm_names(self) -> tuple[str, ...]:
        """Every arm, once, in order."""
        if self.estimand is not None:
            return self.estimand.arm_names
        return tuple(name for group in self.arms for name in group)


def _check_number(kind: str, name: str, value: Option) -> None:
    rule, holds = NUMBERS[name]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and math.isfinite(float(value)) and holds(float(value))):
        raise ConfigError(f"{name} of premise {kind!r} must be a number {rule}, got {value!r}")
