"""Where the images come from: a folder, the cache, the system, the network, the bundled sample.

Files are known by the sha256 of their uncompressed bytes, so that a copy that
was compressed again is accepted and a wrong one is not.  What is fetched
appears in the cache whole or not at all, even if two processes ask at once.
"""

import errno
import fcntl
import http.client
import logging
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from importlib import import_module, resources
from pathlib import Path

from bnstudy.compiling import cache_folder
from bnstudy.data.dataset import FULL, SAMPLE, Dataset
from bnstudy.data.idx import parse, read_bytes, sha256
from bnstudy.errors import ConfigError, DataCorruptError, DataError, DataNotFoundError, unknown

log = logging.getLogger(__name__)

# attribute of Dataset: (file, axes)
FILES = {
    "train_images": ("train-images-idx3-ubyte", 3),
    "train_labels": ("train-labels-idx1-ubyte", 1),
    "test_images": ("t10k-images-idx3-ubyte", 3),
    "test_labels": ("t10k-labels-idx1-ubyte", 1),
}
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
SOURCES = ("auto", "cache", "system", "torchvision", "debian", "sample", "folder")
DEBIAN_PACKAGE = "dataset-fashion-mnist"
SAMPLE_NOTICE = (
    "this study uses the bundled sample (8,000 training and 2,000 test images), "
    "not the whole of Fashion-MNIST: its figures are a first look only"
)
NETWORK_SECONDS = 20
IMPATIENT = (f"-oAcquire::http::Timeout={NETWORK_SECONDS}", "-oAcquire::Retries=0")


def system_folder() -> Path:
    """Return the folder of Debian's package, or ``$BNSTUDY_SYSTEM_DATA``."""
    return Path(os.environ.get("BNSTUDY_SYSTEM_DATA") or "/usr/share/datasets/fashion-mnist")


def sample_folder() -> Path:
    """Return the folder of the bundled sample."""
    return Path(str(resources.files("bnstudy.data") / "sample"))


def offline() -> bool:
    """Return whether ``$BNSTUDY_OFFLINE`` forbids the network: set, and neither empty nor 0."""
    return os.environ.get("BNSTUDY_OFFLINE", "") not in ("", "0")


def _raw(cache: Path) -> Path:
    return cache / "FashionMNIST" / "raw"  # torchvision's layout, so that it can read the cache


def load(
    name: str = "fashion-mnist",
    source: str = "auto",
    *,
    folder: Path | None = None,
    cache: Path | None = None,
    network: bool | None = None,
) -> Dataset:
    """Load the images into memory.

    Parameters
    ----------
    name
        ``fashion-mnist``.
    source
        ``auto`` tries in order the cache, the system's folder, torchvision's
        download, Debian's package, the bundled sample; any other word is that
        source or an error.
    folder
        Folder of the four files, gzipped or not; no other place is searched.
    cache
        Folder to use instead of the user's cache.
    network
        Whether the network may be used; by default unless :func:`offline`.

    Returns
    -------
    Dataset
        If it is the sample, its ``notes`` say so, and why.

    Raises
    ------
    ConfigError
        If name or source is unknown.
    DataNotFoundError
        If the source does not have the images.
    DataCorruptError
        If a file is there, but is not what it should be.
    DataError
        If the cache cannot be written.
    """
    if name != "fashion-mnist":
        raise ConfigError(unknown("data set", name, ["fashion-mnist"]))
    if folder is not None or source == "folder":
        if folder is None:
            raise ConfigError("source 'folder' needs a folder: give its path")
        return read(Path(folder), "folder")
    if source not in SOURCES:
        message = unknown("data source", source, SOURCES)
        raise ConfigError(f"{message}, or give the path of a folder")
    cache = cache_folder() if cache is None else Path(cache)
    online = not offline() if network is None else network
    if source != "auto":
        return _LOADERS[source](cache, online)
    return _first_available(cache, online)


def _first_available(cache: Path, online: bool) -> Dataset:
    passed_over = []
    for source in ("cache", "system", "torchvision", "debian"):
        try:
            return _LOADERS[source](cache, online)
        except DataNotFoundError as reason:
            log.info("%s passed over: %s", source, reason)
            passed_over.append(f"{source}: {reason}")
    sample = read(sample_folder(), "sample")
    return replace(sample, notes=(*sample.notes, *passed_over))


def read(folder: Path, source: str) -> Dataset:
    """Read the four files of a folder, and check them.

    Raises
    ------
    DataNotFoundError
        If one is missing.
    DataCorruptError
        If one is not what it should be.
    """
    tensors, digests = {}, {}
    for role, (file, axes) in FILES.items():
        content = read_bytes(find(folder, file))
        digests[file] = sha256(content)
        tensors[role] = parse(content, f"{file} in {folder}", axes)
    for known in (FULL, SAMPLE):
        if digests == known:
            notes = (SAMPLE_NOTICE,) if known is SAMPLE else ()
            return Dataset("fashion-mnist", source, folder, **tensors, digests=digests, notes=notes)
    strange = [file for file in FULL if digests[file] not in (FULL[file], SAMPLE[file])]
    wrong = (strange or [file for file in FULL if digests[file] != FULL[file]])[0]
    raise DataCorruptError(
        f"{wrong} in {folder} must be Fashion-MNIST's (sha256 {FULL[wrong][:12]}...), got "
        f"{digests[wrong][:12]}...: it is damaged or another data set, delete it or fetch it again"
    )


