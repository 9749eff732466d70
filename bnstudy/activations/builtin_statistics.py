"""The statistics that come with the package.

Notation: x are all n values of a tensor, c = x - mean(x), y those of an
activation.  Units and channels are axis 1.  Shares are in 0..1 of all values;
only ``quantiles``, ``histogram``, ``near_zero``, ``participation`` and ``rank``
read a sample, evenly spaced and always at the same positions.  A share estimated
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
nonfinite           number of values that are NaN or infinite
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

from bnstudy.activations.reading.reader import Number
from bnstudy.activations.reading.tensor import MeasuredTensor, Numbers
from bnstudy.activations.statistics import (
    REGISTERED,
    BoundStatistic,
    Measure,
    Site,
    Statistic,
    simple,
)
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
    """Return whether a site is the output of a rectifier."""
    return site.kind == "out" and isinstance(site.module, RECTIFIERS)


def _of_bounded(
    name: str, measure: Callable[[MeasuredTensor, float, float], Number], *, later: bool
) -> None:
    def bind(site: Site) -> BoundStatistic | None:
        limits = bounds(site)
        if limits is None:
            return None
        low, high = limits
        take: Measure = lambda tensor: measure(tensor, low, high)  # noqa: E731
        return BoundStatistic((name,), take, _ends(low, high), later)

    REGISTERED[name] = Statistic(name, bind)


def _nonfinite(tensor: MeasuredTensor) -> Number:
    # A finite mean proves all values finite; only then is counting them spared.
    if tensor.known_finite:
        return 0.0
    return tensor.number(tensor.count - torch.isfinite(tensor.flat).sum())


def _near_zero(tensor: MeasuredTensor) -> Number:
    near = NEAR * tensor.rms
    if not tensor.on_host:
        return (tensor.sample(SHAPE_SAMPLE).abs() < near).double().mean()
    values = tensor.sample_on_host(SHAPE_SAMPLE)
    return np.count_nonzero(np.abs(values) < near) / len(values)


def _dead(tensor: MeasuredTensor) -> Number:
    maxima = tensor.sums.channel_maximum
    return tensor.number((maxima <= 0).sum() / len(maxima))


def _ends(low: float, high: float) -> tuple[float, float]:
    """Return the edges of what is saturated: within 5 % of a bound."""
    margin = NEAR * (high - low)
    return low + margin, high - margin


def _saturated(tensor: MeasuredTensor, low: float, high: float) -> Number:
    return tensor.sums.outside(*_ends(low, high))


def _stuck(tensor: MeasuredTensor, low: float, high: float) -> Number:
    shares = tensor.sums.channel_outside(*_ends(low, high))
    return tensor.number((shares > STUCK).sum() / len(shares))


def _slope(tensor: MeasuredTensor, low: float, high: float) -> Number:
    """Mean of (y - low) (high - y), over its greatest value: 1 at the middle, 0 at a bound."""
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    return 1.0 - (tensor.variance + (tensor.mean - middle) ** 2) / half**2


def _products(tensor: MeasuredTensor) -> Tensor:
    """Return the sums of products of centred columns: their covariance but for n."""
    rows = tensor.rows(512, 256)
    rows = rows - rows.mean(0)
    return rows.T @ rows


def _participation(tensor: MeasuredTensor) -> Number:
    products = _products(tensor)
    if not tensor.on_host:
        wide = products.double()
        return wide.trace() ** 2 / wide.square().sum()
    host = products.numpy().astype(np.float64)
    size = float(np.einsum("ij,ij->", host, host))
    return float(host.trace()) ** 2 / size if size > 0.0 else math.nan


def _rank(tensor: MeasuredTensor) -> Tensor:
    values = torch.linalg.eigvalsh(_products(tensor).double()).clamp_min(0.0)
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
        Number of values at most.  The share of all values below a sample's
        quantile is off by less than sqrt(log(40) / (2 sample)), 0.021 for
        4,096, in 95 of 100 random samples (Dvoretzky, Kiefer & Wolfowitz).

    Raises
    ------
    WatchError
        If a probability is outside 0..1 or the sample empty.

    Examples
    --------
    >>> from bnstudy.activations import watch
    >>> model = nn.Sequential(nn.Identity())
    >>> with watch(model, layers="0", stats=quantiles(0.25, 0.5)) as run:
    ...     output = model(torch.arange(5.0))
    >>> run.frame()["value"].tolist()
    [1.0, 2.0]
    """
    asked = probabilities or (0.15, 0.5, 0.85)
    if sample < 1 or not all(0 <= p <= 1 for p in asked):
        raise WatchError(
            f"quantiles need probabilities in 0..1 and sample >= 1, got {asked} and {sample}"
        )

    def measure(tensor: MeasuredTensor) -> Numbers:
        if tensor.on_host:
            # sorted by vector instructions: quicker than partitioning, whose branches are guesses
            ordered = np.sort(tensor.sample_on_host(sample))
            at = ordered.item
            if math.isnan(at(-1)):  # sorted last, and makes every quantile NaN
                return [math.nan] * len(asked)
            ranks = _ranks(len(ordered), asked)
            pairs = ((at(low), at(high), share) for low, high, share in ranks)
            return [low + share * (high - low) for low, high, share in pairs]
        values = tensor.sample(sample)
        ranks = _ranks(values.numel(), asked)
        below, above, shares = map(np.array, zip(*ranks, strict=True))
        on_device = values.sort().values.double()
        low, high = on_device[torch.from_numpy(below)], on_device[torch.from_numpy(above)]
        between = low + torch.from_numpy(shares).to(on_device.device) * (high - low)
        return torch.where(torch.isnan(on_device[-1]), math.nan, between)

    labels = tuple(f"q{100 * p:g}" for p in asked)
    bound = BoundStatistic(labels, measure, later=True, sample=sample)
    return Statistic("quantiles", lambda _site: bound)


