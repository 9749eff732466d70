"""Compile the kernel and say whether it worked: ``python -m bnstudy.lockstep``."""

from bnstudy.lockstep import available

if __name__ == "__main__":
    possible, reason = available()
    if possible:
        print("lockstep engine: available")
    else:
        print(f"lockstep engine: not available, {reason}; the reference engine will be used")
