"""The smallest p and the power of a number of seeds, and the number of seeds needed."""

from collections.abc import Callable

import numpy as np
import scipy.integrate
import scipy.stats

from bnstudy.errors import ConfigError
from bnstudy.inference.signflip import sign_flip_p

MOST_SEEDS = 10_000


def smallest_p(seeds: int) -> float:
    """Return the smallest two-sided p that flipping the signs of so many pairs can give: 2 / 2^n.

    Raises
    ------
    ConfigError
        If there is no seed.
    """
    _check_seeds(seeds)
    return 0.5 ** (seeds - 1)


def power_of_t(seeds: int, effect: float, spread: float, alpha: float) -> float:
    """Return the power of the two-sided paired t test, by the noncentral t distribution.

    Parameters
    ----------
    seeds
        Pairs, at least 1; one has no power.
    effect, spread
        Mean and standard deviation of the differences, in one unit.
    alpha
        Level of the test, in 0..1.

    Raises
    ------
    ConfigError
        If there is no seed, or the spread is negative.
    """
    _check_seeds(seeds)
    _check_spread(spread)
    if seeds == 1:
        return 0.0
    if spread == 0:  # the rule of t_test for values without spread
        return float(effect != 0 and smallest_p(seeds) <= alpha)
    shift = abs(effect) / spread * np.sqrt(seeds)
    bound = scipy.stats.t.isf(alpha / 2, seeds - 1)
    upper = scipy.stats.nct.sf(bound, seeds - 1, shift)
    lower = scipy.stats.nct.cdf(-bound, seeds - 1, shift)
    return float(np.nan_to_num(upper, nan=1.0) + np.nan_to_num(lower, nan=0.0))


def power_of_equivalence(
    seeds: int, margin: float, spread: float, alpha: float, effect: float = 0.0
) -> float:
    """Return the power of the paired equivalence test (TOST).

    Given the sample standard deviation s, the test accepts means within
    margin - t s / sqrt(n) of the centre; the normal probability of that is
    averaged over the distribution of s (Phillips 1990).

    Parameters
    ----------
    seeds
        Pairs, at least 1; one has no power.
    margin, spread, effect
        The margin, the standard deviation of the differences, and their true
        distance from the centre, in one unit.
    alpha
        Of each one-sided test, in 0..1.

    Raises
    ------
    ConfigError
        If there is no seed, or margin or spread is negative.
    """
    _check_seeds(seeds)
    _check_spread(spread)
    _check_spread(margin)
    if seeds == 1:
        return 0.0
    if spread == 0:
        return float(abs(effect) < margin and 0.5**seeds <= alpha)
    df = seeds - 1
    error = spread / np.sqrt(seeds)
    quantile = float(scipy.stats.t.isf(alpha, df))
    widest = (margin / (error * quantile)) ** 2 * df  # of df s^2 / spread^2

    def accepted(chi2: float) -> float:
        room = margin / error - quantile * np.sqrt(chi2 / df)
        inside = scipy.stats.norm.cdf(room - effect / error) - scipy.stats.norm.cdf(
            -room - effect / error
        )
        return float(inside * scipy.stats.chi2.pdf(chi2, df))

    # Beyond these quantiles there is too little to matter, and quad would miss the peak.
    low, high = (float(scipy.stats.chi2.ppf(share, df)) for share in (1e-10, 1 - 1e-10))
    if widest <= low:
        return 0.0
    return float(scipy.integrate.quad(accepted, low, min(widest, high), limit=200)[0])


def power_of_sign_flip(
    seeds: int,
    effect: float,
    spread: float,
    alpha: float,
    rng: np.random.Generator,
    studies: int = 2_000,
) -> float:
    """Return the power of the sign-flip test on normal differences, by simulation.

    Parameters
    ----------
    seeds
        Pairs, 1 to :data:`~bnstudy.inference.ENUMERATED`.
    effect, spread
        Mean and standard deviation of the differences, in one unit.
    alpha
        Level of the test, in 0..1.
    rng
        Draws the studies.
    studies
        Number of simulated studies; the standard error is at most 0.5 / sqrt(studies).

    Raises
    ------
    ConfigError
        If there are no or too many seeds, or the spread is negative.
    """
    _check_spread(spread)
    differences = rng.normal(effect, spread, (studies, seeds))
    return float((sign_flip_p(differences) <= alpha).mean())


def seeds_needed(reaches: Callable[[int], bool]) -> int | None:
    """Return the smallest number of seeds from 2 on for which a condition holds.

    Parameters
    ----------
    reaches
        The condition on a number of seeds; once true it stays true.

    Returns
    -------
    int or None
        None if :data:`MOST_SEEDS` are not enough.
    """
    if not reaches(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS  # reaches(high); low does not, or is 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def _check_seeds(seeds: int) -> None:
    if seeds < 1:
        raise ConfigError(f"a test needs at least one seed, got {seeds!r}")


def _check_spread(spread: float) -> None:
    if not 0 <= spread < np.inf:
        raise ConfigError(f"a margin or spread must be finite and not negative, got {spread!r}")
