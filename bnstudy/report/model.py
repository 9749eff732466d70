"""The report as data: what its pages say, every number already written out.

HTML and Markdown are two ways of setting the same :class:`Report`; neither
computes or formats anything.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from bnstudy.report.text import MISSING


@dataclass(frozen=True)
class Link:
    """A place in the report.

    Attributes
    ----------
    page
        Name of the page.
    anchor
        An id on it.
    """

    page: str
    anchor: str


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes
    ----------
    caption
        What it shows.
    columns
        Heads of the columns; the first column heads the rows.
    rows
        As many texts each as there are columns.
    links
        Where the head of each row leads; empty if nowhere.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    links: tuple[Link, ...] = ()

    @classmethod
    def of_cells(
        cls, caption: str, columns: tuple[str, ...], rows: Iterable[tuple[str, Mapping[str, str]]]
    ) -> Self:
        """Return a table whose rows are given by the heads of their columns; gaps are dashes."""
        cells = tuple(
            (first, *(row.get(column, MISSING) for column in columns[1:])) for first, row in rows
        )
        return cls(caption, columns, cells)

    @property
    def long(self) -> bool:
        """Whether it is folded away at first."""
        return len(self.rows) > 12


@dataclass(frozen=True)
class Chart:
    """A figure with the table behind it.

    Attributes
    ----------
    name
        Of its files, without their endings.
    svg
        The drawing, a whole SVG document.
    description
        What is to be seen, for those who do not see it.
    data
        The values drawn, summarized over seeds where there are many; None if
        the tables of the finding hold them already.
    csv
        All the values drawn, seed by seed.
    """

    name: str
    svg: str
    description: str
    data: Table | None
    csv: str


@dataclass(frozen=True)
class Finding:
    """What one exhibit shows.

    Attributes
    ----------
    anchor
        Its id on the page.
    sentence
        The finding, computed.
    caption
        What the reader sees and how to read it.
    tables
        Results in numbers.
    chart
        None where there is nothing to draw.
    notes
        Sentences that qualify the finding: exclusions, censoring, size.
    """

    anchor: str
    sentence: str
    caption: str
    tables: tuple[Table, ...] = ()
    chart: Chart | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judgement:
    """A verdict on a claim, with its rule.

    Attributes
    ----------
    anchor
        Its id on the page.
    word
        The verdict, with its symbol.
    claim, quote, source
        What is claimed, in the words of the notes where they say it, and by whom.
    rule
        What was registered before the first run.
    sentence
        What came out.
    table
        The registered computation and the robustness rows.
    chart
        The same as a figure; None if no effect could be computed.
    counts
        Which runs it rests on.
    """

    anchor: str
    word: str
    claim: str
    quote: str
    source: str
    rule: str
    sentence: str
    table: Table
    chart: Chart | None = None
    counts: str = ""


@dataclass(frozen=True)
class Statement:
    """A sentence, and where it comes from."""

    sentence: str
    link: Link


@dataclass(frozen=True)
class Surprise:
    """What came out otherwise than was to be expected, by one rule.

    Attributes
    ----------
    kind
        The rule, in words.
    statements
        What it found, at least one.
    """

    kind: str
    statements: tuple[Statement, ...]


@dataclass(frozen=True)
class Page:
    """The page of one experiment.

    Attributes
    ----------
    name, title, question, literature, design, limits
        As the experiment has them.
    state
        Which of its runs are there, in a sentence.
    arms, settings
        What differs between the arms; what all of them share.
    judgements
        One for each claim.
    findings
        One for each exhibit.
    command
        What trains its runs and writes its report again.
    """

    name: str
    title: str
    question: str
    literature: str
    design: str
    limits: str
    state: str
    arms: Table
    settings: Table
    judgements: tuple[Judgement, ...]
    findings: tuple[Finding, ...]
    command: str


@dataclass(frozen=True)
class Report:
    """A whole report.

    Attributes
    ----------
    title
        Of the study.
    introduction
        The study in a paragraph, for somebody who has not heard of it.
    banner
        What every page warns of; empty if there is nothing.
    tally
        How many claims got which verdict, in a sentence; empty if there is none.
    verdicts
        On all claims that are judged; None if the study registers none.
    explored
        Estimates without a verdict; None if there is none.
    words
        What the verdict words mean, and the columns of the table; None if there is none.
    effects
        Charts of all claims' effects.
    surprises, surprise_rule
        What was surprising; empty if nothing was.  What counts as surprising.
    reliability, power
        How often studies like this one err or find what is there, a sentence
        each; the table of power, or None.
    pages
        One for each experiment, in the order of the plan.
    provenance
        Where the numbers come from.
    commands
        What makes them again.
    foot
        One line for the foot of every page.
    """

    title: str
    introduction: str
    banner: str
    tally: str
    verdicts: Table | None
    explored: Table | None
    words: Table | None
    effects: tuple[Finding, ...]
    surprises: tuple[Surprise, ...]
    surprise_rule: str
    reliability: tuple[str, ...]
    power: Table | None
    pages: tuple[Page, ...]
    provenance: Table
    commands: tuple[str, ...]
    foot: str
