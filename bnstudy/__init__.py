"""bnstudy: find out by experiment what batch normalization really does.

``watch`` shows what happens inside any PyTorch model, ``BatchNorm`` is the lecture
notes' layer written from scratch, ``load`` reads images and ``train`` trains a network
on them, once per seed, into one table.  Reading order for a newcomer: ``networks/norm/functional``,
``networks/lenet``, ``engines/reference``, then ``experiments/convergence``.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnstudy.activations.watch import watch
    from bnstudy.data import load
    from bnstudy.networks.norm import BatchNorm
    from bnstudy.runs.training import train

__version__ = "0.1.0"
__all__ = ["BatchNorm", "__version__", "load", "train", "watch"]

_HOMES = {
    "BatchNorm": "bnstudy.networks.norm",
    "load": "bnstudy.data",
    "train": "bnstudy.runs.training",
    "watch": "bnstudy.activations",
}


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
    """Import a public name when it is first used: ``import bnstudy`` alone needs no torch."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'bnstudy' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return all names, those that are not imported yet included."""
    return sorted({*globals(), *_HOMES})
