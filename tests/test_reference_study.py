"""The committed reference study: README says what it says, and nothing of a machine is in it."""

import re

import pytest

from tools.readme_verdicts import README, REFERENCE, between_marks, verdicts

FILES = sorted(path for path in REFERENCE.rglob("*") if path.is_file())


def test_the_table_in_readme_is_that_of_the_reference_study():
    report = (REFERENCE / "README.md").read_text(encoding="utf-8")
    assert between_marks(README.read_text(encoding="utf-8")) == verdicts(report)


def test_every_claim_of_the_reference_study_was_judged():
    table = verdicts((REFERENCE / "README.md").read_text(encoding="utf-8"))
    words = re.findall(r"\| (\S) ([A-Z]+) \|", table)
    assert len(words) == len(table.splitlines()) - 4  # tally, empty line, heads, rule
    decided = {"SUPPORTED", "REFUTED", "INCONCLUSIVE"}
    assert {word for _, word in words} <= decided


def test_links_of_readme_into_the_reference_study_lead_somewhere():
    text = README.read_text(encoding="utf-8")
    for page, anchor in re.findall(r"\]\(reports/reference/([\w./-]+?)(?:#([\w-]+))?\)", text):
        path = REFERENCE / page
        assert path.is_file(), page
        if anchor:
            assert f'<a id="{anchor}"></a>' in path.read_text(encoding="utf-8"), (page, anchor)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REFERENCE)))
def test_a_file_of_the_reference_study_is_small_and_names_no_place(path):
    assert path.stat().st_size < 3 * 2**20
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(home|root|work|tmp|usr)/", text)
    assert "nan" not in re.findall(r"[a-z]+", text.lower()) or path.suffix == ".svg"
