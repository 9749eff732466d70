"""Reports: right numbers, the same bytes every time, and legible by everybody."""

import dataclasses
import hashlib
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import html5lib
import numpy as np
import pandas as pd
import pytest
import scipy.stats

from bnstudy.config import RunConfig
from bnstudy.errors import ConfigError, ReportError
from bnstudy.judging.measures import epoch_means, finished_runs
from bnstudy.networks import trace
from bnstudy.plan import Exhibit, Plan, PlannedExperiment
from bnstudy.report import text
from bnstudy.report.build import build
from bnstudy.report.claim_values import CLAIM_VALUES, claim_values_text
from bnstudy.report.comparison import VERDICTS, filed_text
from bnstudy.report.evidence import Evidence
from bnstudy.report.exhibits import EXHIBITS, make
from bnstudy.report.model import Finding
from bnstudy.report.render import markdown_text, render
from bnstudy.report.shape_table import trace_table
from bnstudy.report.theme import DARK, LIGHT
from bnstudy.report.write import write_report
from tests.report.pages import contrast, shown
from tests.synthetic import examples, studies

HTML = "{http://www.w3.org/1999/xhtml}"
NUMBER = re.compile(r"[-−+]?\d[\d,]*(?:\.\d+)?")


class Kept:
    """A store that has exactly these tables."""

    root = Path("no-store")

    def __init__(self, tables):
        self.kept = tables


@pytest.fixture(autouse=True)
def read_kept(monkeypatch):
    monkeypatch.setattr("bnstudy.report.write.read_tables", lambda store, plan: store.kept)


def hostile_plan() -> Plan:
    return studies.plan(
        examples.source(title=examples.HOSTILE),
        examples.convergence(bn=examples.HOSTILE),
        sample=True,
    )


def pages_of(plan: Plan, **gaps) -> dict[str, str]:
    return render(build(plan, studies.tables(plan, **gaps)))


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return pages_of(studies.plan())


@pytest.fixture(scope="module")
def hostile() -> dict[str, str]:
    return pages_of(hostile_plan())


def html_of(files: dict[str, str]) -> dict[str, str]:
    return {name: content for name, content in files.items() if name.endswith(".html")}


def parsed(page: str):
    return html5lib.HTMLParser(strict=True).parse(page)


def finding_of(planned: PlannedExperiment, kind: str, plan: Plan | None = None, **gaps) -> Finding:
    plan = plan or studies.plan(planned)
    evidence = Evidence(plan, planned, finished_runs(plan, studies.tables(plan, **gaps)))
    exhibit = next(each for each in planned.experiment.exhibits if each.kind == kind)
    return make(evidence, exhibit, kind)


def by_hand() -> tuple[PlannedExperiment, Evidence]:
    """Two arms, three seeds, four points of ten steps; seed 2 of none diverged after one."""
    accuracies = {
        ("none", 0): [0.1, 0.5, 0.7, 0.8],
        ("none", 1): [0.1, 0.2, 0.3, 0.4],
        ("none", 2): [0.1],
        ("bn", 0): [0.7, 0.6, 0.8, 0.9],
        ("bn", 1): [0.2, 0.75, 0.8, 0.9],
        ("bn", 2): [0.2, 0.3, 0.72, 0.9],
    }
    planned = examples.convergence()
    plan, base = studies.plan(planned, seeds=3), studies.tables(studies.plan(planned, seeds=3))
    curves, runs = [], base.runs[base.runs["arm"].isin(["none", "bn"])].copy()
    runs["steps_per_epoch"] = 10
    runs.loc[(runs["arm"] == "none") & (runs["seed"] == 2), "status"] = "diverged"
    for (arm, seed), values in accuracies.items():
        count = len(values)
        curves.append(
            pd.DataFrame(
                {
                    "experiment": "convergence",
                    "arm": arm,
                    "seed": seed,
                    "step": [10 * (place + 1) for place in range(count)],
                    "epoch": [place + 1.0 for place in range(count)],
                    "images": [100 * (place + 1) for place in range(count)],
                    "train_loss": 1.0,
                    "train_accuracy": 0.5,
                    "validation_accuracy": values,
                    "test_accuracy": values,
                    "test_accuracy_population": values,
                }
            )
        )
    tables = dataclasses.replace(base, runs=runs, curves=pd.concat(curves, ignore_index=True))
    return planned, Evidence(plan, planned, finished_runs(plan, tables))


