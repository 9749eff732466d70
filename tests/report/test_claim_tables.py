"""Verdicts in the report: every word, every number, in HTML and Markdown alike."""

import json
import re

import html5lib
import pytest

from bnstudy.config import canonical_json
from bnstudy.judging import Outcome, judge
from bnstudy.plan import Pilot, Premise, Variant
from bnstudy.report.build import build
from bnstudy.report.claim_tables import COLUMNS, MEANINGS, SYMBOLS
from bnstudy.report.render import render
from bnstudy.report.sentences import write_sentence
from tests.synthetic import examples, studies
from tests.synthetic.examples import FAST, SLOW

EVERY_RUN = [(arm, seed) for arm in ("none", "bn") for seed in range(10)]


def files_of(*claims, **given):
    plan = studies.claims_plan(*claims)
    tables = studies.tables(plan, **given)
    verdicts = judge(plan, tables, json.loads(canonical_json(plan.canonical())))
    return verdicts, render(build(plan, tables, None, verdicts))


def text_of(page: str) -> str:
    """Return the text of an HTML page in one line."""
    body = html5lib.HTMLParser(strict=True).parse(page).find(".//{*}body")
    return " ".join("".join(body.itertext()).split())


def test_the_index_opens_with_the_verdicts():
    claims = (
        examples.claim(),
        examples.claim("slow", direction="greater"),
        examples.accuracy_claim(),
    )
    verdicts, files = files_of(*claims, reached={"bn": FAST, "none": SLOW})
    assert [verdict.outcome for verdict in verdicts] == [
        Outcome.SUPPORTED,
        Outcome.REFUTED,
        Outcome.SUPPORTED,
    ]
    index = text_of(files["index.html"])
    assert index.index("Verdicts") < index.index("Experiments and what they found")
    for verdict in verdicts:
        word = f"{SYMBOLS[verdict.outcome]} {verdict.outcome.value}"
        assert word in index
        assert word in files["README.md"]


def test_what_is_only_explored_stands_apart_from_verdicts_and_is_not_counted_among_them():
    claims = (
        examples.claim(),
        examples.claim("slow", direction="greater"),
        examples.claim("aside", sentence="A question besides.", family="explored"),
    )
    _, files = files_of(*claims, reached={"bn": FAST, "none": SLOW})
    said = "Of 2 primary claims registered before the first run: 1 supported and 1 refuted."
    for page in (text_of(files["index.html"]), files["README.md"]):
        assert said in page
        judged, _, rest = page.partition("Further questions, explored without a verdict")
        assert "A question besides." not in judged
        assert rest.index("A question besides.") < rest.index("What the words mean")


PREMISES = (
    Premise("trained", (("none",),), {"above": 0.85}),
    Premise("effect-there", options={"direction": "less"}, estimand=examples.STEPS),
)


@pytest.mark.parametrize("family", ["primary", "secondary", "explored"])
def test_a_failed_premise_is_told_with_its_figure_and_shows_no_effect(family):
    claim = examples.claim(family=family, premises=PREMISES, robustness=(Variant("t", test="t"),))
    (verdict,), files = files_of(claim, reached={"bn": FAST, "none": SLOW})
    assert verdict.outcome is Outcome.PREMISE_FAILED
    failed = (
        'trained (failed): the arm "none" learned in 0 of 10 seeds: best validation accuracy '
        "0.900, chance is 0.1, and 0.95 counts as learned"
    )
    for name in ("index", "speed"):
        page = text_of(files[f"{name}.html"])
        assert "∅ PREMISE FAILED" in page
        assert f"Premises: {failed}; effect-there (holds): steps-to-target of" in page
        assert f"{verdict.result.effect.estimate:.2f} times" not in page
    row = next(line for line in files["README.md"].splitlines() if line.startswith("| [BN reaches"))
    assert f"<br>Premises: {failed}" in row
    assert f"| ∅ PREMISE FAILED | – | – | {family} |" in row
    assert "Premises: trained (failed)" in files["speed.md"]
    assert "1 of 2 premises held." in files["speed.md"]


def test_premises_that_hold_stand_under_the_claim_too():
    held = examples.claim(premises=PREMISES[1:])
    (verdict,), files = files_of(held, reached={"bn": FAST, "none": SLOW})
    assert verdict.outcome is Outcome.SUPPORTED
    for page in (text_of(files["index.html"]), files["README.md"], files["speed.md"]):
        assert "Premises: effect-there (holds): steps-to-target of" in page
    rule = "over the primary claims. Only if its premises hold: effect-there."
    assert rule in files["speed.md"]


def test_families_are_counted_and_listed_one_after_the_other():
    claims = (
        examples.claim("second", sentence="Another thing.", family="secondary"),
        examples.claim(),
        examples.claim("slow", direction="greater", premises=PREMISES[:1]),
    )
    _, files = files_of(*claims, reached={"bn": FAST, "none": SLOW})
    said = (
        "Of 2 primary claims registered before the first run: 1 supported and 1 with a failed "
        "premise. Of 1 secondary claim registered before the first run: 1 supported."
    )
    for page in (text_of(files["index.html"]), files["README.md"]):
        assert said in page
        assert page.index("BN reaches") < page.index("Another thing.")


