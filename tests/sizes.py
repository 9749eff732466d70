"""The small training that tests share: real images, few of them, two epochs."""

from bnstudy.config import RunConfig

SMALL = RunConfig(
    batch_size=50,
    epochs=2,
    train_images=230,
    validation_images=60,
    test_images=70,
    population_images=100,
)
