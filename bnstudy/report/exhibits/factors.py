"""A 2x2 of arms: what one treatment does with the other and without it."""

import numpy as np
import pandas as pd

from bnstudy.inference import (
    Interval,
    difference_interval,
    mean_interval,
)
from bnstudy.inference import (
    interaction as contrasts,
)
from bnstudy.plan import Arm, Exhibit
from bnstudy.report import drawing, text
from bnstudy.report.evidence import CHANCE, Evidence
from bnstudy.report.exhibits import parts
from bnstudy.report.model import Finding, Table

ENDS = ["mean", "low", "high"]


def interaction(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Show a 2x2 of arms at the end of training, and the contrast of every seed.

    Options: ``arms``, with both treatments, the first alone, the second alone,
    neither; ``treatments``, what the two are called; ``where``, the end of a
    sentence that tells several of them apart.
    """
    arms = evidence.arms(exhibit.options["arms"])
    first, second = exhibit.options["treatments"]
    notes = parts.gaps(
        evidence, arms, f"they count with the accuracy of guessing, {text.percent(CHANCE, 0)}."
    )
    wide = _cells(evidence, arms)
    if wide.empty:
        return parts.nothing(anchor, exhibit, notes, "no seed has all four arms")
    cells = [wide[arm.name].to_numpy(dtype=float) for arm in arms]
    both, alone, other, neither = cells
    effects = difference_interval(both, alone), difference_interval(other, neither)
    contrast = mean_interval(contrasts(*cells))
    sentence = _sentence(first, second, effects, contrast, exhibit.options.get("where", ""))
    points, means = _lines(wide, arms)
    figure = drawing.interaction(
        points, means, _contrasts(wide, cells, contrast),
        ((first, f"no {first}"), (f"no {second}", f"with {second}")),
        (drawing.Scale("Test accuracy", percent=True, least=0.01),
         drawing.Scale("Interaction (points)", least=0.5)),
        parts.source_line(evidence.plan, text.count(len(wide), "seed")),
    )  # fmt: skip
    chart = parts.draw(evidence, anchor, figure, sentence, exhibit.caption, None, points)
    table = _table(arms, cells, effects, contrast, (first, second))
    return Finding(anchor, sentence, exhibit.caption, (table,), chart, notes)


def _cells(evidence: Evidence, arms: tuple[Arm, ...]) -> pd.DataFrame:
    """Return accuracy where the shortest arm ends, a row a seed that has all, a column an arm."""
    epochs = min(arm.config.epochs for arm in arms)
    columns = {}
    for arm in arms:
        values = evidence.last_values("test_accuracy_population", arm, epochs=epochs)
        columns[arm.name] = values.set_index("seed")["value"]
    return pd.DataFrame(columns).dropna().sort_index()


def _lines(wide: pd.DataFrame, arms: tuple[Arm, ...]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the values as two lines over two places, and their means."""
    points, means = [], []
    for arm, (line, place) in zip(arms, ((0, 1), (0, 0), (1, 1), (1, 0)), strict=True):
        values = wide[arm.name]
        points += [(line, place, seed, float(value)) for seed, value in values.items()]
        found = mean_interval(values.to_numpy(dtype=float))
        ends = (found.low, found.high) if np.isfinite(found.high) else (np.nan, np.nan)
        means.append((line, place, found.estimate, *ends))
    return (
        pd.DataFrame(points, columns=["line", "place", "seed", "value"]),
        pd.DataFrame(means, columns=["line", "place", *ENDS]),
    )


def _contrasts(wide: pd.DataFrame, cells: list[np.ndarray], found: Interval) -> pd.DataFrame:
    frame = pd.DataFrame({"seed": wide.index, "contrast": 100 * contrasts(*cells)})
    ends = (100 * each for each in (found.estimate, found.low, found.high))
    return frame.assign(**dict(zip(ENDS, ends, strict=True)))


def _sentence(
    first: str, second: str, effects: tuple[Interval, Interval], contrast: Interval, where: str
) -> str:
    with_it, without = (text.fine_points(each.estimate) for each in effects)
    return (
        f"{second[0].upper()}{second[1:]} changes test accuracy{where} by {with_it} points with "
        f"{first} "
        f"and by {without} without: an interaction of {text.fine_points(contrast.estimate)} points "
        f"({parts.certainty(contrast, text.fine_points)})"
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
        rows.append((arm.label, text.percent(mean.estimate, 2),
                     text.interval_span(mean, lambda value: text.percent(value, 2))))  # fmt: skip
    named = (
        (f"Effect of {second} with {first}", effects[0]),
        (f"Effect of {second} without {first}", effects[1]),
        ("Interaction: the first effect less the second", contrast),
    )
    for label, each in named:
        rows.append((label, f"{text.fine_points(each.estimate)} points",
                     text.interval_span(each, text.fine_points)))  # fmt: skip
    caption = f"Test accuracy at the end with its 95% t interval, {text.count(contrast.n, 'seed')}"
    return Table(caption, ("Arm or contrast", "Mean", "95% CI"), tuple(rows))
