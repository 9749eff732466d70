"""The lockstep engine, against float64 autograd and the reference trainer."""

import copy
import dataclasses
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bnstudy import compiling
from bnstudy.data import Images, split
from bnstudy.engines import lockstep
from bnstudy.engines.lockstep import train_stack
from bnstudy.engines.lockstep.cpu import Kernel, lane_count
from bnstudy.engines.reference import evaluate, population_statistics, train
from bnstudy.errors import ConfigError
from bnstudy.networks import build, norm_layers
from bnstudy.networks.norm import NORMS, BatchNorm, parameters_of, register_norm
from bnstudy.report.console import StudyConsole
from bnstudy.runs.jobs import plan_jobs
from bnstudy.runs.runner import run_study
from bnstudy.runs.store import Store, identify
from bnstudy.runs.tables import read_tables
from tests.conftest import SMALL
from tests.engines.arms import ARMS, ROUGH, check_fifty_steps, check_one_step, check_records
from tests.plans import plan_of


@pytest.fixture(autouse=True)
def kernel_of_this_machine(monkeypatch, tmp_path_factory, request):
    """Let all tests share one compiled kernel; skip where there is no compiler."""
    if compiling.compiler() is None:
        pytest.skip("no C++ compiler here")
    shared = tmp_path_factory.getbasetemp() / "kernel"
    monkeypatch.setenv("BNSTUDY_CACHE", str(shared))


@settings(max_examples=4, deadline=None, derandomize=True, phases=[Phase.generate])
@given(batch=st.integers(7, 41), count=st.integers(1, 16), start=st.integers(0, 999))
@pytest.mark.parametrize("arm", ARMS)
def test_loss_and_every_gradient_are_those_of_float64_autograd(arm, batch, count, start, sample):
    times = 100.0 if arm in ROUGH else 10.0
    count = min(count, lane_count())
    check_one_step(Kernel, ARMS[arm], batch, count, start, sample, times_torch=times)


@pytest.mark.parametrize("batch", [2, 3])
@pytest.mark.parametrize("arm", ARMS)
def test_gradients_of_tiny_batches_lose_no_more_digits_than_torchs(arm, batch, sample):
    check_one_step(Kernel, ARMS[arm], batch, 1, 7, sample, times_torch=100.0)


@pytest.mark.parametrize("arm", sorted(set(ARMS) - {"relu"}))
def test_losses_follow_the_reference_over_fifty_steps(arm, sample):
    check_fifty_steps(Kernel, arm, [4, 0, 9], sample)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_saturated_networks_classify_as_torch_does(activation, small):
    config = SMALL.replace(norm="none", activation=activation)
    net = build(config, 0)
    with torch.no_grad():
        for weight in net.parameters():
            weight *= 1e3
        net.fc3.weight *= 1e-6  # so that losses stay small
        net.fc3.bias *= 1e-6
    kernel = Kernel(config, [net], small.train)
    losses, accuracies = kernel.evaluate(small.test)
    kernel.close()
    wanted = evaluate(net, small.test)
    assert losses[0] == pytest.approx(wanted.loss, rel=1e-4)
    assert accuracies[0] == pytest.approx(wanted.accuracy)


