"""A small network, its images, and files sealed with a right digest."""

import tracemalloc
from contextlib import contextmanager

import h5py
import numpy as np
import pytest
from loaders_helpers import make_arrays

import hebbcore
import loaders
from hebbcore import hdf5

IMAGES, LABELS = make_arrays(20, seed=1)
DEEP = "[" * 100_000 + "]" * 100_000
LONG = "9" * 100_000


def network():
    layers = [
        hebbcore.Whiten(2), hebbcore.Conv(4, 1), hebbcore.Pool(2), hebbcore.BatchNorm(), hebbcore.Dense(50, "swta")
    ]  # fmt: skip
    return hebbcore.Network(layers, (8, 10, 3), seed=3, device="cpu")


def stream():
    return loaders.ArrayStream(IMAGES, LABELS, batch_size=8)


def seal(path, what):
    """Give a file a right digest."""
    with path.open("r+b") as file:
        file.seek(hdf5.BLOCK)
        digest = hdf5.new_digest()
        digest.update(file.read())
        hdf5.seal(file, what, 1, digest.hexdigest())


@contextmanager
def changed(path, what):
    """Let HDF5 change a sealed file."""
    with h5py.File(path, "r+") as file:
        yield file
    seal(path, what)


@contextmanager
def little_memory(most=20 * 2**20):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A file that nobody is to be led to."""
    path = tmp_path_factory.mktemp("other") / "secret.h5"
    with h5py.File(path, "w") as file:
        file["weights"] = np.ones((50, 60), np.float32)
        file["train/images"] = IMAGES
    (path.parent / "secret.raw").write_bytes(bytes(50 * 60 * 4))
    return path
