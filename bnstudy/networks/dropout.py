"""Dropout whose masks come from a run's own generator."""

import numpy as np
import torch
from torch import Tensor, nn

from bnstudy.errors import ConfigError
from bnstudy.networks.checkpointing import repeated_by_checkpoint


class StreamDropout(nn.Module):
    """Dropout whose masks come from the run's own generator.

    Drops a unit with probability ``rate`` in training and scales the others by
    1 / (1 - rate) (Srivastava et al. 2014, in the inverted form of torch).  A
    mask is ``rng.random((N, units), dtype=float32) >= rate``, so any engine
    with the same stream draws the same masks.  As with ``nn.Dropout``, activation
    checkpointing repeats the mask (see :mod:`bnstudy.networks.checkpointing`), but with
    ``preserve_rng_state=False`` the recomputation is refused.

    Parameters
    ----------
    rate
        Probability of dropping a unit, in [0, 1).
    rng
        The run's ``dropout`` stream.

    Raises
    ------
    ConfigError
        If the rate is not in [0, 1).
    """

    def __init__(self, rate: float, rng: np.random.Generator) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ConfigError(f"rate must be a number at least 0 and below 1, got {rate!r}")
        self.rate = rate
        self.rng = rng

    def forward(self, X: Tensor) -> Tensor:
        """Drop units of ``X`` (N, units) in training; pass it on in evaluation."""
        if not self.training or self.rate == 0.0:
            return X
        rng = repeated_by_checkpoint(self.rng)
        kept = rng.random(tuple(X.shape), dtype=np.float32) >= self.rate
        return X * torch.from_numpy(kept).to(X.device) / (1.0 - self.rate)

    def extra_repr(self) -> str:
        """Return the rate, for printing the layer."""
        return f"rate={self.rate}"
