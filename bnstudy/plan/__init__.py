"""Plan of a study, fixed before its first run: claims, arms, experiments and their size.

An experiment imports from here all that it is made of::

    from bnstudy.plan import Arm, Claim, Estimand, Exhibit, Experiment, Profile, Variant
"""

from bnstudy.data import DataIdentity
from bnstudy.plan.claim import Claim, Estimand, Option, Pilot, Variant
from bnstudy.plan.experiment import (
    FIRST_SEED,
    PILOT_SEED,
    PILOT_SEEDS,
    PROFILES,
    Arm,
    Exhibit,
    Experiment,
    Profile,
    find_profile,
)
from bnstudy.plan.plan import Plan, PlannedExperiment, PlannedRun, make_plan

__all__ = [
    "FIRST_SEED",
    "PILOT_SEED",
    "PILOT_SEEDS",
    "PROFILES",
    "Arm",
    "Claim",
    "DataIdentity",
    "Estimand",
    "Exhibit",
    "Experiment",
    "Option",
    "Pilot",
    "Plan",
    "PlannedExperiment",
    "PlannedRun",
    "Profile",
    "Variant",
    "find_profile",
    "make_plan",
]
