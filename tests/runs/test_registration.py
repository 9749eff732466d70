"""Registration: the stored plan is kept, and one that contradicts it is refused."""

import dataclasses
import json

import pytest

from bnstudy.config import canonical_json, digest
from bnstudy.errors import PlanMismatchError, StoreError
from bnstudy.runs.registration import freeze, stored_plan
from bnstudy.runs.store import Store
from tests.runs.records import DATA, cut, key, plan, record
from tests.synthetic.examples import claim


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "study")


def test_the_plan_is_stored_with_its_hash(store):
    freeze(store.root, plan())
    stored = json.loads((store.root / "plan.json").read_text())
    assert stored["sha256"] == digest(stored["plan"])
    assert stored["plan"] == json.loads(canonical_json(plan().canonical()))


def test_the_same_plan_again_changes_nothing(store):
    freeze(store.root, plan())
    before = (store.root / "plan.json").stat()
    freeze(store.root, plan())
    assert (store.root / "plan.json").stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize(
    ("other", "part"),
    [
        ({"seeds": 3}, "other seeds (0 to 1, not 0 to 2)"),
        ({"profile_name": "full"}, "other profile (quick, not full)"),
        ({"data": dataclasses.replace(DATA, digest="e" * 64)}, "other data (dddddddd, not eeee"),
        ({"arms": ("none",)}, "other arms of experiment 'speed'"),
        ({"targets": (0.8,)}, "other targets of experiment 'speed'"),
        ({"learning_rate": 0.1}, "other arms of experiment 'speed'"),
    ],
)
def test_a_plan_that_contradicts_the_stored_one_is_refused(store, other, part):
    freeze(store.root, plan())
    with pytest.raises(PlanMismatchError) as refusal:
        freeze(store.root, plan(**other))
    assert part in str(refusal.value)
    assert str(refusal.value).endswith("give the changed study another name with --study")


def test_experiments_can_be_added_to_a_stored_plan(store):
    first = plan()
    second = dataclasses.replace(
        first,
        experiments=(
            dataclasses.replace(
                first.experiments[0],
                experiment=dataclasses.replace(first.experiments[0].experiment, name="noise"),
            ),
        ),
    )
    freeze(store.root, first)
    freeze(store.root, second)
    assert [each["name"] for each in stored_plan(store.root)["experiments"]] == ["noise", "speed"]
    freeze(store.root, first)
    assert len(stored_plan(store.root)["experiments"]) == 2


def claimed(*claims):
    bare = plan()
    return dataclasses.replace(
        bare, experiments=(dataclasses.replace(bare.experiments[0], claims=claims),)
    )


def test_claims_can_be_rewritten_until_the_first_run(store):
    freeze(store.root, claimed(claim("early")))
    freeze(store.root, claimed(claim("late"), claim("more")))
    assert list(stored_plan(store.root)["experiments"][0]["claims"]) == ["late", "more"]


@pytest.mark.parametrize("first", [(), (claim(centre=2.0),)])
@pytest.mark.parametrize("later", [(), (claim(),), (claim("late"),)])
def test_claims_stay_as_they_were_stored_once_there_are_runs(store, first, later):
    freeze(store.root, claimed(*first))
    store.write(key(), record(), {})
    before = stored_plan(store.root)
    freeze(store.root, claimed(*later))
    assert stored_plan(store.root) == before


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lambda path: path.write_text('{"plan": {}}'),
    ],
)
def test_a_damaged_plan_is_named_in_one_line(store, damage):
    freeze(store.root, plan())
    damage(store.root / "plan.json")
    with pytest.raises(StoreError, match=r"study/plan\.json was cut or edited"):
        freeze(store.root, plan())
