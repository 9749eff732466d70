r"""Batch normalization from scratch, its relatives, and the names a config gives them.

Reading order: ``functional`` (the formula), ``layer``, ``variants``, ``conversion``
(from and to torch), ``state``, ``registry``.

Notation, for one channel of a batch: x are its m values (N images times the
positions of the channel), mu and var their mean and biased variance,
x_hat = (x - mu) / sqrt(var + eps), y = gamma x_hat + beta.

Conventions differ between the notes and torch:

=================  ======================  =======================
\                  the notes, ours         torch
=================  ======================  =======================
momentum 0.9 is    weight of the OLD       (its 0.1 is the weight
                   moving value            of the NEW value)
moving variance    biased, divided by m    unbiased, by m - 1
batch variance     biased                  biased
=================  ======================  =======================
"""

from bnstudy.networks.norm.conversion import from_torch, to_torch
from bnstudy.networks.norm.functional import batch_norm
from bnstudy.networks.norm.layer import BatchNorm
from bnstudy.networks.norm.registry import (
    make_norm,
    needs_batch,
    norm_names,
    parse_norm,
    register_norm,
)
from bnstudy.networks.norm.state import (
    NormState,
    has_running_statistics,
    parameters_of,
    set_running_statistics,
)
from bnstudy.networks.norm.variants import (
    FrozenBatchNorm,
    GhostBatchNorm,
    MeanOnlyBatchNorm,
    NoisyBatchNorm,
    PopulationBatchNorm,
    VarianceOnlyBatchNorm,
    ghost_sizes,
)

__all__ = [
    "BatchNorm",
    "FrozenBatchNorm",
    "GhostBatchNorm",
    "MeanOnlyBatchNorm",
    "NoisyBatchNorm",
    "NormState",
    "PopulationBatchNorm",
    "VarianceOnlyBatchNorm",
    "batch_norm",
    "from_torch",
    "ghost_sizes",
    "has_running_statistics",
    "make_norm",
    "needs_batch",
    "norm_names",
    "parameters_of",
    "parse_norm",
    "register_norm",
    "set_running_statistics",
    "to_torch",
]