def test_steps_to_a_target_are_the_first_crossing_censored_at_the_horizon():
    planned, evidence = by_hand()
    assert evidence.horizon(evidence.arms(["none", "bn"])) == 40
    none = evidence.steps_to(0.7, [planned.arm("none")], 40)
    bn = evidence.steps_to(0.7, [planned.arm("bn")], 40)
    assert list(none["value"]) == [30, 40, 40]
    assert list(none["censored"]) == [False, True, True]
    assert list(bn["value"]) == [10, 20, 30]
    cut = evidence.steps_to(0.7, [planned.arm("bn")], 20)
    assert list(cut["value"]) == [10, 20, 20]
    assert list(cut["censored"]) == [False, False, True]


def test_the_factor_is_the_geometric_mean_of_paired_ratios_with_its_t_interval():
    _, evidence = by_hand()
    exhibit = Exhibit("steps-to-target", "", {"arms": ("none", "bn"), "baseline": "none"})
    finding = make(evidence, exhibit, "steps-to-target")
    logs = np.log([30 / 10, 40 / 20, 40 / 30])  # 2.0: (3 x 2 x 4/3) ** (1/3)
    ends = np.exp(scipy.stats.ttest_1samp(logs, 0).confidence_interval(0.95))
    assert finding.sentence == (
        "With BN reaches 70% in at least 2.00 times fewer steps than without BN "
        f"(95% CI {ends[0]:.2f} to {ends[1]:.2f}, 3 seeds)"
    )
    assert finding.tables[0].rows[:2] == (
        ("70%", "without BN", "1 of 3", "1", "36.7", "over 40", "–", "–"),
        ("70%", "with BN", "3 of 3", "0", "20", "20", "2.00", f"{ends[0]:.2f} to {ends[1]:.2f}"),
    )


def test_an_arm_that_needs_more_steps_is_said_to_need_more():
    _, evidence = by_hand()
    exhibit = Exhibit("steps-to-target", "", {"arms": ("none", "bn"), "baseline": "bn"})
    sentence = make(evidence, exhibit, "a").sentence
    assert sentence.startswith("Without BN needs at least 2.00 times the steps of with BN to")


def test_a_diverged_run_counts_with_the_accuracy_of_guessing():
    planned, evidence = by_hand()
    last = evidence.latest("test_accuracy_population", [planned.arm("none")])
    assert list(last["value"]) == [0.8, 0.4, 0.1]


def test_final_differences_are_paired_and_have_scipys_interval():
    _, evidence = by_hand()
    exhibit = Exhibit("final-accuracy", "", {"arms": ("none", "bn"), "baseline": "none"})
    finding = make(evidence, exhibit, "final-accuracy")
    low, high = scipy.stats.ttest_rel([0.9] * 3, [0.8, 0.4, 0.1]).confidence_interval(0.95)
    assert finding.tables[0].rows[1][5:] == (
        "+46.67",
        f"{text.fine_points(low)} to {text.fine_points(high)}",
    )
    assert "90.0% for with BN, 43.3% for without BN: +46.67 points" in finding.sentence


def test_learning_curves_compare_the_same_seeds_at_the_same_epoch():
    _, evidence = by_hand()
    exhibit = Exhibit("learning-curves", "", {"arms": ("none", "bn")})
    finding = make(evidence, exhibit, "learning-curves")
    # seed 2 of none diverged: the means at epoch 4 are those of seeds 0 and 1
    assert finding.sentence == (
        "After 4 epochs validation accuracy is 90.0% for with BN, 60.0% for without BN: "
        "+30.0 points (2 seeds)"
    )
    assert any("1 of 3 runs of without BN diverged" in note for note in finding.notes)


def test_evaluation_statistics_compare_seed_by_seed():
    planned = examples.source()
    plan = studies.plan(planned)
    tables = studies.tables(plan)
    ends = tables.curves.dropna(subset=["test_accuracy"])
    by_seed = ends.groupby("seed")[["test_accuracy", "test_accuracy_population"]].mean()
    test = scipy.stats.ttest_rel(by_seed["test_accuracy_population"], by_seed["test_accuracy"])
    low, high = (100 * end for end in test.confidence_interval(0.95))
    gain = 100 * (by_seed["test_accuracy_population"] - by_seed["test_accuracy"]).mean()
    sentence = finding_of(planned, "evaluation-statistics").sentence
    assert f"is {gain:.1f} points lower" in sentence
    assert f"(95% CI {low:.1f} to {high:.1f}, 6 seeds)" in sentence


