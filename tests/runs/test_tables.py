"""Tables of a study: every planned run, in order, and refused if the arms are no pairs."""

import dataclasses
import shutil

import numpy as np
import pytest

from bnstudy.engines.run_record import CURVE_COLUMNS, NORM_COLUMNS
from bnstudy.errors import StoreError
from bnstudy.runs.store import Store, identify
from bnstudy.runs.tables import read_tables
from tests.runs.records import DATA, plan, record


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "study")


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
    tables = read_tables(store, planned)
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
    tables = read_tables(store, plan())
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
        read_tables(store, planned)
