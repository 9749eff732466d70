"""Provenance of a result: the digest of the code, versions, the machine, the commit.

No host name, no user name and no path is ever recorded.
"""

import ast
import hashlib
import importlib.util
import inspect
import platform
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import CodeType
from typing import Any

from bnstudy.registry import is_own

ENGINE_MODULES = ("bnstudy.engines.reference", "bnstudy.engines.lockstep.loop")
PACKAGES = ("bnstudy", "torch", "torchvision", "numpy", "pandas", "scipy", "matplotlib")
# Errors and times change no result, images have a checksum of their own wherever they come from,
# and compilers differ between machines anyway.
NO_EFFECT = frozenset(
    {
        "bnstudy",
        "bnstudy.compiling",
        "bnstudy.errors",
        "bnstudy.data.dataset",
        "bnstudy.engines.phases",
    }
)


@cache
def code_digest(*starts: str) -> str:
    """Return the sha256 of the code that determines the result of a run.

    Of the modules that ``starts`` (by default both engines) import, directly or not,
    within the package: their code as :func:`code_of` returns it, and the C++ files of
    the folders they name, in the order of the texts.  So names of modules and files,
    import lines, comments and docstrings can change without training anything again.
    """
    texts = set[str]()
    for module in set[str]().union(*(import_closure(start) for start in starts or ENGINE_MODULES)):
        path = module_path(module)
        if path is not None:
            source = path.read_text(encoding="utf-8")
            texts.add(code_of(source))
            texts |= {cpp_code_of(each.read_text(encoding="utf-8")) for each in cpp(path, source)}
    sha = hashlib.sha256()
    for text in sorted(texts - {""}):  # without those that only re-export
        sha.update(f"{text}\n".encode())
    return sha.hexdigest()


def plugin_digest(factory: Callable[..., Any] | None) -> str:
    """Return the sha256 of the source of a factory from outside the package; empty for our own.

    Of the factory, and of the functions and classes of its module that it calls or inherits from,
    directly or not, as :func:`code_of` returns them: the rest of a user's file can change without
    training again.  Where no source is kept, as in an interactive session, the compiled code
    stands for it.
    """
    if factory is None or is_own(factory):
        return ""
    texts, queue, seen = set[str](), [factory], set[int]()
    while queue:
        each = queue.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        texts.add(_text_of(each))
        names = getattr(sys.modules.get(each.__module__), "__dict__", {})
        named = [names[name] for code in _codes(each) for name in code.co_names if name in names]
        queue += [
            one
            for one in (*named, *getattr(each, "__bases__", ()))
            if callable(one) and getattr(one, "__module__", None) == factory.__module__
        ]
    return hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()


def _text_of(thing: Any) -> str:
    try:
        return code_of(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):  # no file, or a lambda within a statement
        return "\n".join(
            f"{code.co_code.hex()} {code.co_names} {_plain(code)}" for code in _codes(thing)
        )


def _codes(thing: Any) -> Iterator[CodeType]:
    """Yield the code objects of a function or a class, those within them included."""
    inner = vars(thing).values() if inspect.isclass(thing) else [thing]
    queue = [getattr(each, "__wrapped__", each) for each in inner]
    found = [
        code for each in queue if isinstance(code := getattr(each, "__code__", None), CodeType)
    ]
    while found:
        code = found.pop()
        yield code
        found += [each for each in code.co_consts if isinstance(each, CodeType)]


def _plain(code: CodeType) -> list[str]:
    return [repr(each) for each in code.co_consts if not isinstance(each, CodeType)]


def import_closure(start: str) -> set[str]:
    """Return the modules of the same package that a module imports, directly or not, and itself.

    Of a package that re-exports a name, the module that defines it is imported, not
    the package: the closure is the same whether a name is imported from a package's
    face or from the module itself.
    """
    package, found, queue = start.split(".")[0], set(), [start]
    while queue:
        module = queue.pop()
        path = module_path(module)
        if module in found or module in NO_EFFECT or path is None:
            continue
        found.add(module)
        imported = imports_of(path.read_text(encoding="utf-8"))
        queue += [
            definer(origin, name) for origin, name in imported if origin.split(".")[0] == package
        ]
    return found


