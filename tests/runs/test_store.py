"""The store: ids, whole writes, damage noticed, claims of processes."""

import multiprocessing
import os
import shutil
from io import BytesIO

import pandas as pd
import pytest

from bnstudy.config import RunConfig
from bnstudy.errors import DamagedRunError
from bnstudy.plan import Arm, PlannedRun
from bnstudy.runs.store import Store, folder_name, identify, parquet_bytes, write_whole
from bnstudy.runs.tables import read_tables
from tests.runs.records import DATA, cut, key, plan, record

HOSTILE = ["bn/b=8", "../up", "<script>", "a|b`c`", "批量归一化", ".", "x" * 300, "CON", "%2F"]


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
        read_tables(store, planned)
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
