"""The neighbours of BN layers: which layer feeds one, and which activation follows it.

They are observed, not guessed: a tensor that one module returned and another was
called with is the same object during a recorded pass.
"""

import weakref
from typing import Any

from torch import Tensor, nn

from bnstudy.activations.batchnorm.layer import is_batch_norm
from bnstudy.activations.builtin_statistics import BOUNDED, RECTIFIERS

ACTIVATIONS = (*BOUNDED, *RECTIFIERS)


def role(module: nn.Module) -> str:
    """Return ``norm``, ``producer``, ``activation`` or nothing: what a module can be beside BN.

    Examples
    --------
    >>> [role(m) for m in (nn.BatchNorm1d(2), nn.ReLU(), nn.Flatten())]
    ['norm', 'activation', '']
    """
    if is_batch_norm(module):
        return "norm"
    if isinstance(module, ACTIVATIONS):
        return "activation"
    weight = getattr(module, "weight", None)
    return "producer" if isinstance(weight, Tensor) and weight.dim() > 1 else ""


class Neighbours:
    """The neighbours of the BN layers of a model.

    Attributes
    ----------
    producers
        BN layer to the weighted layer whose output it normalizes.
    followers
        BN layer to the activation that takes its output.
    """

    def __init__(self) -> None:
        self.producers: dict[str, str] = {}
        self.followers: dict[str, str] = {}
        self._last: dict[str, tuple[str, weakref.ref[Tensor]]] = {}

    def returned(self, name: str, part: str, output: Any) -> None:
        """Note the output of a producer or of a BN layer."""
        if isinstance(output, Tensor):  # held weakly, so that no activation lives longer
            self._last[part] = name, weakref.ref(output)

    def called(self, name: str, part: str, args: tuple[Any, ...]) -> None:
        """Compare the input of a BN layer or of an activation with the last output before it."""
        before = "producer" if part == "norm" else "norm"
        last, reference = self._last.get(before, ("", None))
        if reference is not None and args and args[0] is reference():
            if part == "norm":
                self.producers[name] = last
            else:
                self.followers[last] = name
