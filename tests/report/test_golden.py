"""The model of two whole reports, sentence by sentence, as it was when somebody last read it.

After a change that is meant: ``python -m tests.report.test_golden`` writes it again, and
``git diff`` shows what readers will see.  Drawings and their values are left out: the one
depends on matplotlib's version, the other has tests of its own.
"""

import dataclasses
import json
from pathlib import Path

from bnstudy.config import canonical_json
from bnstudy.judging import judge
from bnstudy.report.build import build
from bnstudy.report.model import Report
from tests.synthetic import examples, studies

GOLDEN = Path(__file__).parent / "golden" / "report.json"


def reports() -> dict[str, Report]:
    """Return a report without claims, with gaps, and one with verdicts."""
    plain = studies.plan(examples.source(), examples.convergence(), examples.inside())
    gaps = {"missing": frozenset({"concise"})}
    judged = studies.claims_plan(examples.claim(), examples.accuracy_claim())
    tables = studies.tables(judged)
    verdicts = judge(judged, tables, json.loads(canonical_json(judged.canonical())))
    return {
        "plain": build(plain, studies.tables(plain, **gaps)),
        "judged": build(judged, tables, {"Plan registered": "a day"}, verdicts),
    }


def read(value: object) -> object:
    """Return a part of a model without drawings and their values."""
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: read(getattr(value, name)) for name in names if name not in ("svg", "csv")}
    return [read(each) for each in value] if isinstance(value, tuple) else value


def written() -> str:
    parts = {name: read(report) for name, report in reports().items()}
    return json.dumps(parts, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def test_the_model_is_as_it_was_last_read():
    assert written() == GOLDEN.read_text(encoding="utf-8")


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(written(), encoding="utf-8")
