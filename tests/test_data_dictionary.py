"""docs/data.md: every column of a study's files is described, and its script recomputes verdicts.

Each table of the guide is compared with the files that the code writes, both ways.
"""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from bnstudy.config import canonical_json
from bnstudy.judging import Calibration, FamilyError, judge, store_calibration
from bnstudy.plan import Arm, DataIdentity, Estimand, Experiment, Profile, make_plan
from bnstudy.report.build import build
from bnstudy.report.claim_values import claim_values_text
from bnstudy.report.comparison import filed_text
from bnstudy.report.render import render
from bnstudy.runs.runner import run_study
from bnstudy.runs.store import Store
from tests.plans import SMALL
from tests.synthetic import examples, studies

GUIDE = (Path(__file__).parents[1] / "docs/data.md").read_text(encoding="utf-8")
(SCRIPT,) = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)


def described(file: str) -> set[str]:
    """Return the names in the table of a file."""
    section = re.search(
        rf"^### `{re.escape(file)}`\n(.*?)(?=^##|\Z)", GUIDE, re.DOTALL | re.MULTILINE
    )
    assert section, f"docs/data.md has no section on {file}"
    firsts = re.findall(r"^\| (`.*?) \|", section[1], flags=re.MULTILINE)
    return {name for first in firsts for name in re.findall(r"`(.*?)`", first)}


def differences(file: str, names: set[str]) -> set[str]:
    """Return names that the guide does not describe, and descriptions of names there are not."""
    patterns = {
        each: re.compile(re.escape(each).replace(r"\*", ".*"), re.DOTALL)
        for each in described(file)
    }
    unknown = {name for name in names if not any(p.fullmatch(name) for p in patterns.values())}
    return unknown | {each for each, p in patterns.items() if not any(map(p.fullmatch, names))}


def paths(value: object, path: str = "") -> Iterator[str]:
    """Yield the path of every leaf of a JSON value."""
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from paths(each, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for each in value:
            yield from paths(each, f"{path}[]")
    else:
        yield path


@pytest.fixture(scope="module")
def store(sample, tmp_path_factory) -> Store:
    """Train two arms, one with a probe, as users do; return their store."""
    arms = (Arm("none", SMALL), Arm("bn", SMALL.replace(norm="bn"), probes={"activations": {}}))
    claim = examples.accuracy_claim(estimand=Estimand("accuracy", (("bn",), ("none",))))
    experiment = Experiment(
        "speed", "T", "Q", "L", "D", "S", lambda _: arms, (0.7,), claims=(claim,)
    )
    profile = Profile("tiny", 2, "", judges=True)
    plan = make_plan((experiment,), profile, DataIdentity.of(sample))
    made = Store(tmp_path_factory.mktemp("data") / "study")
    run_study(plan, made, sample, workers=1, engine="reference")
    error = FamilyError("primary", ("same",), 1, 0.1, 0.1)
    store_calibration(made.root, plan, Calibration(9, (error,), {"same": 0.5}))
    return made


@pytest.mark.parametrize(
    "file", ["plan.json", "calibration.json", "spec.json", "result.json", "provenance.json"]
)
def test_every_key_of_a_stored_object_is_described(store, file):
    assert not differences(
        file, {name for found in store.root.rglob(file) for name in paths(read_json(found))}
    )


@pytest.mark.parametrize("file", ["curve.parquet", "norms.parquet", "measures.parquet"])
def test_every_column_of_a_stored_table_is_described(store, file):
    found = list(store.root.rglob(file))
    assert not differences(file, {name for each in found for name in pq.read_schema(each).names})


def test_every_file_of_a_store_is_described(store):
    names = {path.name for path in store.root.rglob("*") if path.is_file()}
    assert {f"`{name}`" for name in names} <= set(
        re.findall(r"^### (`.+`)$", GUIDE, flags=re.MULTILINE)
    )


def test_every_column_of_a_figures_table_is_described():
    made = studies.plan(
        examples.source(), examples.convergence(), examples.inside(), examples.histograms(),
        examples.recorded(), examples.batches(), examples.square(), examples.probed(),
        examples.speed(examples.claim()),
    )  # fmt: skip
    tables = studies.tables(made)
    verdicts = judge(made, tables, frozen(made))
    files = render(build(made, tables, {}, verdicts))
    charts = [text for name, text in files.items() if name.startswith("tables/")]
    names = {name for text in charts for name in next(csv.reader(text.splitlines()))}
    assert not differences("tables/*.csv", names)


def read_json(path: Path) -> object:
    return json.loads(path.read_text(encoding="utf-8"))


def frozen(plan):
    return json.loads(canonical_json(plan.canonical()))


# Claims and verdicts --------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged():
    """Judge one claim of each kind of test on seeds that differ; return the plan and verdicts."""
    rng = np.random.default_rng(3)
    accuracy = {
        arm: {"test_accuracy_population": (mean + 0.01 * rng.normal(size=10)).tolist()}
        for arm, mean in (("bn", 0.84), ("none", 0.83))
    }
    steps = {"bn": [*examples.FAST[:9], np.nan], "none": examples.SLOW}
    accuracies = examples.ACCURACY
    claims = (
        examples.claim(),
        examples.claim("speed-t", test="t", centre=0.5),
        examples.claim("explored", family="explored", centre=0.8),
        examples.accuracy_claim(margin=0.03),
        examples.accuracy_claim("same-narrow", margin=0.001),
        examples.claim("better", estimand=accuracies, unit="points", direction="greater"),
        examples.claim("sign", test="sign"),
    )
    plan = studies.claims_plan(*claims)
    tables = studies.tables(plan, steps, accuracy, diverged=[("bn", 4)])
    return plan, judge(plan, tables, frozen(plan))


def test_every_key_of_the_verdicts_is_described(judged):
    assert not differences("verdicts.json", set(paths(json.loads(filed_text(*judged)))))


def test_every_column_of_the_claims_values_is_described(judged):
    assert not differences(
        "claims.csv", set(claim_values_text(judged[1]).splitlines()[0].split(","))
    )


def test_the_script_recomputes_every_verdict_to_the_last_printed_digit(judged, tmp_path):
    (tmp_path / "claims.csv").write_text(claim_values_text(judged[1]), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path / "claims.csv")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    printed = dict(line.split(": ") for line in done.stdout.splitlines())
    stored = {each["claim"]["id"]: each for each in json.loads(filed_text(*judged))["verdicts"]}
    assert "bnstudy" not in SCRIPT
    assert set(printed) == set(stored) - {"sign"}
    for claim, line in printed.items():
        verdict = stored[claim]
        effect, p = verdict["result"]["effect"], verdict["result"]["p"]
        low = -np.inf if effect["low"] is None else effect["low"]
        high = np.inf if effect["high"] is None else effect["high"]
        wanted = (
            f"{effect['estimate']:.6g} ({low:.6g} to {high:.6g}), p {p or 0:.4g}, "
            f"{verdict['seeds']} seeds, {verdict['censored']} of {verdict['runs']} censored, "
            f"{verdict['diverged']} diverged"
        )
        if p is None:  # an explored claim has no p in the report
            line, wanted = (re.sub(r"p [^,]+,", "", each) for each in (line, wanted))
        assert line == wanted, claim
