"""The settings of torch under which a GPU computes in float32 proper."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Within, a GPU is the current one, without TF32, and does the same thing each time.

    TF32 keeps 10 bits of a factor's 23; torch allows it in convolutions unless
    told otherwise.  The settings are put back afterwards.  Nothing is done for
    other devices.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    switches: list[Any] = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]
    precisions = [switch.fp32_precision for switch in switches]
    choices = cudnn.benchmark, cudnn.deterministic
    try:
        for switch in switches:
            switch.fp32_precision = "ieee"
        cudnn.benchmark, cudnn.deterministic = False, True
        with torch.cuda.device(device):
            yield
    finally:
        for switch, precision in zip(switches, precisions, strict=True):
            switch.fp32_precision = precision
        cudnn.benchmark, cudnn.deterministic = choices
