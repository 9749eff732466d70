"""Which images a run sees, and in which order."""

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from bnstudy import data
from bnstudy.config import RunConfig
from bnstudy.errors import ConfigError
from tests.data.files import patterns, refusal

# Splits -------------------------------------------------------------------------------


def made(labels: list[int] | np.ndarray, test_labels: list[int] | None = None) -> data.Dataset:
    """Make a data set whose images hold, in their first two bytes, their place in the file."""

    def images(count: int) -> torch.Tensor:
        content = torch.zeros(count, 28, 28, dtype=torch.uint8)
        content[:, 0, 0] = torch.arange(count) // 256
        content[:, 0, 1] = torch.arange(count) % 256
        return content

    held = np.asarray(labels)
    tests = np.asarray(test_labels or [0])
    return data.from_arrays("made", images(len(held)), held, images(len(tests)), tests)


def places(part: data.Images) -> list[int]:
    first = part.images[:, 0, :2].long()
    return (first[:, 0] * 256 + first[:, 1]).tolist()


def everything(**settings: object) -> RunConfig:
    return RunConfig(train_split="all", population_images=0).replace(**settings)


def test_validation_is_every_twelfth_of_each_class() -> None:
    found = data.split(made([0] * 13 + [1] * 25), RunConfig(population_images=0))
    assert places(found.validation) == [0, 12, 13, 25, 37]
    assert places(found.train) == [n for n in range(38) if n not in (0, 12, 13, 25, 37)]
    assert found.validation.labels.tolist() == [0, 0, 1, 1, 1]


def test_the_whole_is_split_55_000_to_5_000_in_equal_classes() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 6000))
    found = data.split(made(labels), RunConfig())
    series = pd.Series(labels)
    held = series.index[series.groupby(series).cumcount() % 12 == 0].tolist()
    assert places(found.validation) == held
    assert sorted(places(found.train) + held) == list(range(60_000))
    assert torch.bincount(found.train.labels).tolist() == [5500] * 10
    assert torch.bincount(found.validation.labels).tolist() == [500] * 10


def test_the_sample_holds_67_of_each_class_out(sample: data.Dataset) -> None:
    found = data.split(sample, RunConfig())
    assert torch.bincount(found.validation.labels).tolist() == [67] * 10
    assert torch.bincount(found.train.labels).tolist() == [733] * 10


def test_split_all_trains_on_everything_and_validates_on_nothing() -> None:
    found = data.split(made([0] * 13 + [1] * 25), everything(validation_images=3))
    assert places(found.train) == list(range(38))
    assert len(found.validation) == 0
    assert found.validation.images.shape == (0, 28, 28)


def test_a_subset_has_classes_in_equal_parts_in_the_order_of_the_file() -> None:
    labels = list(range(9, -1, -1)) * 3
    found = data.split(made(labels), everything(train_images=12))
    assert places(found.train) == [*range(10), 18, 19]  # the second of classes 1 and 0


def test_test_images_are_taken_in_equal_parts() -> None:
    found = data.split(made(list(range(6)), [5, 5, 3, 3, 1, 1]), everything(test_images=4))
    assert places(found.test) == [0, 2, 4, 5]


def test_population_images_are_the_first_of_the_training_images_used() -> None:
    settings = {"train_images": 6, "population_images": 4}
    found = data.split(made([1, 1, 1, 0, 0, 0, 1, 0]), everything(**settings))
    assert places(found.train) == [0, 1, 2, 3, 4, 5]
    assert places(found.population) == [0, 1, 3, 4]


def test_a_smaller_subset_lies_within_a_larger_one(sample: data.Dataset) -> None:
    small, large = (
        data.split(sample, RunConfig(train_images=count)).train for count in (101, 2_003)
    )
    inside = {image.numpy().tobytes() for image in large.images}
    assert all(image.numpy().tobytes() in inside for image in small.images)


@pytest.mark.parametrize(
    ("name", "most"),
    [("train_images", 33), ("validation_images", 5), ("test_images", 1)],
)
def test_asking_for_more_images_than_there_are_is_refused(name: str, most: int) -> None:
    config = RunConfig(population_images=0).replace(**{name: most + 1})
    message = refusal(lambda: data.split(made([0] * 13 + [1] * 25), config), ConfigError)
    assert message == f"{name} can be at most {most}, got {most + 1}: ask for fewer, or 0 for all"


def test_a_study_takes_the_images_there_are_where_it_asks_for_more() -> None:
    config = RunConfig(train_images=34, validation_images=6, test_images=2)
    found = data.split(made([0] * 13 + [1] * 25), config, capped=True)
    parts = (found.train, found.validation, found.test, found.population)
    assert [len(part) for part in parts] == [33, 5, 1, 33]


