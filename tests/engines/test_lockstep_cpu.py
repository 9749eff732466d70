"""The compiled kernel: drawn arms against float64 autograd, and what it refuses to read."""

import ctypes
import mmap
import re
import sys

import numpy as np
import pytest
import torch

from bnstudy import compiling
from bnstudy.config import RunConfig
from bnstudy.data import Images, Splits, batches
from bnstudy.engines.lockstep import cpu, interface, train_stack, unsupported
from bnstudy.engines.lockstep.cpu import Kernel, lane_count
from bnstudy.engines.lockstep.interface import Spec, checked_array
from bnstudy.engines.lockstep.parameters import RUNNING_MEAN, WEIGHT, TensorId
from bnstudy.engines.lockstep.random_draws import RandomDraws
from bnstudy.engines.reference import evaluate, population_statistics
from bnstudy.errors import ConfigError
from bnstudy.networks import build
from tests.engines.arms import (
    PERCEPTRONS,
    check_fifty_steps,
    check_records,
    check_step,
    drawn_arm,
    drawn_images,
    splits_of,
)

pytestmark = pytest.mark.skipif(compiling.compiler() is None, reason="no C++ compiler here")


@pytest.mark.parametrize("number", range(60))
def test_gradients_of_any_lenet_are_those_of_float64_autograd(number):
    config, splits = drawn_arm(number, "lenet")
    check_step(Kernel, config, range(1 + number % lane_count()), splits, times_torch=20.0)


@pytest.mark.parametrize("number", range(60))
def test_gradients_of_any_perceptron_are_those_of_float64_autograd(number):
    config, splits = drawn_arm(100 + number, "mlp")
    check_step(Kernel, config, range(1 + number % lane_count()), splits, times_torch=20.0)


@pytest.mark.parametrize("arm", PERCEPTRONS)
def test_losses_of_perceptrons_follow_the_reference_over_fifty_steps(arm, sample):
    check_fifty_steps(Kernel, arm, [4, 0, 9], sample)


@pytest.mark.parametrize("arm", PERCEPTRONS)
def test_a_record_of_a_perceptron_is_that_of_the_reference(arm, small):
    check_records(Kernel, arm, range(7, 10), small)


@pytest.mark.parametrize(
    ("network", "shape", "classes"),
    [("lenet", (1, 28, 28), 26), ("mlp:depth=2,width=13", (3, 7, 9), 26), ("mlp", (1, 5, 1), 2)],
)
@pytest.mark.parametrize("norm", ["none", "bn", "scratch", "layer"])
def test_evaluation_of_any_shape_and_number_of_classes_is_that_of_the_reference(
    network, shape, classes, norm
):
    config = RunConfig(network=network, norm=norm, batch_size=8, inputs="standardized")
    train, test = drawn_images(300, shape, classes), drawn_images(77, shape, classes)
    splits = Splits(train, test, test, train, classes)
    nets = [build(config, seed, splits) for seed in range(2)]
    kernel = Kernel(config, nets, train)
    losses, accuracies = kernel.evaluate(test)
    population, _ = kernel.evaluate_population(train, test)
    for lane, net in enumerate(nets):
        wanted = evaluate(net, test)
        assert losses[lane] == pytest.approx(wanted.loss, rel=1e-5)
        assert accuracies[lane] == pytest.approx(wanted.accuracy)
        if norm in ("bn", "scratch"):
            with population_statistics(net, train):
                wanted = evaluate(net, test)
        assert population[lane] == pytest.approx(wanted.loss, rel=1e-4)


def test_population_statistics_without_room_for_activations_are_the_same():
    # 36 million activations of 32 bytes or more are not kept between layers, but computed again
    config = RunConfig(network="mlp:depth=2,width=600", norm="bn", batch_size=4)
    few, images = drawn_images(40, (1, 2, 2), 3), drawn_images(60_000, (1, 2, 2), 3)
    net = build(config, 0, splits_of(few, 3))
    kernel = Kernel(config, [net], few)
    losses, _ = kernel.evaluate_population(images, few)
    with population_statistics(net, images):
        assert losses[0] == pytest.approx(evaluate(net, few).loss, rel=1e-4)


