"""The lockstep engine: many seeds of an arm in one program.

On the cpu up to sixteen in a compiled kernel, a vector lane each; on a GPU as
stacked tensors.  Results agree with the reference trainer's: same initial
weights, order and dropout masks, losses to rounding.  What it cannot train, and
machines without a C++ compiler, are left to the reference.
"""

import torch

from bnstudy.compiling import compiled
from bnstudy.config import RunConfig
from bnstudy.engines.lockstep.cpu import LANES, SOURCE
from bnstudy.engines.lockstep.loop import train_stack
from bnstudy.engines.lockstep.parameters import unsupported

__all__ = ["LANES", "available", "stack_size", "train_stack", "unsupported"]

GPU_SEEDS = 64
GPU_IMAGES = 1 << 15  # of all seeds in a step: about 11 GB with batch normalization


def available(device: str = "cpu") -> tuple[bool, str]:
    """Return whether the engine runs on a device, and if not why, in a sentence."""
    kind = torch.device(device).type
    if kind == "cpu":
        library, reason = compiled(SOURCE)
        return library is not None, reason
    return kind == "cuda", "" if kind == "cuda" else f"it runs on cpu and cuda, not on {kind}"


def stack_size(config: RunConfig, device: str = "cpu") -> int:
    """Return how many seeds of an arm are trained together on a device."""
    if torch.device(device).type == "cpu":
        return LANES
    return max(1, min(GPU_SEEDS, GPU_IMAGES // config.batch_size))
