"""Figures: what is drawn, that it is legible, and that it is the same text every time."""

import re
from itertools import combinations, pairwise
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnstudy.report import drawing
from bnstudy.report.drawing import LINE_STYLES, Scale, intervals, styles, svg, to_svg
from bnstudy.report.drawing.marks import MOST_TICKS, epoch_ticks, log_ticks, separate
from bnstudy.report.exhibits.curves import draw_learning_curves
from bnstudy.report.exhibits.final_accuracy import draw_paired_differences
from bnstudy.report.exhibits.kaplan_meier import draw_survival_curves
from bnstudy.report.exhibits.layer_lines import draw_layer_lines
from bnstudy.report.exhibits.ranking import draw_ranking
from bnstudy.report.exhibits.steps_to_target import draw_paired_steps
from bnstudy.report.exhibits.variance_shift import draw_prediction
from bnstudy.report.theme import DARK, DRAWN, LIGHT, inline_svg
from tests.report.pages import contrast

SVG = "{http://www.w3.org/2000/svg}"
PERCENT = Scale("Accuracy", percent=True)
LABELS = {"none": "without BN", "bn": "with BN"}


def curves(seeds: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (arm, seed, epoch / 5, rng.uniform(0.1, 0.9))
        for arm in LABELS
        for seed in range(seeds)
        for epoch in range(1, 11)
    ]
    return pd.DataFrame(rows, columns=["arm", "seed", "epoch", "value"])


def steps() -> pd.DataFrame:
    rows = [("70%", "none", seed, 400.0, True) for seed in range(4)]
    rows += [("70%", "bn", seed, 47.0 + seed, False) for seed in range(4)]
    return pd.DataFrame(rows, columns=["target", "arm", "seed", "steps", "censored"])


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_every_arm_is_legible_as_text_on_its_paper(theme):
    for number in range(1, len(LINE_STYLES) + 1):
        assert contrast(theme[f"arm-{number}"], theme["paper"]) >= 4.5


def test_no_two_arms_share_color_marker_or_line():
    for field in ("color", "marker", "linestyle"):
        assert len({str(getattr(style, field)) for style in LINE_STYLES}) == len(LINE_STYLES)


def test_learning_curves_draw_every_seed_and_their_mean():
    points = curves()
    figure = draw_learning_curves(points, LABELS, PERCENT, "source")
    (axes,) = figure.axes
    thin = [line for line in axes.lines if line.get_linewidth() < 1]
    thick = [line for line in axes.lines if line.get_linewidth() > 2]
    assert len(thin) == 2 * 5
    for line, arm in zip(thick, LABELS, strict=True):
        wide = points[points["arm"] == arm].pivot(index="epoch", columns="seed", values="value")
        mean = wide.to_numpy().mean(axis=1)
        np.testing.assert_allclose(line.get_ydata(), mean)


def test_curves_of_a_lone_epoch_are_dots_since_a_line_would_draw_nothing():
    points = curves()
    points = points[points["epoch"] == points["epoch"].max()]
    (axes,) = draw_learning_curves(points, LABELS, PERCENT, "source").axes
    for arm, style in zip(LABELS, LINE_STYLES, strict=False):
        values = points.loc[points["arm"] == arm, "value"]
        seeds, mean = (line for line in axes.lines if line.get_marker() == style.marker)
        assert sorted(seeds.get_ydata()) == sorted(values)
        np.testing.assert_allclose(mean.get_ydata(), [values.mean()])
    (axes,) = draw_learning_curves(curves(), LABELS, PERCENT, "source").axes
    assert {line.get_marker() for line in axes.lines} == {"None"}


def test_arms_are_named_beside_their_lines_not_in_a_legend():
    figure = draw_learning_curves(curves(), LABELS, PERCENT, "source")
    (axes,) = figure.axes
    assert axes.get_legend() is None
    assert {text.get_text() for text in axes.texts} == set(LABELS.values())


def test_censored_steps_are_open_triangles_at_the_last_step():
    figure = draw_paired_steps(steps(), LABELS, Scale("Steps", log=True), "source")
    (axes,) = figure.axes
    open_ones = [line for line in axes.lines if line.get_marker() == "^"]
    assert [list(line.get_ydata()) for line in open_ones] == [[400.0] * 4]
    assert all(line.get_markerfacecolor() == "none" for line in open_ones)
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [list(line.get_ydata()) for line in dots] == [[47.0, 48.0, 49.0, 50.0]]


