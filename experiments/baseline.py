"""Baseline arms that most experiments share: the notes' settings with and without BN.

They are trained once, with the probes of every experiment that reads them: ``landscape``,
``collapse`` and ``batch-noise``.  Probes do not change a run.
"""

from typing import Any

from bnstudy.config import RunConfig
from bnstudy.plan import Arm, Profile

from .common import notes_for_steps

# epochs in which the loss along the gradient is measured, and how often in each
LANDSCAPE_EPOCHS = {"tiny": 1, "quick": 2, "standard": 5, "full": 10}
LANDSCAPE_PER_EPOCH = {"tiny": 2, "quick": 1, "standard": 2, "full": 4}
EARLY = (*(k / 20 for k in range(11)), 0.6, 0.7, 0.8, 0.9)  # while losses fall fast
LANDSCAPE = {"images": 256, "points": 5}

GEOMETRY_EPOCHS = {"tiny": 1, "quick": 1, "standard": 2, "full": 5}
GEOMETRY_MOMENTS = (0, 0.1, 0.25, 0.5, 0.75, 1.0)
GEOMETRY_LAYERS = ("act1", "act2", "act3", "act4")

NOISE_EPOCHS = {"tiny": 1, "quick": 1, "standard": 2, "full": 10}  # at 0, and after these
NOISE_BATCHES = {"tiny": 4, "quick": 8, "standard": 16, "full": 256}
NOISE_SIZES = {"quick": {"sizes": [4, 16, 64, 256]}}  # larger ones take most of the time


def baseline_config(profile: Profile) -> RunConfig:
    """Return the settings of the baseline arms: two epochs in a first look."""
    config = notes_for_steps(profile)
    return config.replace(epochs=2) if profile.name == "quick" else config


def baseline_arm(profile: Profile, norm: str, label: str) -> Arm:
    """Return the arm without normalization (``none``) or with it (``bn``)."""
    probes = {**landscape_probes(profile), **geometry_probe(profile)}
    if norm == "bn":
        probes["batch-noise"] = {
            "epochs": [0, NOISE_EPOCHS[profile.name]],
            "batches": NOISE_BATCHES[profile.name],
            **NOISE_SIZES.get(profile.name, {}),
        }
    return Arm(norm, baseline_config(profile).replace(norm=norm), label, probes=probes)


def landscape_probes(profile: Profile) -> dict[str, dict[str, Any]]:
    """Return the probes of gradients and of the loss along them, often at first."""
    per_epoch = LANDSCAPE_PER_EPOCH[profile.name]
    regular = {k / per_epoch for k in range(per_epoch * LANDSCAPE_EPOCHS[profile.name])}
    # In a first look the early moments would cost more than its forty steps.
    moments = sorted(regular.union(EARLY if profile.judges else ()))
    return {
        "gradient-shift": {"epochs": moments},
        "landscape": {"epochs": moments, **LANDSCAPE},
    }


def geometry_probe(profile: Profile) -> dict[str, dict[str, Any]]:
    """Return the probe of the similarity of a layer's outputs for different images."""
    later = range(2, GEOMETRY_EPOCHS[profile.name] + 1)
    return {
        "geometry": {"epochs": [*GEOMETRY_MOMENTS, *later], "layers": list(GEOMETRY_LAYERS)},
    }
