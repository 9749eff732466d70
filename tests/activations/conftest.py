"""A recording that tests of results share."""

import pytest

from bnstudy.activations import watch
from tests.activations.nets import fc_net, labels, sgd, train, vectors


@pytest.fixture
def recording():
    net = fc_net()
    optimizer = sgd(net)
    with watch(net, optimizer, every=2, stats="full", grads=True, params=True) as run:
        train(net, optimizer, vectors(40), labels(40), steps=9)
    return run.recording()
