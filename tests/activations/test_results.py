"""Schedules, selection, parameters, tables, files, sinks, rules and pictures (F1 to F41)."""
# ruff: noqa: E501

import re
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from bnstudy.activations import (
    Every,
    Recording,
    Rule,
    WatchWarning,
    load,
    match,
    merge,
    plots,
    sinks,
    spaced,
    watch,
)
from bnstudy.activations.reading.measurements import COLUMNS
from bnstudy.activations.rules import findings
from bnstudy.activations.schedule import by_mode, due
from bnstudy.activations.selection import select
from bnstudy.errors import WatchError
from tests.activations.nets import built, conv_net, fc_net, images, labels, sgd, train, vectors


@pytest.fixture
def recording():
    net = fc_net()
    optimizer = sgd(net)
    with watch(net, optimizer, every=2, stats="full", grads=True, params=True) as run:
        train(net, optimizer, vectors(40), labels(40), steps=9)
    return run.recording()


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (3, [0, 3, 6, 9]), (Every(4, start=1, stop=9), [1, 5]), (Every(5, burst=2), [0, 1, 5, 6, 10]),
        ("log", [0, 1, 2, 5, 10]), ([2, 7], [2, 7]), (lambda step: step > 8, [9, 10]), ("never", []),
    ],
)  # fmt: skip
def test_f9_schedules(when, expected):
    assert [step for step in range(11) if due(when)(step)] == expected


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (lambda: Every(0), "every >= 1"), (lambda: due("often"), "must be an integer, 'log'"),
        (lambda: due(True), "got True"), (lambda: by_mode({"test": 1}), "there is no mode 'test': choose one of train, eval"),
    ],
)  # fmt: skip
def test_f9_impossible_schedules_are_refused(bad, says):
    with pytest.raises(WatchError, match=re.escape(says)):
        bad()


def test_f9_a_statistic_may_have_a_schedule_of_its_own():
    net = fc_net()
    optimizer = sgd(net)
    stats = ["mean", spaced("histogram", 4), spaced("std", [0, 3, 5])]
    with watch(net, optimizer, every={"train": lambda step: step != 5}, stats=stats) as run:
        train(net, optimizer, vectors(40), labels(40), steps=8)
    rows = run.frame()
    steps = {stat: sorted(set(part["step"])) for stat, part in rows.groupby("stat", observed=True)}
    assert steps["mean"] == [0, 1, 2, 3, 4, 6, 7]
    assert steps["std"] == [0, 3]  # not on 5, which is not recorded at all
    bins = [stat for stat in steps if stat.startswith("hist[")]
    assert len(bins) == 84  # of sigmoids, in 0..1, and of the rest
    assert all(steps[stat] == [0, 4] for stat in bins)
    with pytest.raises(
        WatchError, match="there is no statistic 'histgram': did you mean 'histogram'"
    ):
        spaced("histgram", 4)


def test_f26_processes_together_saw_what_one_would_have_seen():
    net, parts = fc_net().eval(), vectors(90).split([30, 60])

    def seen(x):
        with watch(net, every={"eval": 1}, stats="full") as run:
            net(x)
        return run.recording()

    whole = seen(torch.cat(parts)).rows
    merged = merge([seen(part) for part in parts], weights=[30, 60])
    by = ["layer", "tensor", "stat"]
    expected = whole.astype(dict.fromkeys(by, str)).set_index(by)["value"]
    found = merged.rows.astype(dict.fromkeys(by, str)).set_index(by)["value"]
    moments = ["mean", "std", "min", "max", "rms", "l2", "abs_mean", "skew", "kurtosis"]
    assert set(moments) <= set(found.index.get_level_values("stat"))
    for place, value in found.items():
        # bins are shares of samples, here of all values; a value on an edge may fall to either side
        near = 1e-3 if "hist" in place[2] else 1e-6
        assert value == pytest.approx(expected[place], rel=1e-5, abs=near), place
    left_out = set(expected.index) - set(found.index)  # but for parts that agree, as on 0
    assert {"q15", "q50", "q85", "near_zero"} <= {stat for _, _, stat in left_out}
    assert any("no exact merger of" in why and "q50" in why for _, _, why in merged.notes)


def test_f26_recordings_that_share_nothing_are_refused(recording):
    with pytest.raises(WatchError, match="a positive weight for each, got 1 and"):
        merge([recording], weights=[1, 2])
    with pytest.raises(WatchError, match="needs recordings"):
        merge([])
    other = Recording(recording.rows.assign(step=recording.rows["step"] + 1_000))
    with pytest.raises(WatchError, match="share none"):
        merge([recording, other])
    same = merge([recording])
    pd.testing.assert_frame_equal(
        same.rows.reset_index(drop=True),
        recording.rows.reset_index(drop=True),
        check_categorical=False,
    )


