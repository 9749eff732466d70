"""A 2x2 of arms: the effect of one treatment with the other and without it."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnstudy import inference
from bnstudy.inference import Interval, difference_interval, mean_interval
from bnstudy.plan import Arm
from bnstudy.report import text
from bnstudy.report.drawing import INK, LINE_STYLES, MUTED, RC_PARAMS, Scale, new_figure
from bnstudy.report.drawing.marks import dots, format_axes, seed_offsets, thin_lines
from bnstudy.report.drawing.styles import shorten
from bnstudy.report.evidence import Evidence
from bnstudy.report.exhibits.final_accuracy import POPULATION
from bnstudy.report.exhibits.frame import Content, Nothing, Options, as_guessing, exhibit
from bnstudy.report.model import Table

ENDS = ["mean", "low", "high"]
SCALES = (
    Scale("Test accuracy", percent=True, least=0.01),
    Scale("Interaction (points)", least=0.5),
)
# line (without the first treatment or not) and place (with the second or not) of each arm
CELLS = ((0, 1), (0, 0), (1, 1), (1, 0))


@exhibit("interaction", diverged=as_guessing)
def interaction(evidence: Evidence, arms: tuple[Arm, ...], options: Options) -> Content | Nothing:
    """Show a 2x2 of arms at the end of training, and the contrast of every seed.

    Options: ``arms``, with both treatments, the first alone, the second alone,
    neither; ``treatments``, the names of the two; ``where``, the end of a
    sentence that tells several of them apart.
    """
    first, second = options["treatments"]
    wide = _accuracies(evidence, arms)
    if wide.empty:
        return Nothing("no seed has all four arms")
    cells = [wide[arm.name].to_numpy(dtype=float) for arm in arms]
    both, alone, other, neither = cells
    effects = difference_interval(both, alone), difference_interval(other, neither)
    by_seed = inference.interaction(*cells)
    contrast = mean_interval(by_seed)
    points, means = _lines(wide, arms)
    ends = (100 * each for each in (contrast.estimate, contrast.low, contrast.high))
    contrasts = pd.DataFrame({"seed": wide.index, "contrast": 100 * by_seed}).assign(
        **dict(zip(ENDS, ends, strict=True))
    )
    labels = (first, f"no {first}"), (f"no {second}", f"with {second}")
    return Content(
        sentence=_sentence(first, second, effects, contrast, options.get("where", "")),
        values=points,
        draw=lambda source: draw_interaction(points, means, contrasts, labels, SCALES, source),
        tables=(_table(arms, cells, effects, contrast, (first, second)),),
        seeds=text.count(len(wide), "seed"),
    )


def _accuracies(evidence: Evidence, arms: tuple[Arm, ...]) -> pd.DataFrame:
    """Return each arm's accuracy where the shortest ends, one row per seed that has all arms."""
    epochs = min(arm.config.epochs for arm in arms)
    readings = evidence.readings(arms, "latest", column=POPULATION, epochs=float(epochs))
    wide = readings.pivot(index="seed", columns="arm", values="value")
    return wide.reindex(columns=[arm.name for arm in arms]).dropna().sort_index()


