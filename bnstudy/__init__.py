"""bnstudy: find out by experiment what batch normalization really does.

Reading order for a newcomer: ``norm``, ``lenet``, ``training``, then
``experiments/convergence``.  ``bnstudy.watch`` is :func:`bnstudy.activations.watch`.
"""

from importlib import import_module
from types import ModuleType
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "watch"]


class _LazyModule(ModuleType):
    """A module that is imported when an attribute of it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        # the interpreter keeps what is imported, and its import lock makes threads wait
        return getattr(import_module(self.__name__), name)


def lazy_module(name: str) -> ModuleType:
    """Return a module that is imported when an attribute of it is first asked for.

    Examples
    --------
    >>> lazy_module("math").sqrt(4.0)
    2.0
    """
    return _LazyModule(name)


def __getattr__(name: str) -> Any:
    """Import ``watch`` when it is first asked for: ``import bnstudy`` alone needs no torch."""
    if name == "watch":
        return import_module("bnstudy.activations").watch
    raise AttributeError(f"module 'bnstudy' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Name what there is, ``watch`` included."""
    return sorted([*globals(), "watch"])
