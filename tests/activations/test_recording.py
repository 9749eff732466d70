"""Tables, summaries and files of a recording (F34 to F36, F40)."""

import pandas as pd
import pytest

from bnstudy.activations import load
from bnstudy.errors import WatchError


def test_f34_the_wide_frame_holds_the_same_numbers(recording):
    wide, tidy = (
        recording.frame("std", tensor="out", wide=True),
        recording.frame("std", tensor="out"),
    )
    assert wide.columns.tolist() == ["0", "1", "2", "3"]
    assert wide.index.tolist() == [0, 2, 4, 6, 8]
    for row in tidy.itertuples():
        assert wide.loc[row.step, row.layer] == row.value


def test_f34_an_unknown_layer_or_statistic_is_refused_with_the_nearest(recording):
    with pytest.raises(
        WatchError, match="there is no recorded stat 'quantile': did you mean 'quantiles'"
    ):
        recording.frame("quantile")
    with pytest.raises(
        WatchError, match="there is no recorded layer '9': choose one of 0, 1, 2, 3"
    ):
        recording.frame(layer="9")


def test_f35_the_summary_is_that_of_each_series(recording):
    series = recording.frame("q50", layer="2", tensor="out")["value"]
    row = recording.summary().query("layer == '2' and stat == 'q50' and tensor == 'out'").iloc[0]
    assert row[["count", "first", "last", "min", "max"]].tolist() == [
        5, series.iloc[0], series.iloc[-1], series.min(), series.max(),
    ]  # fmt: skip


@pytest.mark.parametrize("ending", ["parquet", "csv", "json", "npz"])
def test_f36_a_recording_survives_a_file(recording, tmp_path, ending):
    path = tmp_path / f"run.{ending}"
    recording.save(path)
    back = load(path)
    assert back.info == recording.info
    plain = dict.fromkeys(("mode", "layer", "tensor", "stat"), "str")
    pd.testing.assert_frame_equal(back.rows.astype(plain), recording.rows.astype(plain), rtol=1e-14)
    assert back.frame("std", wide=True).shape == recording.frame("std", wide=True).shape
    assert back.bn.noise().equals(recording.bn.noise()) or ending != "parquet"


def test_f36_other_files_are_refused(recording, tmp_path):
    with pytest.raises(WatchError, match=r"\.npz file, got 'run.txt'"):
        recording.save(tmp_path / "run.txt")
    with pytest.raises(WatchError, match=r"there is no recording at 'none.csv'"):
        load(tmp_path / "none.csv")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(WatchError, match="holds no recording"):
        load(tmp_path / "bad.json")


def test_f40_the_tail_is_the_last_recorded_steps(recording):
    assert recording.tail(2)["step"].unique().tolist() == [6, 8]
