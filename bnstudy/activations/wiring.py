"""Which layer feeds which BN layer, and which activation follows: seen, not guessed.

A tensor that one module returned and another was called with is the same
object; that is watched during recorded passes.
"""

import weakref
from typing import Any

from torch import Tensor, nn

from bnstudy.activations.builtin import BOUNDED, RECTIFIERS
from bnstudy.activations.layer import is_batch_norm

ACTIVATIONS = (*BOUNDED, *RECTIFIERS)


def role(module: nn.Module) -> str:
    """Return what a module can be to a BN layer: ``norm``, ``producer``, ``activation`` or none."""
    if is_batch_norm(module):
        return "norm"
    if isinstance(module, ACTIVATIONS):
        return "activation"
    weight = getattr(module, "weight", None)
    return "producer" if isinstance(weight, Tensor) and weight.dim() > 1 else ""


class Wiring:
    """The neighbours of the BN layers.

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

    def leaves(self, name: str, part: str, output: Any) -> None:
        """See what a producer or a BN layer returned."""
        if isinstance(output, Tensor):
            self._last[part] = name, weakref.ref(output)

    def enters(self, name: str, part: str, args: tuple[Any, ...]) -> None:
        """See what a BN layer or an activation is called with."""
        before = "producer" if part == "norm" else "norm"
        last, reference = self._last.get(before, ("", None))
        if reference is not None and args and args[0] is reference():
            if part == "norm":
                self.producers[name] = last
            else:
                self.followers[last] = name
