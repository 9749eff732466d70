"""The lockstep engine's stacked tensors, against float64 autograd and the reference trainer."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bnstudy import compiling
from bnstudy.engines import lockstep
from bnstudy.engines.lockstep.cpu import Kernel
from bnstudy.engines.lockstep.gpu import Stack, exact_float32, merged
from bnstudy.engines.lockstep.loop import train_by
from bnstudy.engines.lockstep.random_draws import RandomDraws
from bnstudy.engines.reference import train
from bnstudy.errors import ConfigError
from bnstudy.networks import build, norm_layers
from bnstudy.networks.norm import parameters_of
from bnstudy.runs.jobs import choose_engine, plan_jobs
from bnstudy.runs.runner import run_study
from bnstudy.runs.store import Store, identify
from bnstudy.runs.tables import read_tables
from tests.conftest import SMALL
from tests.engines.arms import ARMS, ROUGH, check_fifty_steps, check_one_step, check_records
from tests.plans import plan_of

GPU = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
)
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
everywhere = pytest.mark.parametrize("device", ["cpu", GPU])


def on(device):
    return partial(Stack, device=device)


@settings(max_examples=2, deadline=None, derandomize=True, phases=[Phase.generate])
@given(batch=st.integers(7, 41), count=st.sampled_from([1, 3, 19]), start=st.integers(0, 999))
@everywhere
@pytest.mark.parametrize("arm", ARMS)
def test_loss_and_every_gradient_are_those_of_float64_autograd(
    arm, device, batch, count, start, sample
):
    times = 100.0 if arm in ROUGH else 10.0
    check_one_step(on(device), ARMS[arm], batch, count, start, sample, times_torch=times)


@everywhere
@pytest.mark.parametrize("batch", [2, 3])
@pytest.mark.parametrize("arm", ARMS)
def test_gradients_of_tiny_batches_lose_no_more_digits_than_torchs(arm, batch, device, sample):
    check_one_step(on(device), ARMS[arm], batch, 1, 7, sample, times_torch=100.0)


@everywhere
@pytest.mark.parametrize("arm", sorted(set(ARMS) - {"relu"}))
def test_losses_follow_the_reference_over_fifty_steps(arm, device, sample):
    check_fifty_steps(on(device), arm, [4, 0, 9], sample)


@everywhere
@pytest.mark.parametrize(
    "arm",
    [
        "none",
        "bn",
        "scratch",
        "dropout",
        "noisy",
        "population",
        "mean-only",
        "no-affine",
        "layers-24",
    ],
)
def test_a_record_is_that_of_the_reference(arm, device, small):
    check_records(on(device), arm, range(7, 10), small)


@everywhere
@pytest.mark.parametrize("count", [1, 19])
def test_a_stack_holds_any_number_of_seeds(count, device, small):
    check_records(on(device), "bn", range(count), small)


@everywhere
@pytest.mark.parametrize("batch_size", [57, 101, 500])
def test_the_last_batch_may_be_smaller_and_odd(batch_size, device, small):
    # 230 images: 4 x 57 and 2; 2 x 101 and 28; all at once
    config = SMALL.replace(norm="scratch", batch_size=batch_size, learning_rate=0.1, dropout=0.2)
    (ours,) = train_by(on(device), config, [3], small)
    reference = train(config, 3, small)
    assert ours.steps == reference.steps
    np.testing.assert_allclose(ours.curve, reference.curve, rtol=1e-3, atol=1e-5)


@everywhere
def test_the_same_run_gives_the_same_bytes(device, small):
    config = SMALL.replace(norm="bn", dropout=0.5)
    first, second = (train_by(on(device), config, [5, 6], small) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.curve.to_numpy(), other.curve.to_numpy())


@everywhere
def test_random_numbers_may_come_in_any_portions(device, small, monkeypatch):
    config = SMALL.replace(norm="noisy", dropout=0.5, learning_rate=0.1)
    (whole,) = train_by(on(device), config, [5], small)
    monkeypatch.setattr("bnstudy.engines.lockstep.random_draws.DRAWN_AT_ONCE", 2 * 50 * 2 * 226 + 1)
    (portions,) = train_by(on(device), config, [5], small)
    np.testing.assert_array_equal(whole.curve.to_numpy(), portions.curve.to_numpy())


def test_draws_are_portioned_to_a_bound_of_memory(small):
    config = SMALL.replace(dropout=0.5)
    nets = [build(config, seed) for seed in range(19)]
    counts = RandomDraws(config, range(19), nets).counts
    assert (counts.dropout, counts.noise) == (204, 0)
    assert counts.batches_at_once == (1 << 24) // (19 * 50 * 204)


@everywhere
def test_networks_that_diverge_stop_as_the_reference_does(device, small):
    config = SMALL.replace(activation="relu", learning_rate=1e30)
    for ours, seed in zip(train_by(on(device), config, [0, 1], small), [0, 1], strict=True):
        reference = train(config, seed, small)
        assert (ours.status, ours.steps) == (reference.status, reference.steps)
        assert ours.status == "diverged"
        assert len(ours.curve) == len(reference.curve)


@everywhere
def test_a_diverged_network_keeps_its_state_and_leaves_the_others_alone(device, small):
    config = SMALL.replace(norm="bn", momentum=0.5)
    nets = [build(config, seed) for seed in (0, 1)]
    with torch.no_grad():
        nets[1].fc3.weight.fill_(float("nan"))
    results = []
    for these in (nets, [nets[0], build(config, 1)]):
        stack = Stack(config, these, small.train, device=device)
        stack.start_epoch(np.stack([np.arange(230)] * 2))
        stack.train(0, 4, np.full(4, 0.1, np.float32))
        losses, _ = stack.scores()
        after = [copy.deepcopy(net) for net in these]
        for lane, net in enumerate(after):
            stack.take(lane, net)
        results.append((losses, after))
    (beside_nan, after), (beside_another, others) = results
    assert np.isnan(beside_nan[:, 1]).all()
    np.testing.assert_array_equal(beside_nan[:, 0], beside_another[:, 0])
    for ours, theirs in zip(after[0].parameters(), others[0].parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(after[1].conv1.weight, nets[1].conv1.weight)
    assert torch.equal(after[1].norm1.weight, nets[1].norm1.weight)
    # one forward pass was made, as by the reference: 0.9 x 0 + 0.1 x the first batch's mean
    with torch.no_grad():
        first = nets[1].conv1(small.train.images[:50].unsqueeze(1) / 255).mean((0, 2, 3))
    torch.testing.assert_close(after[1].norm1.running_mean, 0.1 * first, rtol=1e-4, atol=1e-6)


@everywhere
def test_population_statistics_are_put_back(device, small):
    config = SMALL.replace(norm="scratch")
    net = build(config, 3)
    stack = Stack(config, [net], small.train, device=device)
    stack.evaluate_population(small.population, small.test)
    after = copy.deepcopy(net)
    stack.take(0, after)
    for before, now in zip(norm_layers(net).values(), norm_layers(after).values(), strict=True):
        assert torch.equal(parameters_of(before).mean, parameters_of(now).mean)
        assert torch.equal(parameters_of(before).var, parameters_of(now).var)


def test_evaluation_in_parts_is_that_of_the_kernel(small, monkeypatch):
    monkeypatch.setattr("bnstudy.engines.lockstep.gpu.EVALUATED_AT_ONCE", 3 * 17)
    if not lockstep.available()[0]:
        pytest.skip("no C++ compiler here")
    config = SMALL.replace(norm="scratch", learning_rate=0.1)
    for ours, kernels in zip(
        *(train_by(make, config, [1, 2, 3], small) for make in (Stack, Kernel)), strict=True
    ):
        np.testing.assert_allclose(ours.curve, kernels.curve, rtol=1e-4)


def test_moments_of_parts_merge_to_those_of_the_whole():
    rng = np.random.default_rng(0)
    whole = torch.from_numpy(rng.normal(1e3, 1.0, (60, 2)))
    parts = [(len(part), part.mean(0), part.var(0, correction=0)) for part in whole.split(17)]
    mean, var = merged(parts)
    torch.testing.assert_close(mean, whole.mean(0))
    torch.testing.assert_close(var, whole.var(0, correction=0))


def test_no_seeds_are_refused(small):
    with pytest.raises(ConfigError, match="a stack holds at least 1 seed, got none"):
        Stack(SMALL, [], small.train)


def test_an_arm_without_momentum_has_no_velocity(small):
    stack = Stack(SMALL, [build(SMALL, 0)], small.train)
    with pytest.raises(ConfigError, match="an arm without momentum has no velocity"):
        stack.velocity(next(iter(stack.tensors)))


# In the runner ----------------------------------------------------------------------------


def test_a_gpu_gets_stacks_of_more_seeds_and_fewer_of_large_batches(sample):
    plan = plan_of(sample, seeds=70, norms=("bn",))
    keys = [identify(run, plan.data.digest) for run in plan.runs]
    lanes = lockstep.stack_size(SMALL, "cpu")
    of_cpu = [lanes] * (70 // lanes) + [70 % lanes]  # 16, 8 or 4: none divides 70
    for device, sizes in (("cuda", [64, 6]), ("cuda:1", [64, 6]), ("cpu", of_cpu)):
        jobs = plan_jobs(keys, "auto", device)
        assert {job.engine for job in jobs} == {"lockstep"}
        assert [len(job.keys) for job in jobs] == sizes
    batches = {size: SMALL.replace(batch_size=size) for size in (4, 512, 1024, 100_000)}
    found = {size: lockstep.stack_size(config, "cuda") for size, config in batches.items()}
    assert found == {4: 64, 512: 64, 1024: 32, 100_000: 1}


def test_a_gpu_needs_no_compiler_and_other_devices_use_the_reference(monkeypatch):
    monkeypatch.setenv("BNSTUDY_KERNEL", "off")
    compiling.compiled.cache_clear()
    assert lockstep.available("cuda:0") == (True, "")
    assert lockstep.available("mps") == (False, "it runs on cpu and cuda, not on mps")
    lines = []
    assert choose_engine("auto", "cuda", lines.append) == "auto"
    assert choose_engine("auto", "mps", lines.append) == "reference"
    assert lines == [
        "reference engine: the faster lockstep engine is unavailable, "
        "it runs on cpu and cuda, not on mps"
    ]
    compiling.compiled.cache_clear()


# On a GPU ---------------------------------------------------------------------------------


def test_tf32_is_off_within_and_put_back_after(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.no_grad())
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    settings_of = lambda: (  # noqa: E731
        matmul.fp32_precision,
        cudnn.conv.fp32_precision,
        cudnn.benchmark,
        cudnn.deterministic,
    )
    before = settings_of()
    with exact_float32(torch.device("cuda")):
        assert settings_of() == ("ieee", "ieee", False, True)
    assert settings_of() == before


@on_gpu
@pytest.mark.parametrize("arm", ARMS)
def test_a_graph_does_what_its_operations_do_one_by_one(arm, small):
    config = SMALL.replace(**ARMS[arm], learning_rate=0.05)
    by_graph, by_one = (
        train_by(partial(Stack, device="cuda", graphs=graphs), config, range(5), small)
        for graphs in (True, False)
    )
    for one, other in zip(by_graph, by_one, strict=True):
        np.testing.assert_array_equal(one.curve.to_numpy(), other.curve.to_numpy())


@on_gpu
@pytest.mark.parametrize("graphs", [True, False])
def test_nothing_waits_for_the_device_within_an_epoch(graphs, small):
    config = SMALL.replace(norm="noisy", dropout=0.5, momentum=0.9)
    nets = [build(config, seed) for seed in range(3)]
    stack = Stack(config, nets, small.train, device="cuda", graphs=graphs)
    sizes = [50, 50, 50, 50, 30]
    draws = RandomDraws(config, range(3), nets)
    torch.cuda.set_sync_debug_mode("error")
    try:
        stack.start_epoch(np.stack([np.arange(230)] * 3))
        stack.train(0, 5, np.full(5, 0.1, np.float32), *draws.draw(sizes))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    losses, correct = stack.scores()
    assert np.isfinite(losses).all()
    assert correct.shape == (5, 3)


@on_gpu
def test_a_study_on_a_gpu_leaves_ordinary_runs(sample, tmp_path):
    store, plan = Store(tmp_path / "store"), plan_of(sample, seeds=6)
    summary = run_study(plan, store, sample, device="cuda")
    runs = read_tables(store, plan).runs
    assert summary.trained == len(runs)
    assert set(runs["engine"]) == {"lockstep"}
    assert set(runs["device"]) == {"cuda"}
    assert runs["accelerator"].str.len().min() > 0
