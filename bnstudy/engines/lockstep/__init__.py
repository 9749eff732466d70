"""The lockstep engine: many seeds of an arm in one program.

On the CPU up to sixteen in a compiled kernel, one per vector lane; on a GPU as
stacked tensors.  Results agree with the reference trainer's: same initial
weights, order and dropout masks, losses to rounding.  Configs that it does not
support, and machines without a C++ compiler, are left to the reference.

Reading order: ``loop`` (what the two programs do), ``parameters``, ``draws``,
``cpu`` and ``cpp/``, ``gpu`` and ``gpu_layers``, ``capacity``.
"""

from bnstudy.engines.lockstep.capacity import available, stack_size
from bnstudy.engines.lockstep.cpu import LANES
from bnstudy.engines.lockstep.loop import train_stack
from bnstudy.engines.lockstep.parameters import unsupported

__all__ = ["LANES", "available", "stack_size", "train_stack", "unsupported"]
