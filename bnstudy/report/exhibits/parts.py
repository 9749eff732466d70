"""What the makers of exhibits share: notes on gaps, source lines, charts, empty findings."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from bnstudy.inference import Interval
from bnstudy.plan import Arm, Exhibit, Plan
from bnstudy.report import text
from bnstudy.report.drawing import to_svg
from bnstudy.report.evidence import Evidence
from bnstudy.report.model import Chart, Finding, Table

DATA_NAMES = {"fashion-mnist": "Fashion-MNIST"}


def data_name(plan: Plan) -> str:
    """Return how the images are called in text."""
    return DATA_NAMES.get(plan.data.name, plan.data.name)


def source_line(plan: Plan, seeds: str) -> str:
    """Return the line at the foot of a figure: who, which images, how many seeds, which plan."""
    images = f"{data_name(plan)} (bundled sample)" if plan.data.sample else data_name(plan)
    return f"bnstudy · {images} · {seeds} · plan {plan.sha256[:8]}"


def labels_of(arms: Iterable[Arm]) -> dict[str, str]:
    """Return the label of each arm by its name."""
    return {arm.name: arm.label for arm in arms}


def seeds_of(evidence: Evidence, arms: Iterable[Arm]) -> str:
    """Say how many seeds are there: '16 seeds', or '12 to 16 seeds' if the arms differ."""
    numbers = sorted({len(evidence.finished(arm.name)) for arm in arms})
    if len(numbers) < 2:
        return text.count(numbers[0] if numbers else 0, "seed")
    return f"{numbers[0]} to {text.count(numbers[-1], 'seed')}"


def gaps(evidence: Evidence, arms: Iterable[Arm], diverged: str) -> tuple[str, ...]:
    """Say which runs are missing and which diverged.

    Parameters
    ----------
    evidence, arms
        Whose runs are meant.
    diverged
        What becomes of diverged runs here, the end of a sentence.
    """
    planned, sentences = len(evidence.plan.seeds), []
    for arm in arms:
        there = len(evidence.finished(arm.name))
        lost = len(evidence.finished(arm.name, "diverged"))
        if there < planned:
            runs = "No run" if there == 0 else f"Only {there} of {text.count(planned, 'run')}"
            verb = "is" if there <= 1 else "are"
            sentences.append(f"{runs} of {arm.label} {verb} there.")
        if lost:
            runs = "All" if lost == there > 1 else f"{lost} of {there}"
            sentences.append(
                f"{runs} {'run' if there == 1 else 'runs'} of {arm.label} diverged; {diverged}"
            )
    return tuple(sentences)


def nothing(
    anchor: str, exhibit: Exhibit, notes: Sequence[str] = (), why: str = "none of its runs is there"
) -> Finding:
    """Return the finding of an exhibit that has nothing to show yet."""
    return Finding(anchor, f"Nothing to show: {why}", exhibit.caption, notes=tuple(notes))


def draw(
    evidence: Evidence,
    anchor: str,
    figure: Figure,
    sentence: str,
    caption: str,
    data: Table | None,
    values: pd.DataFrame,
) -> Chart:
    """Return a figure as a chart, with its values as CSV in full precision."""
    name = f"{evidence.planned.experiment.name}-{anchor}"
    csv = values.to_csv(index=False, lineterminator="\n", float_format="%.12g")
    return Chart(name, to_svg(figure, name, sentence, caption), caption, data, csv)


def spread(values: pd.Series, write: text.Writer) -> str:
    """Write the mean of some values with the lowest and highest: 84.0% (81.2% to 85.1%)."""
    if values.empty:
        return text.MISSING
    mean, low, high = (write(float(x)) for x in (values.mean(), values.min(), values.max()))
    return mean if len(values) == 1 else f"{mean} ({low} to {high})"


def certainty(interval: Interval, write: text.Writer) -> str:
    """Write interval and number of pairs for the end of a sentence."""
    seeds = text.count(interval.n, "seed")
    ends = text.interval_span(interval, write)
    if ends == text.MISSING:
        return f"{seeds}: no interval"
    return f"{text.confidence(interval)} {ends}, {seeds}"


def wide_table(
    caption: str, heads: tuple[str, ...], rows: Iterable[tuple[str, Mapping[str, str]]]
) -> Table:
    """Return a table whose rows are given by the head of their columns; gaps are dashes."""
    return Table(
        caption,
        heads,
        tuple(
            (first, *(cells.get(head, text.MISSING) for head in heads[1:])) for first, cells in rows
        ),
    )
