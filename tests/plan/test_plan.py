"""Plans: runs, refusals and hashes."""

import dataclasses
import json

import pytest

from bnstudy.config import RunConfig, canonical_json
from bnstudy.errors import ConfigError
from bnstudy.plan import PILOT_SEEDS, PROFILES, Arm, Experiment, Pilot, Plan, make_plan
from bnstudy.runs.registration import freeze, stored_plan
from bnstudy.runs.store import Store
from tests.identities import FASHION, PETS
from tests.synthetic.examples import STEPS, claim

DATA = FASHION


def experiment(name="speed", arms=("none", "bn"), targets=(0.7,)):
    made = tuple(Arm(arm, RunConfig(norm=arm.split("/")[0])) for arm in arms)
    return Experiment(name, "T", "Q", "L", "D", "S", arms=lambda profile: made, targets=targets)


def test_runs_go_seed_by_seed_so_that_a_cut_study_has_whole_pairs():
    plan = make_plan((experiment(),), PROFILES["tiny"], DATA)
    assert [(run.seed, run.arm.name) for run in plan.runs] == [
        (0, "none"),
        (0, "bn"),
        (1, "none"),
        (1, "bn"),
    ]


def few_seeds(count, claims=()):
    """Return an experiment whose arm ``none`` asks for a number of seeds."""
    made = (Arm("none", RunConfig(), seeds=count), Arm("bn", RunConfig(norm="bn")))
    return dataclasses.replace(experiment(), arms=lambda profile: made, claims=claims)


def test_an_arm_may_be_trained_with_the_first_seeds_alone():
    plan = make_plan((few_seeds(2),), PROFILES["tiny"], DATA, seeds=4, first_seed=1_000)
    pairs = [(run.seed, run.arm.name) for run in plan.runs]
    both = [(seed, arm) for seed in (1_000, 1_001) for arm in ("none", "bn")]
    assert pairs == [*both, (1_002, "bn"), (1_003, "bn")]
    few, all_ = plan.experiments[0].arms
    assert plan.seeds_of(few) == (1_000, 1_001)
    assert plan.seeds_of(all_) == plan.seeds
    assert len(make_plan((few_seeds(9),), PROFILES["tiny"], DATA, seeds=4).runs) == 8


def test_a_number_of_seeds_changes_the_plan_but_not_the_runs():
    plans = [make_plan((few_seeds(n),), PROFILES["tiny"], DATA, seeds=4) for n in (None, 2, 3)]
    assert len({plan.sha256 for plan in plans}) == 3
    whole = make_plan((experiment(),), PROFILES["tiny"], DATA, seeds=4)
    assert plans[0].sha256 == whole.sha256
    assert len({canonical_json(plan.runs[0].arm.canonical()) for plan in plans}) == 1


def test_a_claim_about_an_arm_of_few_seeds_is_refused():
    claims = (claim(estimand=STEPS),)
    with pytest.raises(ConfigError) as refusal:
        make_plan((few_seeds(2, claims),), PROFILES["standard"], DATA)
    assert str(refusal.value) == (
        "claim 'speed' needs all 16 seeds of its arms, but 'none' has 2: choose another arm, or "
        "give this one all seeds"
    )
    assert make_plan((few_seeds(16, claims),), PROFILES["standard"], DATA).claims


@pytest.mark.parametrize("seeds", [0, -2, True])
def test_a_plan_needs_a_seed(seeds):
    with pytest.raises(ConfigError) as refusal:
        make_plan((experiment(),), PROFILES["tiny"], DATA, seeds=seeds)
    assert str(refusal.value) == f"the number of seeds must be at least 1, got {seeds!r}"


def test_a_seed_stands_in_a_plan_once():
    plan = make_plan((experiment(),), PROFILES["tiny"], DATA)
    with pytest.raises(ConfigError) as refusal:
        dataclasses.replace(plan, seeds=(0, 1, 0))
    assert str(refusal.value) == "each seed may stand in a plan once, got [0, 1, 0]"
    with pytest.raises(ConfigError, match="a plan needs at least one seed"):
        dataclasses.replace(plan, seeds=())


