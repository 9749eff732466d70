"""Internal covariate shift, measured twice: as a change of inputs, and as one of gradients.

By inputs (B8; Ioffe & Szegedy 2015): the distribution of a layer's input
changes from one recorded step to the next on a fixed batch, so that only the
weights can have changed it.  By gradients (B9; Santurkar,
Tsipras, Ilyas & Madry 2018, definition 2.1): how the gradient of a layer
changes when only the layers below it are updated.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import functional_call

from bnstudy.activations.model_copies import Forward, call_with_input, generators_kept, shared_copy
from bnstudy.activations.reading.tensor import MeasuredTensor, inputs, refusal
from bnstudy.activations.selection import Layers, named, select, unwrap
from bnstudy.errors import WatchError

SAMPLE = 4096
FEATURES = 256


class FixedBatch:
    """A fixed batch that is sent through a model as it learns.

    A copy that shares the weights runs, in training mode, so that BN
    normalizes by the batch itself; the model is not touched.

    Parameters
    ----------
    model
        Any module.
    batch
        Its input, or a tuple that starts with it.
    layers
        Those whose inputs are compared; the leaves by default.
    forward
        ``forward(model, batch)``, to run the model otherwise.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Any,
        layers: Layers = None,
        *,
        forward: Forward = call_with_input,
    ) -> None:
        self._model, self._batch, self._forward = unwrap(model), batch, forward
        self._names = [t.name for t in select(model, layers) if t.unit is None]
        self._first: dict[str, dict[str, Any]] = {}
        self._last: dict[str, dict[str, Any]] = {}
        self._rows: list[tuple[int, str, str, float]] = []
        self._parameters: list[int] = []
        self._copy: nn.Module | None = None

    def observe(self, step: int) -> None:
        """Send the batch through the model at its current weights, and compare."""
        seen: dict[str, dict[str, Any]] = {}
        with generators_kept(), torch.no_grad():
            copied = self._current_copy()
            layers = dict(named(copied))
            handles = [
                layers[name].register_forward_pre_hook(
                    partial(_observe, seen, name), with_kwargs=True
                )
                for name in self._names
            ]
            try:
                self._forward(copied, self._batch)
            finally:
                for handle in handles:
                    handle.remove()
        for name, now in seen.items():
            first, last = self._first.setdefault(name, now), self._last.get(name, now)
            self._rows += [(step, name, stat, value) for stat, value in _compared(now, last, first)]
        self._last = seen

    def _current_copy(self) -> nn.Module:
        now = [id(parameter) for parameter in self._model.parameters()]
        if self._copy is None or now != self._parameters:
            self._copy, self._parameters = shared_copy(self._model).train(), now
        return self._copy

    def frame(self) -> pd.DataFrame:
        """Return columns ``step``, ``layer``, ``stat``, ``value``.

        ``mean``, ``std``, ``q15``, ``q50``, ``q85`` of a layer's input;
        ``mean_shift``, ``std_shift``, ``w1``: change since the last step
        observed, w1 the Wasserstein-1 distance of the two distributions, of a
        sample of 4,096; ``w1_first`` and ``cka_first``: w1 and linear centred
        kernel alignment (Kornblith et al. 2019) with the first step; ``cosine``
        and ``cosine_first``: of each image's input with what it was at the last
        and at the first step, mean over images.
        """
        return pd.DataFrame(self._rows, columns=["step", "layer", "stat", "value"])


