"""A claim about batch normalization: a sentence that data can refute, as frozen data.

Before the first run a claim names everything that its verdict depends on: the
arms, the measure of each run, how measures become one number per seed, the
test, the direction or margin, and the premises without which the comparison
means nothing.  A claim can lose: 'there is some difference' is not one, since
no data could contradict it.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bnstudy.config import check_choice
from bnstudy.errors import ConfigError
from bnstudy.plan.estimand import Estimand, Option
from bnstudy.plan.premise import Premise

DIRECTIONS = ("greater", "less", "within")
TESTS = ("sign-flip", "t", "sign", "tost", "page")
JUDGED_FAMILIES = ("primary", "secondary")  # Holm's correction within each, on its own
EXPLORED = "explored"
FAMILIES = (*JUDGED_FAMILIES, EXPLORED)


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
        ``primary`` or ``secondary``: judged, Holm-corrected with the claims of the
        plan in the same family.  ``explored``: an estimate without p or verdict.
    pilot
        Estimate from pilot seeds; needed for the power of an equivalence claim.
    robustness
        Other ways of computing it, shown beside the verdict.
    premises
        Conditions on the same runs.  If one fails, the claim is not judged.
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
    family: str = "primary"
    pilot: Pilot | None = None
    robustness: tuple[Variant, ...] = ()
    premises: tuple[Premise, ...] = ()

    def __post_init__(self) -> None:
        # Filled in here, so that the canonical form states them whether given or not.
        if not self.unit:
            object.__setattr__(self, "unit", self.estimand.usual_unit)
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
        kinds = [premise.kind for premise in self.premises]
        if any(self.premises.count(premise) > 1 for premise in self.premises):
            raise ConfigError(f"claim {self.id!r} states a premise twice, got the kinds {kinds}")

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
    def judged(self) -> bool:
        """True if the claim gets a verdict: it is not explored only."""
        return self.family in JUDGED_FAMILIES

    @property
    def arm_names(self) -> tuple[str, ...]:
        """Every arm of the estimand and of the premises, once, in order."""
        premises = (name for premise in self.premises for name in premise.arm_names)
        return tuple(dict.fromkeys((*self.estimand.arm_names, *premises)))

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
        """Return the claim computed in another way, without robustness checks or premises.

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
        estimand_of_variant = replace(self.estimand, **estimand)
        return replace(self, estimand=estimand_of_variant, robustness=(), premises=(), **changes)

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
