"""What all tests share: few threads, a small real data set, no network, no user's cache."""

import numpy as np
import pytest
import torch

from bnstudy import data
from bnstudy.compiling import cache_folder
from tests.sizes import SMALL

torch.set_num_threads(1)
KERNELS = cache_folder() / "kernels"
KERNELS.mkdir(parents=True, exist_ok=True)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the network and from the user's cache, but for compiled kernels.

    Their names are hashes of all that they are made of, and compiling one in every process
    that a test starts would take most of the time of the whole suite.
    """
    cache = tmp_path_factory.mktemp("cache")
    (cache / "kernels").symlink_to(KERNELS, target_is_directory=True)
    monkeypatch.setenv("BNSTUDY_CACHE", str(cache))
    monkeypatch.setenv("BNSTUDY_OFFLINE", "1")


@pytest.fixture(autouse=True)
def global_generators_untouched():
    """Fail a test that draws from, or seeds, the global generators."""
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    yield
    assert torch.equal(torch.get_rng_state(), torch_state)
    after = np.random.get_state()  # noqa: NPY002
    assert after[2] == numpy_state[2]
    assert np.array_equal(after[1], numpy_state[1])


@pytest.fixture(scope="session")
def sample() -> data.Dataset:
    """Real Fashion-MNIST: the bundled sample."""
    return data.load(source="sample")


@pytest.fixture(scope="session")
def small(sample: data.Dataset) -> data.Splits:
    """Real images in the sizes of :data:`SMALL`."""
    return data.split(sample, SMALL)