def test_printed_values_are_inside_up_to_the_margin_and_not_beyond():
    planned = examples.source()
    plan = studies.plan(planned)
    runs = finished_runs(plan, studies.tables(plan))
    ours = pd.concat([epoch_means(runs["source", "scratch", seed]) for seed in plan.seeds])
    at = ours[np.isclose(ours["epoch"], 1.0)]
    edge = at["train_loss"].max() + 0.02
    printed = {
        "scratch": (
            (1.0, edge - 1e-6, at["train_accuracy"].min() - 0.02 + 1e-6),
            (2.0, 9.0, 0.0),
            (9.0, 0.1, 0.9),  # we have no epoch 9
        )
    }
    exhibit = Exhibit("printed-results", "", {"printed": printed, "images": examples.IMAGES})
    finding = make(Evidence(plan, planned, runs), exhibit, "p")
    assert finding.sentence == (
        "2 of 4 printed values lie within the spread of our 6 seeds widened by 0.02"
    )
    marks = [(row[0], row[3], row[6]) for row in finding.tables[0].rows]
    assert marks == [
        ("1.0", "yes", "yes"),
        ("2.0", "no", "no"),
        ("9.0", "not compared", "not compared"),
    ]


def test_printed_results_of_a_smaller_study_say_so_first():
    finding = finding_of(examples.source(images=90_000), "printed-results")
    assert finding.sentence.startswith("With 60,000 training images instead of 90,000, ")


def test_first_layer_parameters_are_compared_by_rank():
    planned = examples.source()
    plan = studies.plan(planned)
    tables = studies.tables(plan)
    layer = tables.norms[(tables.norms["arm"] == "scratch") & (tables.norms["layer"] == "norm1")]
    ranked = np.sort([rows["gamma"] for _, rows in layer.groupby("seed")], axis=1)
    gamma = np.array([ranked[:, rank].mean() for rank in range(6)])
    gamma[5] = ranked[:, 5].max() + 1
    exhibit = Exhibit(
        "first-layer-parameters",
        "",
        {"arm": "scratch", "gamma": tuple(gamma[::-1]), "beta": (99.0,) * 6},
    )
    finding = make(Evidence(plan, planned, finished_runs(plan, tables)), exhibit, "f")
    assert finding.sentence.startswith("5 of 6 printed gammas and 0 of 6 printed betas")


def test_every_kind_of_exhibit_is_exercised_here():
    experiments = [examples.source(), examples.convergence(), examples.inside()]
    experiments += [examples.batches(), examples.square(), examples.probed(), examples.histograms()]
    experiments += [examples.recorded()]
    kinds = {exhibit.kind for each in experiments for exhibit in each.experiment.exhibits}
    assert kinds == set(EXHIBITS)


def test_an_unknown_exhibit_is_refused_by_name():
    planned = examples.convergence()
    plan = studies.plan(planned)
    evidence = Evidence(plan, planned, finished_runs(plan, studies.tables(plan)))
    with pytest.raises(ConfigError) as refusal:
        make(evidence, Exhibit("learning-curve", ""), "a")
    assert str(refusal.value) == (
        "there is no exhibit 'learning-curve': did you mean 'learning-curves'?"
    )


def test_steps_to_target_needs_a_target():
    planned = examples.source()
    plan = studies.plan(planned)
    evidence = Evidence(plan, planned, finished_runs(plan, studies.tables(plan)))
    with pytest.raises(ConfigError) as refusal:
        make(evidence, Exhibit("steps-to-target", ""), "a")
    assert str(refusal.value) == (
        "steps are read to a target, and experiment 'source' has none: give it targets"
    )


# Gaps ---------------------------------------------------------------------------------

ARMS = frozenset({"none", "bn", "none/lr=3", "bn/lr=3", "scratch", "concise"})