def test_f2_selection_by_glob_pattern_type_module_predicate_and_unit():
    net = nn.Sequential()
    for name, module in zip(("fc1", "act1", "norm", "fc2"), fc_net(), strict=True):
        net.add_module(name, module)

    def names(layers):
        return [target.name for target in select(net, layers)]

    assert names("fc*") == ["fc1", "fc2"]
    assert names(re.compile("act|2$")) == ["act1", "fc2"]
    assert names(nn.Linear) == ["fc1", "fc2"]
    assert names(net.norm) == ["norm"]
    assert names(lambda name, module: "1" in name) == ["fc1", "act1"]
    assert names(["fc2", nn.BatchNorm1d, "fc1[3]", "(model)"]) == [
        "(model)",
        "fc1[3]",
        "act1",
        "fc2",
    ]
    assert match(net, "fc*")["why"].tolist() == [
        "not selected",
        "",
        "not selected",
        "not selected",
        "",
    ]


def test_f2_a_pattern_without_a_match_names_close_layers():
    net = nn.Sequential()
    net.add_module("conv1", nn.ReLU())
    with pytest.raises(WatchError, match="there is no layer 'conv2': did you mean 'conv1'"):
        watch(net, layers="conv2")


def test_f10_without_an_optimizer_a_training_pass_is_a_step():
    net = fc_net()
    with watch(net, every=2) as run:
        for _ in range(5):
            net(vectors())
    assert run.frame()["step"].unique().tolist() == [0, 2, 4]


def test_f10_the_count_of_steps_can_be_set_to_resume_a_run():
    net = fc_net()
    optimizer = sgd(net)
    with watch(net, optimizer) as run:
        run.step = 100
        train(net, optimizer, vectors(), labels(), steps=2)
    assert run.frame()["step"].unique().tolist() == [100, 101]


def test_f11_nothing_is_recorded_while_paused():
    net = fc_net()
    optimizer = sgd(net)
    with watch(net, optimizer) as run:
        train(net, optimizer, vectors(), labels())
        run.pause()
        train(net, optimizer, vectors(), labels())
        run.resume()
        train(net, optimizer, vectors(), labels())
    assert run.frame()["step"].unique().tolist() == [0, 2]
    assert repr(run) == "Recorder(4 layers, 1 BN, step 3, closed)"


def test_f3_f7_inputs_are_recorded_with_keyword_names():
    class Two(nn.Module):
        def forward(self, a, *, b):
            return a + b

    net = nn.Sequential()
    net.add_module("two", Two())
    with watch(net, tensors="both", stats="mean", layers="two") as run:
        net.two(torch.ones(2), b=torch.full((2,), 3.0))
    rows = run.frame().astype({"tensor": str}).set_index("tensor")["value"].to_dict()
    assert rows == {"in.0": 1.0, "in.b": 3.0, "out": 4.0}


def test_f22_f23_parameters_against_autograd_and_the_optimizer():
    net, x, y = fc_net(), vectors(), labels()
    optimizer = sgd(net, lr=0.2)
    w0 = net[0].weight.detach().double().clone()
    with watch(net, optimizer, params=True) as run:
        F.cross_entropy(net(x), y).backward()
        g0 = net[0].weight.grad.double().clone()
        optimizer.step()
        w1 = net[0].weight.detach().double().clone()
        train(net, optimizer, x, y)
    w2 = net[0].weight.detach().double()
    rows = run.frame(layer="0", tensor="weight").pivot(index="step", columns="stat", values="value")
    first, second = rows.loc[0], rows.loc[1]
    assert first["norm"] == pytest.approx(w0.norm().item())
    assert first["grad_norm"] == pytest.approx(g0.norm().item())
    assert first["grad_ratio"] == pytest.approx((g0.norm() / w0.norm()).item())
    assert first["grad_cosine"] == pytest.approx(
        F.cosine_similarity(w0.flatten(), g0.flatten(), 0).item()
    )
    assert first["update_ratio"] == pytest.approx(((w1 - w0).norm() / w0.norm()).item(), rel=1e-4)
    assert second["from_init"] == pytest.approx(((w2 - w0).norm() / w0.norm()).item(), rel=1e-4)
    turned = F.cosine_similarity((w2 - w1).flatten(), (w1 - w0).flatten(), 0).item()
    assert np.isnan(first["update_cosine"])
    assert second["update_cosine"] == pytest.approx(turned, rel=1e-3)
    assert first["effective_lr"] == pytest.approx(0.2 / w0.norm().item() ** 2)


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


