"""The statistics that come with the package.

Notation: x are all n values of a tensor, c = x - mean(x), y those of an
activation.  Units and channels are axis 1.  Shares are in 0..1 of all values;
only ``quantiles``, ``histogram``, ``near_zero``, ``participation`` and ``rank``
read a sample, evenly spaced and always at the same places.  A share estimated
from n values of a random sample has a standard error of at most 1 / (2 sqrt(n)):
0.006 for 8,192.

==================  ==========================================================
name                value
==================  ==========================================================
mean, std           of all values; std biased: sqrt(mean(c^2))
min, max            NaN if any value is
rms, l2, abs_mean   sqrt(mean(x^2)), sqrt(sum(x^2)), mean(|x|)
skew, kurtosis      mean(c^3) / std^3; mean(c^4) / std^4 - 3; NaN if constant
quantiles           q15, q50, q85 of a sample of 4,096
histogram           shares of a sample of 8,192 in 40 bins, and beside them
zeros               share x = 0
near_zero           share |x| < 0.05 rms(x), of a sample of 8,192
nonfinite           how many values are NaN or infinite
active, dead        of rectifiers: share y > 0; share of units with no y > 0
saturated           of bounded activations: share within 5 % of a bound
stuck               share of units saturated for over 95 % of the samples
slope               of sigmoid 4 mean(y (1 - y)), of tanh mean(1 - y^2), in 0..1
channels            mean over channels of the variance within (``within``), the
                    variance of their means (``between``), the mean of their
                    squared means (``mean_square``; Brock et al. 2021)
participation       (sum l)^2 / sum l^2 of the eigenvalues l of the channels'
                    covariance, in 1..C; a sample of 512 rows, 256 channels
rank                exp of the entropy of singular values over their sum
                    (``effective_rank``, Roy & Vetterli 2007), sum l / max l
                    (``stable_rank``); the same sample; not in a preset: slow
==================  ==========================================================
"""

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from bnstudy.activations.statistics import REGISTERED, Bound, Measure, Site, Statistic, simple
from bnstudy.activations.view import Number, Numbers, View
from bnstudy.errors import WatchError

BOUNDED: dict[type[nn.Module], tuple[float, float]] = {
    nn.Sigmoid: (0.0, 1.0),
    nn.Hardsigmoid: (0.0, 1.0),
    nn.Tanh: (-1.0, 1.0),
    nn.Softsign: (-1.0, 1.0),
}
RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.Threshold)
NEAR = 0.05
STUCK = 0.95
SHAPE_SAMPLE = 8192
LINEAR_RANGE = (-8.0, 8.0)
LOG_RANGE = (-12.0, 4.0)


def bounds(site: Site) -> tuple[float, float] | None:
    """Return the bounds of a site's activation, or None if it has none."""
    if site.kind != "out":
        return None
    return next((both for kind, both in BOUNDED.items() if isinstance(site.module, kind)), None)


def rectified(site: Site) -> bool:
    """Whether a site is the output of a rectifier."""
    return site.kind == "out" and isinstance(site.module, RECTIFIERS)


def _of_bounded(name: str, measure: Callable[[View, float, float], Number], *, later: bool) -> None:
    def bind(site: Site) -> Bound | None:
        limits = bounds(site)
        if limits is None:
            return None
        low, high = limits
        take: Measure = lambda view: measure(view, low, high)  # noqa: E731
        return Bound((name,), take, _ends(low, high), later)

    REGISTERED[name] = Statistic(name, bind)


def _nonfinite(view: View) -> Number:
    # A finite mean proves all values finite; only then is counting them spared.
    if view.known_finite:
        return 0.0
    return view.number(view.count - torch.isfinite(view.flat).sum())


def _near_zero(view: View) -> Number:
    near = NEAR * view.rms
    if not view.on_host:
        return (view.sample(SHAPE_SAMPLE).abs() < near).double().mean()
    values = view.sample_on_host(SHAPE_SAMPLE)
    return np.count_nonzero(np.abs(values) < near) / len(values)


def _dead(view: View) -> Number:
    return view.number((view.sums.channel_maximum <= 0).sum() / len(view.sums.channel_maximum))


