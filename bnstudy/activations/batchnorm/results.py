"""The face ``run.bn``: results on batch normalization, of a recording and of its model."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from bnstudy.activations.batchnorm.gaps import running_gap, train_eval_gap
from bnstudy.activations.batchnorm.moments import CHANNEL_STATS
from bnstudy.activations.batchnorm.population import noise_table, population, recorded_noise
from bnstudy.activations.model_copies import Forward, call_with_input
from bnstudy.errors import WatchError

SMALL_GAMMA = 0.01
SIGMOID_EDGE = math.log(19.0)  # sigmoid(z) = 0.95 at 2.944, and 0.05 at -2.944
TANH_EDGE = math.atanh(0.9)  # within 5 % of the range of a bound


@dataclass(frozen=True)
class BatchNorms:
    """The BN half of a recording.

    Attributes
    ----------
    rows, info
        As in :class:`~bnstudy.activations.recording.Recording`, with rows of BN layers.
    model
        The model watched, for what needs one; None of a loaded recording.
    """

    rows: pd.DataFrame
    info: dict[str, Any]
    model: nn.Module | None = None

    def frame(self) -> pd.DataFrame:
        """Return one row per step, layer, call and channel.

        Columns ``step``, ``forward``, ``layer``, ``call``, ``channel``,
        ``batch_mean``, ``batch_var`` (biased, exact), ``running_mean``,
        ``running_var``, ``gamma``, ``beta``, ``values`` and ``images``.

        Raises
        ------
        WatchError
            If no BN layer was recorded.
        """
        rows = self.rows
        rows = rows[rows["tensor"] == "norm"]
        if rows.empty:
            raise WatchError(
                "no batch normalization layer was recorded: the model has none in training mode, "
                "or watch(bn=False)"
            )
        by = ["step", "forward", "layer", "call"]
        rows = rows.astype({"layer": "str", "stat": "str"})
        channels = rows[rows["channel"] >= 0].pivot(
            index=[*by, "channel"], columns="stat", values="value"
        )
        sizes = rows[rows["channel"] < 0].pivot(index=by, columns="stat", values="value")
        table = channels.join(sizes).reset_index()
        table.columns.name = None
        order = {name: rank for rank, name in enumerate(dict.fromkeys(rows["layer"]))}
        table = table.sort_values(
            [*by, "channel"],
            key=lambda column: column.map(order) if column.name == "layer" else column,
        )
        return table[[*by, "channel", *CHANNEL_STATS, "values", "images"]].reset_index(drop=True)

    def noise(
        self,
        loader: Iterable[Any] | None = None,
        *,
        batches: int = 200,
        forward: Forward = call_with_input,
    ) -> pd.DataFrame:
        """Return the noise of batch statistics, one row per layer (B1 to B4).

        Parameters
        ----------
        loader, batches, forward
            With a loader, exactly: at the current weights, see
            :func:`~bnstudy.activations.batchnorm.population.population`.  Without,
            over all recorded steps, from the differences between the images of each
            batch: see :func:`~bnstudy.activations.batchnorm.population.recorded_noise`.

        Raises
        ------
        WatchError
            If there is nothing to estimate from.
        """
        if loader is not None:
            return noise_table(
                population(self._need_model(), loader, batches=batches, forward=forward)
            )
        frame = self.frame()
        frame = frame[frame["images"] > 1]
        if frame.empty:
            raise WatchError("batch noise needs batches of at least 2 images, got 1 each")
        norms = self.info["norms"]
        return pd.DataFrame(
            [
                {"layer": layer} | recorded_noise(table, norms[layer]["eps"])
                for layer, table in frame.groupby("layer", sort=False)
            ]
        )

    def gap(
        self, loader: Iterable[Any], *, batches: int = 200, forward: Forward = call_with_input
    ) -> pd.DataFrame:
        """Compare running with population statistics: see ``gaps.running_gap``."""
        return running_gap(self._need_model(), loader, batches=batches, forward=forward)

    def train_eval_gap(self, batch: Any, *, forward: Forward = call_with_input) -> dict[str, float]:
        """Compare training with evaluation mode: see ``gaps.train_eval_gap``."""
        return train_eval_gap(self._need_model(), batch, forward=forward)

    def _need_model(self) -> nn.Module:
        if self.model is None:
            raise WatchError("this needs the model, a loaded recording has none: use the function")
        return self.model

    def parameters(self) -> pd.DataFrame:
        """Return gamma and beta over training, one row per step, layer and channel (B10).

        ``distance`` is that of (gamma, beta) from (1, 0), ``scale`` the
        effective one, gamma / sqrt(batch_var + eps).
        """
        table = self.frame().drop_duplicates(["step", "layer", "channel"]).copy()
        eps = table["layer"].map({n: each["eps"] for n, each in self.info["norms"].items()})
        table["distance"] = np.hypot(table["gamma"] - 1, table["beta"])
        table["scale"] = table["gamma"] / np.sqrt(table["batch_var"] + eps)
        columns = ["step", "layer", "channel", "gamma", "beta", "distance", "scale"]
        return table[columns].reset_index(drop=True)

    def small_gamma(self, below: float = SMALL_GAMMA) -> pd.DataFrame:
        """Return the share of channels with |gamma| < ``below``, one row per step and layer."""
        table = self.parameters()
        table["share"] = (table["gamma"].abs() < below).astype(float)
        return table.groupby(["step", "layer"], sort=False)["share"].mean().reset_index()

    def predicted(self) -> pd.DataFrame:
        """Compare shares predicted from gamma and beta with those seen after the layer (B11).

        If the normalized values are Gaussian, those of a channel after gamma
        and beta are N(beta, gamma^2): the share a rectifier lets through
        (``active``) and the share a sigmoid or tanh saturates (``saturated``)
        follow, averaged over channels.

        Returns
        -------
        pandas.DataFrame
            ``step``, ``layer`` (BN), ``activation``, ``stat``, ``predicted``, ``seen``.

        Raises
        ------
        WatchError
            If no activation module takes a BN layer's output, or none was watched.
        """
        parameters = self.parameters()
        rows = []
        for layer, activation in self.info["followers"].items():
            kind = self.info["kinds"].get(activation, "")
            if kind not in PREDICTIONS:
                continue
            stat, share = PREDICTIONS[kind]
            seen = self.rows
            seen = seen[
                (seen["layer"] == activation) & (seen["stat"] == stat) & (seen["mode"] == "train")
            ]
            observed = seen.groupby("step")["value"].mean()
            for step, table in parameters[parameters["layer"] == layer].groupby("step"):
                if step in observed.index:
                    value = share(table["gamma"].to_numpy(), table["beta"].to_numpy()).mean()
                    rows.append((step, layer, activation, stat, value, observed[step]))
        if not rows:
            raise WatchError(
                "predictions need an activation module after a BN layer, both watched, with "
                "the statistics 'saturated' or 'active': none was seen"
            )
        columns = ["step", "layer", "activation", "stat", "predicted", "seen"]
        return pd.DataFrame(rows, columns=columns)

    def scale_invariance(self) -> pd.DataFrame:
        """Return weights that BN makes free of scale, and their effective learning rate (B14).

        Returns
        -------
        pandas.DataFrame
            ``step``, ``layer`` (the weighted one), ``bn``, ``norm`` of its
            weight w, ``effective_lr`` = lr / ||w||^2, and ``grad_cosine`` of w
            and its gradient: 0 but for eps and rounding.

        Raises
        ------
        WatchError
            If parameters were not recorded, or no layer feeds a BN layer.
        """
        after = {before: bn for bn, before in self.info["producers"].items()}
        rows = self.rows
        rows = rows[(rows["tensor"] == "weight") & rows["layer"].isin(list(after))]
        if rows.empty:
            raise WatchError(
                "scale invariance needs recorded weights before BN layers: watch(params=True) "
                "with the optimizer"
            )
        rows = rows.astype({"layer": "str", "stat": "str"})
        table = rows.pivot(index=["step", "layer"], columns="stat", values="value").reset_index()
        table.columns.name = None
        table["bn"] = table["layer"].map(after)
        return table[["step", "layer", "bn", "norm", "effective_lr", "grad_cosine"]]


_erf = np.vectorize(math.erf)


def _phi(z: np.ndarray) -> np.ndarray:
    """Return the standard normal distribution function."""
    return 0.5 * (1 + _erf(z / math.sqrt(2)))


def share_active(gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Return P(z > 0) for z ~ N(beta, gamma^2), (C,); where gamma is 0, whether beta > 0."""
    size = np.abs(gamma)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(size > 0, _phi(beta / size), beta > 0)


def share_outside(gamma: np.ndarray, beta: np.ndarray, edge: float = SIGMOID_EDGE) -> np.ndarray:
    """Return P(|z| > edge) for z ~ N(beta, gamma^2), (C,)."""
    size = np.abs(gamma)
    with np.errstate(divide="ignore", invalid="ignore"):
        both = _phi((-edge - beta) / size) + 1 - _phi((edge - beta) / size)
    return np.where(size > 0, both, np.abs(beta) > edge)


PREDICTIONS = {
    "ReLU": ("active", share_active),
    "Sigmoid": ("saturated", share_outside),
    "Tanh": ("saturated", lambda gamma, beta: share_outside(gamma, beta, TANH_EDGE)),
}
