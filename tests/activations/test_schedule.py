"""Schedules of recording (F9)."""
# ruff: noqa: E501

import re

import pytest

from bnstudy.activations import Every, spaced, watch
from bnstudy.activations.schedule import by_mode, due
from bnstudy.errors import WatchError
from tests.activations.nets import fc_net, labels, sgd, train, vectors


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (3, [0, 3, 6, 9]), (Every(4, start=1, stop=9), [1, 5]), (Every(5, burst=2), [0, 1, 5, 6, 10]),
        ("log", [0, 1, 2, 5, 10]), ([2, 7], [2, 7]), (lambda step: step > 8, [9, 10]), ("never", []),
    ],
)  # fmt: skip
def test_f9_schedules(when, expected):
    assert [step for step in range(11) if due(when)(step)] == expected


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (lambda: Every(0), "every >= 1"), (lambda: due("often"), "must be an integer, 'log'"),
        (lambda: due(True), "got True"), (lambda: by_mode({"test": 1}), "there is no mode 'test': choose one of train, eval"),
    ],
)  # fmt: skip
def test_f9_impossible_schedules_are_refused(bad, says):
    with pytest.raises(WatchError, match=re.escape(says)):
        bad()


def test_f9_a_statistic_may_have_a_schedule_of_its_own():
    net = fc_net()
    optimizer = sgd(net)
    stats = ["mean", spaced("histogram", 4), spaced("std", [0, 3, 5])]
    with watch(net, optimizer, every={"train": lambda step: step != 5}, stats=stats) as run:
        train(net, optimizer, vectors(40), labels(40), steps=8)
    rows = run.frame()
    steps = {stat: sorted(set(part["step"])) for stat, part in rows.groupby("stat", observed=True)}
    assert steps["mean"] == [0, 1, 2, 3, 4, 6, 7]
    assert steps["std"] == [0, 3]  # not on 5, which is not recorded at all
    bins = [stat for stat in steps if stat.startswith("hist[")]
    assert len(bins) == 84  # of sigmoids, in 0..1, and of the rest
    assert all(steps[stat] == [0, 4] for stat in bins)
    with pytest.raises(
        WatchError, match="there is no statistic 'histgram': did you mean 'histogram'"
    ):
        spaced("histgram", 4)
