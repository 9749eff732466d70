"""The shape of the package: errors, size of files, what may stand in the tree."""

import ast
import inspect
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import bnstudy
from bnstudy import errors
from bnstudy.errors import BnstudyError
from bnstudy.experiments import EXPERIMENTS
from bnstudy.plan import PROFILES

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "bnstudy"
WINGS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file())
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


def fresh(code: str) -> str:
    """Run code in a fresh interpreter; return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_names_are_the_documented_ones_and_importing_the_package_imports_no_torch():
    assert bnstudy.__all__ == ["BatchNorm", "__version__", "load", "train", "watch"]
    code = (
        "import sys, bnstudy; assert 'torch' not in sys.modules; "
        "assert set(bnstudy.__all__) <= set(dir(bnstudy)); "
        "from bnstudy import BatchNorm, activations, data, load, networks, runs, train, watch; "
        "import bnstudy.runs.training; "
        "assert watch is activations.watch and load is data.load; "
        "assert train is runs.training.train and BatchNorm is networks.norm.BatchNorm"
    )
    fresh(code)


HEAVY = (
    *("jinja2", "matplotlib", "numpy", "pandas", "pyarrow", "rich", "scipy", "seaborn"),
    *("torch", "torchvision"),
)


@pytest.mark.parametrize("arguments", ["--help", "--version", "run --help", "plan pilot --help"])
def test_help_imports_nothing_that_trains_judges_or_draws(arguments):
    code = (
        "import sys\n"
        "from bnstudy.cli import main\n"
        f"main({arguments.split()!r}, standalone_mode=False)\n"
        f"print('imported:', *({HEAVY!r} & sys.modules.keys()))"
    ).replace(f"({HEAVY!r} & ", f"(set({HEAVY!r}) & ")
    assert fresh(code).splitlines()[-1] == "imported:"


def test_shell_completion_imports_nothing_that_trains_judges_or_draws():
    code = (
        "import os, sys\n"
        "os.environ.update(_BNSTUDY_COMPLETE='bash_complete', COMP_WORDS='bnstudy r', "
        "COMP_CWORD='1')\n"
        "from bnstudy.cli import main\n"
        "try:\n"
        "    main(prog_name='bnstudy')\n"
        "except SystemExit:\n"
        f"    print('imported:', *(set({HEAVY!r}) & sys.modules.keys()))"
    )
    assert fresh(code).splitlines() == ["plain,report", "plain,run", "imported:"]


def test_the_package_has_few_names_at_its_top():
    names = {path.stem for path in PACKAGE.iterdir()} - {"__init__", "__pycache__", "py"}
    assert len(names) <= 14, sorted(names)


@pytest.mark.parametrize("wing", WINGS)
def test_module_names_of_a_wing_are_unique(wing):
    names = Counter(path.stem for path in (PACKAGE / wing).rglob("*.py"))
    allowed = {"__init__", "__main__"}
    assert [name for name, count in names.items() if count > 1 and name not in allowed] == []


def test_class_names_are_unique():
    names = Counter(
        node.name
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_only_the_command_line_knows_the_experiments():
    text = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    pattern = re.compile(r"^\s*(import|from) (bnstudy\.)?experiments", re.MULTILINE)
    assert [path.name for path, source in text.items() if pattern.search(source)] == ["cli.py"]


def test_no_test_imports_from_a_test():
    """What tests share stands in plainly named modules."""
    pattern = re.compile(r"^\s*(?:from|import) tests\.(?:\w+\.)*test_", re.MULTILINE)
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    assert [f.name for f in files if pattern.search(f.read_text(encoding="utf-8"))] == []


FLOAT_FORMAT = re.compile(r"[eEfFgGn%]$")
OLD_FLOAT_FORMAT = re.compile(r"%[-+ #0]*\d*(\.\d+)?[eEfFgG]")
FIELD = re.compile(r"{[^{}]*:([^{}]*)}")


def float_formats(tree: ast.AST) -> Iterator[int]:
    """Yield the lines on which a float becomes text with a format.

    Text that becomes a float again, as in ``float(f"{x:.3g}")``, is rounding.
    """
    rounded = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "float"
        for part in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in rounded:
            continue
        if isinstance(node, ast.FormattedValue):
            spec = getattr(node.format_spec, "values", [])
            written = "".join(part.value for part in spec if isinstance(part, ast.Constant))
            if FLOAT_FORMAT.search(written) or is_rounding(node.value):
                yield node.lineno
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
            if OLD_FLOAT_FORMAT.search(str(getattr(node.left, "value", ""))):
                yield node.lineno
        elif isinstance(node, ast.Call) and is_float_format(node):
            yield node.lineno


def is_float_format(call: ast.Call) -> bool:
    """Return whether a call is str(round(x, 2)), format(x, ".3f") or "{:.3f}".format(x)."""
    if isinstance(call.func, ast.Attribute) and call.func.attr == "format":
        fields = FIELD.findall(str(getattr(call.func.value, "value", "")))
        return any(FLOAT_FORMAT.search(field) for field in fields)
    name, arguments = getattr(call.func, "id", ""), call.args
    if name == "format" and len(arguments) == 2:
        return bool(FLOAT_FORMAT.search(str(getattr(arguments[1], "value", ""))))
    return name == "str" and len(arguments) == 1 and is_rounding(arguments[0])


def is_rounding(node: ast.AST) -> bool:
    """Return whether an expression is round(x, digits): round(x) is an integer."""
    return (
        isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "round"
        and len(node.args) == 2
    )


@pytest.mark.parametrize(
    "code",
    [
        "f'{x:.3f}'",
        "f'{x:,.{digits}f}'",
        "f'{x:g}'",
        "f'{x:+.0%}'",
        "f'{round(x, 2)}'",
        "str(round(x, 2))",
        "'%.2f s' % x",
        "'{:.3g}'.format(x)",
        "'{x:.3g} and {y}'.format(x=x, y=y)",
        "format(x, '.3e')",
    ],
)
def test_a_formatted_float_is_found(code):
    assert list(float_formats(ast.parse(code))) == [1]


@pytest.mark.parametrize(
    "code",
    [
        "f'{n:,}'",
        "f'{n:03d}'",
        "f'{x!r}'",
        "f'{round(x)}'",
        "float(f'{x:.3g}')",
        "f'{name:>8}'",
        "n % 12",
        "'%d of %s' % (n, x)",
    ],
)
def test_integers_and_names_may_be_formatted_anywhere(code):
    assert list(float_formats(ast.parse(code))) == []


# The tool for watching models stands apart from reports: its tables and plots have their own names.
# What was found of a premise is the reason of a verdict, so it is a sentence when it is judged.
PREMISES = PACKAGE / "judging" / "premises.py"
WRITING = sorted({*WINGS, "cli.py", "compiling.py", "config.py", "experiments"} - {"activations"})


@pytest.mark.parametrize("part", WRITING)
def test_a_float_becomes_text_in_one_module_alone(part):
    root = ROOT / part if part == "experiments" else PACKAGE / part
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in (sorted(root.rglob("*.py")) if root.is_dir() else [root])
        if path not in (PACKAGE / "report" / "text.py", PREMISES)
        for line in float_formats(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


READS_A_RUN = re.compile(
    r"\brun\.(curve|norms|measures)\b|\btables\.(curves|norms|measures)\b|groupby\([^)]*[\"']seed"
)


def test_runs_are_read_by_measures_alone():
    """Claims and figures agree about a run only if one place reads it; drawing draws its lines."""
    measures, marks = PACKAGE / "judging" / "measures", PACKAGE / "report" / "drawing" / "marks.py"
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in SOURCES
        if (PACKAGE / "runs") not in path.parents and measures not in path.parents and path != marks
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if READS_A_RUN.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "line", ["run.curve['step']", "tables.norms", 'rows.groupby(["arm", "seed"])', "run.measures"]
)
def test_a_reading_of_a_run_is_found(line):
    assert READS_A_RUN.search(line)


def test_a_name_that_is_not_there_is_refused_as_python_does():
    with pytest.raises(AttributeError, match="module 'bnstudy' has no attribute 'wach'"):
        bnstudy.wach  # noqa: B018