def test_two_arms_of_one_name_are_refused():
    with pytest.raises(ConfigError) as refusal:
        make_plan((experiment(arms=("bn", "bn")),), PROFILES["tiny"], DATA)
    assert str(refusal.value) == "experiment 'speed' has two arms named 'bn': rename one"


def test_a_misspelled_normalization_is_refused_before_anything_runs():
    with pytest.raises(ConfigError) as refusal:
        make_plan((experiment(arms=("none", "gost:size=3")),), PROFILES["tiny"], DATA)
    assert str(refusal.value) == (
        "experiment 'speed', arm 'gost:size=3': there is no normalization 'gost': "
        "did you mean 'ghost'?"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": (0, 1, 2)},
        {"profile": "quick"},
        {"data": dataclasses.replace(DATA, sample="bundled sample")},
        {"data": dataclasses.replace(DATA, digest="1" * 64)},
    ],
)
def test_whatever_a_verdict_depends_on_changes_the_hash(change):
    plan = make_plan((experiment(),), PROFILES["tiny"], DATA)
    assert dataclasses.replace(plan, **change).sha256 != plan.sha256


def test_the_hash_is_that_of_the_stored_plan_in_whichever_order_of_experiments(tmp_path):
    pair = (experiment(), dataclasses.replace(experiment(), name="another"))
    plans = [make_plan(some, PROFILES["tiny"], DATA) for some in (pair, pair[::-1])]
    assert plans[0].sha256 == plans[1].sha256
    store = Store(tmp_path / "runs")
    freeze(store.root, plans[0])
    assert json.loads((store.root / "plan.json").read_text())["sha256"] == plans[0].sha256
    assert stored_plan(store.root) == json.loads(canonical_json(plans[1].canonical()))


def test_targets_and_arms_change_the_hash_and_words_do_not():
    def hashed(made: Experiment) -> str:
        plan: Plan = make_plan((made,), PROFILES["tiny"], DATA)
        return plan.sha256

    base = hashed(experiment())
    assert hashed(experiment(targets=(0.8,))) != base
    assert hashed(experiment(arms=("none", "scratch"))) != base
    assert hashed(dataclasses.replace(experiment(), title="Other", limits="words")) == base


def test_a_plan_holds_the_claims_of_its_experiments_for_the_profile():
    made = dataclasses.replace(
        experiment(), claims=lambda profile: (claim(f"speed-{profile.name}"),)
    )
    plan = make_plan((made,), PROFILES["full"], DATA)
    assert [each.id for each in plan.claims] == ["speed-full"]
    assert plan.canonical()["experiments"][0]["claims"] == {
        "speed-full": claim("speed-full").canonical()
    }


def test_a_claim_changes_the_hash_of_a_plan_and_its_absence_does_not():
    bare = make_plan((experiment(),), PROFILES["tiny"], DATA)
    hashes = {bare.sha256}
    for each in (claim(), claim(centre=2.0)):
        planned = dataclasses.replace(bare.experiments[0], claims=(each,))
        hashes.add(dataclasses.replace(bare, experiments=(planned,)).sha256)
    assert len(hashes) == 3
    assert "claims" not in bare.canonical()["experiments"][0]


def test_a_claim_stands_in_a_plan_once_and_names_arms_that_are_there():
    bare = make_plan((experiment(),), PROFILES["tiny"], DATA)
    for claims, message in (
        ((claim(), claim()), "a claim stands in a plan once, got 'speed' twice: rename one"),
        (
            (claim(estimand=dataclasses.replace(STEPS, arms=(("bm",), ("none",)))),),
            "there is no arm 'bm': choose one of none, bn",
        ),
    ):
        planned = dataclasses.replace(bare.experiments[0], claims=claims)
        with pytest.raises(ConfigError) as refusal:
            dataclasses.replace(bare, experiments=(planned,))
        assert str(refusal.value) == message


