"""Whether the lockstep engine runs on a device, and the number of seeds it trains at once.

Apart from the other modules because it decides no result: it is in no code digest.
"""

import torch

from bnstudy.compiling import compiled
from bnstudy.config import RunConfig
from bnstudy.engines.lockstep.cpu import SOURCE, lane_count

GPU_SEEDS = 64
GPU_IMAGES = 1 << 15  # of all seeds in a step: about 11 GB with batch normalization


def available(device: str = "cpu") -> tuple[bool, str]:
    """Return whether the engine runs on a device, and if not the reason as a clause."""
    kind = torch.device(device).type
    if kind == "cpu":
        library, reason = compiled(SOURCE)
        return library is not None, reason
    return kind == "cuda", "" if kind == "cuda" else f"it runs on cpu and cuda, not on {kind}"


def stack_size(config: RunConfig, device: str = "cpu") -> int:
    """Return how many seeds of an arm are trained together on a device."""
    if torch.device(device).type == "cpu":
        return lane_count()
    return max(1, min(GPU_SEEDS, GPU_IMAGES // config.batch_size))
