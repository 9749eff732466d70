"""Networks as lists of layers with weights, assembled with what a config asks for around them.

A network of this package is a chain of convolutions and linear layers, with shortcuts if it has
any.  Its description says nothing of normalization, activation or dropout: these are
put around every layer by their role, in the same way for every network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.utils import skip_init

from bnstudy.config import RunConfig, check_choice, stream
from bnstudy.errors import ConfigError, unknown
from bnstudy.networks.dropout import StreamDropout
from bnstudy.networks.norm import make_norm
from bnstudy.networks.pooling import AveragePooling
from bnstudy.networks.weights import activation, draw_weights

KINDS = ("conv", "linear")
POOLINGS = ("", "average", "max", "global")


@dataclass(frozen=True)
class Layer:
    """A layer with weights, and what follows it in the network whatever the config.

    Attributes
    ----------
    name
        ``conv1``, ``fc1``, ....
    kind
        ``conv`` or ``linear``; before the first linear layer images are flattened.
    outputs
        Output channels, or units.
    kernel, stride, padding
        Of a convolution, in pixels.
    pooling
        After the activation: ``average`` or ``max`` of 2 x 2 squares, ``global`` average of a
        channel, or nothing.
    add
        Name of an earlier layer, whose activation is added to this layer's output before
        its own activation, or nothing.  If it is larger, every second pixel is taken;
        channels that it lacks are zero (He et al. 2016, option A).
    """

    name: str
    kind: str
    outputs: int
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    pooling: str = ""
    add: str = ""

    def __post_init__(self) -> None:
        check_choice("kind of layer", self.kind, KINDS)
        check_choice("pooling", self.pooling, POOLINGS)
        if not self.name.isidentifier():
            raise ConfigError(f"the name of a layer is letters and digits, got {self.name!r}")
        for name, low in (("outputs", 1), ("kernel", 1), ("stride", 1), ("padding", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise ConfigError(
                    f"{name} of layer {self.name!r} must be an integer of at least {low}, "
                    f"got {value!r}"
                )


class Network(nn.Sequential):
    """A chain of named layers, with shortcuts if it has any.

    Attributes
    ----------
    shortcuts
        By the name of a module, the name of the module whose output is added to its input.
    """

    def __init__(self, *layers: Any) -> None:
        super().__init__(*layers)
        self.shortcuts: dict[str, str] = {}

    def __getitem__(self, index: Any) -> Any:
        """Return a layer, or a part of the network as a network.

        Raises
        ------
        ConfigError
            If a part has a shortcut that begins before it.
        """
        part = super().__getitem__(index)
        if isinstance(part, Network):
            names = dict(part.named_children())
            part.shortcuts = {to: of for to, of in self.shortcuts.items() if to in names}
            if missing := set(part.shortcuts.values()) - names.keys():
                raise ConfigError(
                    f"a part of a network holds its shortcuts whole, but {min(missing)!r} is "
                    "outside"
                )
        return part

    def forward(self, X: Tensor) -> Tensor:
        """Return the logits of images."""
        if not self.shortcuts:
            return super().forward(X)
        kept: dict[str, Tensor] = {}
        sources = set(self.shortcuts.values())
        for name, layer in self.named_children():
            if name in self.shortcuts:
                X = X + resized_shortcut(kept[self.shortcuts[name]], X.shape)
            X = layer(X)
            if name in sources:
                kept[name] = X
        return X


def resized_shortcut(X: Tensor, shape: Sequence[int]) -> Tensor:
    """Return every second pixel of X where it is larger than a shape, with channels of zeros."""
    if X.shape[-1] != shape[-1]:
        X = X[..., ::2, ::2]
    missing = shape[1] - X.shape[1]
    return X if not missing else nn.functional.pad(X, (0, 0, 0, 0, 0, missing))


def selected_layers(config: RunConfig, layers: Sequence[Layer]) -> set[int]:
    """Return the numbers, from 1, of the layers that a config normalizes.

    The last layer is normalized on its input only.

    Raises
    ------
    ConfigError
        If ``norm_layers`` names a layer that the network does not have or cannot normalize.
    """
    if config.norm == "none":
        return set()
    names = [layer.name for layer in layers]
    if config.placement != "input":
        names = names[:-1]
    given = config.norm_layers
    if given == "all":
        return set(range(1, len(names) + 1))
    found: set[int] = set()
    for part in given if given.isdigit() else given.split(","):
        first, dash, last = part.strip().partition("-")
        low = _number(first, names, given)
        high = _number(last, names, given) if dash else low
        if high < low:
            raise ConfigError(f"a range of norm_layers runs upwards, got {part!r} in {given!r}")
        found.update(range(low, high + 1))
    return found


def _number(word: str, names: Sequence[str], given: str) -> int:
    if word in names:
        return names.index(word) + 1
    if word.isdigit() and 1 <= int(word) <= len(names):
        return int(word)
    message = unknown("layer to normalize", word, names)
    raise ConfigError(f"{message} (or numbers 1 to {len(names)}), in norm_layers {given!r}")


def assemble(
    layers: Sequence[Layer], config: RunConfig, seed: int, shape: tuple[int, int, int]
) -> Network:
    """Build a network from its layers, with the initial weights of a seed.

    Parameters
    ----------
    layers
        In the order of the forward pass; the last one returns the logits.
    config
        Its normalization, placement, normalized layers, activation, bias, dropout and
        initial weights are read.
    seed
        Determines the initial weights and the streams of dropout and noise.
    shape
        Channels, height and width of an image.

    Raises
    ------
    ConfigError
        If the layers do not fit the images or each other, the normalization is unknown, or
        the config asks for something that has no place in the network.
    """
    return _Assembly(layers, config, seed, shape).net


class _Assembly:
    """A network that grows layer by layer, the shape of its activations so far, its streams."""

    def __init__(
        self, layers: Sequence[Layer], config: RunConfig, seed: int, shape: tuple[int, ...]
    ) -> None:
        self.layers, self.config, self.shape = tuple(layers), config, shape
        self.net = Network()
        self._refuse()
        self._selected = selected_layers(config, layers)
        # one generator each for all layers of the network, which draw from it in turn
        self._dropout, self._noise = stream(seed, "dropout"), stream(seed, "noise")
        for index, layer in enumerate(self.layers, start=1):
            self._add(index, layer)
        draw_weights(self.net, stream(seed, "weights"), config)

    def _refuse(self) -> None:
        names = [layer.name for layer in self.layers]
        if len(set(names)) < len(names):
            raise ConfigError(f"each layer of a network has a name of its own, got {names}")
        linear = [layer.kind == "linear" for layer in self.layers]
        if not linear or not linear[-1] or linear != sorted(linear):
            raise ConfigError(
                "a network is convolutions, if any, then linear layers, the last of which returns "
                f"the logits, got {', '.join(names) or 'no layer'}"
            )
        config = self.config
        if config.dropout and config.dropout_placement != "after-last-norm" and sum(linear) < 2:
            raise ConfigError(
                f"dropout_placement {config.dropout_placement!r} needs a hidden linear layer, "
                "which this network lacks: choose 'after-last-norm'"
            )

    def _add(self, index: int, layer: Layer) -> None:
        """Append a layer with weights, and all that stands around it."""
        hidden, linear = index < len(self.layers), layer.kind == "linear"
        after_linear = index > 1 and self.layers[index - 2].kind == "linear"
        if linear and len(self.shape) == 3:
            self.net.add_module("flatten", nn.Flatten())  # (N, 16, 4, 4) -> (N, 256)
            self.shape = (int(np.prod(self.shape)),)
        if not hidden and self.config.placement != "input":
            self._add_dropout(index - 1, "after-last-norm")
        if self.config.placement == "input":
            self._add_norm(index, after_hidden_linear=after_linear)
            if not hidden:
                self._add_dropout(index, "after-last-norm")
        self._add_weighted(layer, bias=self.config.bias or not hidden)
        if not hidden:
            return
        if self.config.placement == "output":
            self._add_norm(index, after_hidden_linear=linear)
        self.net.add_module(f"act{index}", activation(self.config))
        if layer.add:
            self.net.shortcuts[f"act{index}"] = self._source(index, layer)
        if self.config.placement == "activated":
            self._add_norm(index, after_hidden_linear=linear)
        self._add_pooling(index, layer)
        if linear:
            self._add_dropout(index, "hidden")

    def _source(self, index: int, layer: Layer) -> str:
        """Return the name of the activation that a layer's shortcut adds."""
        earlier = [each.name for each in self.layers[: index - 1]]
        if layer.add not in earlier:
            raise ConfigError(unknown(f"layer before {layer.name!r} to add", layer.add, earlier))
        return f"act{earlier.index(layer.add) + 1}"

    def _add_norm(self, index: int, *, after_hidden_linear: bool) -> None:
        if after_hidden_linear:
            self._add_dropout(index, "before-norm")
        word = self.config.norm if index in self._selected else "none"
        # the axes of a batch: one more than those of an image's activations
        layer = make_norm(word, self.shape[0], len(self.shape) + 1, rng=self._noise)
        if layer is not None:
            self.net.add_module(f"norm{index}", layer)

    def _add_dropout(self, index: int, placement: str) -> None:
        if self.config.dropout and self.config.dropout_placement == placement:
            layer = StreamDropout(self.config.dropout, self._dropout)
            self.net.add_module(f"dropout{index}", layer)

    def _add_weighted(self, layer: Layer, *, bias: bool) -> None:
        # skip_init: torch's initialization would draw from its global generator
        if layer.kind == "linear":
            module = skip_init(nn.Linear, self.shape[0], layer.outputs, bias=bias)
            self.shape = (layer.outputs,)
        else:
            sides = [
                (side + 2 * layer.padding - layer.kernel) // layer.stride + 1
                for side in self.shape[1:]
            ]
            self._refuse_small(layer, sides)
            module = skip_init(
                nn.Conv2d,
                self.shape[0],
                layer.outputs,
                layer.kernel,
                stride=layer.stride,
                padding=layer.padding,
                bias=bias,
            )
            self.shape = (layer.outputs, *sides)
        self.net.add_module(layer.name, module)

    def _add_pooling(self, index: int, layer: Layer) -> None:
        if not layer.pooling:
            return
        modules = {
            "average": AveragePooling,
            "max": lambda: nn.MaxPool2d(2),
            "global": lambda: nn.AdaptiveAvgPool2d(1),
        }
        self.net.add_module(f"pool{index}", modules[layer.pooling]())
        height, width = self.shape[1:]
        sides = (1, 1) if layer.pooling == "global" else (height // 2, width // 2)
        self._refuse_small(layer, sides)
        self.shape = (self.shape[0], *sides)

    def _refuse_small(self, layer: Layer, sides: Sequence[int]) -> None:
        if min(sides) < 1:
            height, width = self.shape[1:]
            raise ConfigError(
                f"layer {layer.name!r} and its pooling need larger images, got {height} x {width} "
                "there: resize them (inputs 'scaled:size=32') or choose another network"
            )


def layers_with_weights(net: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Return the convolutions and linear layers of a network by name."""
    return {
        name: layer
        for name, layer in net.named_children()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }


def norm_layers(net: nn.Module) -> dict[str, nn.Module]:
    """Return the normalization layers by name: ``norm1``, ``norm2``, ..., if any."""
    return {name: layer for name, layer in net.named_children() if name.startswith("norm")}


def activation_layers(net: nn.Module) -> dict[str, nn.Module]:
    """Return the activations by name: ``act1``, ``act2``, ...."""
    return {name: layer for name, layer in net.named_children() if name.startswith("act")}


def dropped_units(net: nn.Module) -> int:
    """Return the units of an image that are drawn for by all dropout layers together."""
    count, units, waiting = 0, 0, False
    for layer in net.children():
        if isinstance(layer, nn.Linear):
            count += layer.in_features if waiting else 0
            units, waiting = layer.out_features, False
        elif isinstance(layer, StreamDropout):
            # before the first linear layer the units are those it takes in
            count, waiting = count + units, units == 0
    return count