def test_a_line_joins_the_two_arms_of_each_seed():
    figure = draw_paired_steps(steps(), LABELS, Scale("Steps", log=True), "source")
    joins = [line for line in figure.axes[0].lines if line.get_marker() in ("None", None, "")]
    assert sorted(tuple(line.get_ydata()) for line in joins) == [
        (400.0, 47.0 + seed) for seed in range(4)
    ]


def test_an_interval_that_does_not_exist_is_not_drawn():
    points = pd.DataFrame({"arm": ["none", "bn"], "seed": [0, 0], "value": [0.5, 0.8]})
    differences = pd.DataFrame(
        {"arm": ["bn"], "seed": [0], "difference": [30.0], "mean": [30.0],
         "low": [-np.inf], "high": [np.inf]}
    )  # fmt: skip
    figure = draw_paired_differences(points, differences, LABELS, (PERCENT, PERCENT), "source")
    drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in figure.axes[1].lines])
    assert np.isfinite(drawn).all()


def test_differences_of_rounding_size_are_not_blown_up():
    points = pd.DataFrame({"arm": ["none", "bn"], "seed": [0, 0], "value": [0.5, 0.500001]})
    differences = pd.DataFrame(columns=["arm", "seed", "difference", "mean", "low", "high"])
    scales = (Scale("Accuracy", percent=True, least=0.01), PERCENT)
    figure = draw_paired_differences(points, differences, LABELS, scales, "source")
    low, high = figure.axes[0].get_ylim()
    assert high - low == pytest.approx(0.01)


def test_drawing_leaves_the_global_style_alone():
    before = dict(mpl.rcParams)
    to_svg(draw_learning_curves(curves(), LABELS, PERCENT, "source"), "a", "t", "d")
    assert dict(mpl.rcParams) == before


def drawn(name: str = "figure-1", labels: dict[str, str] = LABELS) -> str:
    return to_svg(draw_learning_curves(curves(), labels, PERCENT, "source"), name, "t", "d")


def test_the_same_table_gives_the_same_text():
    assert drawn() == drawn()


def test_figures_of_one_page_share_no_id():
    ids = [set(re.findall(r'id="([^"]+)"', drawn(name))) for name in ("figure-1", "figure-2")]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_every_reference_in_a_drawing_has_its_target():
    svg = drawn()
    ids = re.findall(r'id="([^"]+)"', svg)
    assert len(ids) == len(set(ids))
    referred = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    assert referred <= set(ids)


def test_title_and_description_are_text_whatever_they_hold():
    figure = draw_learning_curves(curves(), LABELS, PERCENT, "source")
    root = ET.fromstring(to_svg(figure, "f", "a < b & <script>", "批量 'd'"))
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == "a < b & <script>"
    assert root.findtext(f"{SVG}desc") == "批量 'd'"
    assert root.get("aria-labelledby") == "f-title f-desc"


def test_names_are_drawn_as_text_not_as_formulas():
    labels = {"none": "$x_1$ & <b>", "bn": "批量"}
    root = ET.fromstring(drawn(labels=labels))
    texts = {element.text for element in root.iter(f"{SVG}text")}
    assert set(labels.values()) <= texts


def test_a_drawing_holds_no_date_and_no_style_sheet_of_its_own():
    svg = drawn()
    assert "<style" not in svg
    assert "<metadata" not in svg
    assert not re.search(r"20\d\d-\d\d-\d\d", svg)


def test_inline_drawings_take_every_color_from_the_page():
    inline = inline_svg(drawn())
    bare = re.sub(r"var\(--[a-z0-9-]+, #[0-9a-f]{6}\)", "", inline)
    assert not re.search(r"(?:fill|stroke): #[0-9a-f]{6}", bare)
    assert "http" not in inline
    assert set(DRAWN) <= set(DARK)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.lists(st.floats(0, 1), max_size=6))