def test_lanes_of_a_perceptron_diverge_alone():
    config = RunConfig(network="mlp:depth=2,width=9", norm="bn", batch_size=16)
    splits = splits_of(drawn_images(64, (1, 6, 6), 5), 5)
    nets = [build(config, seed, splits) for seed in range(3)]
    alone = Kernel(config, nets[:1], splits.train)
    with torch.no_grad():
        nets[1].fc3.weight.fill_(float("inf"))
    kernel = Kernel(config, nets, splits.train)
    for each, count in ((alone, 1), (kernel, 3)):
        each.start_epoch(np.stack([np.arange(64)] * count))
        each.train(0, 4, np.full(4, 0.1, np.float32))
    losses = kernel.scores()[0]
    np.testing.assert_array_equal(losses[:, :1], alone.scores()[0])
    assert np.isnan(losses[:, 1]).all()
    before = nets[1].fc1.weight.clone()
    kernel.take(1, nets[1])
    assert torch.equal(nets[1].fc1.weight, before)


@pytest.mark.parametrize(
    ("changes", "shape", "classes", "reason"),
    [
        ({}, (1, 32, 32), 10, "trains LeNet on 1 x 28 x 28 images, not 1 x 32 x 32"),
        ({}, (3, 28, 28), 10, "trains LeNet on 1 x 28 x 28 images, not 3 x 28 x 28"),
        ({"network": "lenet:padding=2"}, (1, 28, 28), 10, "without padding"),
        ({"network": "lenet:pooling=max"}, (1, 28, 28), 10, "with average pooling"),
        ({"network": "resnet:depth=8"}, (1, 28, 28), 10, "has shortcuts"),
        ({"inputs": "standardized:size=28"}, (1, 32, 32), 10, "resize the images"),
        ({"network": "mlp"}, (1, 28, 28), 257, "at most 256 classes, got 257"),
        ({"network": "mlp:depth=0", "dropout": 0.5, "dropout_placement": "after-last-norm"},
         (1, 28, 28), 10, "dropout of pixels"),
        ({"optimizer": "adam"}, (1, 28, 28), 10, "optimizer 'adam'"),
    ],
)  # fmt: skip
def test_what_is_left_to_the_reference_has_a_reason(changes, shape, classes, reason):
    found = unsupported(RunConfig(**changes), shape=shape, classes=classes)
    assert reason in found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("changes", "shape", "classes"),
    [
        ({"norm": "group:groups=4", "network": "mlp:width=20"}, (3, 5, 7), 26),
        ({"network": "mlp:depth=0"}, (1, 28, 28), 2),
        ({"inputs": "standardized"}, (1, 28, 28), 26),
        ({"init": "he", "network": "mlp:depth=20"}, (3, 32, 32), 256),
    ],
)
def test_what_the_kernel_trains_has_no_reason(changes, shape, classes):
    assert unsupported(RunConfig(**changes), shape=shape, classes=classes) == ""


# What crosses into C++ ------------------------------------------------------------------

CONFIG = RunConfig(network="mlp:depth=1,width=3", batch_size=4)
SHAPE = (1, 4, 4)


def a_kernel(config=CONFIG, count=2, n=10):
    train = drawn_images(n, SHAPE, 3)
    nets = [build(config, seed, splits_of(train, 3)) for seed in range(count)]
    return Kernel(config, nets, train)


