"""The registered test of a claim, its checks, and the verdict word that follows from them.

A word needs the registered test and a check with other assumptions on the same
side: the p that enters Holm's correction is the larger of the two.

- Sign flips are exact for differences that are symmetric about the centre, and
  Student's t for normal ones.  Both are checked by the studentized bootstrap,
  which assumes neither.
- Page's test is exact where the levels of a seed are exchangeable.  It is
  checked by flipping the signs of the seeds' rank correlations, which is exact
  where a seed shows each order as often as its reverse: the levels may then
  differ in spread.
- The sign test is exact for the median of any distribution, and has no check.

Differences with a skewness beyond :data:`SKEWED` also need the sign test on the
same side, because no test of a mean keeps its level there.

Errors of two-sided tests of a true mean of 0, in percent of 4,000 simulated
samples of 16 seeds: at 5 %, and at 0.05 / 12 = 0.42 %, the level of the first
claim in a family of twelve.  The last column adds the sign test.

======================  ===========  ===========  ===========  ===========
differences             sign flips   bootstrap    both         the word
======================  ===========  ===========  ===========  ===========
normal                  6.4  0.50    6.4  0.45    5.4  0.40    5.3  0.38
t with 2 df             4.8  0.38    8.0  0.80    4.4  0.33    2.7  0.22
-2 to 2, tied           3.7  0.20    2.9  0.18    2.4  0.12    2.2  0.12
four seeds x 10         5.2  0.30    13.8 0.40    5.2  0.18    1.2  0.07
log-normal, sigma 0.5   6.8  1.23    5.9  0.65    4.9  0.65    4.8  0.65
log-normal, sigma 1     13.8 4.65    8.4  1.47    7.5  1.47    7.2  1.32
======================  ===========  ===========  ===========  ===========

The last is still three times its level at Holm's first step.  98 % of its
errors lie on the side of the median, which is not 0: the word then holds for
the typical seed and not for the mean.  Measure on a scale, such as logarithms,
on which differences are symmetric.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

import numpy as np

from bnstudy.config import stream
from bnstudy.inference import (
    RESAMPLES,
    Interval,
    Result,
    Tails,
    beyond_margin,
    beyond_margin_p,
    bootstrap_tails,
    bootstrap_weights,
    equivalence_p,
    equivalence_test,
    holm,
    order_correlations,
    page_test,
    sign_flip_p,
    sign_flip_test,
    sign_tails,
    sign_test,
    skewness,
    t_tails,
    t_test,
    two_sided_p,
    varies,
)
from bnstudy.plan import Claim

ALPHA = 0.05  # family-wise error rate
POWER = 0.8  # minimum for a test of equivalence, at the pilot's spread
SKEWED = 1.0  # skewness of the differences beyond which a word needs the sign test


class Outcome(StrEnum):
    """The six verdict words."""

    SUPPORTED = "SUPPORTED"
    """Test and checks reject after Holm's correction, and the effect is as claimed."""

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
class Check:
    """A second test of a claim, with other assumptions than the registered one.

    Attributes
    ----------
    test
        Its name.
    p
        Uncorrected, in (0, 1].
    as_claimed
        Whether its own estimate lies where the claim says.
    floor
        The smallest p that it can give on so many seeds.
    """

    test: str
    p: float
    as_claimed: bool
    floor: float


@dataclass(frozen=True)
class TestedEffect:
    """An effect with the p of a claim's test and of its checks.

    Attributes
    ----------
    test
        Name of the registered test; for equivalence, the one of the two that
        the estimate selects.
    effect
        Estimate and interval in the natural unit.
    test_p
        Of the registered test: uncorrected, in (0, 1], of the hypothesis that
        the estimate speaks against.
    as_claimed
        Whether the estimate lies where the claim says.
    floor
        The smallest p that the registered test can give on so many seeds; 0 if
        there is none.
    checks
        The tests that must agree with it.
    skewness
        Of the differences on the scale of analysis; 0 for fewer than three, for
        differences without spread, and for an order, which rests on ranks.
    """

    test: str
    effect: Interval
    test_p: float
    as_claimed: bool
    floor: float = 0.0
    checks: tuple[Check, ...] = ()
    skewness: float = 0.0

    @property
    def p(self) -> float:
        """The p that enters Holm's correction: the largest, and 1 if the sides differ."""
        if any(check.as_claimed != self.as_claimed for check in self.checks):
            return 1.0
        return max([self.test_p, *(check.p for check in self.checks)])

    @property
    def at_floor(self) -> bool:
        """True if ``p`` is the smallest that its test can give: the p is at most this."""
        floors = [(self.test_p, self.floor), *((check.p, check.floor) for check in self.checks)]
        return any(p == self.p and p <= floor for p, floor in floors)


