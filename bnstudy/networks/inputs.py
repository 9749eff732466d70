"""The first thing a network does with images in 0..1: standardize them, or resize them."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnstudy.errors import ConfigError
from bnstudy.registry import Registry

INPUTS: Registry[nn.Module | None] = Registry("input", given=2)
LARGEST = 1_024  # pixels of a side


class Inputs(nn.Module):
    """Resizes images in 0..1, then subtracts a mean and divides by a standard deviation.

    Parameters
    ----------
    mean, sd
        Of each channel.
    size
        Height and width in pixels; 0 to leave them.

    Attributes
    ----------
    mean, sd
        Buffers (C, 1, 1).
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, mean: Sequence[float], sd: Sequence[float], size: int = 0) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("sd", torch.tensor(sd, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, X: Tensor) -> Tensor:
        """Return the images (N, C, H, W), resized and standardized."""
        if self.size:
            # as PIL's, which torchvision's Resize calls: smoothed where it reduces
            sides = self.size, self.size
            X = F.interpolate(X, sides, mode="bilinear", antialias=True, align_corners=False)
        return (X - self.mean) / self.sd

    def extra_repr(self) -> str:
        """Return the size, for printing the layer."""
        return f"size={self.size}" if self.size else ""


@INPUTS.register("scaled")
def scaled(mean: Sequence[float], sd: Sequence[float], *, size: int = 0) -> nn.Module | None:
    """Return a layer that resizes images if asked to; None to take them as they are."""
    _check(size)
    return Inputs([0.0] * len(mean), [1.0] * len(sd), size) if size else None


@INPUTS.register("standardized")
def standardized(mean: Sequence[float], sd: Sequence[float], *, size: int = 0) -> nn.Module:
    """Return a layer that gives the training images' channels mean 0 and standard deviation 1."""
    _check(size)
    return Inputs(mean, [each or 1.0 for each in sd], size)  # a constant channel becomes 0


def _check(size: object) -> None:
    if not isinstance(size, int) or not 0 <= size <= LARGEST:
        raise ConfigError(f"size of inputs must be an integer in 0..{LARGEST}, got {size!r}")