WRONG_IMAGES = {
    "floats": (lambda x, y: (x / 255.0, y), "0 to 255 (torch.uint8), got torch.float32"),
    "signed": (lambda x, y: (x.short(), y), "0 to 255 (torch.uint8), got torch.int16"),
    "an array": (lambda x, y: (x.numpy(), y), "0 to 255 (torch.uint8), got uint8"),
    "larger": (lambda x, y: (x.repeat(1, 1, 2, 2), y), "images of 1 x 4 x 4, got 1 x 8 x 8"),
    "smaller": (lambda x, y: (x[..., :3], y), "images of 1 x 4 x 4, got 1 x 4 x 3"),
    "channels": (lambda x, y: (x.repeat(1, 3, 1, 1), y), "images of 1 x 4 x 4, got 3 x 4 x 4"),
    "flat": (lambda x, y: (x.flatten(1), y), "images of 1 x 4 x 4, got 16"),
    "too high": (lambda x, y: (x, y + 1), "labels of 3 classes are 0 to 2, got 1 to 3"),
    "negative": (lambda x, y: (x, y - 1), "labels of 3 classes are 0 to 2, got -1 to 1"),
    "bytes that wrap": (lambda x, y: (x, y + 256), "0 to 2, got 256 to 258"),
    "float labels": (lambda x, y: (x, y.float()), "labels are a tensor of integers, got torch.f"),
    "fewer labels": (lambda x, y: (x, y[:-1]), "9 images need as many labels, got (8,)"),
    "one-hot": (lambda x, y: (x, torch.eye(3)[y].long()), "need as many labels, got (9, 3)"),
    "none": (lambda x, y: (x[:0], y[:0]), "the kernel needs at least 1 image, got none"),
}


@pytest.mark.parametrize("kind", WRONG_IMAGES)
def test_images_and_labels_of_another_kind_are_refused_in_a_line(kind):
    change, message = WRONG_IMAGES[kind]
    labels = torch.arange(9) % 3
    wrong = Images(*change(drawn_images(9, SHAPE, 3).images, labels))
    right, kernel = Images(drawn_images(9, SHAPE, 3).images, labels), a_kernel()
    for call in (
        lambda: kernel.evaluate(wrong),
        lambda: kernel.evaluate_population(wrong, right),
        lambda: a_kernel(CONFIG.replace(norm="bn")).evaluate_population(right, wrong),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)) as raised:
            call()
        assert "\n" not in str(raised.value)
    net = build(CONFIG, 0, splits_of(right, 3))
    with pytest.raises(ConfigError):
        Kernel(CONFIG.replace(network="mlp:depth=1,width=3"), [net], wrong)


@pytest.mark.parametrize(
    ("shape", "classes", "change", "message"),
    [
        ((1, 32, 32), 10, lambda x: x, "not 1 x 32 x 32"),
        ((1, 20, 20), 10, lambda x: x, "not 1 x 20 x 20"),
        ((1, 28, 28), 26, lambda x: x, "labels of 10 classes are 0 to 9, got 0 to 2"),
        ((1, 28, 28), 10, lambda x: x / 255.0, "got torch.float32"),
    ],
)
def test_a_stack_of_images_of_another_kind_is_refused_in_a_line(shape, classes, change, message):
    images = drawn_images(200, shape, classes)
    splits = splits_of(Images(change(images.images), images.labels), 10)
    with pytest.raises(ConfigError, match=message) as raised:
        train_stack(RunConfig(batch_size=50, epochs=1), [0, 1], splits)
    assert "\n" not in str(raised.value)


def test_any_layout_and_type_of_integer_is_read_rightly():
    images = drawn_images(9, SHAPE, 3)
    strided = images.images.transpose(2, 3).contiguous().transpose(2, 3)
    sparse = torch.stack([images.images, images.images], 4)[..., 0]
    kernel = a_kernel()
    wanted = kernel.evaluate(images)
    for pixels in (strided, sparse, images.images.squeeze(1)):
        for labels in (images.labels.int(), images.labels.to(torch.uint8)):
            np.testing.assert_array_equal(kernel.evaluate(Images(pixels, labels)), wanted)


