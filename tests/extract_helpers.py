"""A small network, its images, and an extraction that is stopped."""

import h5py
import pytest
from loaders_helpers import make_arrays

import hebbcore
import loaders
from hebbcore.features.extract import extract_features

COUNT = 50


@pytest.fixture(scope="module")
def network():
    layers = [
        hebbcore.Conv(6, 3), hebbcore.Pool(2), hebbcore.BatchNorm(), hebbcore.Dense(7, "swta"), hebbcore.Triangle()
    ]  # fmt: skip
    network = hebbcore.Network(layers, (8, 10, 3), seed=3, device="cpu")
    return hebbcore.fit(network, make_arrays(20)[0], batch_size=5, learning_rate=0.1)


@pytest.fixture(scope="module")
def data():
    return make_arrays(COUNT, seed=1)


@pytest.fixture
def stream(data):
    return loaders.ArrayStream(*data, batch_size=8)


def contents(path):
    with h5py.File(path) as file:
        return file["features"][...], file["labels"][...], dict(file.attrs)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class Stop(Exception):
    pass


def stop_after(network, stream, path, batches, **options):
    """Extract, and fail after so many batches."""
    seen = []

    def stop(done):
        seen.append(done)
        if len(seen) == batches + 1:  # it is told once before the first
            raise Stop

    with pytest.raises(Stop):
        extract_features(network, stream, path, progress=stop, **options)
