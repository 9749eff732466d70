"""Steps to a target when some runs never reach it: restricted means, Kaplan-Meier curves."""

from dataclasses import dataclass

import numpy as np
import scipy.stats

from bnstudy.errors import ConfigError
from bnstudy.inference.intervals import CONFIDENCE, Interval, mean_interval


@dataclass(frozen=True, eq=False)
class Survival:
    """The share of runs that have not reached their target yet, by step.

    Attributes
    ----------
    steps
        (m,), increasing, the first 0: where the share changes.
    share, low, high
        (m,), the Kaplan-Meier estimate from each of these steps on, and its
        pointwise interval.
    """

    steps: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray


def restricted_steps(reached_at: np.ndarray, horizon: float) -> np.ndarray:
    """Return min(T, horizon) for each run, NaN standing for a target not reached.

    Parameters
    ----------
    reached_at
        (n,), the step at which each run reached the target, or NaN.
    horizon
        The last step that all arms were watched to, positive.

    Returns
    -------
    numpy.ndarray
        (n,), never above the horizon: a target reached later is censored too.

    Raises
    ------
    ConfigError
        If the horizon is not positive.
    """
    if not horizon > 0:
        raise ConfigError(f"a horizon must be a positive number of steps, got {horizon!r}")
    return np.minimum(np.nan_to_num(np.asarray(reached_at, dtype=float), nan=horizon), horizon)


def restricted_mean(
    reached_at: np.ndarray, horizon: float, confidence: float = CONFIDENCE
) -> Interval:
    """Return the mean of min(T, horizon), in steps, with its t interval.

    Equal to the area under the Kaplan-Meier curve up to the horizon, since no
    run is censored before it.

    Parameters
    ----------
    reached_at, horizon
        As in :func:`restricted_steps`.
    confidence
        In 0..1.

    Raises
    ------
    ConfigError
        If there is no run, or the horizon is not positive.
    """
    return mean_interval(restricted_steps(reached_at, horizon), confidence)


def survival(reached_at: np.ndarray, horizon: float, confidence: float = CONFIDENCE) -> Survival:
    """Return the Kaplan-Meier curve of runs censored at a horizon.

    Parameters
    ----------
    reached_at, horizon
        As in :func:`restricted_steps`; n >= 1.
    confidence
        In 0..1.

    Returns
    -------
    Survival
        Its interval is the log-log one, share ** exp(-/+ z se) with the
        standard error of log(-log share) by Greenwood's formula (Kalbfleisch &
        Prentice 2002, section 1.4), which without earlier censoring is that of
        a binomial share; a point where the share is 1 or 0.

    Raises
    ------
    ConfigError
        If there is no run, or the horizon is not positive.
    """
    steps = restricted_steps(reached_at, horizon)
    if not len(steps):
        raise ConfigError("a survival curve needs at least one run, got none")
    times = np.asarray(reached_at, dtype=float)
    reached = times <= horizon
    curve = scipy.stats.ecdf(
        scipy.stats.CensoredData(uncensored=steps[reached], right=steps[~reached])
    ).sf
    share = np.concatenate([[1.0], curve.probabilities])
    inner = (share > 0) & (share < 1)
    log = np.log(np.where(inner, share, 0.5))
    error = np.sqrt((1 - share) / (len(steps) * np.where(inner, share, 1.0))) / np.abs(log)
    stretch = np.exp(scipy.stats.norm.ppf((1 + confidence) / 2) * error)
    return Survival(
        steps=np.concatenate([[0.0], curve.quantiles]),
        share=share,
        low=np.where(inner, share**stretch, share),
        high=np.where(inner, share ** (1 / stretch), share),
    )
