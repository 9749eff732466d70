"""Recording what a BN layer has just done to its batch, channel by channel."""

from typing import Any

import torch
from torch import Tensor, nn

from bnstudy.activations.layer import (
    CHANNEL_STATS,
    batch_moments,
    channel_state,
    channel_state_later,
    saved_moments,
)
from bnstudy.activations.meter import Meter, Place
from bnstudy.activations.table import Plan


class MomentsMeter:
    """Measures batches of BN layers into the table of a meter."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._plans: dict[int, int] = {}
        self._sizes: dict[tuple[int, int, torch.device], Tensor] = {}

    def measure(self, place: Place, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Add moments, running moments, gamma and beta of a layer that has just normalized."""
        X, table = args[0], self._meter.table
        channels, device = output.shape[1], output.device
        if X.dim() < 2 or X.shape[1] != channels:
            name = self._meter.targets[place.layer].name
            self._meter.note(name, "norm", "its input is not what it normalizes")
            return
        if place.layer not in self._plans:
            self._plans[place.layer] = table.plan(Plan.of_norm(CHANNEL_STATS, channels))
        sizes = self._sizes_of(output.numel() // channels, len(output), device)
        key = self._meter.key(place, self._plans[place.layer])
        images, saved = self._meter.images_of(X), saved_moments(output)
        make = None if saved is None else channel_state_later(module, X, saved, images)
        if make is not None:
            table.add_later(key, lambda: [*make(), sizes], device)
            return
        moments = batch_moments(module, args, output)
        table.add(key, [*channel_state(module, X, moments, images), sizes], device)

    def _sizes_of(self, values: int, images: int, device: torch.device) -> Tensor:
        """Return values a channel and images of a batch, (2,), without waiting for a device."""
        key = values, images, device
        if key not in self._sizes:
            pair = [torch.full((1,), float(n), device=device) for n in (values, images)]
            self._sizes[key] = torch.cat(pair)
        return self._sizes[key]
