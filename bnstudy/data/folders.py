"""Folders of IDX files: which data set they hold, and whether each file is what it should be.

A folder holds four files, gzipped or not, with images of 3 or 4 axes:
``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
``t10k-labels-idx1-ubyte``.  ``test`` may stand for ``t10k``, a dot for the dash before
``idx``, and any word and a dash before ``train`` and ``t10k``.  The names of the
classes may be in ``classes.txt``, one per line, in the order of the labels.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from bnstudy.data.dataset import Dataset, check_name, from_arrays
from bnstudy.data.idx import parse, read_bytes, sha256
from bnstudy.data.known import FILES, KNOWN, ROLES, KnownDataset
from bnstudy.errors import DataCorruptError, DataError, DataNotFoundError

CLASSES_FILE = "classes.txt"
CHECKSUMS_FILE = "checksums.json"  # of files that we fetched but know no checksum of
SAMPLE_NOTICE = (
    "this study uses the {sample} ({train:,} training and {test:,} test images), "
    "not the whole of {title}: its figures are a first look only"
)


def find(folder: Path, role: str) -> Path:
    """Return the path of the file that has a role, such as ``train_images``, in a folder.

    Raises
    ------
    DataNotFoundError
        If it is not there.
    DataCorruptError
        If several files could be meant.
    """
    part, kind = role.split("_")
    words = "train" if part == "train" else "t10k|test"
    pattern = re.compile(rf"(?:.+-)?(?:{words})-{kind}[-.]idx\d-ubyte(?:\.gz)?")
    try:
        names = sorted(name for name in os.listdir(folder) if pattern.fullmatch(name))
    except OSError:  # no such folder, or one that we may not enter
        names = []
    names = [name for name in names if os.path.isfile(folder / name)]
    if not names:
        file = FILES[ROLES.index(role)]
        raise DataNotFoundError(
            f"{folder} must hold four IDX files of images and labels, got no {file} or {file}.gz: "
            "put it there or choose another source"
        )
    plain = sorted({name.removesuffix(".gz") for name in names})
    if len(plain) > 1:
        raise DataCorruptError(
            f"{folder} must hold the files of one data set, got {plain[0]} and {plain[1]}: "
            "give each data set a folder of its own"
        )
    return folder / names[0]  # the uncompressed one, if both are there


def read(folder: Path, name: str | None = None) -> Dataset:
    """Read a data set of the user's from a folder; a known one is recognized by its files.

    Parameters
    ----------
    folder
        The folder.
    name
        Name of the data set; that of the folder if not given.

    Raises
    ------
    DataNotFoundError
        If a file is missing.
    DataCorruptError
        If a file is not what it should be, or some but not all are those of a known data set.
    DataError
        If images, labels and classes do not fit together, or the name is impossible.
    """
    tensors, checksums = _read_files(folder)
    for known_name, known in KNOWN.items():
        for sample, expected in _versions(known):
            if checksums == expected and name in (None, known_name):
                return _known_dataset(known_name, sample, tensors, "folder", folder)
            wrong = [role for role in ROLES if checksums[role] != expected[role]]
            # A damaged copy; on the user's word it is a changed one.
            if len(wrong) < len(ROLES) and name is None:
                raise _refused(folder, wrong[0], checksums, known.title, expected)
    name = name or Path(os.path.abspath(folder)).name
    check_name(name)
    if name in KNOWN and KNOWN[name].checksums:
        raise DataCorruptError(
            f"the name {name!r} is that of a known data set, and the files in {folder} are not "
            "its files: fetch them again, or give the data set a name of its own with name=... "
            "(--data-name)"
        )
    dataset = from_arrays(name, **tensors, classes=_class_names(folder))
    return replace(dataset, source="folder", folder=folder)


def read_known(folder: Path, name: str, source: str) -> Dataset:
    """Read a folder that must hold a known data set, or a sample of it.

    Raises
    ------
    DataNotFoundError
        If a file is missing.
    DataCorruptError
        If a file is not that of the data set.
    """
    known = KNOWN[name]
    tensors, checksums = _read_files(folder)
    versions = _versions(known) or [("", _stored_checksums(folder))]
    for sample, expected in versions:
        if checksums == expected:
            return _known_dataset(name, sample, tensors, source, folder)
    for role in ROLES:
        if checksums[role] not in [expected[role] for _, expected in versions]:
            raise _refused(folder, role, checksums, known.title, versions[0][1])
    expected = versions[0][1]  # each file is known, but they are not of one version
    mixed = next(role for role in ROLES if checksums[role] != expected[role])
    raise _refused(folder, mixed, checksums, known.title, expected)


def _refused(
    folder: Path, role: str, checksums: Mapping[str, str], title: str, expected: Mapping[str, str]
) -> DataCorruptError:
    return DataCorruptError(
        f"{find(folder, role).name} in {folder} must be that of {title} (sha256 "
        f"{expected[role][:12]}...), got {checksums[role][:12]}...: it is damaged or of another "
        "data set, fetch it again, or give a data set of your own a name with name=... "
        "(--data-name)"
    )


def _versions(known: KnownDataset) -> list[tuple[str, Mapping[str, str]]]:
    """Return (name of the sample, checksums) of a known data set, the whole first."""
    whole = [("", known.checksums)] if known.checksums else []
    return [*whole, *known.samples.items()]


def _read_files(folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a folder and the checksums of its uncompressed files, by role."""
    tensors, checksums = {}, {}
    for role in ROLES:
        path = find(folder, role)
        content = read_bytes(path)
        checksums[role] = sha256(content)
        tensors[role] = _parse(content, role, f"{path.name.removesuffix('.gz')} in {folder}")
    return tensors, checksums


