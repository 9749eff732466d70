"""Compilation of the kernel, with a message: ``python -m bnstudy.engines.lockstep``."""

from bnstudy.engines.lockstep import available

if __name__ == "__main__":
    possible, reason = available()
    if possible:
        print("lockstep engine: available")
    else:
        print(f"lockstep engine: not available, {reason}; the reference engine will be used")