def definer(module: str, name: str) -> str:
    """Return the module that ``from module import name`` takes the name from."""
    if not name:
        return module
    if module_path(f"{module}.{name}") is not None:
        return f"{module}.{name}"
    path = module_path(module)
    if path is not None and path.name == "__init__.py":
        for origin, each in imports_of(path.read_text(encoding="utf-8")):
            if each == name:
                return definer(origin, name)
    return module


@cache  # most modules are in the closures of both engines and of every probe
def imports_of(source: str) -> tuple[tuple[str, str], ...]:
    """Return the imports of a source text: (module, name in it), the name empty for a module.

    Without those for type checkers alone: what is imported lazily, such as plots, is not
    run while a network is trained.
    """
    found: list[tuple[str, str]] = []
    tree = ast.parse(source)
    for_types = [node for node in ast.walk(tree) if isinstance(node, ast.If) and is_for_types(node)]
    skipped = {id(each) for block in for_types for part in block.body for each in ast.walk(part)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [(node.module, name.name) for name in node.names]
        elif isinstance(node, ast.Import):
            found += [(name.name, "") for name in node.names]
    return tuple(found)


def is_for_types(node: ast.If) -> bool:
    """Return whether a block runs for type checkers alone."""
    test = node.test
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


@cache  # asked for every imported name
def module_path(module: str) -> Path | None:
    """Return the file of a module, or None if there is no such module."""
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(found.origin) if found is not None and found.origin else None


def cpp(path: Path, source: str) -> list[Path]:
    """Return the C++ files of a module: those in the folder ``cpp`` beside it, if it names that."""
    return list(path.parent.glob("cpp/*.[ch]pp")) if '"cpp"' in source else []


@cache
def code_of(source: str) -> str:
    """Return a source text without docstrings, comments, layout, imports and ``__all__``.

    Empty for a module that only re-exports.
    """
    return ast.unparse(_WithoutWords().visit(ast.parse(source)))


class _WithoutWords(ast.NodeTransformer):
    """Removes from a syntax tree what has no effect on results."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Remove a docstring, visit the children, and fill a body that became empty."""
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        super().generic_visit(node)
        if getattr(node, "body", None) == [] and not isinstance(node, ast.Module):
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def visit_Import(self, node: ast.Import) -> None:
        """Remove the line: the modules that it names are in the digest themselves."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Remove the line: the modules that it names are in the digest themselves."""

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        """Remove an assignment to ``__all__``."""
        target = node.targets[0]
        names_all = isinstance(target, ast.Name) and target.id == "__all__"
        return None if names_all else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        """Remove a block ``if TYPE_CHECKING`` that held imports alone."""
        self.generic_visit(node)
        alone = is_for_types(node) and not node.orelse and isinstance(node.body[0], ast.Pass)
        return None if alone else node


def cpp_code_of(source: str) -> str:
    """Return a C++ text without ``//`` comments, includes of files beside it, and layout."""
    return " ".join(re.sub(r'//.*|#include ".*"', "", source).split())


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


@cache
def commit() -> dict[str, str | bool | None]:
    """Return the commit of the source tree and whether it was changed since; None outside git."""
    folder = Path(__file__).resolve().parents[2]
    revision = _git(folder, "rev-parse", "HEAD")
    if revision is None or _git(folder, "ls-files", "--error-unmatch", "bnstudy") is None:
        return {"commit": None, "dirty": None}
    changes = _git(folder, "status", "--porcelain", "--", "bnstudy", "experiments")
    return {"commit": revision, "dirty": bool(changes)}


@cache
def commit_date(revision: str) -> str | None:
    """Return the day of a commit of the source tree, as 2026-01-31; None if git does not know."""
    if not re.fullmatch(r"[0-9a-f]{7,64}", revision):
        return None
    folder = Path(__file__).resolve().parents[2]
    return _git(folder, "show", "--no-patch", "--format=%cs", revision) or None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@cache
def machine() -> dict[str, str]:
    """Return the kind of machine: system, architecture, model of the processor."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": _processor(),
    }


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"
