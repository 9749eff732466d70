"""Statistics of paired seeds: pure functions on arrays.

Each takes one value per seed (a difference between arms, a log ratio, a slope)
and returns a frozen :class:`Result`: an estimate with its interval, and a p that
is never 0.  All tests of a difference are two-sided, so that the same p that can
support a claim can contradict it.  A test's interval leaves out the hypothesis
exactly when p is at most 1 minus its confidence.

A run that did not reach its target, or diverged, is censored at the horizon,
the same for all arms, so min(T, horizon) is fully observed and its mean (the
restricted mean) is a plain mean: no run is ever dropped.  Data without any
spread, with ties, or of a single seed have a defined answer, without a warning.
"""

from bnstudy.inference.bootstrap import RESAMPLES, bootstrap_tails, bootstrap_weights
from bnstudy.inference.censoring import Survival, restricted_mean, restricted_steps, survival
from bnstudy.inference.intervals import (
    CONFIDENCE,
    Interval,
    difference_interval,
    finite,
    mean_interval,
    paired_differences,
    ratio_interval,
    varies,
)
from bnstudy.inference.location import (
    Result,
    Tails,
    beyond_margin,
    beyond_margin_p,
    equivalence_p,
    equivalence_test,
    sign_tails,
    sign_test,
    t_tails,
    t_test,
    two_sided_p,
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
    skewness,
    slopes,
    spans,
)
from bnstudy.inference.trend import order_correlations, page_test

__all__ = [
    "CONFIDENCE",
    "ENUMERATED",
    "FEWEST_CORRELATED",
    "RESAMPLES",
    "Interval",
    "Result",
    "Survival",
    "Tails",
    "beyond_margin",
    "beyond_margin_p",
    "bootstrap_tails",
    "bootstrap_weights",
    "difference_interval",
    "equivalence_p",
    "equivalence_test",
    "finite",
    "holm",
    "interaction",
    "knees",
    "log_deviations",
    "mean_interval",
    "order_correlations",
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
    "sign_tails",
    "sign_test",
    "skewness",
    "slopes",
    "smallest_p",
    "spans",
    "survival",
    "t_tails",
    "t_test",
    "two_sided_p",
    "varies",
]
