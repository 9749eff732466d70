"""Packaging: what is installed is exactly what stands in the tree, under one name."""

import tomllib
from pathlib import Path

from setuptools import find_packages

ROOT = Path(__file__).resolve().parent.parent
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def folder_of(package: str) -> Path:
    """Return the folder of a package by the longest match in package-dir, as setuptools does."""
    folders = SETUPTOOLS["package-dir"]
    name = max((each for each in folders if f"{package}.".startswith(f"{each}.")), key=len)
    return ROOT / folders[name] / package.removeprefix(name).strip(".").replace(".", "/")


def test_the_installed_packages_are_those_of_the_tree():
    found = find_packages(str(ROOT), include=["bnstudy*", "experiments*"])
    installed = ["bnstudy." * name.startswith("experiments") + name for name in found]
    assert SETUPTOOLS["packages"] == sorted(installed)
    for package in installed:
        assert (folder_of(package) / "__init__.py").is_file(), package


def test_one_top_level_name_is_installed():
    assert {name.split(".")[0] for name in SETUPTOOLS["packages"]} == {"bnstudy"}


def test_every_file_that_is_no_module_is_installed():
    package = ROOT / "bnstudy"
    listed = {
        path for pattern in SETUPTOOLS["package-data"]["bnstudy"] for path in package.glob(pattern)
    }
    there = {
        path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert listed == there


def test_types_are_published():
    assert (ROOT / "bnstudy" / "py.typed").is_file()
