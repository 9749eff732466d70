"""Weights, gradients and updates against autograd and the optimizer (F22, F23)."""

import numpy as np
import pytest
import torch.nn.functional as F

from bnstudy.activations import watch
from tests.activations.nets import fc_net, labels, sgd, train, vectors


def test_f22_f23_parameters_against_autograd_and_the_optimizer():
    net, x, y = fc_net(), vectors(), labels()
    optimizer = sgd(net, lr=0.2)
    w0 = net[0].weight.detach().double().clone()
    with watch(net, optimizer, params=True) as run:
        F.cross_entropy(net(x), y).backward()
        g0 = net[0].weight.grad.double().clone()
        optimizer.step()
        w1 = net[0].weight.detach().double().clone()
        train(net, optimizer, x, y)
    w2 = net[0].weight.detach().double()
    rows = run.frame(layer="0", tensor="weight").pivot(index="step", columns="stat", values="value")
    first, second = rows.loc[0], rows.loc[1]
    assert first["norm"] == pytest.approx(w0.norm().item())
    assert first["grad_norm"] == pytest.approx(g0.norm().item())
    assert first["grad_ratio"] == pytest.approx((g0.norm() / w0.norm()).item())
    assert first["grad_cosine"] == pytest.approx(
        F.cosine_similarity(w0.flatten(), g0.flatten(), 0).item()
    )
    assert first["update_ratio"] == pytest.approx(((w1 - w0).norm() / w0.norm()).item(), rel=1e-4)
    assert second["from_init"] == pytest.approx(((w2 - w0).norm() / w0.norm()).item(), rel=1e-4)
    turned = F.cosine_similarity((w2 - w1).flatten(), (w1 - w0).flatten(), 0).item()
    assert np.isnan(first["update_cosine"])
    assert second["update_cosine"] == pytest.approx(turned, rel=1e-3)
    assert first["effective_lr"] == pytest.approx(0.2 / w0.norm().item() ** 2)