def rows_of(stat, values, tensor="out", layer="fc1"):
    return pd.DataFrame(
        {
            "step": np.arange(len(values)) * 10, "mode": "train", "forward": 0, "layer": layer, "call": 0,
            "tensor": tensor, "channel": -1, "stat": stat, "value": values,
        }
    )  # fmt: skip


def test_f39_the_report_says_from_which_step_a_rule_holds():
    sentence = findings(rows_of("saturated", [0.0, 0.5, 0.1, 0.41, 0.6]))["sentence"].tolist()
    assert sentence == ["fc1: 60% of values are saturated from step 30"]
    passing = findings(rows_of("dead", [0.2, 0.3, 0.0]))["sentence"].tolist()
    assert passing == ["fc1: 30% of units are dead in steps 0 to 10"]
    assert findings(rows_of("saturated", [0.4, np.nan])).empty


def test_f39_a_vanishing_gradient_is_relative_to_the_largest_layer():
    rows = pd.concat(
        [rows_of("std", [1.0, 1.0], "grad", "fc3"), rows_of("std", [1.0, 1e-5], "grad", "fc1")]
    )
    found = findings(rows)
    assert found[["layer", "rule", "since"]].values.tolist() == [["fc1", "vanishing gradient", 10]]


def test_f39_rules_are_data_and_can_be_ones_own(recording):
    own = Rule("wide", "std", ("out",), ">", 0.0, "std {value:.1f} {when}")
    assert recording.report([own])["layer"].tolist() == ["0", "1", "2", "3"]


def test_f40_the_tail_is_the_last_recorded_steps(recording):
    assert recording.tail(2)["step"].unique().tolist() == [6, 8]


PICTURES = {
    "percentiles": lambda r, ax: plots.percentiles(r, "0", ax=ax),
    "heat": lambda r, ax: plots.heat(r, "0", ax=ax),
    "gradient heat": lambda r, ax: plots.heat(r, "0", tensor="grad", ax=ax),
    "layers": lambda r, ax: plots.layers(r, "std", ax=ax),
    "lines": lambda r, ax: plots.lines(r, "std", tensor="grad", ax=ax),
    "shares": lambda r, ax: plots.shares(r, ax=ax),
    "ratios": lambda r, ax: plots.ratios(r, ax=ax),
    "compare": lambda r, ax: plots.compare({"a": r, "b": r}, "0", "quantiles", ax=ax),
    "affine": lambda r, ax: plots.affine(r, "1", ax=ax),
}


@pytest.mark.parametrize("name", PICTURES)
def test_f38_every_picture_draws_on_the_axes_given_and_returns_them(recording, name):
    ax = Figure().subplots()
    assert PICTURES[name](recording, ax) is ax
    assert ax.get_xlabel() == "Optimizer steps done"
    assert isinstance(PICTURES[name](recording, None), Axes)


def test_f38_the_median_drawn_is_the_recorded_one(recording):
    ax = recording.plot("0", "quantiles")
    drawn = ax.get_lines()[1].get_ydata()
    assert list(drawn) == recording.frame("q50", layer="0", tensor="out")["value"].tolist()


def test_f38_the_colours_of_a_layer_map_are_the_recorded_numbers(recording):
    ax = recording.plot(what="std")
    expected = recording.frame("std", tensor="out", wide=True).T.to_numpy()
    assert np.array_equal(ax.collections[0].get_array(), expected)


def test_f38_a_picture_of_what_was_not_recorded_is_refused(recording):
    with pytest.raises(WatchError, match="there is no recorded stat 'skewness'"):
        recording.plot("0", "skewness")
    with pytest.raises(WatchError, match="has several: ask for one label"):
        plots.layers(recording, "quantiles")


def test_f1_a_convolution_net_is_watched_leaf_by_leaf_by_default():
    net = conv_net()
    with watch(net) as run:
        net(images())
    assert run.frame()["layer"].unique().tolist() == ["0", "1", "2", "3", "4", "5", "7"]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda n: watch(len), "needs a torch.nn.Module"), (lambda n: watch(n, tensors="all"), "'in', 'out' or 'both'"),
        (lambda n: watch(n, keep=0), "at least 1"), (lambda n: watch(n, stats="half"), "'half'"),
        (lambda n: watch(n).shift(), "probe=batch"), (lambda n: watch(n).recording().bn.gap([]), "has none"),
    ],
)  # fmt: skip
def test_impossible_arguments_are_refused(call, says):
    with pytest.raises(WatchError, match=re.escape(says)):
        call(built(lambda: nn.Sequential(nn.Linear(2, 2))))
