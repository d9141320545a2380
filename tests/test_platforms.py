"""What other systems than Linux lack."""

import os
import re
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import pytest

import hebbcore
from hebbcore import files
from hebbcore.evaluation import RidgeReadout
from hebbcore.features.extract import extract_features
from loaders import ArrayStream

WITHOUT = {
    "hebbcore": "import signal; del signal.SIGHUP; import hebbcore",
    "loaders": "import sys; sys.modules['fcntl'] = None; import loaders",
}


@pytest.fixture
def no_reservation(monkeypatch):
    """Take away what Linux reserves a disk's bytes by, which macOS has not."""
    monkeypatch.delattr(os, "posix_fallocate", raising=False)


@pytest.mark.parametrize("package", WITHOUT)
def test_windows_is_told_where_to_go(package):
    run = subprocess.run([sys.executable, "-c", WITHOUT[package]], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert re.search(f"ImportError: {package} needs .* Windows Subsystem for Linux", run.stderr)


@pytest.mark.parametrize("size", [0, 1, 1000, 2500])
def test_a_file_is_as_large_as_what_is_reserved(tmp_path, monkeypatch, no_reservation, size):
    monkeypatch.setattr(files, "_PIECE", 1000)
    with (tmp_path / "file").open("w+b") as file:
        files.reserve(file, size)
        assert file.tell() == 0
        assert file.read() == bytes(size)
    assert (tmp_path / "file").stat().st_size == size


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no disk that is always full")
def test_a_full_disk_has_no_room_to_reserve(no_reservation):
    with open("/dev/full", "w+b", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        files.reserve(file, 1)


def test_what_lies_in_files_is_the_same(tmp_path, monkeypatch, no_reservation, generator):
    """A cache of a training, features, and a matrix of a readout."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    images = generator.random((30, 8, 8, 1), np.float32)
    networks = []
    for cache in ("none", "disk"):
        network = hebbcore.Network([hebbcore.Conv(4, 3), hebbcore.Conv(5, 3)], (8, 8, 1), device="cpu")
        hebbcore.fit(network, images, epochs=2, mode="layerwise", batch_size=10, cache=cache)
        networks.append(network)
    np.testing.assert_array_equal(*(network.layers[1].weights for network in networks))

    path = extract_features(networks[0], ArrayStream(images, np.arange(30), 10), tmp_path / "features.h5")
    features = networks[0].transform(images)
    with h5py.File(path) as file:
        np.testing.assert_allclose(file["features"], features, rtol=1e-5, atol=1e-6)

    labels = np.arange(30) % 3
    rows = features.reshape(30, -1).astype(np.float64)
    found = [RidgeReadout(1.0, memory=memory).fit(rows, labels).coef_ for memory in ("1 KiB", "1 GiB")]
    np.testing.assert_allclose(*found, rtol=1e-9, atol=1e-12)
