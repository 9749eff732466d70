"""What the data say of a claim."""

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from bnstudy.inference import Interval
from bnstudy.plan import Claim


class Outcome(StrEnum):
    """The five verdict words."""

    SUPPORTED = "SUPPORTED"
    """The registered test rejects, after Holm, and the effect is as claimed."""

    REFUTED = "REFUTED"
    """The data show the opposite by the same standard."""

    INCONCLUSIVE = "INCONCLUSIVE"
    """Neither."""

    INADMISSIBLE = "INADMISSIBLE"
    """The data that the plan asks for are not there."""

    DEVIATED = "DEVIATED"
    """The plan was changed after the runs began."""


@dataclass(frozen=True)
class Row:
    """The claim computed in one way.

    Attributes
    ----------
    label
        Which way, in words.
    test
        Name of the test.
    effect
        Estimate and interval in the natural unit of ``unit``; None if it
        could not be computed.
    unit
        ``points``, ``times``, or a noun.
    p
        Raw, in (0, 1]; None where nothing was tested.
    as_claimed
        Whether the estimate lies where the claim says; None without one.
    """

    label: str
    test: str
    effect: Interval | None
    unit: str
    p: float | None
    as_claimed: bool | None


@dataclass(frozen=True)
class Verdict:
    """What a study says of a claim.

    Attributes
    ----------
    claim
        The claim, with the rule that was followed.
    experiment
        Whose it is.
    outcome
        The verdict word; None for an exploratory claim, which has none.
    reason
        Why it is not supported or refuted, in words; else empty.
    result
        The registered computation.
    p_adjusted
        After Holm over the family; None where nothing was tested.
    family
        How many confirmatory claims were corrected for together.
    seeds
        How many the plan asks for: pairs, since no run is left out.
    runs, censored, diverged
        How many runs were read, and how many of them were censored or diverged.
    robustness
        The registered other ways.
    sentence
        All of it in one sentence.
    crowded
        Whether in some arm more than half of the runs were censored or
        diverged: the effect is then that within the horizon, and the arms may
        lie further apart.
    """

    claim: Claim
    experiment: str
    outcome: Outcome | None
    reason: str
    result: Row
    p_adjusted: float | None
    family: int
    seeds: int
    runs: int
    censored: int
    diverged: int
    robustness: tuple[Row, ...]
    sentence: str = ""
    crowded: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as plain data for JSON: an end at infinity is None."""
        plain = asdict(self)
        plain["claim"] = self.claim.canonical()
        cleaned: dict[str, Any] = _finite(plain)
        return cleaned


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Outcome) else value
