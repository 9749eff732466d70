"""The two arms that most experiments share: the notes' settings with and without BN.

They are trained once, and looked at on the way by every probe that looks at chosen moments:
``landscape``, ``collapse`` and ``batch-noise`` read what was seen.  Looking changes no run.
"""

from typing import Any

from bnstudy.plan.plan import Arm, Profile
from experiments.common import headline, registers

# epochs in which the loss is looked at, and how often in each
LANDSCAPE_EPOCHS = {"tiny": 1, "quick": 2, "standard": 5, "full": 10}
LANDSCAPE_LOOKS = {"tiny": 2, "quick": 1, "standard": 2, "full": 4}
EARLY = (*(k / 20 for k in range(11)), 0.6, 0.7, 0.8, 0.9)  # while losses fall fast
LANDSCAPE = {"images": 256, "points": 5}

GEOMETRY_EPOCHS = {"tiny": 1, "quick": 1, "standard": 2, "full": 5}
GEOMETRY_MOMENTS = (0, 0.1, 0.25, 0.5, 0.75, 1.0)
GEOMETRY_LAYERS = ("act1", "act2", "act3", "act4")

NOISE_EPOCHS = {"tiny": 1, "quick": 1, "standard": 2, "full": 10}  # at 0, and after these
NOISE_BATCHES = {"tiny": 4, "quick": 8, "standard": 16, "full": 256}
NOISE_SIZES = {"quick": {"sizes": [4, 16, 64, 256]}}  # larger ones take most of the time


def plain(profile: Profile, norm: str, label: str) -> Arm:
    """Return the arm without normalization (``none``) or with it (``bn``)."""
    probes = {**landscape(profile), **geometry(profile)}
    if norm == "bn":
        look = {"epochs": [0, NOISE_EPOCHS[profile.name]], "batches": NOISE_BATCHES[profile.name]}
        probes["batch-noise"] = {**look, **NOISE_SIZES.get(profile.name, {})}
    return Arm(norm, headline(profile).replace(norm=norm), label, probes=probes)


def landscape(profile: Profile) -> dict[str, dict[str, Any]]:
    """Return the probes of gradients and of the loss along them, often at first."""
    looks = LANDSCAPE_LOOKS[profile.name]
    later = {k / looks for k in range(looks * LANDSCAPE_EPOCHS[profile.name])}
    # in a first look the early ones would cost more than its forty steps
    moments = sorted(later.union(EARLY if registers(profile) else ()))
    return {
        "gradient-shift": {"epochs": moments},
        "landscape": {"epochs": moments, **LANDSCAPE},
    }


def geometry(profile: Profile) -> dict[str, dict[str, Any]]:
    """Return the probe of how alike a layer's outputs for different images are."""
    later = range(2, GEOMETRY_EPOCHS[profile.name] + 1)
    return {
        "geometry": {"epochs": [*GEOMETRY_MOMENTS, *later], "layers": list(GEOMETRY_LAYERS)},
    }
