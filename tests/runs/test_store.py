"""The store: ids, whole writes, damage noticed, plans kept, tables."""

import dataclasses
import json
import multiprocessing
import os
import shutil
from io import BytesIO

import numpy as np
import pandas as pd
import pytest

from bnstudy.config import RunConfig, canonical_json, digest
from bnstudy.engines.record import CURVE_COLUMNS, NORM_COLUMNS, Record
from bnstudy.errors import DamagedRunError, PlanMismatchError, StoreError
from bnstudy.plan import Arm, DataIdentity, Experiment, PlannedRun, Profile, make_plan
from bnstudy.runs.store import Store, folder_name, identify, parquet_bytes, write_whole
from tests.synthetic.examples import claim

DATA = DataIdentity("fashion-mnist", "d" * 64, sample=False)
HOSTILE = ["bn/b=8", "../up", "<script>", "a|b`c`", "批量归一化", ".", "x" * 300, "CON", "%2F"]


def record(status="done", steps=10, weights="w", order="o") -> Record:
    curve = pd.DataFrame({name: np.linspace(0, 1, 2) for name in CURVE_COLUMNS})
    curve["step"], curve["images"] = [5, 10], [500, 1000]
    curve.loc[0, "test_accuracy"] = np.nan
    norms = pd.DataFrame([("norm1", 0, 1.0, 0.0, 0.5, np.nan)], columns=list(NORM_COLUMNS))
    return Record(status, steps, 5, curve, norms, weights, order, 1.5, 2.0)


def plan(arms=("none", "bn"), seeds=2, targets=(0.7,), profile_name="quick", data=DATA, **changes):
    made = tuple(Arm(arm, RunConfig(norm=arm, **changes)) for arm in arms)
    experiment = Experiment("speed", "T", "Q", "L", "D", "S", lambda profile: made, targets)
    profile = Profile(profile_name, seeds, "")
    return make_plan((experiment,), profile, data)


def key(arm="bn", seed=0, **changes):
    return identify(PlannedRun("speed", Arm(arm, RunConfig(norm="bn", **changes)), seed), "d" * 64)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "study")


@pytest.fixture
def written(store) -> tuple[Store, object]:
    run = key()
    store.write(run, record(), {"engine": "reference", "git": {"dirty": None}})
    return store, run


# Ids ------------------------------------------------------------------------------------


def test_whatever_decides_a_result_is_in_the_id(monkeypatch):
    base = key().id
    assert key(learning_rate=0.1).id != base
    assert key(seed=1).id != base
    assert identify(key().run, "e" * 64).id != base
    monkeypatch.setattr("bnstudy.runs.store.code_digest", lambda: "other")
    assert key().id != base


def test_the_id_ignores_name_experiment_and_spelling():
    run = PlannedRun("other", Arm("renamed", RunConfig(norm="bn", learning_rate=0.9)), 0)
    assert identify(run, "d" * 64).id == key().id
    assert key(learning_rate=1).id == key(learning_rate=1.0).id


# Whole and damaged ----------------------------------------------------------------------


@pytest.mark.parametrize("status", ["done", "diverged"])
def test_a_run_that_is_written_is_finished(store, status):
    store.write(key(), record(status), {})
    assert store.status(key()) == status
    assert store.status(key(seed=1)) == "missing"


def test_seed_zero_is_written_and_found(written):
    store, run = written
    assert store.folder(run).name.startswith("seed=000-")


def test_nothing_counts_before_result_json_is_there(written):
    store, run = written
    (store.folder(run) / "result.json").unlink()
    assert store.status(run) == "missing"


