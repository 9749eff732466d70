"""Probes: they leave no trace, see what is there, and keep their runs apart."""

import dataclasses

import numpy as np
import pytest
import torch

from bnstudy import data
from bnstudy.config import RunConfig, Step, stream
from bnstudy.data import epoch_order, scale
from bnstudy.engines import train
from bnstudy.engines.lockstep import available, train_stack
from bnstudy.engines.observer import Training
from bnstudy.engines.probes import PROBES, ProbedRun, all_scheduled
from bnstudy.engines.reference import train as train_by_reference
from bnstudy.engines.run_record import MEASURE_COLUMNS
from bnstudy.errors import ConfigError
from bnstudy.networks import build
from bnstudy.plan import PROFILES, Arm, DataIdentity, PlannedRun, make_plan
from bnstudy.runs.jobs import plan_jobs
from bnstudy.runs.provenance import code_digest
from bnstudy.runs.runner import run_study
from bnstudy.runs.store import Store, identify
from bnstudy.runs.tables import read_tables
from tests.plans import plan_of

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
WATCH = {"layers": ["act1", "act4"], "tensors": "both", "stats": ["std", "quantiles"]}
EVERY_SECOND = (0, 0.4, 0.8, 1.2, 1.6)
WATCHING = {"recorder": {**WATCH, "epochs": EVERY_SECOND, "grads": True, "params": True}}


@pytest.fixture(scope="module")
def small(sample):
    return data.split(sample, CONFIG)


@pytest.fixture(scope="module")
def record(small):
    return train(CONFIG, [3], small, probes=WATCHING)[0]


MOMENTS = (0, 0.4, 1)
OTHERS = {
    "activations": {**WATCH, "epochs": MOMENTS, "grads": True},
    "affine": {"epochs": MOMENTS},
    "batch-noise": {"epochs": MOMENTS, "sizes": [4, 8, 16], "batches": 3},
    "fixed-activations": {**WATCH, "epochs": MOMENTS, "count": 40},
    "generalization": {"epochs": MOMENTS},
    "geometry": {"epochs": MOMENTS, "images": 40},
    "gradient-shift": {"epochs": MOMENTS},
    "landscape": {"epochs": MOMENTS, "images": 40, "points": 2},
    "uncertainty": {"epochs": MOMENTS, "batches": 2},
    "variance-shift": {"epochs": MOMENTS, "batches": 3},
}


@pytest.fixture(scope="module")
def alone(small):
    return train_by_reference(CONFIG, 3, small)


@pytest.mark.parametrize("norm", ["bn", "noisy"])
@pytest.mark.parametrize("name", OTHERS)
def test_a_probe_at_moments_leaves_no_trace(name, norm, small):
    # dropout and noise: the run draws from streams of its own in every step
    config = CONFIG.replace(norm=norm)
    (record,) = train(config, [3], small, probes={name: OTHERS[name]})
    plain = train_by_reference(config, 3, small)
    np.testing.assert_array_equal(record.curve.to_numpy(), plain.curve.to_numpy())
    np.testing.assert_array_equal(
        record.norms.drop(columns="layer").to_numpy(), plain.norms.drop(columns="layer").to_numpy()
    )
    measures = record.measures
    assert tuple(measures.columns) == MEASURE_COLUMNS
    assert sorted(set(measures["step"])) == [0, 2, 5]
    assert set(measures["probe"]) == {name}
    assert np.isfinite(measures["value"]).all()


@pytest.mark.skipif(not available()[0], reason="no kernel here")
@pytest.mark.parametrize(
    ("name", "norm"),
    [
        (name, norm)
        for name in OTHERS
        for norm in ("none", "bn")
        if name != "batch-noise" or norm == "bn"
    ],
)
def test_a_probe_at_moments_sees_the_same_of_a_stack(name, norm, small):
    # no dropout: its masks at a moment are the probe's own choice
    config = CONFIG.replace(norm=norm, dropout=0.0, learning_rate=0.1)
    probes, seeds = {name: OTHERS[name]}, [3, 8, 5]
    records = train(config, seeds, small, probes=probes, engine="lockstep")
    plain = train_stack(config, seeds, small)
    for seed, record, without in zip(seeds, records, plain, strict=True):
        np.testing.assert_array_equal(record.curve.to_numpy(), without.curve.to_numpy())
        (reference,) = train(config, [seed], small, probes=probes)
        assert record.order_digest == reference.order_digest
        names = ["probe", "step", "layer", "tensor", "channel", "stat"]
        ours, theirs = record.measures, reference.measures
        assert ours[names].equals(theirs[names])
        values, expected = ours["value"].to_numpy(), theirs["value"].to_numpy()
        np.testing.assert_allclose(values, expected, rtol=5e-3, atol=1e-4)


