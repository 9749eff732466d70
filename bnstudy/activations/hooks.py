"""The hooks of a recorder: attached to a model, and removed again without touching others.

The model holds its hooks, and a hook holds its recorder weakly, so that a recorder
that is dropped can be collected and cleans up after itself.  A hook copied or
pickled with its model becomes one that does nothing: a copied model (an
exponential moving average, a saved one) is not watched.
"""

import weakref
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch import nn

from bnstudy.activations.batchnorm.neighbours import role
from bnstudy.activations.reading.measurements import Occurrence

Action = Callable[..., None]


class Switch:
    """A flag that is on while layers are recorded: all that a hook reads on other steps."""

    __slots__ = ("on",)

    def __init__(self) -> None:
        self.on = True


class Hook:
    """A forward hook or pre-hook of one module.

    Parameters
    ----------
    action
        A bound method, held weakly; None for a hook that does nothing.
    index
        Number of the layer, handed on.
    switch
        Asked first; None to call always.
    """

    def __init__(
        self, action: Action | None = None, index: int = -1, switch: Switch | None = None
    ) -> None:
        _break_graphs()
        self._action = None if action is None else weakref.WeakMethod(action)
        self._index, self._switch = index, switch

    def __call__(self, module: nn.Module, *passed: Any) -> None:
        """Call the recorder if it records; never change what the module takes or returns."""
        if self._switch is not None and not self._switch.on:
            return
        action = None if self._action is None else self._action()
        if action is not None:
            action(self._index, module, *passed)

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

    def __init__(self, action: Action) -> None:
        self._action = weakref.WeakMethod(action)

    def __call__(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Call the recorder if it is there; never change the step's arguments."""
        action = self._action()
        if action is not None:
            action(optimizer)


class GradientHook:
    """A hook of one tensor: hands its gradient on, of the first backward pass only."""

    def __init__(self, action: Action, where: Occurrence) -> None:
        self._action, self._where, self._done = weakref.WeakMethod(action), where, False

    def __call__(self, gradient: torch.Tensor) -> None:
        """Call the recorder if it is there; never change the gradient."""
        action = self._action()
        if action is not None and not self._done:
            self._done = True
            action(self._where, gradient)


class HookSet:
    """The hooks of one recorder.

    Parameters
    ----------
    switch
        Asked by the hooks of layers before they do anything.

    Attributes
    ----------
    handles
        Those of the hooks that stay until the recorder is closed.
    first_step
        Those of the hooks that find the neighbours of BN layers: one step is enough.
    """

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self.handles: list[Any] = []
        self.first_step: list[Any] = []

    def root(self, model: nn.Module, before: Action, after: Action) -> None:
        """Attach to the whole model, before and after each pass, even one that raises."""
        self.handles += [
            model.register_forward_pre_hook(Hook(before), with_kwargs=True, prepend=True),
            model.register_forward_hook(Hook(after), with_kwargs=True, always_call=True),
        ]

    def before(self, index: int, module: nn.Module, action: Action) -> None:
        """Attach an action to the arguments of a layer."""
        hook = Hook(action, index, self._switch)
        self.handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def after(self, index: int, module: nn.Module, action: Action) -> None:
        """Attach an action to the result of a layer."""
        hook = Hook(action, index, self._switch)
        self.handles.append(module.register_forward_hook(hook, with_kwargs=True))

    def neighbours(
        self, layers: Iterable[tuple[int, nn.Module]], producer: Action, activation: Action
    ) -> None:
        """Attach actions to the layers that may stand before or after BN layers."""
        for number, module in layers:
            part = role(module)
            if part == "producer":
                hook = Hook(producer, number, self._switch)
                self.first_step.append(module.register_forward_hook(hook))
            elif part == "activation":
                hook = Hook(activation, number, self._switch)
                self.first_step.append(module.register_forward_pre_hook(hook))

    def optimizer(self, optimizer: torch.optim.Optimizer, before: Action, after: Action) -> None:
        """Attach actions before and after each step."""
        self.handles += [
            optimizer.register_step_pre_hook(StepHook(before)),
            optimizer.register_step_post_hook(StepHook(after)),
        ]


def remove(*lists: list[Any]) -> None:
    """Remove hooks and empty the lists of their handles."""
    for handles in lists:
        while handles:
            handles.pop().remove()
