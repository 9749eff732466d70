"""What a plan's seeds cannot show, said before the first run."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from bnstudy.errors import ConfigError
from bnstudy.inference import power_of_equivalence, seeds_needed, smallest_p
from bnstudy.judging.decisions import ALPHA, POWER
from bnstudy.judging.measures import find_measure
from bnstudy.plan import Claim, Plan


@dataclass(frozen=True)
class Shortfall:
    """A claim that cannot come out, or not often enough.

    Attributes
    ----------
    claim
        Its id.
    reason
        Why, in words.
    seeds
        How many seeds it would take; None if no number helps.
    """

    claim: str
    reason: str
    seeds: int | None


def shortfalls(plan: Plan) -> tuple[Shortfall, ...]:
    """Return the confirmatory claims that the plan's seeds cannot decide.

    A test must be able to reach alpha / m, with m claims in the family: the
    level that Holm asks of the first of them.  A test of equivalence must have
    80 % power at that level, with the pilot's spread and no true difference.

    Parameters
    ----------
    plan
        The study.

    Raises
    ------
    ConfigError
        If a claim's measure is unknown, or does not take its options.
    """
    for claim in plan.claims:
        for each in (claim, *map(claim.varied, claim.robustness)):
            for place in range(len(each.estimand.arms)):
                find_measure(each.estimand.measure, each.estimand.options_of(place))
            if each.estimand.against:
                find_measure(each.estimand.against, each.estimand.against_options)
    claims = [claim for claim in plan.claims if claim.family == "confirmatory"]
    found = [_shortfall(claim, len(plan.seeds), ALPHA / len(claims)) for claim in claims]
    return tuple(shortfall for shortfall in found if shortfall)


def refuse_what_cannot_come_out(plan: Plan) -> None:
    """Refuse a plan with claims that its seeds cannot decide.

    Raises
    ------
    ConfigError
        Naming each, why, and how many seeds it would take; or if a claim's
        measure is unknown, or does not take its options.
    """
    found = shortfalls(plan)
    if not found:
        return
    lines = [
        f"{each.claim} ({each.reason}: "
        + (f"takes {each.seeds} seeds)" if each.seeds else "no number of seeds helps)")
        for each in found
    ]
    raise ConfigError(
        f"a plan must be able to decide its claims, but {len(plan.seeds)} seeds cannot decide "
        f"{'; '.join(lines)}: plan more seeds, fewer claims or wider margins"
    )


def _shortfall(claim: Claim, seeds: int, alpha: float) -> Shortfall | None:
    if claim.test == "tost":
        return _too_little_power(claim, seeds, alpha)
    smallest = _smallest_p(claim)
    if smallest(seeds) <= alpha:
        return None
    reason = f"its smallest p is {smallest(seeds):.2g}, above {alpha:.2g}"
    return Shortfall(claim.id, reason, seeds_needed(lambda n: smallest(n) <= alpha))


def _smallest_p(claim: Claim) -> Callable[[int], float]:
    """Return the smallest p that a number of seeds can give in the claim's test."""
    if claim.test == "page":
        orders = math.factorial(len(claim.estimand.levels))
        return lambda n: min(1.0, 2.0 * math.exp(-n * math.log(orders)))
    if claim.test == "t":
        return lambda n: 1.0 if n == 1 else 0.0
    return lambda n: smallest_p(n) if n < 1_000 else 0.0


def _too_little_power(claim: Claim, seeds: int, alpha: float) -> Shortfall | None:
    if claim.pilot is None:
        return Shortfall(claim.id, "equivalence needs a pilot's spread, got none", None)
    spread = claim.pilot.spread

    def power(n: int) -> float:
        return power_of_equivalence(n, claim.analysis_margin, spread, alpha)

    if power(seeds) >= POWER:
        return None
    reason = f"its power is {power(seeds):.0%} at the pilot's spread"
    return Shortfall(claim.id, reason, seeds_needed(lambda n: power(n) >= POWER))