def test_every_number_of_the_table_stands_in_both_formats():
    _, files = files_of(examples.claim(), reached={"bn": FAST, "none": SLOW})
    markdown = files["README.md"]
    row = next(line for line in markdown.splitlines() if line.startswith("| BN reaches"))
    page = text_of(files["index.html"])
    numbers = re.findall(r"\d+\.\d+", row)
    assert len(numbers) >= 4  # estimate, two ends, p
    for number in numbers:
        assert number in page


def test_a_page_shows_rule_source_quote_and_robustness_rows():
    claim = examples.claim(quote="加速收敛", robustness=(Variant("sign test", test="sign"),))
    (verdict,), files = files_of(claim, reached={"bn": FAST, "none": SLOW})
    for text in (text_of(files["speed.html"]), files["speed.md"]):
        for part in ("Ioffe", "加速收敛", "sign test", "less than 1.00", "Holm"):
            assert part in text, part
    assert write_sentence(verdict) in text_of(files["speed.html"])
    assert 'lang="zh"' in files["speed.html"]


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"missing": [("bn", 3)]}, "INADMISSIBLE"),
        (
            {"diverged": [(arm, seed) for arm in ("none", "bn") for seed in range(10)]},
            "INCONCLUSIVE",
        ),
    ],
)
def test_what_cannot_be_judged_says_so_and_shows_no_nan(given, word):
    _, files = files_of(examples.claim(), examples.accuracy_claim(), **given)
    for name in ("index.html", "speed.html"):
        page = text_of(files[name])
        assert word in page
        assert not re.search(r"\b(nan|inf)\b", page, re.IGNORECASE)


def test_hostile_words_of_a_claim_are_text():
    _, files = files_of(
        examples.claim(sentence=examples.HOSTILE, source=f"{examples.HOSTILE} 2015")
    )
    for name, content in files.items():
        if name.endswith((".html", ".md")):
            assert "<script>" not in content, name
    assert examples.HOSTILE in text_of(files["speed.html"])
    row = next(line for line in files["README.md"].splitlines() if "批量" in line and "|" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 10  # nine columns: the hostile bar is escaped


def test_a_study_without_claims_has_no_table_of_verdicts():
    plan = studies.claims_plan()
    files = render(build(plan, studies.tables(plan)))
    assert "Verdicts" not in files["README.md"]


def test_every_verdict_word_and_column_is_explained_in_both_formats():
    _, files = files_of(examples.claim(), reached={"bn": FAST, "none": SLOW})
    index, markdown = text_of(files["index.html"]), files["README.md"]
    for outcome in Outcome:
        assert f"{SYMBOLS[outcome]} {outcome.value}{MEANINGS[outcome]}" in index
        assert f"| {SYMBOLS[outcome]} {outcome.value} | {MEANINGS[outcome]} |" in markdown
    heads = next(line for line in markdown.splitlines() if line.startswith("| Claim | Verdict"))
    explained = {head.strip() for head in heads.strip("|").split("|")} & set(COLUMNS)
    assert explained == {"Effect", "p, adjusted", "Family", "Censored runs", "Diverged", "Pilot"}
    (page,) = (name for name in files if name.endswith(".html") and name != "index.html")
    assert 'href="index.html#glossary"' in files[page]
    assert 'id="glossary"' in files["index.html"]


@pytest.mark.parametrize(
    ("pilot", "mark"),
    [
        (None, "–"),
        (Pilot(-1.0, 0.1, (1000, 1001)), "arms not recorded"),
        ("recorded", "same arms, "),
    ],
)
def test_a_pilot_is_marked_by_what_is_known_of_its_arms(pilot, mark):
    made = examples.claim()
    if pilot == "recorded":
        (planned,) = studies.claims_plan(made).experiments
        digest = planned.arms_digest(made)
        pilot, mark = Pilot(-1.0, 0.1, (1000, 1001), arms=digest), mark + digest
    _, files = files_of(examples.claim(pilot=pilot), reached={"bn": FAST, "none": SLOW})
    row = next(line for line in files["README.md"].splitlines() if "#claim-speed" in line)
    assert row.endswith(f" {mark} |")


def test_the_smallest_possible_p_is_an_upper_bound():
    # the second is skewed: the sign test joins, 8 of 10 seeds on one side give 2 x 56 / 1,024
    for slow, sign, p in ((SLOW, "≤", "0.002"), ([*SLOW[:8], 85, 85], "", "0.11")):
        _, files = files_of(examples.claim(), reached={"bn": FAST, "none": slow})
        row = next(line for line in files["README.md"].splitlines() if "#claim-speed" in line)
        assert f"| {sign} {p} |".replace("  ", " ") in row
