"""Tables of claims: all verdicts, the terms in them, each claim's analyses, simulated power."""

from collections.abc import Sequence

from bnstudy.judging import Calibration, Outcome, Verdict
from bnstudy.plan import EXPLORED, JUDGED_FAMILIES, Plan
from bnstudy.report import text
from bnstudy.report.model import Chart, Judgement, Link, Table
from bnstudy.report.sentences import (
    TESTS,
    is_smallest_p,
    shown_effect,
    write_data_basis,
    write_pilot_arms,
    write_premises,
    write_rule,
    write_sentence,
)

SYMBOLS = {
    Outcome.SUPPORTED: "✔",
    Outcome.REFUTED: "✘",
    Outcome.INCONCLUSIVE: "?",
    Outcome.PREMISE_FAILED: "∅",
    Outcome.INADMISSIBLE: "–",
    Outcome.DEVIATED: "≠",
}
MEANINGS = {
    Outcome.SUPPORTED: "The runs show what the claim says, too clearly for chance: if no claim of "
    "its family were true, at most 5 in 100 studies like it would say this of any of them.",
    Outcome.REFUTED: "The runs show the opposite of what the claim says, as clearly.",
    Outcome.INCONCLUSIVE: "The runs do not decide. That does not show that there is no effect: the "
    "interval says which effects are still possible.",
    Outcome.PREMISE_FAILED: "A condition of the claim, registered with it, does not hold in these "
    "runs, for example that both networks have learned anything. The comparison means nothing "
    "then: tables show no effect, and figures draw it as an open square.",
    Outcome.INADMISSIBLE: "The claim could not be judged: runs that its rule asks for are missing, "
    "or cannot be read.",
    Outcome.DEVIATED: "The claim was changed after the first run, so these runs do not judge it.",
}
COLUMNS = {
    EXPLORED: "An estimate without a test: no decision was planned.",
    "Family": "Primary claims answer the study's questions, secondary ones add to the answers. "
    "The p of each family are corrected on their own.",
    "Effect": "Its best estimate and, in brackets, the sizes that these runs are compatible with. "
    "1.00 times and 0 points are no difference.",
    "p, adjusted": "How often chance alone gives a result at least as clear, raised to make up for "
    "asking all the questions of a family at once; below 0.05 counts as clear. "
    "≤ marks the smallest value that so many seeds can give, however clear the result.",
    "Censored runs": "Runs that had not reached their target accuracy at their last step. They are "
    "kept, and count as having taken that many steps.",
    "Diverged": "Runs whose loss became infinite or no number. They are kept: they never reach a "
    "target, and their accuracy counts as that of guessing.",
    "Pilot": "Whether runs with other seeds, from which the effect was expected, had the same "
    "arms as now, with the hash of these; a dash if there were none.",
}


def verdict_table(verdicts: Sequence[Verdict]) -> Table | None:
    """Return the judged claims, one per row, primary ones first; None if none is judged."""
    caption = "What people say about batch normalization, and what this study says"
    judged = [
        each for family in JUDGED_FAMILIES for each in verdicts if each.claim.family == family
    ]
    return _claim_table(caption, judged)


def explored_table(verdicts: Sequence[Verdict]) -> Table | None:
    """Return the explored claims, one per row; None if there is none."""
    caption = "Further questions: estimates without a test or a verdict"
    return _claim_table(caption, [each for each in verdicts if not each.claim.judged])


def _claim_table(caption: str, verdicts: Sequence[Verdict]) -> Table | None:
    if not verdicts:
        return None
    rows = tuple(
        (
            verdict.claim.sentence,
            _outcome(verdict),
            text.effect_interval(shown_effect(verdict, verdict.result), verdict.result.unit),
            text.p_value(verdict.p_adjusted, smallest=is_smallest_p(verdict.result)),
            verdict.claim.family,
            f"{verdict.seeds:,}",
            f"{verdict.censored:,} of {verdict.runs:,}",
            f"{verdict.diverged:,}",
            write_pilot_arms(verdict.claim),
        )
        for verdict in verdicts
    )
    links = tuple(Link(verdict.experiment, f"claim-{verdict.claim.id}") for verdict in verdicts)
    heads = ("Claim", "Verdict", "Effect", "p, adjusted", "Family")
    counts = ("Seeds", "Censored runs", "Diverged", "Pilot")
    return Table(caption, (*heads, *counts), rows, links, tuple(map(write_premises, verdicts)))


def _outcome(verdict: Verdict) -> str:
    """Return the verdict word with its symbol, so that neither colour nor sight is needed."""
    if verdict.outcome is None:
        return EXPLORED
    return f"{SYMBOLS[verdict.outcome]} {verdict.outcome.value}"


def glossary() -> Table:
    """Return the meaning of the verdict words and of the columns, for a student."""
    outcomes = [(f"{SYMBOLS[each]} {each.value}", meaning) for each, meaning in MEANINGS.items()]
    rows = (*outcomes, *COLUMNS.items())
    return Table("How to read the verdicts", ("Word", "What it means"), rows)


def judgement(verdict: Verdict, chart: Chart | None = None) -> Judgement:
    """Return one verdict with its rule, its analyses and its chart."""
    claim = verdict.claim
    rows = tuple(
        (
            analysis.label,
            TESTS.get(analysis.test, analysis.test),
            text.effect_interval(shown_effect(verdict, analysis), analysis.unit),
            text.p_value(analysis.p, smallest=is_smallest_p(analysis)),
            text.MISSING
            if analysis.as_claimed is None or verdict.outcome is Outcome.PREMISE_FAILED
            else text.setting(analysis.as_claimed),
        )
        for analysis in (verdict.result, *verdict.robustness)
    )
    table = Table(
        f"{claim.id}: the registered analysis, then robustness analyses, which decide nothing",
        ("Analysis", "Test", "Effect", "p, raw", "As claimed"),
        rows,
    )
    return Judgement(
        anchor=f"claim-{claim.id}",
        word=_outcome(verdict),
        claim=claim.sentence,
        quote=claim.quote,
        source=claim.source,
        rule=write_rule(claim),
        sentence=write_sentence(verdict),
        table=table,
        chart=chart,
        counts=write_data_basis(verdict),
        premises=write_premises(verdict),
    )


def power_table(plan: Plan, calibration: Calibration | None) -> Table | None:
    """Return how often simulated studies support each claim; None without a calibration."""
    if calibration is None or not any(each.judged for each in plan.claims):
        return None
    pages = {
        claim.id: planned.experiment.name
        for planned in plan.experiments
        for claim in planned.claims
    }
    sentences = {claim.id: claim.sentence for claim in plan.claims}
    found = [(each, share) for each, share in calibration.power.items() if each in pages]
    return Table(
        "Power: the share of simulated studies with the pilot's effect (with no difference, for "
        "claims of equivalence) that support the claim",
        ("Claim", "Power"),
        tuple((sentences[each], text.percent(share)) for each, share in found),
        tuple(Link(pages[each], f"claim-{each}") for each, _ in found),
    )
