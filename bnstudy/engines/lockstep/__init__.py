"""The lockstep engine: many seeds of an arm in one program.

On the CPU in a compiled kernel, one per lane of a vector register: sixteen with
AVX-512, eight with AVX, else four.  On a GPU as stacked tensors.  Results agree
with the reference trainer's: same initial weights, order and dropout masks, losses
to rounding.  Configs that it does not support, and machines without a C++
compiler, are left to the reference.

Reading order: ``loop`` (what the two programs do), ``parameters``, ``random_draws``,
``interface``, ``cpu`` and ``cpp/``, ``gpu`` and ``gpu_layers``, ``capacity``.
"""

from bnstudy.engines.lockstep.capacity import available, stack_size
from bnstudy.engines.lockstep.cpu import lane_count
from bnstudy.engines.lockstep.loop import train_stack
from bnstudy.engines.lockstep.parameters import unsupported

__all__ = ["available", "lane_count", "stack_size", "train_stack", "unsupported"]
