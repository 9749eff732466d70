"""The shape of the package: errors, size of files, what may stand in the tree."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bnstudy
from bnstudy import errors
from bnstudy.errors import BnstudyError
from bnstudy.experiments import EXPERIMENTS
from bnstudy.plan import PROFILES

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*(ROOT / "bnstudy").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")])


def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}


def test_every_module_opens_with_a_sentence():
    for path, tree in trees().items():
        opening = (ast.get_docstring(tree) or "").split("\n")[0]
        assert re.match(r"[A-Za-z`].*[.:?]$", opening), f"{path.name}: {opening!r}"


def test_no_import_is_hidden_in_a_function():
    hidden = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, tree in trees().items()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert hidden == []


def test_a_file_can_be_read_in_a_sitting():
    long = {
        str(path.relative_to(ROOT)): lines
        for path in SOURCES
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 450
    }
    assert long == {}


def test_every_error_is_raised_somewhere():
    sources = [path for path in SOURCES if path.name != "errors.py"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    concrete = [
        name
        for name, thing in vars(errors).items()
        if inspect.isclass(thing) and issubclass(thing, BnstudyError) and not thing.__subclasses__()
    ]
    assert [name for name in concrete if f"{name}(" not in text] == []


def test_the_tree_of_errors_is_the_one_in_the_docstring():
    named = re.findall(r"\b(\w+Error)\b", errors.__doc__ or "")
    defined = [
        name
        for name, thing in vars(errors).items()
        if inspect.isclass(thing) and issubclass(thing, BnstudyError)
    ]
    assert sorted(named) == sorted(defined)


def test_no_user_input_is_checked_by_assert():
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def test_experiments_are_named_by_their_files():
    files = {path.stem for path in (ROOT / "experiments").glob("*.py")}
    assert {name.replace("-", "_") for name in EXPERIMENTS} <= files
    for name, experiment in EXPERIMENTS.items():
        assert experiment.name == name


@pytest.mark.parametrize("profile", ["tiny", "quick", "standard", "full"])
def test_every_experiment_has_arms_for_every_profile(profile):
    for experiment in EXPERIMENTS.values():
        assert len({arm.name for arm in experiment.arms(PROFILES[profile])}) >= 1


def test_the_tree_holds_no_path_of_a_machine_and_no_large_file():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    root, large, paths = str(ROOT.parent) + "/", [], []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file():
            continue
        if path.stat().st_size > 5_000_000:
            large.append(name)
        if root != "//" and root.encode() in path.read_bytes():
            paths.append(name)
    assert large == []
    assert paths == []


def test_watch_stands_at_the_top_and_importing_the_package_imports_no_torch():
    code = (
        "import sys, bnstudy; assert 'torch' not in sys.modules; "
        "from bnstudy.activations import watch; assert bnstudy.watch is watch; "
        "assert 'watch' in dir(bnstudy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_name_that_is_not_there_is_refused_as_python_does():
    with pytest.raises(AttributeError, match="module 'bnstudy' has no attribute 'wach'"):
        bnstudy.wach  # noqa: B018
