"""What all tests share: few threads, a small real data set, no network, no user's cache."""

import numpy as np
import pytest
import torch

from bnstudy import data
from tests.sizes import SMALL

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the network and from the user's cache."""
    monkeypatch.setenv("BNSTUDY_CACHE", str(tmp_path_factory.mktemp("cache")))
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
