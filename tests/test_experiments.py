"""Experiments: every registered claim and exhibit can be computed from its arms' runs."""

import math
import re
import sys

import numpy as np
import pandas as pd
import pytest

from bnstudy.config import Step
from bnstudy.data.splits import evaluation_steps
from bnstudy.engines.run_record import CURVE_COLUMNS
from bnstudy.experiments import EXPERIMENTS
from bnstudy.judging.measures import Run, read
from bnstudy.judging.premises import estimands_of
from bnstudy.plan import PROFILES
from tests.identities import FASHION

PER_EPOCH = 240  # optimizer steps, enough for forty evaluations
OF_PROBES = ("drift", "layer-ratio", "probe", "probe-at-loss")  # measures that read probes


def registered():
    for profile in ("standard", "full"):
        for experiment in EXPERIMENTS.values():
            arms = {arm.name: arm for arm in experiment.arms(PROFILES[profile])}
            for claim in experiment.registered(PROFILES[profile]):
                versions = {"as registered": claim}
                versions |= {variant.label: claim.varied(variant) for variant in claim.robustness}
                read_by = {label: [version.estimand] for label, version in versions.items()}
                read_by |= {
                    f"premise {number}, {premise.kind}": estimands_of(premise)
                    for number, premise in enumerate(claim.premises)
                }
                for label, estimands in read_by.items():
                    yield pytest.param(estimands, arms, id=f"{profile}-{claim.id}-{label}")


def curve_of(config):
    """Return the curve that a trainer would write, with 0.5 for every number."""
    points = evaluation_steps(PER_EPOCH, config.evaluations_per_epoch)
    steps = [epoch * PER_EPOCH + point for epoch in range(config.epochs) for point in points]
    frame = pd.DataFrame({column: np.full(len(steps), 0.5) for column in CURVE_COLUMNS})
    frame["step"] = steps
    tested = [config.tests_at(Step(step, PER_EPOCH)) for step in steps]
    for column in (name for name in CURVE_COLUMNS if name.startswith("test")):
        frame[column] = np.where(tested, 0.5, math.nan)
    if config.train_split == "all":
        frame["validation_accuracy"] = math.nan
    return frame


def reads(measure, options, arm):
    """Return True if a run of an arm will hold what a measure reads."""
    if measure in OF_PROBES:
        probe = arm.probes[options.get("probe", "activations")]
        if "start" in options or "end" in options:
            moments = probe["epochs"]
            start, end = options.get("start", 0.0), options.get("end", math.inf)
            return any(start <= moment <= end for moment in moments)
        return bool(probe)
    empty = pd.DataFrame()
    run = Run(arm.config, False, PER_EPOCH, curve_of(arm.config), empty, empty, FASHION)
    return math.isfinite(read(run, measure, options).value)


@pytest.mark.parametrize(("estimands", "arms"), list(registered()))
def test_a_claim_and_its_premises_read_what_the_runs_will_hold(estimands, arms):
    for estimand in estimands:
        for position, group in enumerate(estimand.arms):
            for name in group:
                assert reads(estimand.measure, estimand.options_of(position), arms[name])
                if estimand.against:
                    assert reads(estimand.against, estimand.against_options, arms[name])


PREMISES = {
    "dropout-interaction": ("trained", {"bn+dropout", "bn", "none+dropout", "none"}),
    "no-need-for-dropout": ("effect-there", {"none+dropout", "none"}),
    "noise-regularizes": ("equal-fit", {"ghost-8", "ghost-32", "ghost-128", "bn"}),
    "noise-free": ("equal-fit", {"bn", "population"}),
    "variance-shift-rescue": ("no-effect-there", {"after/p=0.5"}),
    "same-accuracy": ("flat", {"bn/relu", "none/relu"}),
    "drift": ("trained", {"bn", "none"}),
    "gradient-balance": ("trained", {"bn", "none"}),
    "ics-gradient": ("trained", {"bn", "none"}),
    "ics-cosine": ("trained", {"bn", "none"}),
}


@pytest.mark.parametrize("profile", ["standard", "full"])
def test_a_comparison_that_can_mean_nothing_has_its_premise(profile):
    claims = {
        claim.id: claim
        for experiment in EXPERIMENTS.values()
        for claim in experiment.registered(PROFILES[profile])
    }
    for name, (kind, arms) in PREMISES.items():
        premises = claims[name].premises
        assert {premise.kind for premise in premises} == {kind}
        assert {arm for premise in premises for arm in premise.arm_names} == arms
    rates = claims["lr-range"]
    (premise,) = rates.premises
    assert premise.estimand == rates.estimand


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=lambda each: each.name)
def test_every_exhibit_of_a_profile_names_arms_that_the_profile_has(experiment, profile):
    arms = {arm.name for arm in experiment.arms(profile)}
    for exhibit in experiment.exhibits:
        if exhibit.profiles and profile.name not in exhibit.profiles:
            continue
        options = exhibit.options
        named = {*(options.get("arms") or ()), options.get("baseline"), options.get("arm")} - {None}
        assert named <= arms, exhibit.kind


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_cost_that_an_experiment_states_is_that_of_its_arms(name):
    experiment = EXPERIMENTS[name]
    text = sys.modules[experiment.arms.__module__].__doc__
    stated = re.search(r"^Cost: ([\d.]+) M image-passes", text, re.MULTILINE)
    images = {"all": 60_000, "train": 55_000}
    passes = sum(
        (arm.config.train_images or images[arm.config.train_split])
        * arm.config.epochs
        * min(16, arm.seeds or 16)
        for arm in experiment.arms(PROFILES["standard"])
    )
    assert float(stated.group(1)) == pytest.approx(passes / 1e6, abs=0.06)