def test_images_that_are_all_held_out_are_refused() -> None:
    message = refusal(lambda: data.split(made([0, 1]), RunConfig()), ConfigError)
    assert message == (
        "a run needs training images, but all 2 of made are held out for validation: add images, "
        "or set train_split='all'"
    )


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 9), (20, 20)])
def test_splits_know_the_shape_of_an_image_and_the_classes(shape: tuple[int, ...]) -> None:
    dataset = data.from_arrays("made", **patterns(classes=26, train=13, test=1, shape=shape))
    found = data.split(dataset, RunConfig(train_images=52))
    assert found.classes == 26
    assert found.shape == ((1, *shape) if len(shape) == 2 else shape)
    assert torch.bincount(found.train.labels).tolist() == [2] * 26
    assert data.scale(found.train.images).shape == (52, *found.shape)


def test_the_sample_gives_what_it_has_when_asked_for_more(sample: data.Dataset) -> None:
    asked = RunConfig(train_images=50_000, validation_images=5_000, test_images=10_000)
    found = data.split(sample, asked)
    parts = (found.train, found.validation, found.test, found.population)
    assert [len(part) for part in parts] == [7330, 670, 2000, 7330]


# Scaling, order, batches --------------------------------------------------------------


def test_scale_is_torchvisions_to_tensor(sample: data.Dataset) -> None:
    few = sample.train_images[:20]
    theirs = torchvision.transforms.ToTensor()
    expected = torch.stack([theirs(image.numpy()) for image in few])
    assert torch.equal(data.scale(few), expected)


def test_scale_leaves_the_bytes_as_they_are(sample: data.Dataset) -> None:
    few = sample.train_images[:5].clone()
    data.scale(few)
    assert torch.equal(few, sample.train_images[:5])


@given(st.integers(1, 300), st.integers(0, 2**32))
@settings(deadline=None, max_examples=25, derandomize=True)
def test_an_order_has_each_image_once_and_is_the_seeds(n: int, seed: int) -> None:
    first, again = (data.epoch_order(np.random.default_rng(seed), n) for _ in range(2))
    assert sorted(first.tolist()) == list(range(n))
    assert torch.equal(first, again)
    assert first.dtype == torch.int64


def test_the_next_epoch_has_another_order() -> None:
    rng = np.random.default_rng(0)
    first, second = data.epoch_order(rng, 100), data.epoch_order(rng, 100)
    assert not torch.equal(first, second)


def test_fresh_batch_mates_are_drawn_anew_each_epoch():
    orders = data.epoch_orders(np.random.default_rng(3), 103, RunConfig(batch_size=10))
    rng = np.random.default_rng(3)
    for _ in range(3):
        assert torch.equal(next(orders), data.epoch_order(rng, 103))


def test_fixed_batch_mates_meet_again_in_every_epoch_but_batches_change_places():
    config = RunConfig(batch_size=10, batch_mates="fixed")
    orders = data.epoch_orders(np.random.default_rng(3), 103, config)
    epochs = [next(orders) for _ in range(4)]
    blocks = [
        [frozenset(order[i : i + 10].tolist()) for i in range(0, 103, 10)] for order in epochs
    ]
    assert all(set(each) == set(blocks[0]) for each in blocks)
    assert len({tuple(each) for each in blocks}) == 4
    assert {each[-1] for each in blocks} == {blocks[0][-1]}  # the partial one stays last
    assert torch.equal(epochs[0], next(data.epoch_orders(np.random.default_rng(3), 103, config)))


@pytest.mark.parametrize(
    ("n", "size", "expected"),
    [
        (7, 3, [slice(0, 3), slice(3, 6), slice(6, 7)]),
        (6, 3, [slice(0, 3), slice(3, 6)]),
        (2, 3, [slice(0, 2)]),
        (0, 3, []),
    ],
)
def test_batches_keep_the_partial_last_one(n: int, size: int, expected: list[slice]) -> None:
    assert data.batches(n, size) == expected


@pytest.mark.parametrize(
    ("steps", "per_epoch", "expected"),
    [
        (235, 5, [47, 94, 141, 188, 235]),
        (43, 5, [9, 18, 26, 35, 43]),
        (3, 5, [1, 2, 3]),
        (1, 5, [1]),
        (10, 1, [10]),
    ],
)
def test_evaluations_are_spread_evenly_and_the_last_ends_the_epoch(
    steps: int, per_epoch: int, expected: list[int]
) -> None:
    assert data.evaluation_steps(steps, per_epoch) == expected
