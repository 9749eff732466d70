"""Small nets and loops that the tests share."""

import torch
import torch.nn.functional as F
from torch import nn


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def seeded(module, seed=0):
    """Give a module weights that do not come from the global generator."""
    g = generator(seed)
    with torch.no_grad():
        for p in module.parameters():
            if p.dim() > 1:
                p.copy_(torch.randn(p.shape, generator=g) * (2 / p[0].numel()) ** 0.5)
    return module


def built(make):
    """Build a module, always the same, without moving the global generator."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return seeded(make())


def conv_net(activation=nn.ReLU, norm=nn.BatchNorm2d, inplace=False):
    act = (lambda: nn.ReLU(inplace=True)) if inplace else activation
    return built(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3), norm(4), act(), nn.Conv2d(4, 6, 3), norm(6), act(),
            nn.Flatten(), nn.Linear(96, 5),
        )
    )  # fmt: skip


def fc_net(activation=nn.Sigmoid):
    return built(
        lambda: nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), activation(), nn.Linear(16, 3))
    )


def images(n=12, seed=1, size=8):
    return torch.randn(n, 1, size, size, generator=generator(seed))


def vectors(n=12, seed=1, width=8):
    return torch.randn(n, width, generator=generator(seed))


def labels(n=12, classes=3, seed=2):
    return torch.randint(0, classes, (n,), generator=generator(seed))


def sgd(net, lr=0.1, momentum=0.9):
    return torch.optim.SGD(
        [p for p in net.parameters() if p.requires_grad], lr=lr, momentum=momentum
    )


def train(net, optimizer, x, y, steps=1):
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses


def hooks_of(net):
    names = (
        "_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs",
        "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs", "_backward_hooks",
        "_backward_pre_hooks",
    )  # fmt: skip
    return sum(len(getattr(module, name)) for module in net.modules() for name in names)
