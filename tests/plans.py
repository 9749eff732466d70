"""Plans of one small experiment, for tests of whatever runs or stores them."""

from bnstudy.config import RunConfig
from bnstudy.plan import Arm, DataIdentity, Experiment, Profile, make_plan

SMALL = RunConfig(
    batch_size=50,
    epochs=1,
    train_images=200,
    validation_images=50,
    test_images=50,
    population_images=50,
)
LONG = SMALL.replace(train_images=5_000, epochs=8)


def plan_of(dataset, config=SMALL, seeds=2, norms=("none", "bn")):
    """Return a plan of one experiment, ``speed``, with one arm per normalization."""
    arms = tuple(Arm(norm, config.replace(norm=norm)) for norm in norms)
    experiment = Experiment("speed", "T", "Q", "L", "D", "S", lambda profile: arms, (0.7,))
    return make_plan((experiment,), Profile("tiny", seeds, ""), DataIdentity.of(dataset))
