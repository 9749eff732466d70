"""The lockstep engine: sixteen seeds of an arm in one program, a vector lane each.

Results agree with the reference trainer's: same initial weights, order and
dropout masks, losses to rounding.  What it cannot train, and machines without a
C++ compiler, are left to the reference.
"""

from bnstudy.lockstep.build import load
from bnstudy.lockstep.engine import train_stack
from bnstudy.lockstep.kernel import LANES, unsupported

__all__ = ["LANES", "available", "train_stack", "unsupported"]


def available() -> tuple[bool, str]:
    """Return whether the kernel is there, and if not why, in a sentence."""
    library, reason = load()
    return library is not None, reason
