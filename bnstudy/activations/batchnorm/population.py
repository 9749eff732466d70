r"""The moments of the population at fixed weights, and the noise of single batches.

For one channel let mu_B, v_B be mean and biased variance of a batch of m
values (images times positions), and mu, v those of all values of all batches.

==================  ============================================================
mean_noise (B1)     rms over channels and batches of (mu_B - mu) / sqrt(v):
                    1 / sqrt(m) for independent values
scale_noise (B2)    rms of log(v_B / v) / 2; beside it variance_cv, the standard
                    deviation of v_B over its mean: sqrt(2 / (m - 1)) if Gaussian
effective_size (B3) 1 / mean_noise^2: the number of independent values with
                    that noise; over images it tells what the positions add
output_noise (B4)   rms of gamma (x - mu_B) / s_B - gamma (x - mu) / s, the noise
                    that BN injects, where s^2 is a variance plus eps; from the
                    moments alone, since the difference is affine in x
==================  ============================================================
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from bnstudy.activations.batchnorm.layer import (
    BatchNormState,
    is_batch_norm,
    read_state,
    uses_batch,
)
from bnstudy.activations.batchnorm.moments import batch_moments
from bnstudy.activations.model_copies import (
    Forward,
    call_with_input,
    first_batches,
    generators_kept,
    shared_copy,
)
from bnstudy.activations.selection import named, unwrap
from bnstudy.errors import WatchError


@dataclass(frozen=True)
class Population:
    """Moments of one BN layer's input, in float64.

    Attributes
    ----------
    means, variances
        (T, C) of each batch, biased.
    values, images
        (T,) values per channel and images in each batch.
    gamma
        (C,), ones if the layer has none.
    eps
        Of the layer.
    """

    means: np.ndarray
    variances: np.ndarray
    values: np.ndarray
    images: np.ndarray
    gamma: np.ndarray
    eps: float

    @property
    def _weights(self) -> np.ndarray:
        return self.values[:, None] / self.values.sum()

    @property
    def mean(self) -> np.ndarray:
        """Mean of all values, (C,)."""
        return (self._weights * self.means).sum(0)

    @property
    def variance(self) -> np.ndarray:
        """Biased variance of all values, (C,): within batches plus between them."""
        between = (self.means - self.mean) ** 2
        return (self._weights * (self.variances + between)).sum(0)

    def noise(self) -> dict[str, float]:
        """Return B1 to B4; see the table above.

        The mean is estimated from the same batches, hence the factor T / (T - 1).
        Channels of zero variance are left out of the ratios.
        """
        live = self.variance > 0
        batches, v = len(self.means), self.variance[live]
        if batches < 2:
            raise WatchError("batch noise needs at least 2 batches, got 1")
        unbiased = batches / (batches - 1)
        standard = (self.means[:, live] - self.mean[live]) ** 2 / v
        mean_noise = float(np.sqrt(unbiased * standard.mean()))
        ratio = self.variances[:, live] / v
        with np.errstate(divide="ignore"):
            scale_noise = float(np.sqrt((np.log(ratio) ** 2).mean()) / 2)
        cv = float(
            np.mean(self.variances[:, live].std(0, ddof=1) / self.variances[:, live].mean(0))
        )
        return _named(mean_noise, scale_noise, cv, self.values, self.images) | {
            "output_noise": self.output_noise()
        }

    def output_noise(self) -> float:
        """Rms, over values, channels and batches, of what batch moments change at the output."""
        s, s_batch = np.sqrt(self.variance + self.eps), np.sqrt(self.variances + self.eps)
        stretch = self.variances * (1 / s_batch - 1 / s) ** 2
        offset = ((self.means - self.mean) / s) ** 2
        return float(np.sqrt((self.gamma**2 * (stretch + offset)).mean()))


def _named(
    mean_noise: float, scale_noise: float, cv: float, values: np.ndarray, images: np.ndarray
) -> dict[str, float]:
    size = 1 / mean_noise**2 if mean_noise else np.inf
    return {
        "mean_noise": mean_noise,
        "scale_noise": scale_noise,
        "variance_cv": cv,
        "values": float(values.mean()),
        "images": float(images.mean()),
        "effective_size": size,
        "effective_per_image": size / float(images.mean()),
    }


def population(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    batches: int = 200,
    forward: Forward = call_with_input,
) -> dict[str, Population]:
    """Measure the moments of every BN layer's input at the current weights.

    The model is not touched: a copy that shares its weights runs, in training
    mode, without gradients, so that each layer sees what it sees in training.
    Global generators are put back.

    Parameters
    ----------
    model
        With at least one BN layer.
    loader
        Batches: inputs, or tuples that start with them.
    batches
        Number of batches to use at most.
    forward
        ``forward(model, batch)``, to run the model otherwise.

    Returns
    -------
    dict
        BN layer to its :class:`Population`; of a layer called several times in
        a pass, all calls are pooled.

    Raises
    ------
    WatchError
        If there is no BN layer, or no batch.

    Examples
    --------
    >>> model = nn.Sequential(nn.BatchNorm1d(1))
    >>> moments = population(model, [torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [6.0]])])
    >>> moments["0"].mean.tolist(), moments["0"].variance.tolist()
    ([3.0], [5.0])
    """
    norms = [name for name, module in named(unwrap(model)) if is_batch_norm(module)]
    if not norms:
        raise WatchError("population moments need a batch normalization layer, the model has none")
    seen: dict[str, list[tuple[np.ndarray, np.ndarray, int, int]]] = {name: [] for name in norms}
    with generators_kept(), torch.no_grad():
        copied = shared_copy(model).train()
        layers = dict(named(copied))
        for name in norms:
            layers[name].register_forward_hook(partial(_collect, seen[name]))
        for batch in first_batches(loader, batches):
            forward(copied, batch)
    return {name: _pooled(rows, read_state(layers[name])) for name, rows in seen.items() if rows}


def _collect(rows: list[Any], module: nn.Module, args: Any, output: Any) -> None:
    if uses_batch(module):
        mean, var = batch_moments(module, args, output)
        values, images = output.numel() // mean.numel(), len(output)
        rows.append((mean.double().cpu().numpy(), var.double().cpu().numpy(), values, images))


def _pooled(rows: list[Any], state: BatchNormState) -> Population:
    means, variances, values, images = (np.array(column) for column in zip(*rows, strict=True))
    gamma = np.ones(means.shape[1]) if state.gamma is None else state.gamma.double().cpu().numpy()
    return Population(means, variances, values, images, gamma, state.eps)


def recorded_noise(table: pd.DataFrame, eps: float) -> dict[str, float]:
    """Estimate B1 to B4 from single batches of training: no other weights are involved.

    A batch is N independent images.  So the variance of its mean is that of
    the images' own means over N, whatever the correlation of positions, and
    likewise for its variance.  B2 and B4 to first order in the noise.

    Behind another BN layer the images of a batch are not independent: their
    common statistics hold the batch's mean fixed.  There this is the value that the
    images alone would give, and an upper bound; :meth:`Population.noise` is
    exact.

    Parameters
    ----------
    table
        A layer's rows of ``run.bn.frame()``; batches of at least 2 images.
    eps
        Of the layer.
    """
    live = table[table["batch_var"] > 0]
    v, images = live["batch_var"], live["images"]
    of_mean, of_variance = live["image_mean_var"] / images, live["image_square_var"] / images
    relative = of_variance / v**2
    s = v + eps
    gamma = live["gamma"].fillna(1.0)
    output = gamma**2 * (of_mean / s + v / s * of_variance / (4 * s**2))
    rms = {
        "mean_noise": (of_mean / v).mean() ** 0.5,
        "scale_noise": relative.mean() ** 0.5 / 2,
        "cv": relative.mean() ** 0.5,
    }
    named = _named(
        float(rms["mean_noise"]),
        float(rms["scale_noise"]),
        float(rms["cv"]),
        table["values"].to_numpy(),
        table["images"].to_numpy(),
    )
    return named | {"output_noise": float(output.mean() ** 0.5)}


def noise_table(moments: dict[str, Population]) -> pd.DataFrame:
    """Return :meth:`Population.noise` of every layer, one row per layer."""
    return pd.DataFrame([{"layer": name} | each.noise() for name, each in moments.items()])
