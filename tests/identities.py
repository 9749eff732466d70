"""Identities of images that nobody loads, for tests of plans, stores and reports."""

from dataclasses import replace

from bnstudy.data import DataIdentity
from bnstudy.data.known import KNOWN

FASHION = DataIdentity(
    name="fashion-mnist",
    digest="ab" * 32,
    classes=KNOWN["fashion-mnist"].classes,
    shape=(1, 28, 28),
    train_images=55_000,
    validation_images=5_000,
    test_images=10_000,
)
SAMPLE = replace(
    FASHION,
    train_images=7_330,
    validation_images=670,
    test_images=2_000,
    sample="bundled sample",
)
PETS = DataIdentity(
    name="pets",
    digest="cd" * 32,
    classes=("cat", "dog", "bird & <bee>", "cow"),
    shape=(3, 32, 32),
    train_images=55,
    validation_images=5,
    test_images=40,
)
