"""The one function that trains: it does what the engine behind it does, for every seed."""

import numpy as np
import pandas as pd
import pytest

from bnstudy.engines import lockstep, reference, train
from bnstudy.errors import ConfigError
from tests.conftest import SMALL

CONFIG = SMALL.replace(norm="bn", epochs=1)


def assert_same(one, other):
    pd.testing.assert_frame_equal(one.curve, other.curve, check_exact=True)
    pd.testing.assert_frame_equal(one.norms, other.norms, check_exact=True)
    assert one.order_digest == other.order_digest


def test_the_reference_trains_one_seed_after_the_other(small):
    for seed, record in zip([4, 1], train(CONFIG, [4, 1], small), strict=True):
        assert_same(record, reference.train(CONFIG, seed, small))
        assert record.measures is None


@pytest.mark.skipif(not lockstep.available()[0], reason="no kernel here")
def test_the_lockstep_engine_trains_them_together(small):
    records = train(CONFIG, [4, 1], small, engine="lockstep")
    for ours, theirs in zip(records, lockstep.train_stack(CONFIG, [4, 1], small), strict=True):
        assert_same(ours, theirs)


def test_observers_of_a_seed_are_called_beside_its_probes(small):
    seen = {}

    def observer(seed):
        return lambda step, training: seen.setdefault(seed, []).append(step.count)

    observers = [[observer(4)], [observer(1)]]
    probes = {"affine": {"epochs": [0, 1]}}
    records = train(CONFIG, [4, 1], small, probes=probes, observers=observers)
    assert seen == {4: [0, 1, 2, 3, 4, 5], 1: [0, 1, 2, 3, 4, 5]}
    for record in records:
        last = record.measures.query("step == 5 and tensor == 'gamma'")["value"]
        np.testing.assert_array_equal(last.to_numpy(), record.norms["gamma"].to_numpy())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "locstep"}, "there is no engine 'locstep': did you mean 'lockstep'?"),
        (
            {"observers": [[]]},
            "observers must be given for each seed, got 1 lists for 2 seeds",
        ),
        (
            {"engine": "lockstep", "probes": {"recorder": {}}},
            "the lockstep engine calls observers at scheduled steps, but AttachedRecorder has no "
            "method 'steps': choose the reference engine",
        ),
    ],
)
def test_impossible_arguments_are_refused_in_one_line(options, message, small):
    with pytest.raises(ConfigError) as refusal:
        train(CONFIG, [0, 1], small, **options)
    assert str(refusal.value) == message
