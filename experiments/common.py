"""What the experiments share: the notes' settings at each size, and who registers claims."""

from bnstudy.config import RunConfig
from bnstudy.plan.claim import Pilot
from bnstudy.plan.plan import Profile

NOTES_RATE = 0.9
FINE = 20  # evaluations an epoch where steps to a target are read: every 11 steps of 256
SIZES: dict[str, dict[str, int]] = {
    "tiny": {
        "train_images": 600,
        "validation_images": 200,
        "test_images": 200,
        "population_images": 200,
        "epochs": 1,
        "batch_size": 64,
    },
    "quick": {
        "train_images": 10_240,  # 40 whole batches
        "validation_images": 500,
        "test_images": 1_000,
        "population_images": 500,
        "epochs": 1,
    },
    "standard": {},
    "full": {},
}


# Part of what they could be, for the time they take.  All seeds and arms are read on the same
# images, so fewer of them shift a target rather than blur it.
VALIDATION = 1_000
STANDARD = {"validation_images": VALIDATION, "population_images": 5_000}


def notes(profile: Profile, **changes: object) -> RunConfig:
    """Return the notes' settings, on part of the images below the standard size.

    ``changes`` hold at the standard size and above; below, the size decides about
    images, epochs and batches.
    """
    usual = STANDARD if profile.name == "standard" else {}
    return RunConfig().replace(**{**usual, **changes, **SIZES[profile.name]})


def fine(profile: Profile, **changes: object) -> RunConfig:
    """Return the notes' settings where a claim reads steps: often, on a fifth of the images."""
    often = FINE if registers(profile) else RunConfig().evaluations_per_epoch
    return notes(profile, evaluations_per_epoch=often, validation_images=VALIDATION, **changes)


def headline(profile: Profile) -> RunConfig:
    """Return the settings of the arms that most pages show: in a first look of two epochs."""
    whole = fine(profile)
    return whole.replace(epochs=2) if profile.name == "quick" else whole


REGISTERING = ("standard", "full")


def registers(profile: Profile) -> bool:
    """Return whether claims are registered: a first look on part of the images decides none."""
    return profile.name in REGISTERING


def pilot(effect: float, spread: float, censored: float = 0.0) -> Pilot:
    """Return what the pilot seeds gave, which no plan uses: ``bnstudy plan pilot`` prints it."""
    return Pilot(effect, spread, tuple(range(1_000, 1_016)), censored)