@pytest.mark.parametrize(
    ("seeds", "missing", "diverged"),
    [
        (6, ARMS, frozenset()),
        (6, frozenset(), ARMS),
        (1, frozenset(), frozenset()),
        (1, frozenset(), ARMS),
        (6, frozenset({"none", "scratch"}), frozenset()),
        (6, frozenset({"bn", "concise"}), frozenset({"none", "scratch"})),
        (6, frozenset(), frozenset({"none", "concise"})),
        (2, frozenset({"bn", "none/lr=3", "bn/lr=3"}), frozenset()),
    ],
    ids=["nothing", "all diverged", "one seed", "one lost seed", "baseline missing",
         "missing and diverged", "baseline diverged", "one arm of rates"],
)  # fmt: skip
def test_gaps_are_told_in_words_and_no_page_shows_nan(seeds, missing, diverged):
    files = pages_of(studies.plan(seeds=seeds), missing=missing, diverged=diverged)
    for name, page in files.items():
        if not name.endswith((".html", ".md", ".svg")):
            continue
        assert not re.search(r"\b(nan|NaN|None|inf|Infinity|NaT)\b", shown(page)), name
    told = shown(files["convergence.html"])
    if missing:
        assert "of with BN is there" in told or "of without BN is there" in told or seeds == 2
    if diverged & {"none"}:
        assert "diverged" in told


def test_a_store_without_runs_says_so():
    plan = studies.plan()
    files = pages_of(plan, missing=ARMS)
    assert "No run is there yet; 36 runs planned." in shown(files["index.html"])
    assert "Nothing to show: none of its runs is there" in shown(files["source.html"])
    assert not [name for name in files if name.startswith("figures/")]


def test_one_seed_has_no_interval():
    finding = finding_of(
        examples.convergence(), "steps-to-target", studies.plan(examples.convergence(), seeds=1)
    )
    assert finding.sentence.endswith("(1 seed: no interval)")


def test_a_target_that_nobody_reaches_is_no_factor_of_one():
    planned = examples.convergence()
    high = dataclasses.replace(planned.experiment, targets=(0.99,))
    finding = finding_of(dataclasses.replace(planned, experiment=high), "steps-to-target")
    assert finding.sentence == (
        "Neither with BN nor without BN reaches 99% within 940 steps (6 seeds)"
    )


def test_runs_beyond_the_plan_change_nothing():
    planned = examples.convergence()
    small, large = (studies.plan(planned, seeds=seeds) for seeds in (3, 6))
    more = studies.tables(large)
    cut = dataclasses.replace(
        more,
        **{
            name: getattr(more, name)[getattr(more, name)["seed"] < 3].reset_index(drop=True)
            for name in ("runs", "curves", "norms")
        },
    )
    assert render(build(small, more)) == render(build(small, cut))


# Inside the networks --------------------------------------------------------------------


def test_drift_is_the_way_of_the_percentiles_in_widths_of_their_band():
    planned = examples.inside()
    found = finding_of(planned, "percentile-bands")
    # four records, three ways of 0.1 or 0.05 each, the band 2 wide: 0.15 and 0.075
    assert found.sentence.startswith("In widths of their band, percentiles drift 2.0 times as far")
    assert "for without BN as for with BN" in found.sentence
    (table,) = found.tables
    assert [row[0] for row in table.rows] == ["without BN", "with BN"]


def test_the_ratio_of_two_layers_is_told_arm_by_arm():
    found = finding_of(examples.inside(), "layer-lines")
    assert "is 1,000 times that of act1 for without BN" in found.sentence
    assert "and 2 times that of act1 for with BN" in found.sentence


@pytest.mark.parametrize("gaps", [{"missing"}, {"diverged"}, {"missing", "diverged"}])
def test_pages_from_inside_survive_what_is_missing_or_diverged(gaps):
    arms = {"missing": frozenset({"none"}), "diverged": frozenset({"bn"})}
    plan = studies.plan(examples.inside())
    files = pages_of(plan, **{name: arms[name] for name in gaps})
    assert "nan" not in shown(files["inside.html"]).lower().split()
    nothing = pages_of(plan, missing=frozenset({"none", "bn"}))
    assert "Nothing to show" in shown(nothing["inside.html"])


# HTML ---------------------------------------------------------------------------------


def test_pages_pass_a_strict_parser(files, hostile):
    for page in [*html_of(files).values(), *html_of(hostile).values()]:
        assert parsed(page).find(".//{*}main") is not None


def test_no_page_asks_for_anything_from_elsewhere(files):
    for name, page in html_of(files).items():
        assert "http" not in page, name
        assert "<script" not in page
        assert "@import" not in page
        for target in re.findall(r'(?:src|href)="([^"]+)"', page):
            path, _, anchor = target.partition("#")
            assert not path or path in (*files, VERDICTS, CLAIM_VALUES), target
            assert not anchor or f'id="{anchor}"' in (files[path] if path else page), target