def find(folder: Path, file: str) -> Path:
    """Return the path of a file in a folder, gzipped or not.

    Raises
    ------
    DataNotFoundError
        If it is not there.
    """
    for path in (folder / file, folder / f"{file}.gz"):
        if os.path.isfile(path):  # Path.is_file raises for a folder that we may not enter
            return path
    raise DataNotFoundError(
        f"{folder} must hold the four files of Fashion-MNIST, got no {file} or {file}.gz: "
        "put it there or choose another source"
    )


def folder_of(source: str) -> Path:
    """Return the folder of a source; for ``auto`` the first that exists.

    Any other word is taken for the path of a folder.
    """
    cached = _raw(cache_folder())
    local = {"cache": cached, "system": system_folder(), "sample": sample_folder()}
    if source == "auto":
        return next(folder for folder in local.values() if os.path.isdir(folder))
    return {**local, "torchvision": cached, "debian": cached}.get(source, Path(source))


def verify(folder: Path) -> dict[str, str]:
    """Return for each of the four files of a folder ``ok``, or its fault."""
    found = {}
    for file, axes in FILES.values():
        try:
            content = read_bytes(find(folder, file))
            parse(content, file, axes)
        except DataError as error:
            found[file] = str(error)
            continue
        known = {FULL[file]: "ok", SAMPLE[file]: "ok, of the bundled sample"}
        found[file] = known.get(sha256(content), f"unknown content, sha256 {sha256(content)}")
    return found


# Fetching -----------------------------------------------------------------------------


def _fetched(source: str, fetch: Callable[[Path], None], cache: Path, online: bool) -> Dataset:
    """Let ``fetch`` fill a folder, check it, and move it into the cache in one step."""
    if not online:
        raise DataNotFoundError(
            f"source {source!r} needs the network, which is ruled out: unset BNSTUDY_OFFLINE "
            "or choose another source"
        )
    try:
        with _one_at_a_time(cache):
            return _fill(cache, source, fetch)
    except DataError:
        raise
    except OSError as error:
        remedy = "free some space" if error.errno in FULL_DISK else "make it writable"
        raise DataError(
            f"the cache {cache} must take the images, got {error.strerror!r} from the system: "
            f"{remedy} or set BNSTUDY_CACHE"
        ) from None


def _fill(cache: Path, source: str, fetch: Callable[[Path], None]) -> Dataset:
    """Fetch into a scratch folder of the cache and rename it; the caller holds the lock."""
    for left in cache.glob("fetching-*"):  # left by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    target = _raw(cache)
    try:
        return read(target, "cache")  # another process fetched it while this one waited
    except DataNotFoundError:
        pass
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetching-") as scratch:
        filled = Path(scratch) / "raw"
        filled.mkdir()
        fetch(filled)
        read(filled, source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():  # some of the files, left by another program
            os.replace(target, Path(scratch) / "incomplete")
        os.replace(filled, target)
    return read(target, source)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold a lock that the kernel releases when its process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch_torchvision(folder: Path) -> None:
    """Download through torchvision's ``FashionMNIST`` into a folder."""
    # imported here: it takes a second and 180 MB, and most calls do not need it
    datasets = import_module("torchvision.datasets")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_SECONDS)
    try:
        with (
            tempfile.TemporaryDirectory(dir=folder.parent) as root,
            Path(os.devnull).open("w") as silence,
            redirect_stdout(silence),
            redirect_stderr(silence),
        ):
            datasets.FashionMNIST(root, train=True, download=True)
            for file in FULL:
                shutil.copyfile(Path(root) / "FashionMNIST" / "raw" / file, folder / file)
    except (RuntimeError, OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            raise
        raise DataNotFoundError(
            "torchvision's download must answer, got no whole files from it: see to the network "
            "or choose another source"
        ) from None
    finally:
        socket.setdefaulttimeout(before)


def _fetch_debian(folder: Path) -> None:
    """Download and unpack Debian's package into a folder, without root."""
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
        for file in FULL:
            (folder / file).write_bytes(read_bytes(find(unpacked, file)))


def _apt_download(work: Path) -> None:
    """Download the package; if apt has no package lists, again with lists of our own."""
    if _silently(["apt-get", *IMPATIENT, "download", DEBIAN_PACKAGE], work):
        return
    (work / "lists" / "partial").mkdir(parents=True)
    (work / "archives" / "partial").mkdir(parents=True)
    own = [f"-oDir::State::Lists={work / 'lists'}", f"-oDir::Cache={work}"]
    if _silently(["apt-get", *IMPATIENT, *own, "update"], work):
        _silently(["apt-get", *IMPATIENT, *own, "download", DEBIAN_PACKAGE], work)


def _silently(command: list[str], folder: Path) -> bool:
    """Run a command in a folder; return whether it succeeded; a full disk is an error."""
    words, patience = {**os.environ, "LC_ALL": "C"}, 20 * NETWORK_SECONDS
    try:
        done = subprocess.run(command, cwd=folder, env=words, capture_output=True, timeout=patience)
    except (OSError, subprocess.TimeoutExpired):
        return False
    if b"No space left" in done.stderr or b"enough free space" in done.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return done.returncode == 0


_LOADERS: dict[str, Callable[[Path, bool], Dataset]] = {
    "cache": lambda cache, _: read(_raw(cache), "cache"),
    "system": lambda *_: read(system_folder(), "system"),
    "torchvision": lambda *asked: _fetched("torchvision", _fetch_torchvision, *asked),
    "debian": lambda *asked: _fetched("debian", _fetch_debian, *asked),
    "sample": lambda *_: read(sample_folder(), "sample"),
}