def test_no_scratch_file_stays_and_a_failed_write_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "x"
    write_whole(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def edit_status(path):
    path.write_text(path.read_text().replace('"done"', '"diverged"'))


@pytest.mark.parametrize(
    ("name", "damage", "fault"),
    [
        ("curve.parquet", cut, "was cut or edited"),
        ("norms.parquet", lambda path: path.unlink(), "is missing"),
        ("provenance.json", lambda path: path.write_text('{"a":1}'), "was cut or edited"),
        ("result.json", edit_status, "was edited"),
        ("result.json", cut, "cannot be read"),
        ("result.json", lambda path: path.write_text("[]"), "was edited"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(store, name, damage, fault):
    planned = plan(("bn",), seeds=1)
    run = identify(planned.runs[0], DATA.digest)
    store.write(run, record(), {})
    damage(store.folder(run) / name)
    assert store.status(run) == "damaged"
    with pytest.raises(DamagedRunError) as refusal:
        store.tables(planned)
    message = str(refusal.value)
    assert f"{name} {fault}: run the study again" in message
    assert str(store.root.parent) not in message
    assert "\n" not in message


def test_a_result_copied_to_another_run_is_noticed(written):
    store, run = written
    other = key(seed=1)
    shutil.copytree(store.folder(run), store._own_folder(other))
    assert store.status(other) == "damaged"


def test_a_damaged_run_is_set_aside_whole(written):
    store, run = written
    cut(store.folder(run) / "curve.parquet")
    aside = store.set_aside(run)
    assert (aside / "result.json").exists()
    assert store.status(run) == "missing"
    store.write(run, record(), {})
    assert store.status(run) == "done"
    cut(store.folder(run) / "curve.parquet")
    assert store.set_aside(run).name.endswith(".damaged-2")


def test_json_never_holds_nan(store):
    with pytest.raises(ValueError, match="finite"):
        store.write(key(), record(), {"images_per_second": float("nan")})


def test_a_table_has_the_same_bytes_each_time_and_nan_is_null():
    frame = record().curve
    assert parquet_bytes(frame) == parquet_bytes(frame.copy())
    back = pd.read_parquet(BytesIO(parquet_bytes(frame)))
    pd.testing.assert_frame_equal(back, frame)


@pytest.mark.parametrize("name", HOSTILE)
def test_any_arm_name_has_a_folder_of_its_own_below_the_store(store, name):
    run = identify(PlannedRun("speed", Arm(name, RunConfig()), 0), "d" * 64)
    folder = store.write(run, record(), {})
    assert folder.parent.parent == store.root / "speed"
    assert store.status(run) == "done"


def test_different_names_have_different_folders():
    names = [*HOSTILE, "bn", "bn/b=80", "x" * 301]
    assert len({folder_name(name) for name in names}) == len(names)


def test_a_store_can_be_moved(written, tmp_path):
    store, run = written
    moved = Store(tmp_path / "elsewhere" / "study")
    moved.root.parent.mkdir()
    store.root.rename(moved.root)
    assert moved.status(run) == "done"


def test_a_run_is_found_under_the_experiment_that_trained_it(written):
    store, run = written
    shared = identify(PlannedRun("other", run.run.arm, 0), "d" * 64)
    assert store.folder(shared) == store.folder(run)
    assert store.status(shared) == "done"


# Claims ---------------------------------------------------------------------------------


def hold(root, run, taken, release):
    with Store(root).claim(run) as mine:
        taken.put(mine)
        release.get()


def test_a_claim_excludes_other_processes_and_dies_with_its_own(store):
    context = multiprocessing.get_context("fork")
    taken, release = context.SimpleQueue(), context.SimpleQueue()
    process = context.Process(target=hold, args=(store.root, key(), taken, release))
    process.start()
    assert taken.get() is True
    with store.claim(key()) as mine:
        assert mine is False
    with store.claim(key(seed=1)) as mine:
        assert mine is True
    process.kill()
    process.join()
    with store.claim(key()) as mine:
        assert mine is True


# Plans ----------------------------------------------------------------------------------


def test_the_plan_is_stored_with_its_hash(store):
    store.freeze(plan())
    stored = json.loads((store.root / "plan.json").read_text())
    assert stored["sha256"] == digest(stored["plan"])
    assert stored["plan"] == json.loads(canonical_json(plan().canonical()))


def test_the_same_plan_again_changes_nothing(store):
    store.freeze(plan())
    before = (store.root / "plan.json").stat()
    store.freeze(plan())
    assert (store.root / "plan.json").stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize(
    ("other", "part"),
    [
        ({"seeds": 3}, "other seeds (2 seeds, not 3 seeds)"),
        ({"profile_name": "full"}, "other profile (quick, not full)"),
        ({"data": dataclasses.replace(DATA, digest="e" * 64)}, "other data (dddddddd, not eeee"),
        ({"arms": ("none",)}, "other arms of experiment 'speed'"),
        ({"targets": (0.8,)}, "other targets of experiment 'speed'"),
        ({"learning_rate": 0.1}, "other arms of experiment 'speed'"),
    ],
)
def test_a_plan_that_contradicts_the_stored_one_is_refused(store, other, part):
    store.freeze(plan())
    with pytest.raises(PlanMismatchError) as refusal:
        store.freeze(plan(**other))
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
    store.freeze(first)
    store.freeze(second)
    assert [each["name"] for each in store.stored_plan()["experiments"]] == ["noise", "speed"]
    store.freeze(first)
    assert len(store.stored_plan()["experiments"]) == 2


def claimed(*claims):
    bare = plan()
    return dataclasses.replace(
        bare, experiments=(dataclasses.replace(bare.experiments[0], claims=claims),)
    )


def test_claims_can_be_rewritten_until_the_first_run(store):
    store.freeze(claimed(claim("early")))
    store.freeze(claimed(claim("late"), claim("more")))
    assert list(store.stored_plan()["experiments"][0]["claims"]) == ["late", "more"]


@pytest.mark.parametrize("first", [(), (claim(centre=2.0),)])
@pytest.mark.parametrize("later", [(), (claim(),), (claim("late"),)])
def test_claims_stay_as_they_were_stored_once_there_are_runs(store, first, later):
    store.freeze(claimed(*first))
    store.write(key(), record(), {})
    before = store.stored_plan()
    store.freeze(claimed(*later))
    assert store.stored_plan() == before


@pytest.mark.parametrize("damage", [cut, lambda path: path.write_text('{"plan": {}}')])
def test_a_damaged_plan_is_named_in_one_line(store, damage):
    store.freeze(plan())
    damage(store.root / "plan.json")
    with pytest.raises(StoreError, match=r"study/plan\.json was cut or edited"):
        store.freeze(plan())


# Tables ---------------------------------------------------------------------------------


def fill(store, planned, **changes):
    for run in planned.runs:
        made = record(weights=f"w{run.seed}", order=f"o{run.seed}")
        store.write(
            identify(run, DATA.digest), dataclasses.replace(made, **changes), {"machine": {"a": 1}}
        )


def test_tables_hold_every_planned_run_in_the_order_of_the_plan(store):
    planned = plan()
    fill(store, planned)
    shutil.rmtree(store.folder(identify(planned.runs[1], DATA.digest)))
    tables = store.tables(planned)
    assert tables.runs[["arm", "seed", "status"]].to_numpy().tolist() == [
        ["none", 0, "done"],
        ["bn", 0, "missing"],
        ["none", 1, "done"],
        ["bn", 1, "done"],
    ]
    assert tables.runs["machine.a"].tolist()[0] == 1
    assert len(tables.curves) == 3 * 2
    assert list(tables.curves.columns) == ["experiment", "arm", "seed", *CURVE_COLUMNS]
    assert np.isnan(tables.curves["test_accuracy"].iloc[0])


def test_tables_of_an_empty_store_have_their_columns(store):
    tables = store.tables(plan())
    assert (tables.runs["status"] == "missing").all()
    assert list(tables.norms.columns) == ["experiment", "arm", "seed", *NORM_COLUMNS]
    assert len(tables.curves) == 0


@pytest.mark.parametrize(
    ("digests", "what"),
    [(("weights_digest", "x"), "initial weights"), (("order_digest", "x"), "order of images")],
)
def test_arms_that_are_no_pairs_are_refused(store, digests, what):
    planned = plan(seeds=1)
    fill(store, planned)
    run = identify(planned.runs[1], DATA.digest)
    shutil.rmtree(store.folder(run))
    fields = {"weights_digest": "w0", "order_digest": "o0"} | dict([digests])
    store.write(run, dataclasses.replace(record(), **fields), {})
    with pytest.raises(StoreError, match=f"the arms of seed 0 must share their {what}"):
        store.tables(planned)