def test_ids_are_unique_and_every_label_has_its_text(files):
    for page in html_of(files).values():
        ids = re.findall(r' id="([^"]+)"', page)
        assert len(ids) == len(set(ids))
        for labels in re.findall(r'aria-labelledby="([^"]+)"', page):
            assert set(labels.split()) <= set(ids)


def test_headings_start_at_one_and_skip_no_level(files):
    for page in html_of(files).values():
        levels = [int(level) for level in re.findall(r"<h([1-6])", page)]
        assert levels.count(1) == 1
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))


def test_pages_have_language_landmarks_and_a_skip_link(files):
    for page in html_of(files).values():
        root = parsed(page)
        assert root.get("lang") == "en"
        for landmark in ("header", "nav", "main", "footer"):
            assert len(root.findall(f".//{HTML}{landmark}")) == 1
        first = root.find(f".//{HTML}body")[0]
        assert (first.tag, first.get("href")) == (f"{HTML}a", "#main")
        assert root.find(f".//{HTML}main").get("id") == "main"
        assert root.findtext(f".//{HTML}title")


def test_every_table_has_caption_scopes_and_a_scroll_container_for_the_keyboard(files):
    for page in html_of(files).values():
        root = parsed(page)
        parents = {child: parent for parent in root.iter() for child in parent}
        for table in root.iter(f"{HTML}table"):
            assert "".join(table.find(f"{HTML}caption").itertext()).strip()
            assert all(head.get("scope") in ("col", "row") for head in table.iter(f"{HTML}th"))
            around = parents[table]
            assert around.get("role") == "region"
            assert around.get("tabindex") == "0"
            assert around.get("aria-label")
            width = len(table.findall(f"{HTML}thead/{HTML}tr/{HTML}th"))
            assert all(len(row) == width for row in table.iter(f"{HTML}tr"))


def test_every_figure_has_title_description_and_a_table(files):
    for name, page in html_of(files).items():
        drawings = page.count("<svg")
        assert page.count('role="img"') == drawings
        assert len(re.findall(r"<title id=[^>]+>[^<]+</title>", page)) == drawings
        assert len(re.findall(r"<desc id=[^>]+>[^<]+</desc>", page)) == drawings
        for card in page.split("<section")[1:]:
            assert "<svg" not in card or "<table" in card, name


