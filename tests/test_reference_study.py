"""The committed reference study: README says what it says, and nothing of a machine is in it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
REFERENCE = ROOT / "reports" / "reference"
FILES = sorted(path for path in REFERENCE.rglob("*") if path.is_file())


def verdicts() -> dict[str, tuple[str, str]]:
    """Word and effect of every claim that was judged, by its place in the report."""
    report = (REFERENCE / "README.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| \[[^\]]+\]\((\S+#claim-\S+)\) \| \S ([A-Z ]+) \| ([^|]+) \|", report, re.M
    )
    return {place: (word, effect) for place, word, effect in rows}


def test_every_claim_of_the_reference_study_was_judged():
    tallies = re.findall(
        r"Of (\d+) (?:primary |secondary )?claims? registered before the first run",
        (REFERENCE / "README.md").read_text(encoding="utf-8"),
    )
    found = verdicts()
    judged = [word for word, _ in found.values()]
    assert len(judged) == sum(map(int, tallies))
    assert set(judged) <= {"SUPPORTED", "REFUTED", "INCONCLUSIVE", "PREMISE FAILED"}


def test_every_effect_in_readme_is_that_of_the_claim_it_links():
    cited = re.findall(
        r"\(reports/reference/(\S+#claim-[\w-]+)\)[^\[\]]*?"
        r"([−+]?[\d.,]+ (?:times|points) \(9[05]% CI [^)]+\))",
        README.read_text(encoding="utf-8"),
    )
    assert len(cited) >= 4
    found = verdicts()
    assert [(place, found[place][1]) for place, _ in cited] == cited


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
