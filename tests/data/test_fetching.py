"""Fetching: what comes from the network is in the cache whole or not at all."""

import errno
import http.client
import multiprocessing
import os
import shutil
import socket
import sys
import time
from pathlib import Path

import pytest
import torch
import torchvision

from bnstudy import data
from bnstudy.data import sources
from bnstudy.data.idx import read_bytes
from bnstudy.errors import DataCorruptError, DataError, DataNotFoundError
from tests.data.files import TEST_LABELS, TRAIN_IMAGES, idx, raw, refusal


def unpack_sample(folder: Path) -> None:
    """Fetch from next door: put the sample into a folder, as torchvision lays it out."""
    for file in sources.FILES.values():
        (folder / file[0]).write_bytes(read_bytes(data.sample_folder() / f"{file[0]}.gz"))


def test_what_was_fetched_is_in_the_cache_for_us_and_for_torchvision(
    tmp_path: Path, sample: data.Dataset
) -> None:
    fetched = sources._fetched("torchvision", unpack_sample, tmp_path, True)
    again = data.load(source="cache", cache=tmp_path)
    theirs = torchvision.datasets.FashionMNIST(tmp_path, train=False, download=False)
    assert (fetched.source, again.source) == ("torchvision", "cache")
    assert fetched.folder == again.folder == raw(tmp_path)
    assert torch.equal(theirs.data, sample.test_images)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["FashionMNIST", "lock"]


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), DataNotFoundError("no answer")])
def test_an_interrupted_fetch_leaves_nothing(tmp_path: Path, fault: BaseException) -> None:
    def fetch(folder: Path) -> None:
        (folder / TRAIN_IMAGES).write_bytes(b"half")
        raise fault

    with pytest.raises(type(fault)):
        sources._fetched("debian", fetch, tmp_path, True)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_wrong_download_never_reaches_the_cache(tmp_path: Path) -> None:
    def fetch(folder: Path) -> None:
        unpack_sample(folder)
        (folder / TEST_LABELS).write_bytes(idx((1,), b"\x01"))

    with pytest.raises(DataCorruptError):
        sources._fetched("debian", fetch, tmp_path, True)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(errno.ENOSPC, "free some space"), (errno.EROFS, "make it writable")],
)
def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path, code: int, remedy: str) -> None:
    def fetch(folder: Path) -> None:
        (folder / TRAIN_IMAGES).write_bytes(b"half")
        raise OSError(code, os.strerror(code))

    assert refusal(lambda: sources._fetched("debian", fetch, tmp_path, True), DataError) == (
        f"the cache {tmp_path} must take the images, got {os.strerror(code)!r} from the system: "
        f"{remedy} or set BNSTUDY_CACHE"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_full_disk_under_apt_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device") as caught:
        sources._silently(["sh", "-c", "echo 'write: No space left on device' >&2"], tmp_path)
    assert caught.value.errno == errno.ENOSPC


def test_an_incomplete_cache_is_fetched_anew(tmp_path: Path) -> None:
    raw(tmp_path).mkdir(parents=True)
    shutil.copy(data.sample_folder() / f"{TRAIN_IMAGES}.gz", raw(tmp_path))
    assert sources._fetched("debian", unpack_sample, tmp_path, True).source == "debian"
    assert data.load(source="cache", cache=tmp_path).is_sample


def _hang(cache: Path, started: Path) -> None:
    def fetch(folder: Path) -> None:
        (folder / TRAIN_IMAGES).write_bytes(b"half")
        started.touch()
        time.sleep(60)

    sources._fetched("debian", fetch, cache, True)


def test_a_killed_fetch_blocks_nobody_and_its_leavings_go(tmp_path: Path) -> None:
    cache, started = tmp_path / "cache", tmp_path / "started"
    process = multiprocessing.get_context("fork").Process(target=_hang, args=(cache, started))
    process.start()
    while not started.exists():
        time.sleep(0.01)
    process.kill()
    process.join()
    assert not raw(cache).exists()
    assert len(list(cache.glob("fetching-*"))) == 1
    assert sources._fetched("debian", unpack_sample, cache, True).source == "debian"
    assert sorted(path.name for path in cache.iterdir()) == ["FashionMNIST", "lock"]


def _fetch_slowly(cache: Path) -> str:
    def fetch(folder: Path) -> None:
        time.sleep(0.5)
        unpack_sample(folder)

    (cache / f"asked-{os.getpid()}").touch()
    while len(list(cache.glob("asked-*"))) < 2:
        time.sleep(0.01)
    return sources._fetched("debian", fetch, cache, True).source


def test_two_processes_that_ask_at_once_fetch_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert sorted(pool.map(_fetch_slowly, [tmp_path, tmp_path], 1)) == ["cache", "debian"]


class _Torchvision:
    """Stands for torchvision's data set: noisy, and then it fails or delivers."""

    fault: Exception | None = None
    timeout: float | None = None

    def __init__(self, root: str, train: bool, download: bool) -> None:
        print("100%")
        print("100%", file=sys.stderr)
        type(self).timeout = socket.getdefaulttimeout()
        if self.fault:
            raise self.fault
        raw(Path(root)).mkdir(parents=True)
        unpack_sample(raw(Path(root)))


@pytest.fixture
def fake_torchvision(monkeypatch: pytest.MonkeyPatch) -> type[_Torchvision]:
    """Put a stand-in at torchvision's place, so that nothing asks the network."""
    stand_in = type("FashionMNIST", (_Torchvision,), {})
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", stand_in)
    return stand_in


def test_torchvision_downloads_in_silence_with_a_timeout_that_is_taken_back(
    tmp_path: Path, fake_torchvision: type[_Torchvision], capfd: pytest.CaptureFixture[str]
) -> None:
    before = socket.getdefaulttimeout()
    found = data.load(source="torchvision", cache=tmp_path, network=True)
    assert (found.source, fake_torchvision.timeout) == ("torchvision", 20)
    assert socket.getdefaulttimeout() == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "fault",
    [RuntimeError("Error downloading"), TimeoutError("timed out"), http.client.IncompleteRead(b"")],
)
def test_a_download_that_fails_is_one_line(
    tmp_path: Path, fake_torchvision: type[_Torchvision], fault: Exception
) -> None:
    fake_torchvision.fault = fault
    call = lambda: data.load(source="torchvision", cache=tmp_path, network=True)  # noqa: E731
    assert refusal(call, DataNotFoundError) == (
        "torchvision's download must answer, got no whole files from it: see to the network or "
        "choose another source"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


APT = """#!/bin/sh
case "$*" in
*update) touch {work}/updated ;;
*Dir::State::Lists*download*) echo package > dataset-fashion-mnist_0_all.deb ;;
*) echo 'E: Unable to locate package' >&2; exit 100 ;;
esac
"""
DPKG = """#!/bin/sh
to="$3/usr/share/datasets/fashion-mnist"
mkdir -p "$to" && cp {sample}/*.gz "$to"
"""


def _programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **programs: str) -> None:
    folder.mkdir()
    for name, text in programs.items():
        path = folder / name.replace("_", "-")
        path.write_text(text.format(work=folder, sample=data.sample_folder()))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_debian_makes_its_own_lists_where_apt_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _programs(tmp_path / "bin", monkeypatch, apt_get=APT, dpkg=DPKG)
    found = data.load(source="debian", cache=tmp_path / "cache", network=True)
    assert (found.source, found.is_sample) == ("debian", True)
    assert (tmp_path / "bin" / "updated").exists()
    assert {path.name for path in raw(tmp_path / "cache").iterdir()} == set(sources.FULL)


@pytest.mark.parametrize("broken", ["apt_get", "dpkg"])
def test_a_package_that_does_not_come_whole_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    programs = {"apt_get": APT, "dpkg": DPKG} | {broken: "#!/bin/sh\nexit 2\n"}
    _programs(tmp_path / "bin", monkeypatch, **programs)
    call = lambda: data.load(source="debian", cache=tmp_path / "cache", network=True)  # noqa: E731
    assert refusal(call, DataNotFoundError) == (
        "apt-get must download dataset-fashion-mnist, got no whole package: see to the network or "
        "choose another source"
    )


def test_debian_says_so_where_there_is_no_apt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    call = lambda: data.load(source="debian", cache=tmp_path, network=True)  # noqa: E731
    assert refusal(call, DataNotFoundError) == (
        "source 'debian' needs apt-get and dpkg, which this system lacks: choose another source"
    )
