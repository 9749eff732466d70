"""The registered test of a claim, and the verdict word that follows from it."""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from bnstudy.config import stream
from bnstudy.inference import (
    Interval,
    Result,
    beyond_margin,
    beyond_margin_p,
    equivalence_p,
    equivalence_test,
    page_test,
    sign_flip_p,
    sign_flip_test,
    sign_p,
    sign_test,
    t_p,
    t_test,
)
from bnstudy.plan import Claim

ALPHA = 0.05  # family-wise error rate
POWER = 0.8  # minimum for a test of equivalence, at the pilot's spread


class Outcome(StrEnum):
    """The six verdict words."""

    SUPPORTED = "SUPPORTED"
    """The registered test rejects after Holm's correction, and the effect is as claimed."""

    REFUTED = "REFUTED"
    """The data show the opposite by the same standard."""

    INCONCLUSIVE = "INCONCLUSIVE"
    """Neither."""

    PREMISE_FAILED = "PREMISE FAILED"
    """A premise of the claim does not hold in these runs, so the comparison means nothing."""

    INADMISSIBLE = "INADMISSIBLE"
    """Data that the plan asks for are missing."""

    DEVIATED = "DEVIATED"
    """The plan was changed after the runs began."""


@dataclass(frozen=True)
class TestedEffect:
    """An effect with the p of a claim's test.

    Attributes
    ----------
    test
        Name of the test; for equivalence, the one of the two that the estimate selects.
    effect
        Estimate and interval in the natural unit.
    p
        Uncorrected, in (0, 1], of the hypothesis that the estimate speaks against.
    as_claimed
        Whether the estimate lies where the claim says.
    """

    test: str
    effect: Interval
    p: float
    as_claimed: bool


def examine(claim: Claim, values: np.ndarray) -> TestedEffect:
    """Test a claim on one number per seed.

    A direction is tested two-sided against the centre.  Equivalence is tested
    by the two one-sided tests if the estimate lies within the margin, and
    otherwise against the margin from outside.  Only one of these two can
    reject, so a claim has one p, which is small when the data support or
    contradict it.

    Parameters
    ----------
    claim
        The rule.
    values
        (n,), or (n, k) for an order, on the scale of analysis; all finite.
    """
    result = _run_test(claim, values)
    return TestedEffect(
        result.test,
        _in_natural_unit(claim, result.interval),
        result.p,
        bool(_as_claimed(claim, np.array(result.interval.estimate))),
    )


def examine_many(
    claim: Claim, samples: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Test a claim on many simulated samples at once, by the rule of :func:`examine`.

    Parameters
    ----------
    claim
        The rule.
    samples
        (r, n), or (r, n, k) for an order, on the scale of analysis.
    rng
        Draws signs where there are too many to enumerate.

    Returns
    -------
    p, as_claimed
        (r,) each.
    """
    if claim.test == "page":
        results = [page_test(sample) for sample in samples]
        estimates = np.array([result.interval.estimate for result in results])
        return np.array([result.p for result in results]), _as_claimed(claim, estimates)
    if claim.test == "sign":
        return sign_p(samples, claim.null), _as_claimed(claim, np.median(samples, axis=1))
    inside = _as_claimed(claim, samples.mean(axis=1))
    if claim.test == "tost":
        equal = equivalence_p(samples, claim.analysis_margin, claim.null)
        beyond = beyond_margin_p(samples, claim.analysis_margin, claim.null)
        return np.where(inside, equal, beyond), inside
    flips = claim.test == "sign-flip"
    p = sign_flip_p(samples, claim.null, rng) if flips else t_p(samples, claim.null)
    return p, inside


def decide(p_adjusted: float, as_claimed: bool) -> Outcome:
    """Return the verdict word for an adjusted p and the side of the estimate.

    Where neither a claim nor its opposite is true, Holm's correction bounds the
    probability of any decision by alpha.  A decision for the wrong side has the
    same bound if the tests are independent (Shaffer 1980, Annals of Statistics 8).
    """
    if p_adjusted > ALPHA:
        return Outcome.INCONCLUSIVE
    return Outcome.SUPPORTED if as_claimed else Outcome.REFUTED


def allows_no_effect(claim: Claim) -> bool:
    """Return whether a claim of two or more arms holds when these do not differ.

    Such a claim, for example 'less than 1.25 times as fast', is also supported by
    anything that hides a difference between the arms.
    """
    return len(claim.estimand.arms) > 1 and bool(_as_claimed(claim, np.zeros(())))


def claimed_range(claim: Claim) -> tuple[float, float]:
    """Return the ends of the effects, in the natural unit, that agree with a claim."""
    null, margin = claim.null, claim.analysis_margin
    low, high = {
        "greater": (null, math.inf),
        "less": (-math.inf, null),
        "within": (null - margin, null + margin),
    }[claim.direction]
    return (math.exp(low), math.exp(high)) if claim.estimand.in_ratios else (low, high)


def _run_test(claim: Claim, values: np.ndarray) -> Result:
    if claim.test == "page":
        return page_test(values)
    if claim.test == "tost":
        # The estimate selects the direction; the test of the other one could not reject.
        test = equivalence_test if _as_claimed(claim, values.mean()) else beyond_margin
        return test(values, claim.analysis_margin, claim.null, ALPHA)
    if claim.test == "sign-flip":
        # A stream of its own for each claim: p does not depend on which others are judged.
        return sign_flip_test(values, stream(0, f"sign flips of {claim.id}"), claim.null)
    return (t_test if claim.test == "t" else sign_test)(values, claim.null)


def _as_claimed(claim: Claim, estimates: np.ndarray) -> np.ndarray:
    """Return whether estimates, on the scale of analysis, lie where the claim says."""
    distance = np.asarray(estimates) - claim.null
    if claim.direction == "within":
        return np.asarray(np.abs(distance) < claim.analysis_margin)
    return np.asarray(distance > 0 if claim.direction == "greater" else distance < 0)


def _in_natural_unit(claim: Claim, interval: Interval) -> Interval:
    if not claim.estimand.in_ratios:
        return interval
    with np.errstate(over="ignore"):  # a ratio too large for a float is infinite
        estimate, low, high = np.exp([interval.estimate, interval.low, interval.high]).tolist()
    return Interval(estimate, low, high, interval.n, interval.confidence)
