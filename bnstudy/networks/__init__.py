"""Networks that runs train: LeNet, perceptrons, residual networks, and their normalization layers.

Reading order: ``norm`` (batch normalization and its relatives), ``lenet``, ``layers`` (what a
config puts around them), ``weights``, ``registry``; then ``mlp``, ``resnet``, ``inputs``,
``pooling``, ``shapes``.
"""

from bnstudy.networks.building import (
    NETWORKS,
    build,
    check_network,
    layers_of,
    refuse_lone_image,
    register_network,
)
from bnstudy.networks.dropout import StreamDropout
from bnstudy.networks.inputs import Inputs
from bnstudy.networks.layers import (
    Layer,
    Network,
    activation_layers,
    dropped_units,
    layers_with_weights,
    norm_layers,
    selected_layers,
)
from bnstudy.networks.shapes import LayerTrace, trace
from bnstudy.networks.weights import register_activation, register_init

__all__ = [
    "NETWORKS",
    "Inputs",
    "Layer",
    "LayerTrace",
    "Network",
    "StreamDropout",
    "activation_layers",
    "build",
    "check_network",
    "dropped_units",
    "layers_of",
    "layers_with_weights",
    "norm_layers",
    "refuse_lone_image",
    "register_activation",
    "register_init",
    "register_network",
    "selected_layers",
    "trace",
]