def _observe(
    seen: dict[str, Any], name: str, _module: nn.Module, args: Any, kwargs: dict[str, Any]
) -> None:
    tensor = next((t for _, t in inputs(args, kwargs) if not refusal(t)), None)
    if tensor is None or name in seen:  # of a shared layer, the first call
        return
    measured = MeasuredTensor(tensor)
    rows = tensor.detach().flatten(1) if tensor.dim() > 1 else tensor.detach().reshape(-1, 1)
    features = rows[:, :: -(-rows.shape[1] // FEATURES)].double().cpu().numpy()
    seen[name] = {
        "mean": float(measured.mean),
        "std": float(measured.deviation),
        "sorted": np.sort(measured.sample(SAMPLE).double().cpu().numpy()),
        "rows": features,
        "features": features - features.mean(0),
    }


def _compared(
    now: dict[str, Any], last: dict[str, Any], first: dict[str, Any]
) -> list[tuple[str, float]]:
    ordered = now["sorted"]
    low, middle, high = np.quantile(ordered, (0.15, 0.5, 0.85))
    return [
        ("mean", now["mean"]),
        ("std", now["std"]),
        ("q15", low),
        ("q50", middle),
        ("q85", high),
        ("mean_shift", now["mean"] - last["mean"]),
        ("std_shift", now["std"] - last["std"]),
        ("w1", float(np.abs(ordered - last["sorted"]).mean())),
        ("w1_first", float(np.abs(ordered - first["sorted"]).mean())),
        ("cka_first", cka(now["features"], first["features"])),
        ("cosine", mean_cosine(now["rows"], last["rows"])),
        ("cosine_first", mean_cosine(now["rows"], first["rows"])),
    ]


def cka(a: np.ndarray, b: np.ndarray) -> float:
    """Return linear CKA of two centred feature matrices, (N, P) and (N, Q).

    It is 1 if they are alike up to rotation and scale, and NaN if either is constant.
    """
    cross = np.linalg.norm(a.T @ b) ** 2
    own = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
    return float(cross / own) if own else float("nan")


def mean_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean cosine of the rows of (N, P) and (N, P); NaN if a row is zero."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(((a * b).sum(1) / lengths).mean())


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of all parameters by name, for :func:`gradient_shift` after the step."""
    return {name: p.detach().clone() for name, p in unwrap(model).named_parameters()}


def gradient_shift(
    model: nn.Module, loss_of: Callable[[Any], Tensor], before: Mapping[str, Tensor]
) -> pd.DataFrame:
    """Measure how updating the layers below changes each layer's gradient.

    ::

        before = snapshot(model)
        optimizer.step()
        gradient_shift(model, lambda net: F.cross_entropy(net(x), y), before)

    Parameters
    ----------
    model
        After its update; layers with parameters count in the order of the model.
    loss_of
        From something to call like the model to the loss, of the batch of the update.
    before
        The parameters before the update.

    Returns
    -------
    pandas.DataFrame
        One row per layer: ``layer``, ``norm`` of its gradient G before, ``shift``
        = ||G' - G|| with G' the gradient after only the layers below were
        updated, ``relative`` = shift / norm, ``cosine`` of G and G'.

    Raises
    ------
    WatchError
        If the names are not those of the model's parameters.
    """
    inner = unwrap(model)
    after = {name: p.detach() for name, p in inner.named_parameters()}
    if set(after) != set(before):
        raise WatchError("before must hold the model's parameters, see snapshot(): names differ")
    groups: dict[str, list[str]] = {}
    for name, parameter in inner.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(name.rpartition(".")[0] or "(model)", []).append(name)
    rows, state = [], dict(before)
    with generators_kept():
        original = _gradients(
            inner, loss_of, before, [n for names in groups.values() for n in names]
        )
        for layer, names in groups.items():
            moved = _gradients(inner, loss_of, state, names)
            rows.append((layer, *_change([original[n] for n in names], [moved[n] for n in names])))
            state.update((name, after[name]) for name in names)
    return pd.DataFrame(rows, columns=["layer", "norm", "shift", "relative", "cosine"])


def _gradients(
    model: nn.Module,
    loss_of: Callable[[Any], Tensor],
    state: Mapping[str, Tensor],
    names: list[str],
) -> dict[str, Tensor]:
    """Return the loss's gradients in some parameters, with all parameters as in ``state``."""
    leaves = {name: value.detach().requires_grad_(name in names) for name, value in state.items()}
    with torch.random.fork_rng(devices=()), torch.enable_grad():
        copied = shared_copy(
            model
        )  # new buffers and generators each time: the same noise in each pass
        loss = loss_of(lambda *args, **kwargs: functional_call(copied, leaves, args, kwargs))
        found = torch.autograd.grad(loss, [leaves[name] for name in names], allow_unused=True)
    zero = torch.zeros(1)
    return {
        name: (zero.expand(state[name].shape) if g is None else g).double()
        for name, g in zip(names, found, strict=True)
    }


def _change(before: list[Tensor], after: list[Tensor]) -> tuple[float, float, float, float]:
    a = torch.cat([part.reshape(-1) for part in before])
    b = torch.cat([part.reshape(-1) for part in after])
    norm, other = float(a.norm()), float(b.norm())
    shift = float((b - a).norm())
    cosine = float(a @ b) / (norm * other) if norm * other else float("nan")
    return norm, shift, shift / norm if norm else float("nan"), cosine
