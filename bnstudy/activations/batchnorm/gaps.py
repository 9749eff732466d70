r"""The distance of running statistics from the population's, and its effect on the output.

With r_mu, r_v the running moments, mu, v the population's (see
:mod:`bnstudy.activations.batchnorm.population`) and k the weight of a new value:

=================  =============================================================
mean_gap (B5)      rms over channels of (r_mu - mu) / sqrt(v)
log_var_gap        rms of log(r_v / v).  torch averages the unbiased variance,
                   whose mean is v; a layer that averages the biased one is low
                   by the factor 1 - 1 / effective_size
kl                 mean over channels of the symmetric Kullback-Leibler divergence
                   KL(p, q) + KL(q, p) of the two Gaussians
noise_floor (B6)   sqrt(k / (2 - k)) mean_noise: the mean_gap that sampling alone
                   keeps up at fixed weights
lag                sqrt(mean_gap^2 - noise_floor^2), at least 0: what is left for
                   the weights having moved
=================  =============================================================
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bnstudy.activations.batchnorm.layer import BatchNormState, is_batch_norm, read_state
from bnstudy.activations.batchnorm.population import Population, population
from bnstudy.activations.model_copies import Forward, call_with_input, generators_kept, shared_copy
from bnstudy.activations.selection import named, unwrap
from bnstudy.errors import WatchError


def running_gap(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    batches: int = 200,
    forward: Forward = call_with_input,
) -> pd.DataFrame:
    """Compare the running statistics of every BN layer with the population's.

    Parameters
    ----------
    model, loader, batches, forward
        As in :func:`~bnstudy.activations.batchnorm.population.population`; batches of the
        size trained with, or the noise floor is that of another size.

    Returns
    -------
    pandas.DataFrame
        One row per layer, columns as in the table of this module.

    Raises
    ------
    WatchError
        If no BN layer keeps running statistics, or there is one batch only.

    Examples
    --------
    >>> layer = nn.BatchNorm1d(1)  # its running mean is 0, its running variance 1
    >>> batches = [torch.tensor([[2.0], [4.0]])] * 2  # mean 3, variance 1
    >>> running_gap(layer, batches)["mean_gap"].round(6).tolist()
    [3.0]
    """
    layers = dict(named(unwrap(model)))
    moments = population(model, loader, batches=batches, forward=forward)
    rows = [
        {"layer": name} | _gap(state, each)
        for name, each in moments.items()
        if (state := read_state(layers[name])).mean is not None
    ]
    if not rows:
        raise WatchError("a running gap needs running statistics, no BN layer keeps them")
    return pd.DataFrame(rows)


def _gap(state: BatchNormState, truth: Population) -> dict[str, float]:
    r_mu, r_v = _array(state.mean), _array(state.var)
    live = (truth.variance > 0) & (r_v > 0)
    r_mu, r_v, mu, v = r_mu[live], r_v[live], truth.mean[live], truth.variance[live]
    mean_gap = float(np.sqrt(((r_mu - mu) ** 2 / v).mean()))
    kl = 0.5 * (r_v / v + v / r_v - 2 + (r_mu - mu) ** 2 * (1 / v + 1 / r_v))
    floor = np.nan
    if state.momentum is not None:
        floor = noise_floor(state.momentum, truth.noise()["mean_noise"])
    return {
        "mean_gap": mean_gap,
        "log_var_gap": float(np.sqrt((np.log(r_v / v) ** 2).mean())),
        "kl": float(kl.mean()),
        "noise_floor": floor,
        "lag": float(np.sqrt(max(0.0, mean_gap**2 - floor**2))) if floor == floor else np.nan,
    }


def _array(tensor: Tensor | None) -> np.ndarray:
    return np.empty(0) if tensor is None else tensor.double().cpu().numpy()


def noise_floor(momentum: float, mean_noise: float) -> float:
    """Return sqrt(k / (2 - k)) mean_noise: the spread of an average of independent batches."""
    return float(np.sqrt(momentum / (2 - momentum)) * mean_noise)


def split_gap(
    true_means: np.ndarray, batch_means: np.ndarray, momentum: float, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Split r_mu - mu exactly into lag and sampling noise, where the true means are known.

    Parameters
    ----------
    true_means
        (T, C) population means at the weights of each step.
    batch_means
        (T, C) means of the batches that entered the running average.
    momentum
        Weight k of a new value.
    start
        (C,) running mean before the first step.

    Returns
    -------
    lag, noise
        (T, C) each: after step t, the running average of the true means less
        the current true mean, and the running average of the batches'
        deviations.  Their sum is the gap.

    Examples
    --------
    >>> ones = np.ones((2, 1))
    >>> lag, noise = split_gap(ones, 2 * ones, momentum=0.5, start=np.zeros(1))
    >>> lag.ravel().tolist(), noise.ravel().tolist()
    ([-0.5, -0.25], [0.5, 0.75])
    """
    average, deviation = np.array(start, dtype=float), np.zeros(np.shape(start))
    lag, noise = [], []
    for true, batch in zip(true_means, batch_means, strict=True):
        average = (1 - momentum) * average + momentum * true
        deviation = (1 - momentum) * deviation + momentum * (batch - true)
        lag.append(average - true)
        noise.append(deviation)
    return np.array(lag), np.array(noise)


def train_eval_gap(
    model: nn.Module, batch: Any, *, forward: Forward = call_with_input
) -> dict[str, float]:
    """Compare the model's outputs on one batch in training and in evaluation mode (B7).

    Only BN layers change mode, so dropout plays no part.  The model is not touched.

    Returns
    -------
    dict
        ``rms`` of the difference, ``relative`` to the rms of the evaluation
        output about its mean, and ``disagreement``: the share of rows whose
        greatest column differs.

    Raises
    ------
    WatchError
        If the model has no BN layer, or its output is not one tensor.
    """
    outputs = {}
    with generators_kept(), torch.no_grad():
        for training in (True, False):
            copied = shared_copy(model).eval()
            norms = [module for module in copied.modules() if is_batch_norm(module)]
            if not norms:
                raise WatchError(
                    "a train/eval gap needs a batch normalization layer, there is none"
                )
            for module in norms:
                module.train(training)
            outputs[training] = forward(copied, batch)
    train, evaluation = outputs[True], outputs[False]
    if not isinstance(train, Tensor):
        raise WatchError(
            f"the output must be one tensor, got {type(train).__name__}: pick it in forward="
        )
    rms = float((train - evaluation).double().square().mean().sqrt())
    spread = float(evaluation.double().std(correction=0))
    differs = train.flatten(1).argmax(1) != evaluation.flatten(1).argmax(1)
    return {
        "rms": rms,
        "relative": rms / spread if spread else np.nan,
        "disagreement": float(differs.double().mean()),
    }
