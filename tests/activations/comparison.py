"""Training with and without a recorder, compared bit by bit."""

import random

import numpy as np
import torch
import torch.nn.functional as F

from bnstudy.activations import watch
from tests.activations.nets import hooks_of


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