def examine(
    claim: Claim,
    values: np.ndarray,
    both_censored: np.ndarray | None = None,
    one_censored: np.ndarray | None = None,
) -> TestedEffect:
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
    both_censored
        (n,), True where the number could be larger and smaller, because both
        sides of a pair were censored.  Such a seed supports no equivalence,
        which counts it at the margin on the side of the other seeds, and it
        contradicts none: an effect beyond the margin must also be found with
        the seed as it was observed.
    one_censored
        (n,), 1 where the number is at least this, because only the first side
        was censored; -1 where it is at most this; else 0.  If all of these
        agree, the effect is a bound: its interval is open to that side, and no
        test rejects what lies there.
    """
    values, bound = np.asarray(values, dtype=float), _bound(one_censored)
    undetermined = claim.direction == "within" and both_censored is not None and both_censored.any()
    if both_censored is None or not undetermined:
        return _tested(claim, values, bound)
    examined = _tested(claim, _at_margin(claim, values, both_censored), bound)
    if examined.as_claimed:
        return examined
    return _agreed(examined, _tested(claim, values, bound))


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
        (r,) each; p is that of test and checks together.
    """
    if claim.test == "page":
        results = [page_test(sample) for sample in samples]
        side = _as_claimed(claim, np.array([result.interval.estimate for result in results]))
        order = np.array([order_correlations(sample) for sample in samples])
        p = np.array([result.p for result in results])
        return np.maximum(p, sign_flip_p(order, 0.0, rng)), side
    if claim.test == "sign":
        return _by_tails(claim, samples, sign_tails, np.median(samples, axis=1))
    means = samples.mean(axis=1)
    p, side = _by_tails(claim, samples, t_tails, means)
    if claim.test == "sign-flip":
        p = sign_flip_p(samples, claim.null, rng)
    checked, _ = _by_tails(claim, samples, _bootstrap(claim, samples.shape[1]), means)
    p = np.maximum(p, checked)
    signs, other = _by_tails(claim, samples, sign_tails, np.median(samples, axis=1))
    with_signs = np.where(side == other, np.maximum(p, signs), 1.0)
    return np.where(np.abs(skewness(samples)) > SKEWED, with_signs, p), side


def decide(p_adjusted: float, as_claimed: bool) -> Outcome:
    """Return the verdict word for an adjusted p and the side of the estimate.

    Where neither a claim nor its opposite is true, Holm's correction bounds the
    probability of any decision by alpha.  A decision for the wrong side has the
    same bound if the tests are independent (Shaffer 1980, Annals of Statistics 8).
    """
    if p_adjusted > ALPHA:
        return Outcome.INCONCLUSIVE
    return Outcome.SUPPORTED if as_claimed else Outcome.REFUTED


def undecided_reason(examined: TestedEffect, family: Sequence[float], position: int) -> str:
    """Return why a tested claim is inconclusive.

    Parameters
    ----------
    examined
        The claim's tests.
    family
        The p of every claim of its family.
    position
        The claim's position in the family.

    Returns
    -------
    str
        Begins with ``depends on the test`` if the registered test alone would
        have decided after Holm's correction, and its checks do not.
    """
    if examined.effect.bound and examined.test_p == 1.0:
        return f"with runs censored, the effect is only known to be {examined.effect.bound} this"
    alone = np.array(family, dtype=float)
    alone[position] = examined.test_p
    if not examined.checks or holm(alone)[position] > ALPHA:
        return f"p is above {ALPHA} after Holm's correction"
    against = max(
        examined.checks, key=lambda check: (check.as_claimed != examined.as_claimed, check.p)
    )
    return f"depends on the test: {examined.test} alone would decide, {against.test} does not"


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


def _tested(claim: Claim, values: np.ndarray, bound: str) -> TestedEffect:
    result = _run_test(claim, values)
    examined = TestedEffect(
        test=result.test,
        effect=_in_natural_unit(claim, result.interval.as_bound(bound)),
        test_p=result.p,
        as_claimed=bool(_as_claimed(claim, np.array(result.interval.estimate))),
        floor=result.floor,
        checks=_checks(claim, values),
        skewness=0.0 if claim.test == "page" else float(skewness(values)),
    )
    if _holds_for_bound(claim, result.interval.estimate, bound):
        return examined
    checks = tuple(replace(check, p=1.0) for check in examined.checks)
    return replace(examined, test_p=1.0, checks=checks)


def _agreed(examined: TestedEffect, observed: TestedEffect) -> TestedEffect:
    """Return an effect beyond the margin as far as the observed values show it too."""
    effect, other = examined.effect, observed.effect
    both = replace(effect, low=min(effect.low, other.low), high=max(effect.high, other.high))
    # Observed at the same horizon, pairs do not differ, so they cannot change the others' side.
    test_p = 1.0 if observed.as_claimed else max(examined.test_p, observed.test_p)
    checks = () if observed.as_claimed else observed.checks
    return replace(examined, effect=both, test_p=test_p, checks=(*examined.checks, *checks))


