"""Settings, estimands, premises and robustness checks that several experiments share."""

from bnstudy.config import RunConfig
from bnstudy.plan import PROFILES, Estimand, Option, Pilot, Premise, Profile, Variant

NOTES_RATE = 0.9
FREQUENT = 20  # evaluations per epoch where steps to a target are read: every 11 steps of 256
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
        "train_images": 10_240,  # 40 full batches
        "validation_images": 500,
        "test_images": 1_000,
        "population_images": 500,
        "epochs": 1,
    },
    "standard": {},
    "full": {},
}

# Fewer images than there are, to save time.  All seeds and arms are evaluated on the same
# images, so a smaller number shifts when a target is reached rather than blurring it.
VALIDATION = 1_000
STANDARD = {"validation_images": VALIDATION, "population_images": 5_000}

# For exhibits of arms that only studies with claims train.
JUDGING = tuple(name for name, profile in PROFILES.items() if profile.judges)

# Robustness checks
T_TEST = Variant("t test", test="t")
SIGN_TEST = Variant("sign test", test="sign")
RUNNING = Variant("with running averages", {"statistics": "running"})


def at_target(percent: int) -> Variant:
    """Return the robustness check with another target accuracy, in per cent."""
    return Variant(f"target {percent}%", {"target": percent / 100})


def notes(profile: Profile, **changes: object) -> RunConfig:
    """Return the notes' settings, on part of the images below the standard size.

    ``changes`` hold at the standard size and above.  Below it the size of the
    profile decides images, epochs and batches.
    """
    usual = STANDARD if profile.name == "standard" else {}
    return RunConfig().replace(**{**usual, **changes, **SIZES[profile.name]})


def notes_for_steps(profile: Profile, **changes: object) -> RunConfig:
    """Return the notes' settings where a claim reads steps to a target: evaluated often."""
    often = FREQUENT if profile.judges else RunConfig().evaluations_per_epoch
    # On a fifth of the validation images, so that frequent evaluations cost little.
    return notes(profile, evaluations_per_epoch=often, validation_images=VALIDATION, **changes)


def equally_spaced(end: float, count: int) -> list[float]:
    """Return moments of probes, in epochs done: from the start to ``end``, both included."""
    return [end * k / (count - 1) for k in range(count)]


def groups(*arms: str) -> tuple[tuple[str, ...], ...]:
    """Return each arm as a group of its own, as an :class:`Estimand` takes them."""
    return tuple((arm,) for arm in arms)


def accuracy(*arms: str, epochs: int, **options: Option) -> Estimand:
    """Return the difference of test accuracy between arms after some epochs."""
    return Estimand("accuracy", groups(*arms), {"epochs": epochs, **options})


def trained(*arms: str, epochs: float = 0.0) -> Premise:
    """Return the premise that arms have learned within some epochs (0: all that they train)."""
    return Premise("trained", groups(*arms), {"epochs": epochs})


def steps_ratio(first: str, second: str, target: float, epochs: int, **options: Option) -> Estimand:
    """Return the ratio of two arms' steps to a target accuracy, within some epochs."""
    options = {"target": target, "epochs": epochs, **options}
    return Estimand("steps-to-target", groups(first, second), options, scale="ratio")


def pilot(effect: float, spread: float, censored: float = 0.0, arms: str = "") -> Pilot:
    """Return an estimate from the 16 pilot seeds; ``bnstudy plan pilot`` prints its numbers."""
    return Pilot(effect, spread, tuple(range(1_000, 1_016)), censored, arms)