def _lines(wide: pd.DataFrame, arms: tuple[Arm, ...]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the values as two lines over two places, and their means."""
    points, means = [], []
    for arm, (line, place) in zip(arms, CELLS, strict=True):
        values = wide[arm.name]
        points += [(line, place, seed, float(value)) for seed, value in values.items()]
        found = mean_interval(values.to_numpy(dtype=float))
        ends = (found.low, found.high) if np.isfinite(found.high) else (np.nan, np.nan)
        means.append((line, place, found.estimate, *ends))
    return (
        pd.DataFrame(points, columns=["line", "place", "seed", "value"]),
        pd.DataFrame(means, columns=["line", "place", *ENDS]),
    )


def _sentence(
    first: str, second: str, effects: tuple[Interval, Interval], contrast: Interval, where: str
) -> str:
    with_it, without = (text.fine_points(each.estimate) for each in effects)
    return (
        f"{text.opened(second)} changes test accuracy{where} by {with_it} points with "
        f"{first} "
        f"and by {without} without: an interaction of {text.fine_points(contrast.estimate)} points "
        f"({text.certainty(contrast, text.fine_points)})"
    )


def _table(
    arms: tuple[Arm, ...],
    cells: list[np.ndarray],
    effects: tuple[Interval, Interval],
    contrast: Interval,
    treatments: tuple[str, str],
) -> Table:
    first, second = treatments
    rows = []
    for arm, values in zip(arms, cells, strict=True):
        mean = mean_interval(values)
        span = text.interval_span(mean, text.fine_percent)
        rows.append((arm.label, text.fine_percent(mean.estimate), span))
    compared = (
        (f"Effect of {second} with {first}", effects[0]),
        (f"Effect of {second} without {first}", effects[1]),
        ("Interaction: the first effect less the second", contrast),
    )
    for label, each in compared:
        span = text.interval_span(each, text.fine_points)
        rows.append((label, f"{text.fine_points(each.estimate)} points", span))
    caption = f"Test accuracy at the end with its 95% t interval, {text.count(contrast.n, 'seed')}"
    return Table(caption, ("Arm or contrast", "Mean", "95% CI"), tuple(rows))


@mpl.rc_context(RC_PARAMS)
def draw_interaction(
    points: pd.DataFrame,
    means: pd.DataFrame,
    contrasts: pd.DataFrame,
    labels: tuple[tuple[str, str], tuple[str, str]],
    scales: tuple[Scale, Scale],
    source: str,
) -> Figure:
    """Draw a 2x2 of arms as two lines, and the contrast of each seed beside them.

    Parameters
    ----------
    points
        Columns ``line`` and ``place`` (0 or 1 each), ``seed``, ``value``.
    means
        Columns ``line``, ``place``, ``mean``, ``low``, ``high``: NaN where there is none.
    contrasts
        Columns ``seed``, ``contrast`` and, the same in all rows, ``mean``, ``low``, ``high``.
    labels
        Text of the two lines, and of the two places.
    scales
        Of the values and of the contrasts.
    source
        Line at the foot.
    """
    figure, (left, right) = new_figure(source, height=3.8, columns=2)
    _draw_cells(left, points, means, labels[0])
    left.set_xticks((0, 1), [each.replace(" ", "\n", 1) for each in labels[1]])
    left.set_xlim(-0.25, 1.25)
    format_axes(left, scales[0], "")
    _draw_contrasts(right, contrasts)
    format_axes(right, scales[1], "")
    return figure


def _draw_cells(
    axes: Axes, points: pd.DataFrame, means: pd.DataFrame, labels: tuple[str, str]
) -> None:
    """Draw the arms with the first treatment as one line, those without it as another."""
    # where the first treatment is BN, its line looks as it does in the other figures
    for number, style in enumerate((LINE_STYLES[1], LINE_STYLES[0])):
        rows = points[points["line"] == number].sort_values("place")
        thin_lines(axes, rows, style, x="place", lw=0.7, alpha=0.35)
        mean = means[means["line"] == number].sort_values("place")
        axes.plot(mean["place"], mean["mean"], color=style.color, ls=style.linestyle, lw=2.4,
                  marker=style.marker, ms=6)  # fmt: skip
        sure = mean[np.isfinite(mean["low"]) & np.isfinite(mean["high"])]
        axes.vlines(sure["place"], sure["low"], sure["high"], color=style.color, lw=2.4)
        end = mean.iloc[-1]
        axes.annotate(
            shorten(labels[number]), (end["place"], end["mean"]), xytext=(7, 0),
            textcoords="offset points", color=style.color, va="center", fontweight="bold",
            annotation_clip=False,
        )  # fmt: skip


def _draw_contrasts(axes: Axes, contrasts: pd.DataFrame) -> None:
    """Draw the contrast of each seed, with their mean and interval beside them."""
    x = seed_offsets(contrasts["seed"], 0.25)
    dots(axes, x, contrasts["contrast"], np.zeros(len(contrasts), bool), LINE_STYLES[2])
    mean, low, high = contrasts.iloc[0][ENDS]
    if np.isfinite([low, high]).all():
        axes.plot([0.5] * 2, [low, high], color=INK, lw=2.4, zorder=3)
    axes.plot([0.5], [mean], ls="", marker="D", ms=6.5, color=INK, zorder=4)
    axes.axhline(0.0, color=MUTED, lw=1.2)
    axes.set_xlim(-0.6, 0.9)
    axes.set_xticks(())
