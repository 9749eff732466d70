"""Steps, pauses, inputs and refused arguments of the recorder (F3, F7, F10, F11)."""
# ruff: noqa: E501

import re

import pytest
import torch
from torch import nn

from bnstudy.activations import watch
from bnstudy.errors import WatchError
from tests.activations.nets import built, fc_net, labels, sgd, train, vectors


def test_f10_without_an_optimizer_a_training_pass_is_a_step():
    net = fc_net()
    with watch(net, every=2) as run:
        for _ in range(5):
            net(vectors())
    assert run.frame()["step"].unique().tolist() == [0, 2, 4]


def test_f10_the_count_of_steps_can_be_set_to_resume_a_run():
    net = fc_net()
    optimizer = sgd(net)
    with watch(net, optimizer) as run:
        run.step = 100
        train(net, optimizer, vectors(), labels(), steps=2)
    assert run.frame()["step"].unique().tolist() == [100, 101]


def test_f11_nothing_is_recorded_while_paused():
    net = fc_net()
    optimizer = sgd(net)
    with watch(net, optimizer) as run:
        train(net, optimizer, vectors(), labels())
        run.pause()
        train(net, optimizer, vectors(), labels())
        run.resume()
        train(net, optimizer, vectors(), labels())
    assert run.frame()["step"].unique().tolist() == [0, 2]
    assert repr(run) == "Recorder(4 layers, 1 BN, step 3, closed)"


def test_f3_f7_inputs_are_recorded_with_keyword_names():
    class Two(nn.Module):
        def forward(self, a, *, b):
            return a + b

    net = nn.Sequential()
    net.add_module("two", Two())
    with watch(net, tensors="both", stats="mean", layers="two") as run:
        net.two(torch.ones(2), b=torch.full((2,), 3.0))
    rows = run.frame().astype({"tensor": str}).set_index("tensor")["value"].to_dict()
    assert rows == {"in.0": 1.0, "in.b": 3.0, "out": 4.0}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda n: watch(len), "needs a torch.nn.Module"), (lambda n: watch(n, tensors="all"), "'in', 'out' or 'both'"),
        (lambda n: watch(n, keep=0), "at least 1"), (lambda n: watch(n, stats="half"), "'half'"),
        (lambda n: watch(n).shift(), "probe=batch"), (lambda n: watch(n).recording().bn.gap([]), "has none"),
    ],
)  # fmt: skip
def test_impossible_arguments_are_refused(call, says):
    with pytest.raises(WatchError, match=re.escape(says)):
        call(built(lambda: nn.Sequential(nn.Linear(2, 2))))
