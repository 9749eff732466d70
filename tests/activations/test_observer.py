"""P22: a watched run is the unwatched run, bit by bit: weights, buffers, optimizer, generators."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from bnstudy.activations import watch
from bnstudy.config import RunConfig
from bnstudy.networks.lenet import lenet
from tests.activations.nets import generator, hooks_of, labels

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


def state_after(make, x, y, watched, steps=3, **options):
    """Train from fixed generators; return all that a run leaves behind."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        net = make().train()
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
        run = watch(net, optimizer, **options) if watched else None
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            out = net(x)
            out = out if isinstance(out, torch.Tensor) else out[0]
            loss = F.cross_entropy(out, y)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        if run is not None:
            run.close()
            assert hooks_of(net) == 0
            assert not run.frame().empty
        moments = [v for s in optimizer.state.values() for v in s.values()]
        return [*net.state_dict().values(), *moments, *losses, torch.get_rng_state()]


def assert_same(make, x, y, **options):
    python, legacy = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    plain = state_after(make, x, y, watched=False)
    seen = state_after(make, x, y, watched=True, **options)
    for a, b in zip(plain, seen, strict=True):
        assert torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
    assert random.getstate() == python
    assert np.array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002


FULL = {"stats": ["full", "rank"], "tensors": "both", "grads": True, "params": True}


@pytest.mark.parametrize("norm", NORMS)
def test_p22_lenet_trains_the_same_bits_when_watched(norm):
    x = torch.rand(24, 1, 28, 28, generator=generator())
    config = RunConfig(norm=norm, dropout=0.2, batch_size=24)
    assert_same(lambda: lenet(config, 3), x, labels(24, 10), probe=x, **FULL)


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
