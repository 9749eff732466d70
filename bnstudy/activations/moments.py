"""Recording what a BN layer has just done to its batch, channel by channel."""

from typing import Any

import torch
from torch import Tensor, nn

from bnstudy.activations.layer import CHANNEL_STATS, batch_moments, channel_state
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
        moments = batch_moments(module, args, output)
        channels, device = moments[0].numel(), moments[0].device
        table = self._meter.table
        if place.layer not in self._plans:
            self._plans[place.layer] = table.plan(Plan.of_norm(CHANNEL_STATS, channels))
        sizes = self._sizes_of(output.numel() // channels, len(output), device)
        images = self._meter.images_of(args[0])
        parts = [*channel_state(module, args[0], moments, images), sizes]
        table.add(self._meter.key(place, self._plans[place.layer]), parts, device)

    def _sizes_of(self, values: int, images: int, device: torch.device) -> Tensor:
        """Return values a channel and images of a batch, (2,), without waiting for a device."""
        key = values, images, device
        if key not in self._sizes:
            pair = [torch.full((1,), float(n), device=device) for n in (values, images)]
            self._sizes[key] = torch.cat(pair)
        return self._sizes[key]