ORDER = np.stack([np.arange(10), np.arange(10)[::-1]])
RATES = np.full(3, 0.1, np.float32)
WRONG_CALLS = {
    "order too short": (lambda k: k.start_epoch(ORDER[:, :9]), "orders must be int64 (2, 10)"),
    "order of one": (lambda k: k.start_epoch(ORDER[:1]), "orders must be int64 (2, 10)"),
    "order of ints": (lambda k: k.start_epoch(ORDER.astype(np.int32)), "got int32 (2, 10)"),
    "order beyond": (lambda k: k.start_epoch(ORDER + 1), "holds 0 to 9, got 1 to 10"),
    "order below": (lambda k: k.start_epoch(ORDER - 1), "holds 0 to 9, got -1 to 8"),
    "batches beyond": (lambda k: k.train(0, 4, RATES), "some of 0 to 3, got [0, 4)"),
    "batches below": (lambda k: k.train(-1, 2, RATES), "some of 0 to 3, got [-1, 2)"),
    "no batches": (lambda k: k.train(2, 2, RATES[:0]), "some of 0 to 3, got [2, 2)"),
    "rates of double": (lambda k: k.train(0, 3, RATES.astype(float)), "got float64 (3,)"),
    "too few rates": (lambda k: k.train(0, 3, RATES[:2]), "rates must be float32 (3,)"),
    "a list": (lambda k: k.train(0, 3, [0.1] * 3), "rates must be float32 (3,), got list"),
    "draws": (lambda k: k.train(0, 3, RATES, np.zeros((2, 30), np.float32)), "needs no draws"),
    "noise": (lambda k: k.train(0, 3, RATES, None, np.zeros((2, 9))), "needs no noise"),
    "lane beyond": (lambda k: k.take(2, None), "a lane is a number in 0..1, got 2"),
    "lane below": (lambda k: k.take(-1, None), "a lane is a number in 0..1, got -1"),
    "another network": (lambda k: k.take(0, build(RunConfig(), 0)), "have the same layers"),
    "tensor beyond": (lambda k: k.lanes(TensorId(WEIGHT, 7)), "the kernel holds 0 numbers of"),
    "tensor below": (lambda k: k.lanes(TensorId(WEIGHT, -1)), "the kernel holds 0 numbers of"),
    "no velocity": (lambda k: k.velocity(TensorId(WEIGHT, 0)), "the kernel holds 0 numbers of"),
    "of a moment": (lambda k: k.velocity(TensorId(RUNNING_MEAN, 0)), "have no velocity"),
}


@pytest.mark.parametrize("kind", WRONG_CALLS)
def test_a_call_that_would_leave_the_arrays_is_refused_in_a_line(kind):
    call, message = WRONG_CALLS[kind]
    kernel = a_kernel()
    kernel.start_epoch(ORDER)
    with pytest.raises(ConfigError, match=re.escape(message)) as raised:
        call(kernel)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("size", [0, 29, 31])
@pytest.mark.parametrize("changes", [{"dropout": 0.5}, {"norm": "noisy"}])
def test_draws_and_noise_of_another_size_are_refused(changes, size):
    config = CONFIG.replace(**changes)
    per_image = 6 if "norm" in changes else 3
    kernel = a_kernel(config)
    kernel.start_epoch(ORDER)
    numbers = np.zeros((2, per_image * 10 * size // 30), np.float32)
    given = (None, numbers) if "norm" in changes else (numbers, None)
    with pytest.raises(ConfigError, match=rf"must be float32 \(2, {per_image * 10}\), got"):
        kernel.train(0, 3, RATES, *given)
    with pytest.raises(ConfigError, match="got NoneType"):
        kernel.train(0, 3, RATES)


def test_training_before_an_epoch_has_begun_is_refused():
    with pytest.raises(ConfigError, match="call start_epoch first"):
        a_kernel().train(0, 3, RATES)


def test_scores_of_no_batches_are_empty():
    losses, correct = a_kernel().scores()
    assert losses.shape == correct.shape == (0, 2)


def test_a_closed_kernel_refuses_every_call_and_leaves_views_valid():
    kernel = a_kernel()
    kernel.start_epoch(ORDER)
    weights = kernel.lanes(TensorId(WEIGHT, 0))
    before = weights.copy()
    kernel.close()
    kernel.close()
    images = drawn_images(9, SHAPE, 3)
    for call in (
        lambda: kernel.train(0, 3, RATES),
        lambda: kernel.evaluate(images),
        lambda: kernel.lanes(TensorId(WEIGHT, 0)),
        lambda: kernel.take(0, build(CONFIG, 0, splits_of(images, 3))),
    ):
        with pytest.raises(ConfigError, match="this kernel is closed: make another one"):
            call()
    a_kernel()  # would take the memory if it were free
    np.testing.assert_array_equal(weights, before)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (CONFIG.replace(network="mlp:depth=1,width=4"), "it is not the network of this config"),
        (CONFIG.replace(norm="bn"), "it is not the network of this config"),
        (CONFIG.replace(dropout=0.5), "random numbers per image for dropout and noise"),
        (CONFIG.replace(optimizer="adam"), "the kernel cannot train this: optimizer 'adam'"),
    ],
)
def test_a_network_of_another_config_is_refused(config, message):
    images = drawn_images(9, SHAPE, 3)
    net = build(CONFIG, 0, splits_of(images, 3))
    if "norm" in message or config.norm == "bn":
        config, net = CONFIG, build(config, 0, splits_of(images, 3))
    with pytest.raises(ConfigError, match=message):
        Kernel(config, [net], images)


