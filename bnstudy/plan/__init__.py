"""Plan of a study, fixed before its first run: claims with premises, arms, experiments, size.

An experiment imports from here all that it is made of::

    from bnstudy.plan import Arm, Claim, Estimand, Exhibit, Experiment, Premise, Profile, Variant
"""

from bnstudy.data import DataIdentity
from bnstudy.plan.claim import EXPLORED, FAMILIES, JUDGED_FAMILIES, Claim, Pilot, Variant
from bnstudy.plan.estimand import Estimand, Option
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
from bnstudy.plan.premise import Premise

__all__ = [
    "EXPLORED",
    "FAMILIES",
    "FIRST_SEED",
    "JUDGED_FAMILIES",
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
    "Premise",
    "Profile",
    "Variant",
    "find_profile",
    "make_plan",
]
