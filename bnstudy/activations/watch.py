"""The front door: ``watch(model, optimizer)`` around an ordinary training loop."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from bnstudy.activations.options import Sink, WatchOptions
from bnstudy.activations.recorder import Recorder
from bnstudy.activations.schedule import When
from bnstudy.activations.selection import Layers
from bnstudy.activations.statistics import Statistic
from bnstudy.errors import WatchError


def watch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    every: When | Mapping[str, When] = 1,
    layers: Layers = None,
    tensors: str = "out",
    stats: str | Statistic | Iterable[str | Statistic] = "default",
    grads: bool = False,
    params: bool = False,
    bn: bool = True,
    scaler: Any = None,
    probe: Any = None,
    sinks: Iterable[Sink] = (),
    keep: int | None = None,
) -> Recorder:
    """Record the statistics of a model's layers while it is trained, without changing it.

    Parameters
    ----------
    model
        Any module.  Call ``watch`` before the first pass of a compiled one.
    optimizer
        Its steps count time: passes between two of them belong to one step.
        Without it every training pass is a step.
    every
        When to record, by step: an integer, ``"log"``, ``"never"``, the steps
        themselves or a function; a mapping for ``train`` and ``eval`` apart.
        Evaluation passes are recorded only if asked for.
    layers
        Layers to watch, see :func:`~bnstudy.activations.selection.select`; the
        leaves by default.
    tensors
        Of each layer ``"out"``, ``"in"`` or ``"both"``.
    stats
        ``"light"``, ``"default"``, ``"full"``, names or statistics, or several
        of these.
    grads
        Whether to record the same statistics of dL/d(output).
    params
        Whether to record weights, their gradients and their updates; needs the
        optimizer.
    bn
        Whether to record the moments of every BN layer, channel by channel: see
        ``run.bn``.
    scaler
        The ``GradScaler`` in use, so that gradients are recorded unscaled.
    probe
        A fixed batch, sent through a copy of the model on due steps before its
        pass, to see the effect of the change of weights alone: ``run.shift()``.
    sinks
        Functions called with new rows after each recorded step.
    keep
        Steps to keep in memory, at least; all by default.

    Returns
    -------
    Recorder
        For ``with``, or to ``close()`` by hand.

    Raises
    ------
    WatchError
        If a layer pattern matches nothing, or an argument is impossible.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> x = torch.randn(64, 3, generator=generator)
    >>> model = nn.Sequential(nn.BatchNorm1d(3), nn.Sigmoid())
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with watch(model, optimizer, every=2, stats=["mean", "saturated"]) as run:
    ...     for _ in range(4):
    ...         optimizer.zero_grad()
    ...         model(x).square().mean().backward()
    ...         optimizer.step()
    >>> run.frame("mean", layer="1")[["step", "value"]].round(3).to_dict("list")
    {'step': [0, 2], 'value': [0.5, 0.497]}
    >>> run.bn.frame()["values"].unique()
    array([64.])
    """
    if not isinstance(model, nn.Module):
        raise WatchError(f"watch() needs a torch.nn.Module, got {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise WatchError("a TorchScript module runs no Python hooks: watch the module it came from")
    options = WatchOptions(
        every=every,
        layers=layers,
        tensors=tensors,
        stats=stats,
        grads=grads,
        params=params,
        bn=bn,
        scaler=scaler,
        probe=probe,
        sinks=sinks,
        keep=keep,
    )
    return Recorder(model, optimizer, options)