@pytest.mark.skipif(not available()[0], reason="no kernel here")
@pytest.mark.parametrize("norm", ["ghost:size=8", "population"])
def test_the_gap_of_a_stack_is_that_of_its_own_weights(norm, small):
    config = CONFIG.replace(norm=norm, dropout=0.0, learning_rate=0.1)
    probes = {"generalization": {}}
    for record in train(config, [3, 8], small, probes=probes, engine="lockstep"):
        last, found = record.curve.iloc[-1], record.measures.set_index(["tensor", "stat"])["value"]
        assert found["test", "loss"] == pytest.approx(last["test_loss_population"], rel=1e-3)
        assert found["test", "accuracy"] == pytest.approx(
            last["test_accuracy_population"], abs=0.01
        )


def test_the_attached_recorder_needs_every_step_and_the_others_do_not():
    assert all_scheduled(OTHERS)
    assert all_scheduled(())
    assert not all_scheduled(["geometry", "recorder"])
    assert {*OTHERS, "recorder"} == set(PROBES)


@pytest.mark.parametrize("name", OTHERS)
def test_a_probe_leaves_buffers_mode_gradients_and_generators(name, small):
    probe = PROBES[name](ProbedRun(CONFIG, 3, small), **{**OTHERS[name], "epochs": (0, 0.2)})
    net = build(CONFIG, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    X, y = scale(small.train.images[:50]), small.train.labels[:50]
    probe(Step(0, 5), Training(net, optimizer, X[:0], y[:0], float("nan")))
    torch.nn.functional.cross_entropy(net(X), y).backward()
    optimizer.step()
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    draws = net.dropout3.rng.bit_generator.state
    hooks = [len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in net.modules()]
    probe(Step(1, 5), Training(net, optimizer, X, y, 2.3))
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    for parameter, gradient in zip(net.parameters(), gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)
        assert parameter.requires_grad
    assert net.dropout3.rng.bit_generator.state == draws
    assert all(layer.training for layer in net.modules())
    after = [len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in net.modules()]
    assert after == hooks
    assert len(probe.close())


def test_a_moment_outside_the_run_is_refused(small):
    with pytest.raises(ConfigError, match=r"^a probe measures within 0\.\.2 epochs, got \[3\]$"):
        train(CONFIG, [0], small, probes={"geometry": {"epochs": [3]}})


def test_a_probe_leaves_no_trace(record, alone):
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
    assert set(measures["probe"]) == {"recorder"}


def test_what_it_saw_first_is_what_numpy_finds_in_the_first_batch(record, small):
    order = epoch_order(stream(3, "order"), 230)[:50]
    net = build(CONFIG, 3)
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
        train(CONFIG, [0], small, probes={"xray": {}})
    assert str(refusal.value) == (
        "there is no probe 'xray': choose one of activations, affine, batch-noise, "
        "fixed-activations, generalization, geometry, gradient-shift, landscape, recorder, "
        "uncertainty, variance-shift"
    )


def planned(probes):
    return PlannedRun("inside", Arm("bn", CONFIG, probes=probes), 0)


def test_probed_runs_are_apart_and_a_changed_probe_touches_only_them(monkeypatch):
    alone, watched = (identify(planned(probes), "d" * 64) for probes in ({}, WATCHING))
    assert alone.id != watched.id
    other = {"recorder": {**WATCHING["recorder"], "epochs": (0, 0.6)}}
    assert identify(planned(other), "d" * 64).id != watched.id
    monkeypatch.setattr(
        "bnstudy.runs.store.code_digest", lambda *start: "changed" if start else code_digest()
    )
    assert identify(planned({}), "d" * 64).id == alone.id
    assert identify(planned(WATCHING), "d" * 64).id != watched.id


@pytest.mark.parametrize("engine", ["auto", "lockstep", "reference"])
def test_runs_with_an_attached_recorder_are_trained_by_the_reference_engine(engine):
    keys = [identify(planned(WATCHING), "d" * 64) for _ in range(6)]
    assert {job.engine for job in plan_jobs(keys, engine)} == {"reference"}


def test_runs_with_all_other_probes_are_stacked():
    keys = [identify(planned(OTHERS), "d" * 64) for _ in range(6)]
    assert {job.engine for job in plan_jobs(keys, "auto")} == {"lockstep"}


def test_the_store_gives_back_what_the_probe_saw(sample, tmp_path, small):
    experiment = plan_of(sample, seeds=1).experiments[0].experiment
    arm = Arm("bn", CONFIG, probes=WATCHING)
    watched = dataclasses.replace(experiment, arms=lambda profile: (arm,))
    plan = make_plan((watched,), PROFILES["tiny"], DataIdentity.of(sample), seeds=1)
    store = Store(tmp_path / "store")
    assert run_study(plan, store, sample, workers=1).trained == 1
    there = read_tables(store, plan).measures
    expected = train(CONFIG, [0], small, probes=WATCHING)[0].measures
    assert there["arm"].unique().tolist() == ["bn"]
    np.testing.assert_array_equal(there["value"].to_numpy(), expected["value"].to_numpy())