def colors_of(page: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the light and the dark variables that the page's own style declares."""
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    return tuple(
        dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", part)) for part in (light, dark)
    )


def test_text_stands_out_from_what_it_is_on(files):
    light, dark = colors_of(files["index.html"])
    assert (light, dark) == (LIGHT, DARK)
    for theme in (light, dark):
        for on in ("page", "paper"):
            for front in ("ink", "muted", "link"):
                assert contrast(theme[front], theme[on]) >= 4.5, (front, on)
        assert contrast(theme["ink"], theme["code"]) >= 4.5
        assert contrast(theme["warn-ink"], theme["warn-paper"]) >= 4.5


def test_pages_are_small(files):
    assert all(len(page.encode()) < 3_000_000 for page in files.values())


# Markdown and names --------------------------------------------------------------------


def test_every_number_in_markdown_is_in_the_html(files):
    pairs = {"README.md": "index.html", "convergence.md": "convergence.html",
             "source.md": "source.html"}  # fmt: skip
    for markdown, page in pairs.items():
        links = re.sub(r"\]\([^)]*\)|<[^>]+>", " ", files[markdown])
        there = set(NUMBER.findall(shown(files[page])))
        assert set(NUMBER.findall(links)) <= there
        assert len(there) > 20


def test_markdown_tables_have_as_many_cells_as_heads(hostile):
    for name, page in hostile.items():
        if not name.endswith(".md"):
            continue
        for block in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(widths) == 1, block


def test_markdown_images_are_there_and_have_a_text(files):
    found = 0
    for name, page in files.items():
        if name.endswith(".md"):
            for alt, path in re.findall(r"!\[((?:\\.|[^\]])*)\]\(([^)]+)\)", page):
                assert alt
                assert path in files
                found += 1
    assert found == sum(name.endswith(".svg") for name in files) == 9


def test_hostile_names_are_text_in_html(hostile):
    for page in html_of(hostile).values():
        assert "<script" not in page
        assert "批量" in page
    cells = [
        "".join(cell.itertext()) for cell in parsed(hostile["convergence.html"]).iter(f"{HTML}th")
    ]
    assert examples.HOSTILE in cells


def test_hostile_names_are_text_in_markdown(hostile):
    page = hostile["convergence.md"]
    assert "<script" not in page
    assert r"&lt;script&gt;alert('x')&lt;/script&gt; \| \`b\` \$y\$ \*z\* 批量" in page


def test_markdown_text_keeps_a_cell_on_one_line():
    assert markdown_text("a\n| b_c\\") == r"a \| b\_c\\"


def test_a_study_on_the_sample_warns_on_every_page(hostile, files):
    pages = [name for name in hostile if name.endswith((".html", ".md"))]
    assert len(pages) == 6
    for name in pages:
        assert "bundled sample of 8,000 training images" in hostile[name]
        assert "bundled sample of 8,000" not in files[name]


def test_a_page_of_another_size_says_whose_numbers_its_design_gives():
    quick = studies.plan(examples.source())
    standard = dataclasses.replace(quick, profile="standard")
    designs = [build(plan, studies.tables(plan)).pages[0].design for plan in (quick, standard)]
    assert "are those of the standard study" in designs[0]
    assert designs[1] == quick.experiments[0].experiment.design


def test_the_provenance_names_plan_commit_and_images(files):
    plan = studies.plan()
    words = shown(files["index.html"])
    for part in (plan.sha256, "c0ffee" * 6, plan.data.digest, "2.14.1", "14,836 per process"):
        assert part in words
    assert "36 done, 0 diverged, 0 missing" in words
    assert "bnstudy run source convergence --profile quick --seeds 6" in words


# Bytes and folders ---------------------------------------------------------------------

DIGEST = """
import hashlib
from bnstudy.report.build import build
from bnstudy.report.render import render
from tests.synthetic import studies
plan = studies.plan()
files = render(build(plan, studies.shuffled(studies.tables(plan))))
print(hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest())
"""


def test_hash_seed_and_order_of_rows_change_no_byte(files):
    expected = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", DIGEST],
        cwd=root,
        env={**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == expected


def written(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_report_is_written_whole_and_replaces_what_is_stale(tmp_path, files):
    plan = studies.plan()
    index = write_report(plan, Kept(studies.tables(plan)), tmp_path / "a" / "report")
    assert index == tmp_path / "a" / "report" / "index.html"
    data = {VERDICTS: filed_text(plan, ()), CLAIM_VALUES: claim_values_text(())}
    whole = {**files, **data}
    assert written(index.parent) == {name: text.encode() for name, text in whole.items()}
    (index.parent / "figures" / "old.svg").write_text("stale")
    # a report without runs has no charts, which take seconds: all of the first are stale
    empty = {**pages_of(plan, missing=ARMS), **data}
    write_report(plan, Kept(studies.tables(plan, missing=ARMS)), index.parent)
    assert written(index.parent) == {name: text.encode() for name, text in empty.items()}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["report"]


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    plan = studies.plan()
    with pytest.raises(ReportError) as refusal:
        write_report(plan, Kept(studies.tables(plan, missing=ARMS)), tmp_path / "thesis")
    assert str(refusal.value) == (
        "a report replaces its whole folder, and 'thesis' holds something else: "
        "move that away, or choose another folder with --reports"
    )
    assert written(tmp_path) == {"thesis/chapter.tex": b"years of work"}


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    plan, folder = studies.plan(), tmp_path / "file" / "report"
    with pytest.raises(ReportError) as refusal:
        write_report(plan, Kept(studies.tables(plan, missing=ARMS)), folder)
    assert str(refusal.value) == (
        f"a report needs a folder that can be written, got {folder}: "
        "not a directory; choose another with --reports"
    )


def test_an_experiment_cannot_take_the_name_of_the_index(tmp_path):
    planned = examples.convergence()
    named = dataclasses.replace(planned.experiment, name="index")
    plan = studies.plan(dataclasses.replace(planned, experiment=named))
    with pytest.raises(ReportError) as refusal:
        write_report(plan, Kept(studies.tables(plan, missing=ARMS)), tmp_path / "r")
    assert str(refusal.value) == (
        "the pages of a report need names of their own, got 'index': rename the experiment"
    )


def test_the_trace_adds_up():
    lines = trace_table(trace(RunConfig(norm="bn"))).splitlines()
    assert re.search(r"conv1 +Conv2d +1 x 6 x 24 x 24 +156 ", lines[1])
    assert re.search(r"^total +44,878 ", lines[-1])
