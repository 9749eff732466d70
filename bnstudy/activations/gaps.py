r"""How far running statistics are from the population's, and what that does to the output.

With r_mu, r_v the running moments, mu, v the population's (see
:mod:`bnstudy.activations.population`) and k the weight of a new value:

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

from bnstudy.activations.layer import Norm, is_batch_norm, read_norm
from bnstudy.activations.population import Population, population
from bnstudy.activations.selection import named, unwrap
from bnstudy.activations.shadow import Forward, first_of, generators_kept, shadow
from bnstudy.errors import WatchError


def running_gap(
    model: nn.Module, loader: Iterable[Any], *, batches: int = 200, forward: Forward = first_of
) -> pd.DataFrame:
    """Compare the running statistics of every BN layer with the population's.

    Parameters
    ----------
    model, loader, batches, forward
        As in :func:`~bnstudy.activations.population.population`; batches of the
        size trained with, or the noise floor is that of another size.

    Returns
    -------
    pandas.DataFrame
        A row a layer, columns as in the table of this module.

    Raises
    ------
    WatchError
        If no BN layer keeps running statistics, or there is one batch only.
    """
    layers = dict(named(unwrap(model)))
    moments = population(model, loader, batches=batches, forward=forward)
    rows = [
        {"layer": name} | _gap(read_norm(layers[name]), each)
        for name, each in moments.items()
        if read_norm(layers[name]).mean is not None
    ]
    if not rows:
        raise WatchError("a running gap needs running statistics, no BN layer keeps them")
    return pd.DataFrame(rows)


def _gap(norm: Norm, truth: Population) -> dict[str, float]:
    r_mu, r_v = _array(norm.mean), _array(norm.var)
    live = (truth.variance > 0) & (r_v > 0)
    r_mu, r_v, mu, v = r_mu[live], r_v[live], truth.mean[live], truth.variance[live]
    mean_gap = float(np.sqrt(((r_mu - mu) ** 2 / v).mean()))
    kl = 0.5 * (r_v / v + v / r_v - 2 + (r_mu - mu) ** 2 * (1 / v + 1 / r_v))
    floor = np.nan
    if norm.momentum is not None:
        floor = noise_floor(norm.momentum, truth.noise()["mean_noise"])
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
        the true mean of now, and the running average of the batches'
        deviations.  Their sum is the gap.
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
    model: nn.Module, batch: Any, *, forward: Forward = first_of
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
            twin = shadow(model).eval()
            norms = [module for module in twin.modules() if is_batch_norm(module)]
            if not norms:
                raise WatchError(
                    "a train/eval gap needs a batch normalization layer, there is none"
                )
            for module in norms:
                module.train(training)
            outputs[training] = forward(twin, batch)
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
