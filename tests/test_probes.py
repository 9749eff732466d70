"""Probes: they leave no trace, see what is there, and keep their runs apart."""

import dataclasses

import numpy as np
import pytest
import torch

from bnstudy import data
from bnstudy.config import RunConfig, stream
from bnstudy.data import epoch_order, scale
from bnstudy.errors import ConfigError
from bnstudy.jobs import plan_jobs
from bnstudy.lenet import lenet
from bnstudy.probes import probed
from bnstudy.provenance import code_digest
from bnstudy.record import MEASURE_COLUMNS
from bnstudy.runner import run_study
from bnstudy.store import Store, identify
from bnstudy.study import PROFILES, Arm, DataIdentity, PlannedRun, make_plan
from bnstudy.training import train
from tests.test_runner import plan_of

CONFIG = RunConfig(
    norm="bn",
    batch_size=50,
    epochs=2,
    learning_rate=0.5,
    dropout=0.3,
    train_images=230,
    validation_images=100,
    test_images=120,
    population_images=100,
    evaluations_per_epoch=1,
)
WATCH = {"every": 2, "layers": ["act1", "act4"], "tensors": "both", "stats": ["std", "quantiles"]}
PROBES = {"activations": {**WATCH, "grads": True, "params": True}}


@pytest.fixture(scope="module")
def small(sample):
    return data.split(sample, CONFIG)


@pytest.fixture(scope="module")
def record(small):
    return probed(CONFIG, 3, small, PROBES)


def test_a_probe_leaves_no_trace(record, small):
    alone = train(CONFIG, 3, small)
    np.testing.assert_array_equal(record.curve.to_numpy(), alone.curve.to_numpy())
    np.testing.assert_array_equal(
        record.norms.drop(columns="layer").to_numpy(), alone.norms.drop(columns="layer").to_numpy()
    )
    assert alone.measures is None


def test_the_recorder_sees_every_second_step_of_the_whole_run(record):
    measures = record.measures
    assert tuple(measures.columns) == MEASURE_COLUMNS
    assert sorted(set(measures["step"])) == [0, 2, 4, 6, 8]
    assert set(measures["tensor"]) == {"in", "out", "grad", "weight", "bias"}
    assert set(measures["probe"]) == {"activations"}


def test_what_it_saw_first_is_what_numpy_finds_in_the_first_batch(record, small):
    order = epoch_order(stream(3, "order"), 230)[:50]
    net = lenet(CONFIG, 3)
    with torch.no_grad():
        before = net[:2](scale(small.train.images[order])).double().numpy()  # conv1, norm1
    rows = record.measures.query("step == 0 and layer == 'act1' and tensor == 'in'")
    found = rows.set_index("stat")["value"]
    assert found["std"] == pytest.approx(before.std(), rel=1e-5)
    # quantiles are those of a sample
    assert found["q50"] == pytest.approx(np.quantile(before, 0.50), abs=0.05)
    assert found["q85"] == pytest.approx(np.quantile(before, 0.85), abs=0.05)


def test_an_unknown_probe_is_refused(small):
    with pytest.raises(ConfigError) as refusal:
        probed(CONFIG, 0, small, {"xray": {}})
    assert str(refusal.value) == "there is no probe 'xray': choose one of activations"


def planned(probes):
    return PlannedRun("inside", Arm("bn", CONFIG, probes=probes), 0)


def test_probed_runs_are_apart_and_a_changed_probe_touches_only_them(monkeypatch):
    alone, watched = (identify(planned(probes), "d" * 64) for probes in ({}, PROBES))
    assert alone.id != watched.id
    other = {"activations": {**PROBES["activations"], "every": 3}}
    assert identify(planned(other), "d" * 64).id != watched.id
    monkeypatch.setattr(
        "bnstudy.store.code_digest", lambda *start: "changed" if start else code_digest()
    )
    assert identify(planned({}), "d" * 64).id == alone.id
    assert identify(planned(PROBES), "d" * 64).id != watched.id


@pytest.mark.parametrize("engine", ["auto", "lockstep", "reference"])
def test_probed_runs_are_trained_by_the_reference_engine(engine):
    keys = [identify(planned(PROBES), "d" * 64) for _ in range(6)]
    assert {job.engine for job in plan_jobs(keys, engine)} == {"reference"}


def test_the_store_gives_back_what_the_probe_saw(sample, tmp_path, small):
    experiment = plan_of(sample, seeds=1).experiments[0].experiment
    arm = Arm("bn", CONFIG, probes=PROBES)
    watched = dataclasses.replace(experiment, arms=lambda profile: (arm,))
    plan = make_plan((watched,), PROFILES["tiny"], DataIdentity.of(sample), seeds=1)
    store = Store(tmp_path / "store")
    assert run_study(plan, store, sample, workers=1, echo=lambda line: None).trained == 1
    there = store.tables(plan).measures
    expected = probed(CONFIG, 0, small, PROBES).measures
    assert there["arm"].unique().tolist() == ["bn"]
    np.testing.assert_array_equal(there["value"].to_numpy(), expected["value"].to_numpy())