def _ends(low: float, high: float) -> tuple[float, float]:
    """Return the edges of what is saturated: within 5 % of a bound."""
    margin = NEAR * (high - low)
    return low + margin, high - margin


def _saturated(view: View, low: float, high: float) -> Number:
    return view.sums.outside(*_ends(low, high))


def _stuck(view: View, low: float, high: float) -> Number:
    shares = view.sums.channel_outside(*_ends(low, high))
    return view.number((shares > STUCK).sum() / len(shares))


def _slope(view: View, low: float, high: float) -> Number:
    """Mean of (y - low) (high - y), over its greatest value: 1 at the middle, 0 at a bound."""
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    return 1.0 - (view.variance + (view.mean - middle) ** 2) / half**2


def _products(view: View) -> Tensor:
    """Return the sums of products of centred columns: their covariance but for n."""
    rows = view.rows(512, 256)
    rows = rows - rows.mean(0)
    return rows.T @ rows


def _participation(view: View) -> Number:
    products = _products(view)
    if not view.on_host:
        wide = products.double()
        return wide.trace() ** 2 / wide.square().sum()
    host = products.numpy().astype(np.float64)
    size = float(np.einsum("ij,ij->", host, host))
    return float(host.trace()) ** 2 / size if size > 0.0 else math.nan


def _rank(view: View) -> Tensor:
    values = torch.linalg.eigvalsh(_products(view).double()).clamp_min(0.0)
    singular = values.sqrt()
    share = singular / singular.sum()
    entropy = -torch.special.xlogy(share, share).sum()
    return torch.stack([entropy.exp(), values.sum() / values.max()])


def quantiles(*probabilities: float, sample: int = 4096) -> Statistic:
    """Return the statistic of some quantiles, interpolated linearly.

    Parameters
    ----------
    *probabilities
        In 0..1; .15, .5 and .85 by default, those of the BN paper's figure 1.
    sample
        Of how many values at most.  The share of all values below a sample's
        quantile is off by less than sqrt(log(40) / (2 sample)), 0.021 for
        4,096, in 95 of 100 random samples (Dvoretzky, Kiefer & Wolfowitz).

    Raises
    ------
    WatchError
        If a probability is outside 0..1 or the sample empty.
    """
    asked = probabilities or (0.15, 0.5, 0.85)
    if sample < 1 or not all(0 <= p <= 1 for p in asked):
        raise WatchError(
            f"quantiles need probabilities in 0..1 and sample >= 1, got {asked} and {sample}"
        )

    def measure(view: View) -> Numbers:
        if view.on_host:
            # sorted by vector instructions: quicker than partitioning, whose branches are guesses
            ordered = np.sort(view.sample_on_host(sample))
            places, at = _between(len(ordered), asked), ordered.item
            if math.isnan(at(-1)):  # sorted last, and makes every quantile NaN
                return [math.nan] * len(asked)
            pairs = ((at(low), at(high), way) for low, high, way in places)
            return [low + way * (high - low) for low, high, way in pairs]
        values = view.sample(sample)
        places = _between(values.numel(), asked)
        below, above, share = map(np.array, zip(*places, strict=True))
        there = values.sort().values.double()
        ends = there[torch.from_numpy(below)], there[torch.from_numpy(above)]
        between = ends[0] + torch.from_numpy(share).to(there.device) * (ends[1] - ends[0])
        return torch.where(torch.isnan(there[-1]), math.nan, between)

    labels = tuple(f"q{100 * p:g}" for p in asked)
    bound = Bound(labels, measure, later=True, sample=sample)
    return Statistic("quantiles", lambda _site: bound)


@lru_cache(maxsize=256)
def _between(count: int, asked: tuple[float, ...]) -> list[tuple[int, int, float]]:
    """Return the places below and above each quantile, and the way between them."""
    exact = [p * (count - 1) for p in asked]
    return [(math.floor(at), math.ceil(at), at - math.floor(at)) for at in exact]