def test_labels_move_apart_and_keep_their_order(heights):
    moved = separate(heights, 0.09)
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    in_order = [moved[index] for index in order]
    assert all(b - a >= 0.09 - 1e-9 for a, b in pairwise(in_order))
    assert max(moved, default=0.0) <= 1.0 + 1e-9


def test_a_ranking_has_a_row_an_arm_a_dot_a_seed_and_the_baseline_through_all_rows():
    points = steps().rename(columns={"steps": "value"})
    means = pd.DataFrame(
        {"arm": ["bn", "none"], "mean": [48.5, 400.0], "low": [45.0, np.nan], "high": [50, np.nan]}
    )
    figure = draw_ranking(points, means, LABELS, Scale("Steps", log=True), "none", "source")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["with BN", "without BN"]
    assert [round(y) for y in axes.get_ylim()] == [2, -1]  # the first row on top
    triangles = [line for line in axes.lines if line.get_marker() == "^"]
    assert [list(line.get_xdata()) for line in triangles] == [[400.0] * 4]
    assert [set(np.round(line.get_ydata())) for line in triangles] == [{1.0}]
    bars = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_lw() > 2]
    assert [list(line.get_xdata()) for line in bars] == [[45.0, 50.0]]
    through = [line for line in axes.lines if list(line.get_ydata()) == [0, 1]]
    assert [line.get_xdata()[0] for line in through] == [400.0]


def test_ids_are_numbered_in_the_order_of_the_drawing():
    drawing = '<g clip-path="url(#pz)"/><g clip-path="url(#pa)"/><i id="pz"/><i id="pa"/>'
    renamed = '<g clip-path="url(#f-0)"/><g clip-path="url(#f-1)"/><i id="f-0"/><i id="f-1"/>'
    assert svg.own_ids(drawing, "f") == renamed


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BN", "BN"),
        ("group norm, batches of 4", "group norm, batches of 4"),
        ("group norm, batches of 64", "group norm,\nbatches of 64"),
        ("BN, batches of 256: population statistics", "BN, batches of 256:\npopulation statistics"),
    ],
)
def test_a_long_name_beside_a_line_has_two_lines(name, expected):
    assert styles.wrap_in_two(name) == expected


@pytest.mark.parametrize(("low", "high"), [(0.9, 1.1), (0.5, 20.0), (0.001, 900.0)])
def test_ticks_on_a_logarithmic_axis_are_round_and_inside(low, high):
    ticks = intervals.round_numbers(low, high)
    assert len(ticks) >= 3
    assert all(low <= tick <= high for tick in ticks)
    assert all(float(f"{tick:.3g}") == tick for tick in ticks)


@pytest.mark.parametrize(("low", "high"), [(45, 250), (90, 900), (1, 30)])
def test_ticks_of_a_wide_logarithmic_axis_leave_room_for_their_words(low, high):
    ticks = intervals.round_numbers(low, high)
    assert min(later / earlier for earlier, later in pairwise(ticks)) >= 2


def test_a_lone_epoch_has_one_tick_and_several_have_round_ones():
    for (left, right), expected in {(0.97, 1.03): [1.0], (0.0, 6.0): [0, 1, 2, 3, 4, 5, 6]}.items():
        axes = mpl.figure.Figure().subplots()
        axes.set_xlim(left, right)
        epoch_ticks(axes)
        shown = [tick for tick in axes.get_xticks() if left <= tick <= right]
        assert shown == pytest.approx(expected)


@pytest.mark.parametrize("count", [1, 40])
def test_the_source_line_keeps_clear_of_the_axis_above_in_short_and_tall_figures(count):
    rows = {
        "unit": "points", "label": "BN helps", "mark": "supported", "estimate": 1.0, "low": 0.5,
        "high": 1.5, "claimed_low": 0.0, "claimed_high": np.inf,
    }  # fmt: skip
    foot = "as long as a source is: data, seeds, plan"  # it reaches under the label
    figure = drawing.effect_intervals(
        pd.DataFrame([rows] * count), {"points": Scale("Percentage points")}, foot
    )
    figure.draw_without_rendering()
    (source,) = (text for text in figure.texts if text.get_text() == foot)
    assert not source.get_window_extent().overlaps(figure.axes[0].xaxis.label.get_window_extent())


