"""The front door: ``watch(model, optimizer)`` around an ordinary training loop."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from bnstudy.activations.recorder import Recorder, Sink
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
    """Record what the layers of a model do while it is trained, without changing it.

    ::

        with watch(model, optimizer, every=20) as run:
            for x, y in loader:
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
        run.frame("saturated", wide=True)

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
        Which layers, see :func:`~bnstudy.activations.selection.select`; the
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
        pass, to see what the change of weights alone does: ``run.shift()``.
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
    """
    _check(model, tensors, keep)
    return Recorder(
        model,
        optimizer,
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


def _check(model: object, tensors: str, keep: object) -> None:
    if not isinstance(model, nn.Module):
        raise WatchError(f"watch() needs a torch.nn.Module, got {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise WatchError("a TorchScript module runs no Python hooks: watch the module it came from")
    if tensors not in ("in", "out", "both"):
        raise WatchError(f"tensors must be 'in', 'out' or 'both', got {tensors!r}")
    if keep is not None and (not isinstance(keep, int) or keep < 1):
        raise WatchError(f"keep must be a number of steps of at least 1, got {keep!r}")
