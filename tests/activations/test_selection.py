"""Selection of layers (F1, F2)."""

import re

import pytest
from torch import nn

from bnstudy.activations import match, watch
from bnstudy.activations.selection import select
from bnstudy.errors import WatchError
from tests.activations.nets import conv_net, fc_net, images


def test_f2_selection_by_glob_pattern_type_module_predicate_and_unit():
    net = nn.Sequential()
    for name, module in zip(("fc1", "act1", "norm", "fc2"), fc_net(), strict=True):
        net.add_module(name, module)

    def names(layers):
        return [target.name for target in select(net, layers)]

    assert names("fc*") == ["fc1", "fc2"]
    assert names(re.compile("act|2$")) == ["act1", "fc2"]
    assert names(nn.Linear) == ["fc1", "fc2"]
    assert names(net.norm) == ["norm"]
    assert names(lambda name, module: "1" in name) == ["fc1", "act1"]
    assert names(["fc2", nn.BatchNorm1d, "fc1[3]", "(model)"]) == [
        "(model)",
        "fc1[3]",
        "act1",
        "fc2",
    ]
    assert match(net, "fc*")["why"].tolist() == [
        "not selected",
        "",
        "not selected",
        "not selected",
        "",
    ]


def test_f2_a_pattern_without_a_match_names_close_layers():
    net = nn.Sequential()
    net.add_module("conv1", nn.ReLU())
    with pytest.raises(WatchError, match="there is no layer 'conv2': did you mean 'conv1'"):
        watch(net, layers="conv2")


def test_f1_a_convolution_net_is_watched_leaf_by_leaf_by_default():
    net = conv_net()
    with watch(net) as run:
        net(images())
    assert run.frame()["layer"].unique().tolist() == ["0", "1", "2", "3", "4", "5", "7"]