def test_names_of_arms_with_one_observed_value_do_not_run_into_each_other():
    rows = pd.DataFrame(
        [
            ("norm1", "none", 0, 0.0, 0.0),
            ("norm1", "bn", 0, 0.2, 0.03),
            ("norm1", "third", 0, 0.4, 0.0),
            ("norm1", "far", 0, 1.0, 1.0),
        ],
        columns=["layer", "arm", "seed", "predicted", "observed"],
    )
    labels = {
        "none": "0.3 before BN", "bn": "0.5 before BN", "third": "0.7 before BN", "far": "far",
    }  # fmt: skip
    scales = Scale("Predicted"), Scale("Observed")
    figure = draw_prediction(rows, labels, ("norm1",), scales, "source")
    figure.draw_without_rendering()
    names = [text for text in figure.axes[0].texts if text.get_text() in labels.values()]
    boxes = [name.get_window_extent() for name in names]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def test_a_long_name_under_a_dot_is_broken_into_three_lines_and_not_cut():
    assert styles.wrap_label("no BN + dropout, 5,000 images") == "no BN +\ndropout,\n5,000 images"
    assert styles.wrap_label("BN + dropout") == "BN +\ndropout"
    assert max(map(len, styles.wrap_label("word " * 30).split("\n"))) <= styles.LONGEST_LABEL


def test_names_of_arms_that_never_reach_a_target_stand_below_each_other():
    rows = [("80%", arm, step, 1.0, 1.0, 1.0) for arm in ("none", "bn") for step in (0, 80)]
    points = pd.DataFrame(rows, columns=["target", "arm", "steps", "share", "low", "high"])
    labels = {"none": "no BN", "bn": "BN"}
    figure = draw_survival_curves(points, labels, Scale("Below", percent=True), "source")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = {each.get_text(): each.get_window_extent() for each in axes.texts}
    assert set(boxes) == {"no BN", "BN"}
    assert not boxes["no BN"].overlaps(boxes["BN"])


@pytest.mark.parametrize(
    "names",
    [
        ("before the sigmoid", "after the sigmoid", "on the layer's input"),
        tuple(
            f"{norm}{dropout}, 5,000 images"
            for norm in ("no BN", "BN")
            for dropout in ("", " + dropout 0.3", " + dropout")
        ),
    ],
)
def test_long_names_of_arms_do_not_touch_under_paired_dots(names):
    labels = dict(zip("abcdef", names, strict=False))
    rows = [(arm, seed, 0.5) for arm in labels for seed in (0, 1)]
    points = pd.DataFrame(rows, columns=["arm", "seed", "value"])
    rows = [(arm, seed, 1.0, 1.0, 0.5, 1.5) for arm in list(labels)[1:] for seed in (0, 1)]
    columns = ["arm", "seed", "difference", "mean", "low", "high"]
    differences = pd.DataFrame(rows, columns=columns)
    scales = (Scale("Accuracy", percent=True), Scale("Points"))
    figure = draw_paired_differences(points, differences, labels, scales, "source")
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [each.get_window_extent() for each in axes.get_xticklabels()]
        assert len(boxes) >= 2
        assert not any(a.overlaps(b) for a, b in pairwise(boxes))


def test_a_single_record_of_a_layer_is_a_dot_for_every_seed_and_one_for_the_mean():
    rows = [("bn", "network", seed, 1.0, 2.0 + seed) for seed in range(3)]
    points = pd.DataFrame(rows, columns=["arm", "layer", "seed", "epoch", "value"])
    figure = draw_layer_lines(points, {"bn": "BN"}, ["network"], Scale("Loss"), "source")
    (axes,) = figure.axes
    assert [line.get_marker() for line in axes.lines] == [LINE_STYLES[0].marker] * 4


def test_a_logarithmic_axis_over_many_decades_has_few_ticks():
    figure = mpl.figure.Figure()
    axes = figure.subplots()
    axes.set_yscale("log")
    log_ticks([axes], pd.Series([1e-7, 1e6]))
    ticks = axes.yaxis.get_major_locator().tick_values(0, 1)
    assert 3 <= len(ticks) <= MOST_TICKS
    np.testing.assert_allclose(np.log10(ticks), np.round(np.log10(ticks)), atol=1e-9)