@lru_cache(maxsize=256)
def _ranks(count: int, asked: tuple[float, ...]) -> list[tuple[int, int, float]]:
    """Return the ranks below and above each quantile, and its share of the distance between."""
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
        Number of bins, of equal width.
    low, high
        Edges of the lowest and the highest bin: always the same, so that steps
        and runs can be compared.  By default the bounds of a bounded
        activation, else -8 and 8, or for a logarithm -12 and 4.
    log
        Whether to bin log10 |x| instead of x (zeros fall below); by default
        for gradients only.
    sample
        Number of values at most.

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

    def bind(site: Site) -> BoundStatistic:
        logarithm = site.kind == "grad" if log is None else log
        limits = LOG_RANGE if logarithm else bounds(site) or LINEAR_RANGE
        ends = limits[0] if low is None else low, limits[1] if high is None else high
        name = "log_hist" if logarithm else "hist"
        return BoundStatistic(
            bin_labels(name, bins, *ends),
            lambda tensor: _histogram(tensor, bins, ends, logarithm, sample),
            later=True,
            sample=sample,
        )

    return Statistic("histogram", bind)


def bin_labels(name: str, bins: int, low: float, high: float) -> tuple[str, ...]:
    """Return the labels of bins, the outermost reaching to infinity.

    Examples
    --------
    >>> bin_labels("hist", 2, 0.0, 1.0)
    ('hist[-inf,0)', 'hist[0,0.5)', 'hist[0.5,1)', 'hist[1,inf)')
    """
    edges = [-math.inf, *(low + (high - low) * i / bins for i in range(bins + 1)), math.inf]
    return tuple(f"{name}[{a:.6g},{b:.6g})" for a, b in pairwise(edges))


def _histogram(
    tensor: MeasuredTensor, bins: int, ends: tuple[float, float], logarithm: bool, sample: int
) -> Numbers:
    """Return the shares below, in each bin, and above; NaN is in none of them."""
    scale = bins / (ends[1] - ends[0])
    if not tensor.on_host:
        values = tensor.sample(sample)
        values = (values.abs().log10() if logarithm else values).double()
        numbers = ((values - ends[0]) * scale).floor().add_(1).clamp_(0, bins + 1)
        counts = torch.histc(numbers, bins + 2, -0.5, bins + 1.5)
        return counts / counts.sum()
    x = tensor.sample_on_host(sample)
    if not tensor.known_finite:
        x = x[~np.isnan(x)]
    if not len(x):
        return np.full(bins + 2, math.nan)
    if logarithm:
        with np.errstate(divide="ignore"):
            x = np.log10(np.abs(x))
    # in place: the sample is read five times, and would else be written as often
    numbers = np.subtract(x, ends[0], dtype=np.float64)
    numbers *= scale
    np.floor(numbers, out=numbers)
    numbers += 1
    np.minimum(np.maximum(numbers, 0, out=numbers), bins + 1, out=numbers)
    return np.bincount(numbers.astype(np.intp), minlength=bins + 2) / len(x)


for _name, _measure in {  # of sums and extremes
    "mean": lambda tensor: tensor.mean,
    "std": lambda tensor: tensor.deviation,
    "min": lambda tensor: tensor.sums.extremes[0],
    "max": lambda tensor: tensor.sums.extremes[1],
    "rms": lambda tensor: tensor.rms,
    "l2": lambda tensor: tensor.rms * math.sqrt(tensor.count),
    "abs_mean": lambda tensor: tensor.sums.absolute_mean,
    "zeros": lambda tensor: tensor.sums.zeros,
    "skew": lambda tensor: tensor.sums.higher[0],
    "kurtosis": lambda tensor: tensor.sums.higher[1] - 3.0,
    "nonfinite": _nonfinite,
}.items():
    simple(_name, _measure, later=True)

simple("near_zero", _near_zero, later=True, sample=SHAPE_SAMPLE)
simple("participation", _participation)
simple("active", lambda tensor: tensor.sums.above(0.0), rectified, later=True)
simple("dead", _dead, rectified)
_of_bounded("saturated", _saturated, later=True)
_of_bounded("stuck", _stuck, later=False)
_of_bounded("slope", _slope, later=True)
REGISTERED["quantiles"] = quantiles()
REGISTERED["histogram"] = histogram()
_CHANNELS = BoundStatistic(("within", "between", "mean_square"), lambda tensor: tensor.sums.spread)
REGISTERED["channels"] = Statistic("channels", lambda _site: _CHANNELS)
_RANK = BoundStatistic(("effective_rank", "stable_rank"), _rank)
REGISTERED["rank"] = Statistic("rank", lambda _site: _RANK)
