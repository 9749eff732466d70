"""The code digest: what it covers, and what changes it."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from bnstudy.engines.probes import PROBES, modules_of
from bnstudy.networks.norm import NORMS, register_norm
from bnstudy.runs import provenance
from bnstudy.runs.store import identify
from tests.plans import plan_of

TRAINING = {
    "bnstudy.config",
    "bnstudy.data.splits",
    "bnstudy.engines.lockstep.cpu",
    "bnstudy.engines.lockstep.random_draws",
    "bnstudy.engines.lockstep.gpu",
    "bnstudy.engines.lockstep.gpu_layers",
    "bnstudy.engines.lockstep.interface",
    "bnstudy.engines.lockstep.loop",
    "bnstudy.engines.lockstep.parameters",
    "bnstudy.engines.observer",
    "bnstudy.engines.run_record",
    "bnstudy.engines.reference",
    "bnstudy.engines.optimizers",
    "bnstudy.networks.building",
    "bnstudy.networks.inputs",
    "bnstudy.networks.layers",
    "bnstudy.networks.checkpointing",
    "bnstudy.networks.dropout",
    "bnstudy.networks.lenet",
    "bnstudy.networks.mlp",
    "bnstudy.networks.norm.functional",
    "bnstudy.networks.norm.layer",
    "bnstudy.networks.norm.registry",
    "bnstudy.networks.norm.state",
    "bnstudy.networks.norm.variants",
    "bnstudy.networks.pooling",
    "bnstudy.networks.resnet",
    "bnstudy.networks.weights",
    "bnstudy.registry",
}
ELSEWHERE = {"report", "drawing", "plots", "runs", "plan", "judging", "inference", "cli"}

# Plugins --------------------------------------------------------------------------------

PLUGIN = '''
from torch import nn
from bnstudy.networks.norm import register_norm

UNRELATED = 1

def half(x):
    return x / 2

class Base(nn.Module):
    def shift(self, x):
        return x + 1

class Own(Base):
    """Words."""
    def forward(self, x):
        return half(self.shift(x))

@register_norm("own-layer", replace=True)
def own(num_features, num_dims, rng):
    return Own()
'''


def plugin_digest_of(text, folder, name):
    """Return the digest of the factory that a module of this text registers."""
    (folder / f"{name}.py").write_text(text)
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        return provenance.plugin_digest(module.own)
    finally:
        del sys.modules[name], NORMS._factories["own-layer"]


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ("x / 2", "x / 3", True),
        ("x + 1", "x + 2", True),
        ("half(self.shift(x))", "self.shift(half(x))", True),
        ("return Own()", "return Own().eval()", True),
        ("UNRELATED = 1", "UNRELATED = 2", False),
        ("Words.", "Other words.", False),
        ("    return x / 2", "    # a comment\n    return x / 2", False),
    ],
)
def test_the_id_of_a_run_holds_the_code_of_a_plugin_and_no_other(before, after, changes, tmp_path):
    first = plugin_digest_of(PLUGIN, tmp_path, "first_plugin")
    assert before in PLUGIN
    second = plugin_digest_of(PLUGIN.replace(before, after), tmp_path, "second_plugin")
    assert (first != second) == changes
    assert provenance.plugin_digest(NORMS.factory("bn")) == ""


def test_a_changed_plugin_gets_another_run(sample):
    keys = []
    for shift in (1, 2):
        factory = eval(f"lambda C, dims, rng: nn.Threshold(-{shift}, 0.0)", {"nn": nn})
        register_norm("own-layer", replace=True)(factory)
        keys.append(identify(plan_of(sample, norms=("own-layer",)).runs[0], "data"))
    del NORMS._factories["own-layer"]
    assert keys[0].id != keys[1].id
    assert "plugins" not in identify(plan_of(sample, norms=("bn",)).runs[0], "data").spec


# Coverage -------------------------------------------------------------------------------


def test_the_code_of_both_engines_is_exactly_this():
    found = set().union(*map(provenance.import_closure, provenance.ENGINE_MODULES))
    assert found == TRAINING


@pytest.mark.parametrize("name", PROBES)
def test_the_code_of_a_probe_holds_nothing_that_draws_plans_or_judges(name):
    (module,) = modules_of([name])
    closure = provenance.import_closure(module)
    assert module in closure
    assert not [each for each in closure if ELSEWHERE & set(each.split("."))]


def test_probes_import_no_recorder_except_those_that_record():
    for name in set(PROBES) - {"activations", "fixed-activations", "recorder"}:
        closure = provenance.import_closure(*modules_of([name]))
        assert not {"bnstudy.activations", "bnstudy.activations.recorder"} & closure


def test_editing_a_probe_retrains_only_the_runs_it_looks_into():
    (geometry,) = modules_of(["geometry"])
    closure = provenance.import_closure(geometry)
    assert {"bnstudy.engines.probes.geometry", "bnstudy.engines.probes.probe"} <= closure
    own_files = {each for name in set(PROBES) - {"geometry"} for each in modules_of([name])}
    assert not own_files & closure
    both = provenance.code_digest(*modules_of(["geometry", "activations"]))
    assert both != provenance.code_digest(geometry)


def test_modules_without_effect_exist():
    assert {name for name in provenance.NO_EFFECT if not provenance.module_path(name)} == set()


def test_the_code_digest_covers_the_kernel(monkeypatch):
    kernel = provenance.module_path("bnstudy.engines.lockstep.cpu").parent / "cpp" / "kernel.cpp"
    before = provenance.code_digest.__wrapped__()
    read = Path.read_text

    def changed(path, **options):
        return read(path, **options) + (" int more;" if path == kernel else "")

    monkeypatch.setattr(Path, "read_text", changed)
    assert provenance.code_digest.__wrapped__() != before


# Texts ----------------------------------------------------------------------------------


def test_polishing_words_keeps_the_code_digest_and_changing_code_does_not():
    source = 'def f(x):\n    """Say."""\n    return x + 1  # why\n'
    polished = 'def f(x):\n    """Say it better."""\n\n    # because\n    return x+1\n'
    assert provenance.code_of(source) == provenance.code_of(polished)
    assert provenance.code_of(source) != provenance.code_of(source.replace("1", "2"))


def test_comments_in_the_kernel_keep_the_code_digest_and_changing_it_does_not():
    source = "// add\nint f(int x) {\n  return x + 1;  // why\n}\n"
    polished = "int f(int x) { return x + 1; }  // said better\n"
    assert provenance.cpp_code_of(source) == provenance.cpp_code_of(polished)
    assert provenance.cpp_code_of(source) != provenance.cpp_code_of(source.replace("1", "2"))


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ('"""Face."""\n\nfrom a.b import c\nimport d as e\n\n__all__ = ["c"]\n', ""),
        (
            "from __future__ import annotations\nfrom typing import TYPE_CHECKING\n\nx = 1\n",
            "x = 1",
        ),
        ("if TYPE_CHECKING:\n    from a import B\n\nx = 1\n", "x = 1"),
        ("if SLOW():\n    import a\n", "if SLOW():\n    pass"),
        ("try:\n    import a\nexcept ImportError:\n    a = None\n", None),
        ('class A:\n    """Only words."""\n', "class A:\n    pass"),
        ('async def f():\n    """Only words."""\n    return 1\n', "async def f():\n    return 1"),
    ],
)
def test_imports_and_exported_names_are_no_code(source, code):
    expected = "try:\n    pass\nexcept ImportError:\n    a = None" if code is None else code
    assert provenance.code_of(source) == expected


# Moves ----------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a function that writes a package of files and returns the digest from its start."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def digest(name, files):
        for path, text in {"__init__.py": "", **files}.items():
            file = tmp_path / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text.replace("PACKAGE", name))
        return provenance.code_digest(f"{name}.start")

    yield digest
    for name in [each for each in sys.modules if each.startswith("digested")]:
        del sys.modules[name]


HALF = "def half(x):\n    return x / 2\n"
START = "from PACKAGE.deep.half import half\n\n\ndef start(x):\n    return half(x) + 1\n"
FILES = {"start.py": START, "deep/__init__.py": "", "deep/half.py": HALF}


def test_moving_a_module_and_rewriting_its_imports_keeps_the_digest(package):
    before = package("digested_before", FILES)
    moved = {
        "start.py": START.replace(
            "from PACKAGE.deep.half", "import math  # unused\nfrom PACKAGE.other"
        ),
        "other.py": f'"""Moved."""\n\nfrom collections.abc import Callable\n\n{HALF}',
    }
    assert package("digested_after", moved) == before


def test_importing_from_a_face_or_from_the_module_gives_the_same_digest(package):
    before = package("digested_module", FILES)
    face = {
        **FILES,
        "start.py": START.replace("PACKAGE.deep.half", "PACKAGE.deep"),
        "deep/__init__.py": "from PACKAGE.deep.half import half\nfrom PACKAGE.deep.rest import a\n",
        "deep/rest.py": "a = 3\n",
    }
    assert package("digested_face", face) == before


def test_a_face_that_defines_something_counts(package):
    defined = {"start.py": START.replace("PACKAGE.deep.half", "PACKAGE.deep")}
    one = package("digested_one", {**defined, "deep/__init__.py": HALF})
    other = package("digested_other", {**defined, "deep/__init__.py": HALF.replace("2", "3")})
    assert one != other


def test_changing_one_operator_changes_the_digest(package):
    before = package("digested_divided", FILES)
    assert package("digested_times", {**FILES, "deep/half.py": HALF.replace("/", "*")}) != before


def test_renaming_a_cpp_file_keeps_the_digest_and_changing_it_does_not(package):
    loads = {**FILES, "deep/half.py": HALF + 'SOURCE = ("cpp", "k.cpp")\n'}
    before = package("digested_k", {**loads, "deep/cpp/k.cpp": "int x = 1;  // one\n"})
    renamed = {**loads, "deep/cpp/kernel.cpp": "int x = 1;\n"}
    assert package("digested_kernel", renamed) == before
    assert package("digested_int", {**loads, "deep/cpp/k.cpp": "int x = 2;\n"}) != before
    assert package("digested_none", {**FILES, "deep/cpp/k.cpp": "int x = 1;\n"}) == package(
        "digested_plain", FILES
    )


def test_nothing_that_trains_is_imported_lazily():
    """What is imported lazily is not in the digest, so it may only show what was recorded."""
    trained = set(TRAINING).union(*map(provenance.import_closure, modules_of(PROBES)))
    lazy = {
        (module, name)
        for module in trained
        for name in re.findall(
            r'lazy_module\("(bnstudy[\w.]*)"\)', provenance.module_path(module).read_text("utf-8")
        )
    }
    assert lazy == {("bnstudy.activations.recording", "bnstudy.activations.plots")}


# Worker processes -----------------------------------------------------------------------


def test_a_worker_imports_no_drawing_and_no_statistics():
    code = (
        "import sys, bnstudy.runs.jobs\n"
        "heavy = ('matplotlib', 'seaborn', 'scipy.stats', 'jinja2')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
