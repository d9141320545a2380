"""data.subset: the same images of an HDF5 file as of shards of it."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_helpers import CONV, config_text

import hebbcore
import loaders
from hebbcore.cli import sources

pytest_plugins = "cli_helpers"

CONFIG = config_text(CONV, shuffle=False)


@pytest.mark.parametrize("subset", [1, 7, 60, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("piece", [2**26, 600])  # bytes: all images at once, three
def test_an_hdf5_file_and_shards_of_it_give_the_same_images(images, call, subset, piece, monkeypatch):
    monkeypatch.setattr(sources, "_PIECE", piece)
    stream = loaders.ShardStream("shards/train", subset=subset, batch_size=60)
    (expected, labels), = list(stream)  # fmt: skip
    found, names = sources.read_arrays(Path("images.h5"), "train", subset)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(names, labels)
    Path("run.toml").write_text(CONFIG)
    for run, path in (("a", "images.h5"), ("b", "shards/train")):
        call(f"train run.toml --out {run} --set data.path={path} --set data.subset={subset}")
    np.testing.assert_array_equal(*(hebbcore.load(run, device="cpu")["conv1"].weights for run in "ab"))


def test_a_fraction_of_images_without_labels_is_of_them_all(images):
    with h5py.File("images.h5", "r+") as file:
        del file["train/labels"]
        everything = file["train/images"][...]
    found, labels = sources.read_arrays(Path("images.h5"), "train", 0.25)
    assert labels is None
    assert len(found) == 15
    rows = [next(i for i, image in enumerate(everything) if (image == one).all()) for one in found]
    assert rows == sorted(set(rows)) != list(range(15))


def test_a_seed_is_that_of_the_weights_where_shards_are_read_in_order(images, call):
    Path("run.toml").write_text(CONFIG)
    for run, seed in (("a", 0), ("b", 3)):
        call(f"train run.toml --out {run} --set data.path=shards/train --set seed={seed}")
    one, other = (hebbcore.load(run, device="cpu")["conv1"].weights for run in "ab")
    assert (one != other).any()
