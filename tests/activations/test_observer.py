"""P22: a watched run is the unwatched run, bit by bit: weights, buffers, optimizer, generators."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from bnstudy.config import RunConfig
from bnstudy.networks import build
from tests.activations.comparison import FULL, assert_same
from tests.activations.nets import generator, labels

NORMS = (
    "none",
    "bn",
    "scratch",
    "ghost:size=8",
    "population",
    "frozen",
    "noisy",
    "group:groups=2",
    "layer",
)
SMALL = ("resnet18", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5", "googlenet")


@pytest.mark.parametrize("norm", NORMS)
def test_p22_lenet_trains_the_same_bits_when_watched(norm):
    x = torch.rand(24, 1, 28, 28, generator=generator())
    config = RunConfig(norm=norm, dropout=0.2, batch_size=24)
    assert_same(lambda: build(config, 3), x, labels(24, 10), probe=x, **FULL)


@pytest.mark.parametrize("name", SMALL)
def test_p22_models_of_torchvision_train_the_same_bits_when_watched(name):
    x = torch.rand(4, 3, 64, 64, generator=generator())
    options = {"init_weights": True, "aux_logits": False} if name == "googlenet" else {}
    assert_same(
        lambda: torchvision.models.get_model(name, num_classes=10, **options),
        x,
        labels(4, 10),
        **FULL,
    )


def test_p22_a_net_of_in_place_modules_and_residual_sums_trains_the_same_bits():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(8, 8)
            )

        def forward(self, x):
            x = self.body(x) + x
            x += 1
            return F.relu_(x)

    x = torch.rand(10, 8, generator=generator())
    assert_same(lambda: nn.Sequential(Block(), Block()), x, labels(10, 8), **FULL)
