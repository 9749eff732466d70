"""Registration of a plan, as the report states it from the commits of its runs."""

import pandas as pd

from bnstudy.report import write
from bnstudy.runs.provenance import commit_date


def runs(*commits):
    return pd.DataFrame({"git.commit": list(commits)})


def test_a_plan_is_registered_with_the_first_commit_that_trained_a_run(monkeypatch):
    days = {"a" * 40: "2026-02-03", "b" * 40: "2026-02-01", "c" * 40: None}
    monkeypatch.setattr(write, "commit_date", days.get)
    assert write.registration(runs(*days, None)) == {
        "Plan registered": f"2026-02-01, by commit {'b' * 12}"
    }
    assert write.registration(runs("c" * 40)) == {}
    assert write.registration(pd.DataFrame({"seed": [0]})) == {}


def test_only_a_revision_is_looked_up_in_git():
    assert commit_date("--all") is None
    assert commit_date("c0ffee" * 6) is None
