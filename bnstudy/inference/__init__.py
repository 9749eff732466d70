"""Statistics of paired seeds: pure functions on arrays.

Each takes one value per seed (a difference between arms, a log ratio, a slope)
and returns a frozen :class:`Result`: an estimate with its interval, and a p that
is never 0.  All tests of a difference are two-sided, so that the same p that can
support a claim can contradict it.

A run that did not reach its target, or diverged, is censored at the horizon,
the same for all arms, so min(T, horizon) is fully observed and its mean (the
restricted mean) is a plain mean: no run is ever dropped.  Data without any
spread, with ties, or of a single seed have a defined answer, without a warning.
"""

from bnstudy.inference.censoring import Survival, restricted_mean, restricted_steps, survival
from bnstudy.inference.intervals import (
    CONFIDENCE,
    Interval,
    difference_interval,
    finite,
    mean_interval,
    paired_differences,
    ratio_interval,
)
from bnstudy.inference.location import (
    Result,
    beyond_margin,
    beyond_margin_p,
    equivalence_p,
    equivalence_test,
    sign_p,
    sign_test,
    t_p,
    t_test,
)
from bnstudy.inference.multiplicity import holm
from bnstudy.inference.power import (
    power_of_equivalence,
    power_of_sign_flip,
    power_of_t,
    seeds_needed,
    smallest_p,
)
from bnstudy.inference.signflip import ENUMERATED, sign_flip_p, sign_flip_test
from bnstudy.inference.summaries import (
    FEWEST_CORRELATED,
    interaction,
    knees,
    log_deviations,
    rank_correlation_shares,
    rank_correlations,
    slopes,
    spans,
)
from bnstudy.inference.trend import page_test

__all__ = [
    "CONFIDENCE",
    "ENUMERATED",
    "FEWEST_CORRELATED",
    "Interval",
    "Result",
    "Survival",
    "beyond_margin",
    "beyond_margin_p",
    "difference_interval",
    "equivalence_p",
    "equivalence_test",
    "finite",
    "holm",
    "interaction",
    "knees",
    "log_deviations",
    "mean_interval",
    "page_test",
    "paired_differences",
    "power_of_equivalence",
    "power_of_sign_flip",
    "power_of_t",
    "rank_correlation_shares",
    "rank_correlations",
    "ratio_interval",
    "restricted_mean",
    "restricted_steps",
    "seeds_needed",
    "sign_flip_p",
    "sign_flip_test",
    "sign_p",
    "sign_test",
    "slopes",
    "smallest_p",
    "spans",
    "survival",
    "t_p",
    "t_test",
]
