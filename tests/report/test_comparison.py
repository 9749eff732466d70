"""Two reports side by side: what changed, what moved, and mistakes in one line."""

import json

import pytest
from click.testing import CliRunner

from bnstudy import cli
from bnstudy.config import canonical_json
from bnstudy.errors import ReportError
from bnstudy.judging import judge
from bnstudy.plan import Premise
from bnstudy.report.comparison import VERDICTS, compare, comparison_text, filed_text, load_filed
from tests.synthetic import examples, studies
from tests.synthetic.examples import FAST, SLOW


def file_report(folder, *claims, **given):
    """Write only what a comparison reads."""
    plan = studies.claims_plan(*claims)
    verdicts = judge(
        plan, studies.tables(plan, **given), json.loads(canonical_json(plan.canonical()))
    )
    folder.mkdir(parents=True)
    (folder / VERDICTS).write_text(filed_text(plan, verdicts), encoding="utf-8")
    return verdicts


@pytest.fixture
def reports(tmp_path):
    claims = examples.claim(), examples.accuracy_claim()
    file_report(tmp_path / "a", *claims, reached={"bn": FAST, "none": SLOW})
    file_report(tmp_path / "b", *claims, reached={"bn": SLOW, "none": FAST})
    file_report(tmp_path / "other", examples.claim("another"))
    return tmp_path


def test_a_study_is_like_itself(reports):
    found = compare(load_filed("a", reports), load_filed(str(reports / "a"), reports))
    assert len(found.pairs) == 2
    assert not any(pair.changed or pair.apart for pair in found.pairs)
    assert all(pair.same_rule for pair in found.pairs)
    assert found.only == ((), ())
    assert found.other_arms == ()


def test_a_reversed_effect_is_another_verdict_and_far_apart(reports):
    found = compare(load_filed("a", reports), load_filed("b", reports))
    pair = found.pairs[0]
    assert pair.outcomes == ("SUPPORTED", "REFUTED")
    assert pair.changed
    assert pair.apart
    # arms are swapped, so the second ratio is one over the first
    first = float(pair.effects[0].split()[0])
    assert float(pair.moved.removeprefix("x ")) == pytest.approx(first**-2, rel=0.02)
    printed = comparison_text(found)
    assert printed.index("another verdict") < printed.index(pair.claim)
    assert "1 with another verdict" in found.sentence


def test_claims_of_one_study_only_and_another_rule_are_named(reports):
    file_report(
        reports / "c", examples.claim(margin=None, direction="greater"), examples.claim("new")
    )
    found = compare(load_filed("a", reports), load_filed("c", reports))
    assert [pair.same_rule for pair in found.pairs] == [False]
    assert found.only[1] == ("new",)
    assert "registered with another rule" in comparison_text(found)


def test_the_effect_of_a_failed_premise_is_not_compared(reports):
    strict = Premise("trained", (("none",),), {"above": 0.85})
    runs = {"reached": {"bn": FAST, "none": SLOW}}
    file_report(reports / "void", examples.claim(premises=(strict,)), **runs)
    (pair,) = compare(load_filed("a", reports), load_filed("void", reports)).pairs
    assert pair.outcomes == ("SUPPORTED", "PREMISE FAILED")
    assert (pair.effects[1], pair.moved, pair.apart) == ("–", "–", None)
    assert not pair.same_rule


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", "nowhere"), "a study to compare must have a report, and there is none at"),
        (("a", "other"), "studies to compare must share a claim"),
        (("a", "cut"), "is missing or damaged: write the report again with bnstudy report"),
        (("a", "empty"), "is missing or damaged: write the report again with bnstudy report"),
    ],
)
def test_a_mistake_is_one_line(names, message, reports):
    (reports / "empty").mkdir()
    (reports / "cut").mkdir()
    (reports / "cut" / VERDICTS).write_text((reports / "a" / VERDICTS).read_text()[:100])
    with pytest.raises(ReportError, match=message):
        compare(*(load_filed(name, reports) for name in names))
    printed = CliRunner().invoke(cli.main, ["compare", *names, "--reports", str(reports)])
    assert printed.exit_code == 1
    assert len(printed.output.splitlines()) == 1
    assert message in printed.output


def test_the_command_prints_both_studies_and_json_holds_the_same(reports):
    command = ["compare", "a", "b", "--reports", str(reports)]
    printed = CliRunner().invoke(cli.main, command)
    assert printed.exit_code == 0
    found = json.loads(CliRunner().invoke(cli.main, [*command, "--json"]).output)
    for pair in found["pairs"]:
        assert pair["claim"] in printed.output
        assert all(effect in printed.output for effect in pair["effects"])
    assert found["sentence"] in printed.output
