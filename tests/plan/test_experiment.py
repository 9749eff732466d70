"""Profiles, arms and experiments: refusals, and who registers claims."""

import dataclasses

import pytest

from bnstudy.config import RunConfig
from bnstudy.errors import ConfigError
from bnstudy.plan import PROFILES, Arm, Experiment, find_profile
from tests.synthetic.examples import claim


def experiment(**changes) -> Experiment:
    """Return an experiment of one arm, unless changed."""
    texts = ("speed", "Title", "Question?", "Literature.", "Design.", "Limits.")
    made = Experiment(*texts, arms=lambda profile: (Arm("bn", RunConfig()),))
    return dataclasses.replace(made, **changes)


@pytest.mark.parametrize("name", ["", " bn", "bn\n", "bn\x00"])
def test_an_arm_needs_a_printable_name(name):
    with pytest.raises(ConfigError, match="an arm's name must be printable"):
        Arm(name, RunConfig())


@pytest.mark.parametrize("seeds", [0, -1, True, 2.0, "few"])
def test_an_arm_has_at_least_one_seed(seeds):
    with pytest.raises(ConfigError) as refusal:
        Arm("bn", RunConfig(), seeds=seeds)
    assert str(refusal.value) == (
        f"an arm is trained with a number of seeds of at least 1, got {seeds!r} for 'bn': leave "
        "it out for all seeds of the study"
    )


@pytest.mark.parametrize("name", ["Speed", "a b", "../up", ""])
def test_an_experiment_is_named_as_a_file(name):
    with pytest.raises(ConfigError, match="lower-case letters, digits and '-'"):
        experiment(name=name)


def test_a_target_is_an_accuracy_in_0_to_1_not_in_percent():
    with pytest.raises(ConfigError, match="between 0 and 1, got 80"):
        experiment(targets=(80,))


def test_unknown_words_name_the_likely_one():
    with pytest.raises(ConfigError) as refusal:
        find_profile("quik")
    assert str(refusal.value) == "there is no profile 'quik': did you mean 'quick'?"
    with pytest.raises(ConfigError) as refusal:
        find_profile("huge")
    assert str(refusal.value) == (
        "there is no profile 'huge': choose one of tiny, quick, standard, full"
    )


@pytest.mark.parametrize("claims", [(claim(),), lambda profile: (claim(),)])
def test_only_profiles_that_judge_register_claims(claims):
    registered = {
        name: experiment(claims=claims).registered(profile) for name, profile in PROFILES.items()
    }
    assert registered == {"tiny": (), "quick": (), "standard": (claim(),), "full": (claim(),)}


def test_claims_may_depend_on_the_profile():
    made = experiment(claims=lambda profile: (claim(f"speed-{profile.name}"),))
    assert [each.id for each in made.registered(PROFILES["full"])] == ["speed-full"]
