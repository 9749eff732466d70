"""Statistics of one tensor: pure functions, their shared parts, and the presets.

A statistic is a function from a tensor to a number, or a few numbers, that
stay on the tensor's device.  Making one takes a decorator::

    @statistic
    def sparsity(x):
        return (x == 0).float().mean()

    watch(model, optimizer, stats=["default", sparsity])

The ones built in are the same, but take a :class:`MeasuredTensor`, in which the
parts that several need (the channels' moments, a sample) are computed once.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from bnstudy.activations.reading.tensor import MeasuredTensor, Numbers
from bnstudy.activations.schedule import Due, When
from bnstudy.activations.schedule import due as due_at
from bnstudy.errors import WatchError, unknown

Measure = Callable[[MeasuredTensor], Numbers]


@dataclass(frozen=True)
class Site:
    """A module and the kind of its tensors that is measured.

    Attributes
    ----------
    module
        The module watched, or None.
    kind
        ``out``, ``in`` or ``grad``.
    """

    module: nn.Module | None = None
    kind: str = "out"


@dataclass(frozen=True)
class BoundStatistic:
    """A statistic made ready for one site.

    Attributes
    ----------
    labels
        Words of the column ``stat``, one for each number.
    measure
        From a measured tensor to as many numbers: a 0-d or 1-d tensor, or floats on a CPU.
    limits
        Between which it will ask for the share of values, so that the first pass finds it.
    later
        Whether it reads sums, extremes, shares within ``limits`` and a sample only, and
        so may be measured after the tensor is gone.
    sample
        Number of values of the sample, or 0 for none.
    """

    labels: tuple[str, ...]
    measure: Measure
    limits: tuple[float, float] | None = None
    later: bool = False
    sample: int = 0


@dataclass(frozen=True)
class Statistic:
    """A named statistic.

    Attributes
    ----------
    name
        By which it is asked for.
    bind
        From a site to the :class:`BoundStatistic` statistic, or None where it has no
        meaning, as the saturated share of a convolution.
    due
        On which of the recorded steps it is measured; None for all of them.
    """

    name: str
    bind: Callable[[Site], BoundStatistic | None]
    due: Due | None = None


REGISTERED: dict[str, Statistic] = {}


def statistic(
    function: Callable[[Tensor], Tensor] | None = None,
    *,
    name: str | None = None,
    labels: Sequence[str] | None = None,
) -> Statistic | Callable[[Callable[[Tensor], Tensor]], Statistic]:
    """Make a function of a tensor a statistic, known by its name from then on.

    Parameters
    ----------
    function
        From a detached tensor, as the module made it, to a 0-d or 1-d tensor.
        It must not change the tensor, nor draw random numbers.  If its first
        parameter is annotated as :class:`MeasuredTensor` it is given one.
    name
        The function's own by default.
    labels
        One for each number of a 1-d result; ``name`` alone for a 0-d one.

    Returns
    -------
    Statistic
        To hand to ``stats=``, or to name there; with options only, a decorator.

    Raises
    ------
    WatchError
        If the name is that of a preset.

    Examples
    --------
    >>> import torch
    >>> from bnstudy.activations import watch
    >>> @statistic
    ... def sparsity(x):
    ...     return (x == 0).float().mean()
    >>> model = nn.Sequential(nn.ReLU())
    >>> with watch(model, stats=["mean", sparsity]) as run:
    ...     output = model(torch.tensor([-1.0, 2.0]))
    >>> run.frame().set_index("stat")["value"].to_dict()
    {'mean': 1.0, 'sparsity': 0.5}
    """
    if function is None:
        return lambda later: _declare(later, name, labels)
    return _declare(function, name, labels)


def _declare(
    function: Callable[[Tensor], Tensor], name: str | None, labels: Sequence[str] | None
) -> Statistic:
    word = name or function.__name__
    if word in PRESETS:
        raise WatchError(f"a statistic needs a name of its own, {word!r} is a preset")
    first = next(iter(inspect.signature(function).parameters.values()), None)
    takes_measured = first is not None and first.annotation in (MeasuredTensor, "MeasuredTensor")
    measure: Measure = function if takes_measured else lambda x: function(x.tensor)  # type: ignore[assignment]
    bound = BoundStatistic(tuple(labels or (word,)), measure)
    made = Statistic(word, lambda _site: bound)
    REGISTERED[word] = made
    return made


def simple(
    name: str,
    measure: Measure,
    only: Callable[[Site], bool] = lambda _site: True,
    *,
    later: bool = False,
    sample: int = 0,
) -> Statistic:
    """Make a statistic of one number for the sites where ``only`` holds."""
    bound = BoundStatistic((name,), measure, later=later, sample=sample)
    made = Statistic(name, lambda site: bound if only(site) else None)
    REGISTERED[name] = made
    return made


PRESETS: dict[str, tuple[str, ...]] = {
    "light": ("mean", "std", "nonfinite"),
    "default": (
        "mean", "std", "min", "max", "quantiles", "saturated", "active", "dead", "nonfinite",
    ),
    "full": (
        "mean", "std", "min", "max", "quantiles", "saturated", "active", "dead", "nonfinite",
        "rms", "l2", "abs_mean", "skew", "kurtosis", "zeros", "near_zero", "stuck", "slope",
        "channels", "participation", "histogram",
    ),
}  # fmt: skip


def spaced(stat: str | Statistic, every: When) -> Statistic:
    """Return a statistic that is measured on some of the recorded steps only.

    ::

        watch(model, optimizer, every=10, stats=["default", spaced("histogram", 100)])

    Parameters
    ----------
    stat
        A name or a statistic, not a preset.
    every
        As of ``watch``.  A step that ``watch`` does not record is not recorded.

    Raises
    ------
    WatchError
        If there is no such statistic, or the schedule is impossible.

    Examples
    --------
    >>> histogram = spaced("histogram", 100)
    >>> histogram.name, histogram.due(99), histogram.due(100)
    ('histogram', False, True)
    """
    found = stat if isinstance(stat, Statistic) else _named(stat)
    return replace(found, due=due_at(every))


def resolve(stats: str | Statistic | Iterable[str | Statistic]) -> tuple[Statistic, ...]:
    """Return the statistics that words, presets and statistics stand for, each once.

    Raises
    ------
    WatchError
        If a word is neither a preset nor a statistic.
    """
    asked = [stats] if isinstance(stats, str | Statistic) else list(stats)
    found: dict[str, Statistic] = {}
    for item in asked:
        if isinstance(item, Statistic):
            found[item.name] = item
            continue
        for word in PRESETS.get(item, (item,)):
            found.setdefault(word, _named(word))
    return tuple(found.values())


def _named(word: object) -> Statistic:
    if isinstance(word, str) and word in REGISTERED:
        return REGISTERED[word]
    raise WatchError(unknown("statistic", word, [*PRESETS, *REGISTERED]))