def histogram(
    bins: int = 40,
    low: float | None = None,
    high: float | None = None,
    *,
    log: bool | None = None,
    sample: int = SHAPE_SAMPLE,
) -> Statistic:
    """Return the statistic of the shares of values in bins, and below and above them.

    Parameters
    ----------
    bins
        How many, of equal width.
    low, high
        Edges of the lowest and the highest bin: always the same, so that steps
        and runs can be compared.  By default the bounds of a bounded
        activation, else -8 and 8, or for a logarithm -12 and 4.
    log
        Whether to bin log10 |x| instead of x (zeros fall below); by default
        for gradients only.
    sample
        Of how many values at most.

    Raises
    ------
    WatchError
        If there is no bin or no width.
    """
    if bins < 1 or sample < 1 or (low is not None and high is not None and low >= high):
        raise WatchError(
            "a histogram needs bins >= 1, sample >= 1 and low < high, "
            f"got {bins}, {sample}, {low} and {high}"
        )

    def bind(site: Site) -> Bound:
        logarithm = site.kind == "grad" if log is None else log
        limits = LOG_RANGE if logarithm else bounds(site) or LINEAR_RANGE
        ends = limits[0] if low is None else low, limits[1] if high is None else high
        word = "log_hist" if logarithm else "hist"
        return Bound(
            bin_labels(word, bins, *ends),
            lambda view: _histogram(view, bins, ends, logarithm, sample),
            later=True,
            sample=sample,
        )

    return Statistic("histogram", bind)


def bin_labels(word: str, bins: int, low: float, high: float) -> tuple[str, ...]:
    """Return the labels of bins: ``hist[-8,-7.6)``, the outermost reaching to infinity."""
    edges = [-math.inf, *(low + (high - low) * i / bins for i in range(bins + 1)), math.inf]
    return tuple(f"{word}[{a:.6g},{b:.6g})" for a, b in pairwise(edges))


def _histogram(
    view: View, bins: int, ends: tuple[float, float], logarithm: bool, sample: int
) -> Numbers:
    """Return the shares below, in each bin, and above; NaN is in none of them."""
    scale = bins / (ends[1] - ends[0])
    if not view.on_host:
        values = view.sample(sample)
        there = (values.abs().log10() if logarithm else values).double()
        there = ((there - ends[0]) * scale).floor().add_(1).clamp_(0, bins + 1)
        tally = torch.histc(there, bins + 2, -0.5, bins + 1.5)
        return tally / tally.sum()
    x = view.sample_on_host(sample)
    if not view.known_finite:
        x = x[~np.isnan(x)]
    if not len(x):
        return np.full(bins + 2, math.nan)
    if logarithm:
        with np.errstate(divide="ignore"):
            x = np.log10(np.abs(x))
    places = np.subtract(x, ends[0], dtype=np.float64)
    places *= scale
    np.floor(places, out=places)
    places += 1
    np.minimum(np.maximum(places, 0, out=places), bins + 1, out=places)
    return np.bincount(places.astype(np.intp), minlength=bins + 2) / len(x)


for _name, _measure in {  # of sums and extremes
    "mean": lambda view: view.mean,
    "std": lambda view: view.deviation,
    "min": lambda view: view.sums.extremes[0],
    "max": lambda view: view.sums.extremes[1],
    "rms": lambda view: view.rms,
    "l2": lambda view: view.rms * math.sqrt(view.count),
    "abs_mean": lambda view: view.sums.absolute_mean,
    "zeros": lambda view: view.sums.zeros,
    "skew": lambda view: view.sums.higher[0],
    "kurtosis": lambda view: view.sums.higher[1] - 3.0,
    "nonfinite": _nonfinite,
}.items():
    simple(_name, _measure, later=True)

simple("near_zero", _near_zero, later=True, sample=SHAPE_SAMPLE)
simple("participation", _participation)
simple("active", lambda view: view.sums.above(0.0), rectified, later=True)
simple("dead", _dead, rectified)
_of_bounded("saturated", _saturated, later=True)
_of_bounded("stuck", _stuck, later=False)
_of_bounded("slope", _slope, later=True)
REGISTERED["quantiles"] = quantiles()
REGISTERED["histogram"] = histogram()
_CHANNELS = Bound(("within", "between", "mean_square"), lambda view: view.sums.spread)
REGISTERED["channels"] = Statistic("channels", lambda _site: _CHANNELS)
_RANK = Bound(("effective_rank", "stable_rank"), _rank)
REGISTERED["rank"] = Statistic("rank", lambda _site: _RANK)
