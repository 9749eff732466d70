"""The report as data: the content of its pages, every number already written out.

HTML and Markdown are two ways of setting the same :class:`Report`; neither
computes or formats anything.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from bnstudy.report.text import MISSING


@dataclass(frozen=True)
class Link:
    """A link within the report.

    Attributes
    ----------
    page
        Name of the page.
    anchor
        Id of an element on it.
    """

    page: str
    anchor: str


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes
    ----------
    caption
        Description of the content.
    columns
        Heads of the columns; the first column heads the rows.
    rows
        One text per column each.
    links
        Target of the head of each row; empty without links.
    notes
        Line under the head of each row, empty for none; empty without any notes.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    links: tuple[Link, ...] = ()
    notes: tuple[str, ...] = ()

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
        """True if pages show the table folded at first."""
        return len(self.rows) > 12


@dataclass(frozen=True)
class Chart:
    """A figure with the table behind it.

    Attributes
    ----------
    name
        Name of its files, without their endings.
    svg
        The drawing, a complete SVG document.
    description
        Description of the drawing for readers who do not see it.
    data
        The values drawn, summarized over seeds where there are many; None if
        the tables of the finding already hold them.
    csv
        All values drawn, seed by seed.
    """

    name: str
    svg: str
    description: str
    data: Table | None
    csv: str


@dataclass(frozen=True)
class Finding:
    """The result of one exhibit.

    Attributes
    ----------
    anchor
        Its id on the page.
    sentence
        The finding, computed.
    caption
        Description of the chart, and how to read it.
    tables
        Results in numbers.
    chart
        None if there is nothing to draw.
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
        The claim, its wording in the notes if they make it, and its author.
    rule
        The rule that was registered before the first run.
    sentence
        The verdict in one sentence.
    table
        The registered analysis and the robustness analyses.
    chart
        The same as a figure; None if no effect could be computed.
    counts
        The runs that the verdict rests on.
    premises
        The premises of the claim with their figures; empty if it has none.
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
    premises: str = ""


@dataclass(frozen=True)
class Statement:
    """A sentence, with a link to its source."""

    sentence: str
    link: Link


@dataclass(frozen=True)
class Surprise:
    """The surprising results that one rule found.

    Attributes
    ----------
    kind
        Name of the rule.
    statements
        The results, at least one.
    """

    kind: str
    statements: tuple[Statement, ...]


@dataclass(frozen=True)
class Page:
    """The page of one experiment.

    Attributes
    ----------
    name, title, question, literature, design, limits
        As in the experiment.
    state
        Sentence on the runs that are done, diverged or missing.
    arms, settings
        Settings that differ between the arms; settings that all of them share.
    judgements
        One per claim.
    findings
        One per exhibit.
    command
        Command that trains its runs and writes its report again.
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
    """A complete report.

    Attributes
    ----------
    title
        Title of the study.
    introduction
        The study in a paragraph, for a reader who has not heard of it.
    banner
        Warning on every page; empty if there is none.
    tally
        Sentence that counts the claims by verdict; empty if none is judged.
    verdicts
        Verdicts on all judged claims; None if there is none.
    explored
        Estimates without a verdict; None if there is none.
    glossary
        Meaning of the verdict words and of the columns; None without claims.
    effects
        Charts of the effects of all claims.
    surprises, surprise_rule
        Surprising results, if any; the rule by which a result is surprising.
    reliability, power
        Sentences on how often studies like this one err; how often they find a
        true effect, or None.
    pages
        One per experiment, in the order of the plan.
    provenance
        Origin of the numbers: plan, images, runs, code and machine.
    commands
        Commands that reproduce the report.
    foot
        Line at the foot of every page.
    """

    title: str
    introduction: str
    banner: str
    tally: str
    verdicts: Table | None
    explored: Table | None
    glossary: Table | None
    effects: tuple[Finding, ...]
    surprises: tuple[Surprise, ...]
    surprise_rule: str
    reliability: tuple[str, ...]
    power: Table | None
    pages: tuple[Page, ...]
    provenance: Table
    commands: tuple[str, ...]
    foot: str
