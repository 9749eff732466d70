"""Where a result comes from: the digest of the code, versions, the machine, the commit.

No host name, no user name and no path is ever taken down.
"""

import ast
import hashlib
import importlib.util
import platform
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ENGINES = ("bnstudy.engines.reference", "bnstudy.engines.lockstep.loop")
PACKAGES = ("bnstudy", "torch", "torchvision", "numpy", "pandas", "scipy", "matplotlib")
# Errors change no result, what the sources read is checked by its own checksum, and compilers
# differ between machines anyway.
NO_EFFECT = frozenset(
    {
        "bnstudy",
        "bnstudy.compiling",
        "bnstudy.errors",
        "bnstudy.data.idx",
        "bnstudy.data.sources",
    }
)


@cache
def code_digest(*starts: str) -> str:
    """Return the sha256 of the code that decides the result of a run.

    Of the modules that ``starts`` (by default both engines) import, directly or
    not, within the package: their syntax trees without docstrings and comments,
    so that polishing words retrains nothing.  Package files that only re-export
    do not count; C++ files beside a module do.
    """
    sha, modules = hashlib.sha256(), set[str]()
    for start in starts or ENGINES:
        modules |= import_closure(start)
    folders = set()
    for module in sorted(modules):
        path = module_path(module)
        if path is not None and path.name != "__init__.py":
            folders.add(path.parent)
            sha.update(f"{module}\n{code_of(path.read_text(encoding='utf-8'))}\n".encode())
    for path in sorted(each for folder in folders for each in folder.glob("cpp/*.[ch]pp")):
        sha.update(f"{path.name}\n{cpp_code_of(path.read_text(encoding='utf-8'))}\n".encode())
    return sha.hexdigest()


def import_closure(start: str) -> set[str]:
    """Return the modules of the same package that a module imports, directly or not, and itself."""
    package, found, queue = start.split(".")[0], set(), [start]
    while queue:
        module = queue.pop()
        path = module_path(module)
        if module in found or module in NO_EFFECT or path is None:
            continue
        found.add(module)
        imported = imports_of(path.read_text(encoding="utf-8"))
        queue += [name for name in imported if name.split(".")[0] == package]
    return found


@cache  # most modules are in the closures of both engines and of every probe
def imports_of(source: str) -> tuple[str, ...]:
    """Return what a source text imports: modules, and names in them, which may be modules."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
        elif isinstance(node, ast.Import):
            found += [name.name for name in node.names]
    return tuple(found)


def module_path(module: str) -> Path | None:
    """Return the file of a module, or None if there is no such module."""
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(found.origin) if found is not None and found.origin else None


@cache
def code_of(source: str) -> str:
    """Return a source text without docstrings, comments and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def cpp_code_of(source: str) -> str:
    """Return a C++ text without ``//`` comments and layout."""
    return " ".join(re.sub(r"//.*", "", source).split())


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