@pytest.mark.parametrize("arm", ["none", "bn", "scratch", "dropout", "mean-only", "layers-24"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_record_is_that_of_the_reference(arm, count, small):
    check_records(Kernel, arm, range(7, 7 + count), small)


def test_lanes_do_not_touch_each_other(small):
    config = SMALL.replace(norm="bn")
    alone = train_stack(config, [5], small)[0]
    among = train_stack(config, [1, 2, 5, 8], small)[2]
    np.testing.assert_array_equal(alone.curve.to_numpy(), among.curve.to_numpy())


def test_lanes_that_diverge_stop_as_the_reference_does_and_the_others_go_on(small):
    config = SMALL.replace(activation="relu", learning_rate=1e30)
    for ours, seed in zip(train_stack(config, [0, 1], small), [0, 1], strict=True):
        reference = train(config, seed, small)
        assert (ours.status, ours.steps) == (reference.status, reference.steps)
        assert ours.status == "diverged"
        assert len(ours.curve) == len(reference.curve)


def test_a_diverged_lane_keeps_its_last_parameters_and_leaves_the_others_alone(small):
    config = SMALL.replace(norm="bn")
    nets = [build(config, seed) for seed in (0, 1)]
    with torch.no_grad():
        nets[1].fc3.weight.fill_(float("nan"))
    kernel = Kernel(config, nets, small.train)
    kernel.start_epoch(np.stack([np.arange(230)] * 2))
    kernel.train(0, 4, np.full(4, 0.1, np.float32))
    losses, _ = kernel.scores()
    assert np.isfinite(losses[:, 0]).all()
    assert np.isnan(losses[:, 1]).all()
    after = copy.deepcopy(nets[1])
    kernel.take(1, after)
    kernel.close()
    assert torch.equal(after.conv1.weight, nets[1].conv1.weight)
    assert torch.equal(after.norm1.weight, nets[1].norm1.weight)
    assert not torch.equal(after.norm1.running_mean, nets[1].norm1.running_mean)  # one forward pass


@pytest.mark.parametrize("count", [17, 1_500, 2_000])
@pytest.mark.parametrize("norm", ["none", "bn"])
def test_evaluation_of_many_images_is_that_of_the_reference(norm, count, sample):
    # thousands: of fewer, memory that was freed too early still held the right labels
    config = SMALL.replace(norm=norm, test_images=count, population_images=1_000)
    splits = split(sample, config)
    images = splits.test
    # copies must be made of these: neither is laid out as the kernel takes it
    strided = Images(images.images.transpose(1, 2).contiguous().transpose(1, 2), images.labels)
    nets = [build(config, seed) for seed in (0, 1)]
    kernel = Kernel(config, nets, splits.train)
    for layout in (images, strided):
        loss, accuracy = kernel.evaluate(layout)
        exact = [evaluate(net, images) for net in nets]
        np.testing.assert_allclose(loss, [score.loss for score in exact], rtol=1e-5)
        np.testing.assert_allclose(accuracy, [score.accuracy for score in exact], atol=1e-12)
    loss, _ = kernel.evaluate_population(splits.population, images)
    kernel.close()
    for net, found in zip(nets, loss, strict=True):
        with population_statistics(net, splits.population):
            assert found == pytest.approx(evaluate(net, images).loss, rel=1e-4)


def test_population_statistics_are_put_back(small):
    config = SMALL.replace(norm="scratch")
    net = build(config, 3)
    kernel = Kernel(config, [net], small.train)
    kernel.evaluate_population(small.population, small.test)
    after = copy.deepcopy(net)
    kernel.take(0, after)
    kernel.close()
    for before, now in zip(norm_layers(net).values(), norm_layers(after).values(), strict=True):
        assert torch.equal(parameters_of(before).mean, parameters_of(now).mean)
        assert torch.equal(parameters_of(before).var, parameters_of(now).var)


def test_what_the_kernel_cannot_train_is_refused_with_the_reason(small, monkeypatch):
    monkeypatch.setattr(NORMS, "_factories", dict(NORMS._factories))
    register_norm("identity", lambda C, dims, rng: torch.nn.Identity(), needs_batch=False)
    config = SMALL.replace(norm="identity")
    reason = "normalization 'identity' is trained by the reference engine"
    assert reason in lockstep.unsupported(config)
    with pytest.raises(ConfigError, match="the lockstep engine cannot train this"):
        train_stack(config, [0], small)


@pytest.mark.parametrize("kind", [BatchNorm, torch.nn.BatchNorm2d])
@pytest.mark.parametrize("options", [{"momentum": None}, {"track_running_stats": False}])
def test_averages_that_the_kernel_does_not_know_are_left_to_the_reference(
    kind, options, monkeypatch
):
    monkeypatch.setattr(NORMS, "_factories", dict(NORMS._factories))
    register_norm("plain", lambda C, dims, rng: (kind if dims == 4 else BatchNorm)(C, **options))
    config = SMALL.replace(norm="plain")
    assert "'plain' is trained by the reference engine" in lockstep.unsupported(config)


def test_a_stack_of_no_seeds_is_refused(small):
    with pytest.raises(ConfigError, match="a stack holds at least 1 seed, got none"):
        train_stack(SMALL, [], small)


def test_a_kernel_holds_no_more_networks_than_it_has_lanes(small):
    nets = [build(SMALL, seed) for seed in range(lane_count() + 1)]
    with pytest.raises(ConfigError, match=f"trains 1 to {lane_count()} networks"):
        Kernel(SMALL, nets, small.train)


def test_seeds_beyond_the_lanes_are_trained_all_the_same(small):
    records = train_stack(SMALL, range(17), small)
    assert len(records) == 17
    np.testing.assert_array_equal(
        records[16].curve.to_numpy(), train_stack(SMALL, [16], small)[0].curve.to_numpy()
    )


def test_a_lone_image_is_refused_as_by_the_reference(small):
    with pytest.raises(ConfigError, match="leave a batch of 1"):
        train_stack(SMALL.replace(norm="bn", batch_size=229), [0], small)


# Building -------------------------------------------------------------------------------


@pytest.fixture
def fresh_build(monkeypatch, tmp_path):
    """Let a test build the kernel again, and forget what it found."""
    monkeypatch.setenv("BNSTUDY_CACHE", str(tmp_path / "cache"))
    compiling.compiled.cache_clear()
    yield tmp_path
    compiling.compiled.cache_clear()


def program(path: Path, text: str) -> str:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_without_a_compiler_the_reference_engine_does_it_and_says_so(
    fresh_build, monkeypatch, sample
):
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    possible, reason = lockstep.available()
    assert not possible
    assert reason == "it needs a C++ compiler (c++, g++ or clang++), and none was found"
    plan, lines = plan_of(sample, seeds=4, norms=("bn",)), []
    store = Store(fresh_build / "store")
    summary = run_study(plan, store, sample, workers=1, listener=StudyConsole(lines.append))
    assert summary.trained == 4
    assert lines[0] == (
        "reference engine: the faster lockstep engine is unavailable, it needs a C++ compiler "
        "(c++, g++ or clang++), and none was found"
    )
    assert set(read_tables(store, plan).runs["engine"]) == {"reference"}
    with pytest.raises(ConfigError, match="the lockstep engine is unavailable: it needs a C"):
        run_study(plan, store, sample, workers=1, engine="lockstep")


def test_a_build_that_fails_is_a_reason_not_a_crash(fresh_build, monkeypatch):
    fails = 'case "$1" in --version) echo broken 1.0;; *) echo "error: no" >&2; exit 1;; esac'
    monkeypatch.setenv("CXX", program(fresh_build / "broken-c++", fails))
    assert lockstep.available() == (False, "broken-c++ could not compile it (error: no)")
    assert not list((fresh_build / "cache").rglob("*.so"))


def test_the_kernel_can_be_ruled_out(fresh_build, monkeypatch):
    monkeypatch.setenv("BNSTUDY_KERNEL", "off")
    assert lockstep.available() == (False, "BNSTUDY_KERNEL=off rules it out")


def test_the_kernel_is_compiled_once(fresh_build):
    assert lockstep.available() == (True, "")
    (library,) = (fresh_build / "cache" / "kernels").iterdir()
    before = library.stat().st_mtime_ns
    compiling.compiled.cache_clear()
    assert lockstep.available() == (True, "")
    assert library.stat().st_mtime_ns == before


# In the runner --------------------------------------------------------------------------


def test_stacks_hold_the_seeds_of_one_arm(sample):
    plan = plan_of(sample, seeds=20, norms=("none", "bn", "layer"))
    keys = [identify(run, plan.data.digest) for run in plan.runs]
    stacks = [job for job in plan_jobs(keys, "auto") if job.engine == "lockstep"]
    full, rest = divmod(20, lane_count())
    assert [len(job.keys) for job in stacks] == ([lane_count()] * full + [rest] * (rest > 0)) * 3
    for job in stacks:
        assert len({key.run.arm.name for key in job.keys}) == 1
    assert len(plan_jobs(keys, "reference")) == 60
    few = [identify(run, plan.data.digest) for run in plan_of(sample, seeds=3).runs]
    assert {job.engine for job in plan_jobs(few, "auto")} == {"reference"}
    assert {job.engine for job in plan_jobs(few, "lockstep")} == {"lockstep"}


def test_an_arm_that_tests_a_layers_own_code_is_never_stacked(sample):
    plan = plan_of(sample, seeds=8, norms=("scratch", "bn"))
    keys = [identify(run, plan.data.digest) for run in plan.runs]
    own = [
        dataclasses.replace(
            key,
            run=dataclasses.replace(
                key.run, arm=dataclasses.replace(key.run.arm, by_reference=True)
            ),
        )
        for key in keys
        if key.run.arm.name == "scratch"
    ]
    others = [key for key in keys if key.run.arm.name != "scratch"]
    for word in ("auto", "lockstep"):
        jobs = plan_jobs(own + others, word)
        assert [(job.engine, len(job.keys)) for job in jobs] == [
            *[("reference", 1)] * 8,
            ("lockstep", 8),
        ]


def test_a_stack_leaves_ordinary_runs_and_skips_those_that_are_there(sample, tmp_path):
    store = Store(tmp_path / "store")
    run_study(plan_of(sample, seeds=2), store, sample, workers=1, engine="reference")
    whole = plan_of(sample, seeds=6)
    (store.root / "plan.json").unlink()
    summary = run_study(whole, store, sample, workers=2, engine="auto")
    assert (summary.trained, summary.skipped) == (8, 4)
    runs = read_tables(store, whole).runs
    assert set(runs["status"]) == {"done"}
    assert runs.groupby("seed")["engine"].first().tolist() == ["reference"] * 2 + ["lockstep"] * 4
    again = run_study(whole, store, sample, workers=2)
    assert again.trained == 0