def test_a_plan_says_what_its_images_are():
    stored = make_plan((experiment(),), PROFILES["tiny"], PETS).canonical()["data"]
    assert stored == {
        "name": "pets",
        "digest": "cd" * 32,
        "sample": False,
        "classes": ["cat", "dog", "bird & <bee>", "cow"],
        "shape": [3, 32, 32],
        "images": {"train": 55, "validation": 5, "test": 40},
    }


def test_a_plan_says_where_arms_ask_for_more_images_than_there_are():
    config = RunConfig(train_images=60, validation_images=5, test_images=41)
    everything = config.replace(train_split="all")  # 60 are there, and no validation images
    arms = (Arm("held-out", config), Arm("all", everything))
    small = Experiment("small", "T", "Q", "L", "D", "S", arms=lambda profile: arms)
    plan = make_plan((small, experiment()), PROFILES["tiny"], PETS)
    assert plan.capped() == {"test_images": 40, "train_images": 55}
    first, second = plan.canonical()["experiments"]
    assert first["capped"] == {"test_images": 40, "train_images": 55}
    assert "capped" not in second


# Pilots -----------------------------------------------------------------------------------


def piloted(arms: str, learning_rate: float = 0.9) -> Experiment:
    """Return an experiment with a claim whose pilot was made with arms of this hash."""
    made = tuple(
        Arm(name, RunConfig(norm=name, learning_rate=learning_rate)) for name in ("none", "bn")
    )
    claims = (claim(estimand=STEPS, pilot=Pilot(-1.0, 0.1, (1000, 1001), arms=arms)),)
    return dataclasses.replace(experiment(), arms=lambda profile: made, claims=claims)


def test_a_pilot_of_other_arms_is_refused_in_one_line_but_not_a_new_pilot():
    standard = PROFILES["standard"]
    (planned,) = make_plan((piloted(""),), standard, DATA).experiments
    digest = planned.arms_digest(planned.claims[0])
    assert make_plan((piloted(digest),), standard, DATA).claims[0].pilot.arms == digest
    with pytest.raises(ConfigError) as refusal:
        make_plan((piloted(digest, learning_rate=0.1),), standard, DATA)
    message = str(refusal.value)
    assert message.startswith(f"pilot of claim 'speed' was made with other arms ({digest}, not ")
    assert message.endswith(
        "): run bnstudy run speed --pilot again, and register the line that bnstudy plan pilot "
        "speed prints"
    )
    assert make_plan(
        (piloted(digest, learning_rate=0.1),), standard, DATA, first_seed=PILOT_SEEDS[0]
    ).is_pilot


def test_a_pilot_without_a_hash_leaves_the_plan_as_it_was():
    plan = make_plan((piloted(""),), PROFILES["standard"], DATA)
    assert "arms" not in plan.canonical()["experiments"][0]["claims"]["speed"]["pilot"]


@pytest.mark.parametrize("arms", ["bn", "0123456789abc", "0123456789AB"])
def test_a_hash_of_arms_has_twelve_digits(arms):
    with pytest.raises(ConfigError) as refusal:
        Pilot(0.0, 1.0, (1000, 1001), arms=arms)
    assert str(refusal.value) == (
        f"the hash of a pilot's arms has 12 hex digits, got {arms!r}: paste the line that bnstudy "
        "plan pilot prints"
    )


@pytest.mark.parametrize(("first", "count"), [(995, 10), (1_995, 10), (0, 3_000)])
def test_seeds_of_pilots_and_others_are_not_mixed(first, count):
    with pytest.raises(ConfigError) as refusal:
        make_plan((experiment(),), PROFILES["tiny"], DATA, seeds=count, first_seed=first)
    assert str(refusal.value) == (
        f"seeds 1000 to 1999 are for pilots alone, got {first} to {first + count - 1}: take fewer "
        "seeds, or begin at 2000 or above"
    )
