"""Putting a recorder's hooks on, and taking off exactly these and no others."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from bnstudy.activations.hooks import Hook, StepHook, Switch
from bnstudy.activations.wiring import role


class Attachment:
    """The hooks of one recorder.

    Parameters
    ----------
    recorder
        Whose methods the hooks call; held weakly by them.
    switch
        Asked by the hooks of layers before they do anything.
    """

    def __init__(self, recorder: Any, switch: Switch) -> None:
        self._recorder, self._switch = recorder, switch
        self.handles: list[Any] = []
        self.scouts: list[Any] = []

    def root(self, model: nn.Module) -> None:
        """Attach to the whole model, before and after each pass, even one that raises."""
        before, after = Hook(self._recorder, "_begin"), Hook(self._recorder, "_end")
        self.handles += [
            model.register_forward_pre_hook(before, with_kwargs=True, prepend=True),
            model.register_forward_hook(after, with_kwargs=True, always_call=True),
        ]

    def before(self, index: int, module: nn.Module, action: str) -> None:
        """Attach a method of the recorder to what a layer is called with."""
        hook = Hook(self._recorder, action, index, self._switch)
        self.handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def after(self, index: int, module: nn.Module, action: str) -> None:
        """Attach a method of the recorder to what a layer returns."""
        hook = Hook(self._recorder, action, index, self._switch)
        self.handles.append(module.register_forward_hook(hook, with_kwargs=True))

    def neighbours(self, layers: Iterable[tuple[int, nn.Module]]) -> None:
        """Attach what finds the neighbours of BN layers; only needed for one step."""
        for number, module in layers:
            part = role(module)
            if part in ("producer", "activation"):
                hook = Hook(self._recorder, "_" + part, number, self._switch)
                attach = (
                    module.register_forward_hook
                    if part == "producer"
                    else module.register_forward_pre_hook
                )
                self.scouts.append(attach(hook))

    def optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Attach before and after each step."""
        self.handles += [
            optimizer.register_step_pre_hook(StepHook(self._recorder, "_before_step")),
            optimizer.register_step_post_hook(StepHook(self._recorder, "_after_step")),
        ]

    def done(self) -> None:
        """Let go of the recorder: hooks keep a weak reference, and so it can be collected."""
        self._recorder = None


def remove(*lists: list[Any]) -> None:
    """Take hooks off and empty the lists of their handles."""
    for handles in lists:
        while handles:
            handles.pop().remove()
