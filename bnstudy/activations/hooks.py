"""The callables that are attached to a model: they know their recorder weakly.

The model holds its hooks and a hook holds no recorder, so that a recorder that
is dropped can be collected and cleans up after itself.  A hook copied or
pickled with its model becomes one that does nothing: a copied model (an
exponential moving average, a saved one) is not watched.
"""

import weakref
from functools import cache
from typing import Any

import torch
from torch import nn


class Switch:
    """Whether layers are recorded now: the one thing a hook reads on other steps."""

    __slots__ = ("on",)

    def __init__(self) -> None:
        self.on = True


class Hook:
    """A forward hook or pre-hook of one module.

    Parameters
    ----------
    recorder
        Held weakly; None for a hook that does nothing.
    action
        Name of the recorder's method that is called.
    index
        Which layer it is, handed on.
    switch
        Asked first; None to call always.
    """

    def __init__(
        self,
        recorder: Any = None,
        action: str = "",
        index: int = -1,
        switch: Switch | None = None,
    ) -> None:
        _break_graphs()
        self._recorder = None if recorder is None else weakref.ref(recorder)
        self._action, self._index, self._switch = action, index, switch

    def __call__(self, module: nn.Module, *passed: Any) -> None:
        """Call the recorder if it records; never change what the module takes or returns."""
        if self._switch is not None and not self._switch.on:
            return
        recorder = None if self._recorder is None else self._recorder()
        if recorder is not None:
            getattr(recorder, self._action)(self._index, module, *passed)

    def __reduce__(self) -> tuple[type["Hook"], tuple[()]]:
        return Hook, ()


@cache
def _break_graphs() -> None:
    """Let compiled code break its graph at hooks, from the first hook on.

    So each hooked module is a graph of its own, on every step, and none is compiled again when
    recording starts or stops.  Not earlier: the compiler takes a second and 150 MB to import.
    """
    Hook.__call__ = torch.compiler.disable(Hook.__call__)  # type: ignore[method-assign]


class StepHook:
    """A hook of the optimizer, before or after its step."""

    def __init__(self, recorder: Any, action: str) -> None:
        self._recorder, self._action = weakref.ref(recorder), action

    def __call__(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Call the recorder if it is there; never change the step's arguments."""
        recorder = self._recorder()
        if recorder is not None:
            getattr(recorder, self._action)(optimizer)


class GradientHook:
    """A hook of one tensor: hands its gradient on, of the first backward pass only."""

    def __init__(self, recorder: Any, place: Any) -> None:
        self._recorder, self._place, self._done = weakref.ref(recorder), place, False

    def __call__(self, gradient: torch.Tensor) -> None:
        """Call the recorder if it is there; never change the gradient."""
        recorder = self._recorder()
        if recorder is not None and not self._done:
            self._done = True
            recorder._gradient(self._place, gradient)
