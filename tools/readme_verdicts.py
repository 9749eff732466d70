"""Put the reference study's verdicts into README.md, between its two marks.

Reads ``reports/reference/README.md``, the report that is committed, so that
README says what the study says.

Run it: ``python -m tools.readme_verdicts``.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
REFERENCE = ROOT / "reports" / "reference"
MARKS = ("<!-- verdicts of the reference study -->\n", "<!-- end of verdicts -->\n")
KEPT = ("Claim", "Verdict", "Effect")


def verdicts(report: str) -> str:
    """Return the table of verdicts of a report in Markdown: some columns, links from the root."""
    lines = report.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| Claim | Verdict |"))
    tally = next(line for line in reversed(lines[:start]) if line.startswith("Of "))
    end = next(i for i in range(start, len(lines)) if not lines[i].startswith("|"))
    rows = [[cell.strip() for cell in cells(line)] for line in lines[start:end]]
    wanted = [rows[0].index(name) for name in KEPT]
    table = "\n".join(f"| {' | '.join(row[i] for i in wanted)} |" for row in rows)
    return f"{tally}\n\n" + table.replace("](", f"]({REFERENCE.relative_to(ROOT)}/") + "\n"


def cells(line: str) -> list[str]:
    r"""Split a row of a Markdown table; ``\|`` is text."""
    return re.split(r"(?<!\\)\|", line)[1:-1]


def between_marks(text: str) -> str:
    """Return the text between the marks."""
    return text.partition(MARKS[0])[2].partition(MARKS[1])[0]


def main() -> None:
    """Write README.md again, with the current verdicts."""
    text = README.read_text(encoding="utf-8")
    found = verdicts((REFERENCE / "README.md").read_text(encoding="utf-8"))
    before, _, rest = text.partition(MARKS[0])
    README.write_text(
        f"{before}{MARKS[0]}{found}{MARKS[1]}{rest.partition(MARKS[1])[2]}", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