def _parse(content: bytes, role: str, name: str) -> Tensor:
    """Parse the content of a file: labels have 1 axis, images 3, or 4 with channels."""
    if role.endswith("labels"):
        return parse(content, name, axes=1)
    return parse(content, name, axes=4 if content[3:4] == b"\x04" else 3)


def _known_dataset(
    name: str, sample: str, tensors: Mapping[str, Tensor], source: str, folder: Path
) -> Dataset:
    known = KNOWN[name]
    notes: tuple[str, ...] = ()
    if sample:
        train, test = len(tensors["train_labels"]), len(tensors["test_labels"])
        notes = (SAMPLE_NOTICE.format(sample=sample, train=train, test=test, title=known.title),)
    return Dataset(
        name, source, **tensors, classes=known.classes, sample=sample, notes=notes, folder=folder
    )


def _class_names(folder: Path) -> tuple[str, ...] | None:
    """Return the lines of ``classes.txt``, None without it."""
    path = folder / CLASSES_FILE
    if not path.exists():
        return None
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} must be text in UTF-8, got {error}: save it as such, one class per line"
        ) from None
    return tuple(line.strip() for line in text.strip().splitlines())


def _stored_checksums(folder: Path) -> dict[str, str]:
    """Return the checksums of a folder that was fetched into the cache."""
    try:
        stored = json.loads((folder / CHECKSUMS_FILE).read_bytes())
        return {role: str(stored[role]) for role in ROLES}
    except FileNotFoundError:
        raise DataNotFoundError(
            f"{folder} must hold {CHECKSUMS_FILE}, got no such file: fetch the data again"
        ) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise DataCorruptError(
            f"{folder / CHECKSUMS_FILE} must hold four checksums, got another content: "
            "fetch the data again"
        ) from None


def store_checksums(folder: Path) -> None:
    """Write the checksums of four files that were just fetched beside them."""
    _, checksums = _read_files(folder)
    (folder / CHECKSUMS_FILE).write_text(json.dumps(checksums), encoding="utf-8")


def verify(folder: Path) -> dict[str, str]:
    """Return for each of the four files of a folder a line that begins with ``ok``, or its fault.

    If none of them is that of a known data set, each is ``ok`` if it can be read.
    """
    states: dict[str, str] = {}
    unknown = {}
    for role, usual in zip(ROLES, FILES, strict=True):
        try:
            path = find(folder, role)
            content = read_bytes(path)
            _parse(content, role, path.name.removesuffix(".gz"))
        except DataError as error:
            states[usual] = str(error)
            continue
        checksum, file = sha256(content), path.name.removesuffix(".gz")
        states[file] = _state(role, checksum)
        if not states[file]:
            unknown[file] = checksum
    known = any(state.startswith("ok") for state in states.values())
    fault = "unknown content" if known else "ok, of no known data set"
    return {file: state or f"{fault}, sha256 {unknown[file]}" for file, state in states.items()}


def _state(role: str, checksum: str) -> str:
    for known in KNOWN.values():
        for sample, expected in _versions(known):
            if expected[role] == checksum:
                part = f"the {sample} of {known.title}" if sample else known.title
                return f"ok, of {part}"
    return ""
