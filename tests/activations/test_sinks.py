"""Sinks of rows while training runs (F37)."""

from typing import ClassVar

import pandas as pd
import pytest

from bnstudy.activations import WatchWarning, sinks, watch
from bnstudy.activations.reading.measurements import COLUMNS
from tests.activations.nets import fc_net, labels, sgd, train, vectors


def test_f37_sinks_get_every_row_once_and_in_time(tmp_path):
    net, frames, logged = fc_net(), [], []

    class Writer:
        written: ClassVar[list] = []

        def add_scalar(self, tag, scalar_value, global_step):
            self.written.append((tag, scalar_value, global_step))

    def log(values, step):
        logged.append((step, values))

    optimizer = sgd(net)
    to = [
        frames.append,
        sinks.tensorboard(Writer()),
        sinks.logger(log),
        sinks.csv(tmp_path / "rows.csv"),
    ]
    with watch(net, optimizer, sinks=to, stats=["mean", "histogram"]) as run:
        train(net, optimizer, vectors(), labels(), steps=3)
        assert len(frames) == 3
    assert len(pd.concat(frames)) == len(run.recording().rows)
    rows = run.frame("mean", layer="0")
    assert [(t, v, s) for t, v, s in Writer.written if t == "0/out/mean"] == [
        ("0/out/mean", v, s) for v, s in zip(rows["value"], rows["step"], strict=True)
    ]
    assert [step for step, _ in logged] == [0, 1, 2]
    assert logged[1][1]["0/out/mean"] == rows["value"][1]
    assert pd.read_csv(tmp_path / "rows.csv").columns.tolist() == list(COLUMNS)
    assert len(pd.read_csv(tmp_path / "rows.csv")) == len(run.recording().rows)


def test_f37_a_sink_that_fails_is_dropped_and_training_goes_on():
    def broken(rows):
        raise OSError("disk full")

    net = fc_net()
    optimizer = sgd(net)
    with (
        watch(net, optimizer, sinks=[broken]) as run,
        pytest.warns(WatchWarning, match="a sink is off from step 0: disk full"),
    ):
        train(net, optimizer, vectors(), labels(), steps=3)
    assert run.frame()["step"].max() == 2