def _run_test(claim: Claim, values: np.ndarray) -> Result:
    if claim.test == "page":
        return page_test(values)
    if claim.test == "tost":
        # The estimate selects the direction; the test of the other one could not reject.
        test = equivalence_test if _as_claimed(claim, values.mean()) else beyond_margin
        return test(values, claim.analysis_margin, claim.null, ALPHA)
    if claim.test == "sign-flip":
        return sign_flip_test(values, _flips(claim), claim.null)
    return (t_test if claim.test == "t" else sign_test)(values, claim.null)


def _checks(claim: Claim, values: np.ndarray) -> tuple[Check, ...]:
    if claim.test == "sign":
        return ()
    if claim.test == "page":
        result = sign_flip_test(order_correlations(values), _flips(claim))
        side = bool(_as_claimed(claim, np.array(result.interval.estimate)))
        return (Check("sign flips of rank correlations", result.p, side, result.floor),)
    n, mean, spread = len(values), values.mean(), bool(varies(values))
    least = 1.0 / (1 + RESAMPLES) if spread else 0.5**n
    checks = [_check(claim, values, "bootstrap-t", _bootstrap(claim, n), mean, least)]
    if abs(skewness(values)) > SKEWED:
        checks.append(_check(claim, values, "sign", sign_tails, np.median(values), 0.5**n))
    return tuple(checks)


def _check(
    claim: Claim,
    values: np.ndarray,
    test: str,
    tails: Tails,
    estimate: np.ndarray | np.floating,
    least: float,
) -> Check:
    """Return a check by one-sided tests, whose smallest p is ``least``."""
    (p,), (side,) = _by_tails(claim, values[None], tails, np.array([estimate]))
    one_sided = claim.direction == "within" and bool(side)
    return Check(test, float(p), bool(side), least if one_sided else min(1.0, 2.0 * least))


def _by_tails(
    claim: Claim, samples: np.ndarray, tails: Tails, estimates: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return p and side of samples by one-sided tests, (r, n) -> (r,) each."""
    side = _as_claimed(claim, estimates)
    if claim.direction != "within":
        return two_sided_p(samples, claim.null, tails), side
    p = np.ones(len(samples))
    p[side] = equivalence_p(samples[side], claim.analysis_margin, claim.null, tails)
    p[~side] = beyond_margin_p(samples[~side], claim.analysis_margin, claim.null, tails)
    return p, side


# A stream of its own for each claim: its p does not depend on which others are judged.
def _flips(claim: Claim) -> np.random.Generator:
    return stream(0, f"sign flips of {claim.id}")


def _bootstrap(claim: Claim, seeds: int) -> Tails:
    weights = bootstrap_weights(seeds, stream(0, f"bootstrap of {claim.id}"))
    return partial(bootstrap_tails, weights=weights)


def _at_margin(claim: Claim, values: np.ndarray, both_censored: np.ndarray) -> np.ndarray:
    """Return the values with undetermined seeds at the margin on the side of the others."""
    others = values[~both_censored]
    # The nearer margin gives the larger p, because the one-sided test against it decides.
    away = -1.0 if len(others) and others.mean() < claim.null else 1.0
    return np.where(both_censored, claim.null + away * claim.analysis_margin, values)


def _bound(one_censored: np.ndarray | None) -> str:
    """Return the side on which an effect is open; with seeds open to both, it is a plain mean."""
    open_sides = set() if one_censored is None else set(np.sign(one_censored).tolist()) - {0}
    if len(open_sides) != 1:
        return ""
    return "at least" if open_sides == {1} else "at most"


def _holds_for_bound(claim: Claim, estimate: float, bound: str) -> bool:
    """Return whether what is tested holds for every effect that a bound allows."""
    distance = estimate - claim.null
    if bound == "at least":
        return distance >= claim.analysis_margin
    return bound != "at most" or distance <= -claim.analysis_margin


def _as_claimed(claim: Claim, estimates: np.ndarray) -> np.ndarray:
    """Return whether estimates, on the scale of analysis, lie where the claim says."""
    distance = np.asarray(estimates) - claim.null
    if claim.direction == "within":
        return np.asarray(np.abs(distance) < claim.analysis_margin)
    return np.asarray(distance > 0 if claim.direction == "greater" else distance < 0)


def _in_natural_unit(claim: Claim, interval: Interval) -> Interval:
    if claim.estimand.summary == "correlation":  # jackknifed means and t intervals may pass 1
        return interval.clipped(-1.0, 1.0)
    if not claim.estimand.in_ratios:
        return interval
    with np.errstate(over="ignore"):  # a ratio too large for a float is infinite
        estimate, low, high = np.exp([interval.estimate, interval.low, interval.high]).tolist()
    return replace(interval, estimate=estimate, low=low, high=high)