def test_networks_that_differ_from_each_other_are_refused():
    images = drawn_images(9, SHAPE, 3)
    nets = [build(CONFIG, 0, splits_of(images, classes)) for classes in (3, 4)]
    with pytest.raises(ConfigError, match="all networks of a kernel have the same layers"):
        Kernel(CONFIG, nets, images)


def test_structs_of_another_layout_are_refused(monkeypatch):
    fields = [("first", ctypes.c_int32), *Spec._fields_]
    other = type("Spec", (ctypes.Structure,), {"_fields_": fields})
    monkeypatch.setattr(interface, "Spec", other)
    interface.declared.cache_clear()
    with pytest.raises(ConfigError, match="lay out their structs differently") as raised:
        lane_count()
    assert "\n" not in str(raised.value)
    monkeypatch.undo()
    interface.declared.cache_clear()
    assert lane_count()


def test_too_large_a_network_is_refused_before_memory_is_touched(monkeypatch):
    def no_memory(*arguments):
        raise MemoryError

    monkeypatch.setattr(cpu, "zeroed_memory", no_memory)
    with pytest.raises(ConfigError, match=r"there is no memory for \d+ networks at batch size 4"):
        a_kernel()


# Pages that nobody may touch lie behind the arrays: reading or writing past an end kills the test.


def guarded(array):
    """Return a copy of an array that ends where its pages end, before one without access."""
    page = mmap.PAGESIZE
    pages = -(-array.nbytes // page) + 1
    block = mmap.mmap(-1, pages * page)
    whole = np.frombuffer(block, np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    last = whole.ctypes.data + (pages - 1) * page
    assert libc.mprotect(ctypes.c_void_p(last), ctypes.c_size_t(page), 0) == 0
    end = (pages - 1) * page
    copy = whole[end - array.nbytes : end].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
@pytest.mark.parametrize("number", range(40))
def test_nothing_is_read_or_written_beyond_the_arrays(number, monkeypatch):
    config, splits = drawn_arm(number, "lenet" if number % 3 == 0 else "mlp")
    config = config.replace(batch_size=max(4, len(splits.train) // 2 - 1))
    monkeypatch.setattr(cpu, "zeroed_memory", lambda size: guarded(np.zeros(size, np.uint8)))
    monkeypatch.setattr(cpu, "checked_array", lambda *array: guarded(checked_array(*array)))
    nets = [build(config, seed, splits) for seed in range(lane_count())]
    pixels = torch.from_numpy(guarded(splits.train.images.numpy()))
    kernel = Kernel(config, nets, Images(pixels, splits.train.labels))
    n = len(splits.train)
    kernel.start_epoch(
        np.stack([np.random.default_rng(k).permutation(n) for k in range(len(nets))])
    )
    sizes = [each.stop - each.start for each in batches(n, config.batch_size)]
    if sizes[-1] == 1:
        sizes = sizes[:-1]
    draws = RandomDraws(config, range(len(nets)), nets).draw(sizes)
    kernel.train(0, len(sizes), np.full(len(sizes), 0.01, np.float32), *draws)
    kernel.evaluate(Images(pixels, splits.train.labels))
    kernel.evaluate_population(Images(pixels, splits.train.labels), splits.train)
    assert np.isfinite(kernel.scores()[0]).any()
