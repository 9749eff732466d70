"""The record of a run: curve, normalization parameters, digests, times and measurements."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor, nn

from bnstudy.engines.phases import TRAINING
from bnstudy.networks import layers_with_weights, norm_layers
from bnstudy.networks.norm import parameters_of

CURVE_COLUMNS = (
    "step",
    "epoch",
    "images",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "test_loss",
    "test_accuracy",
    "test_loss_population",
    "test_accuracy_population",
)
MEASURE_COLUMNS = ("probe", "step", "layer", "tensor", "channel", "stat", "value")
NORM_COLUMNS = ("layer", "channel", "gamma", "beta", "running_mean", "running_var")


@dataclass(frozen=True)
class Record:
    """Everything that is kept of a run, whichever engine trained it.

    Attributes
    ----------
    status
        ``done``, or ``diverged`` when the training loss stopped being finite.
    steps
        Optimizer steps done; when diverged, those with a finite loss.
    steps_per_epoch
        Optimizer steps in one epoch.
    curve
        One row per evaluation point, columns :data:`CURVE_COLUMNS`.  Training
        figures are means since the row before; test figures are in rows that end
        an epoch, once by running and once by population statistics, which are
        equal for arms without running statistics.  NaN where nothing was measured.
    norms
        Normalization parameters at the end, columns :data:`NORM_COLUMNS`, one
        row per channel of each layer.
    weights_digest, order_digest
        sha256 of the initial weights of the shared layers, and of the order of
        images in the first epoch: equal across the arms of a seed.
    phase_seconds
        Time by phase, see :mod:`bnstudy.engines.phases`; of a run in a stack its share.
    measures
        Measurements of the probes, columns :data:`MEASURE_COLUMNS`, one row per
        value; None without probes.
    """

    status: str
    steps: int
    steps_per_epoch: int
    curve: pd.DataFrame
    norms: pd.DataFrame
    weights_digest: str
    order_digest: str
    phase_seconds: Mapping[str, float]
    measures: pd.DataFrame | None = None

    @property
    def wall_seconds(self) -> float:
        """Time of the whole run."""
        return sum(self.phase_seconds.values())

    @property
    def train_seconds(self) -> float:
        """Time in training steps alone."""
        return sum(self.phase_seconds.get(phase, 0.0) for phase in TRAINING)


def curve_frame(rows: Sequence[dict[str, float]]) -> pd.DataFrame:
    """Return the curve of a :class:`Record`, with the same columns and types without rows."""
    frame = pd.DataFrame(list(rows), columns=list(CURVE_COLUMNS)).astype(np.float64)
    return frame.astype({"step": np.int64, "images": np.int64})


def norm_frame(net: nn.Module) -> pd.DataFrame:
    """Return gamma, beta and running statistics of all layers, one row per channel."""
    frames = []
    for name, layer in norm_layers(net).items():
        state = parameters_of(layer)
        columns = (state.gamma, state.beta, state.mean, state.var)
        values = {
            column: tensor.detach().cpu().double().flatten().numpy()
            for column, tensor in zip(NORM_COLUMNS[2:], columns, strict=True)
        }
        frames.append(pd.DataFrame({"layer": name, "channel": range(len(state.gamma)), **values}))
    types = {"layer": str, "channel": np.int64, **dict.fromkeys(NORM_COLUMNS[2:], np.float64)}
    if not frames:
        return pd.DataFrame(columns=list(NORM_COLUMNS)).astype(types)
    return pd.concat(frames, ignore_index=True).astype(types)


def digest_weights(net: nn.Module) -> str:
    """Return the sha256 of the weights of the layers that all arms share, in hex."""
    sha = hashlib.sha256()
    # biases and normalization layers are not in every arm
    for layer in layers_with_weights(net).values():
        sha.update(layer.weight.detach().cpu().numpy().tobytes())
    return sha.hexdigest()


def digest_order(order: Tensor) -> str:
    """Return the sha256 of an epoch's order of images, in hex."""
    # little-endian on every machine
    return hashlib.sha256(order.numpy().astype("<i8").tobytes()).hexdigest()
