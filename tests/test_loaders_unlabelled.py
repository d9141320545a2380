"""Images without a label in shards: stored, counted, streamed."""

import h5py
import numpy as np
import pytest
from loaders_helpers import make_arrays

import loaders
from hebbcore.cli import main


@pytest.fixture
def arrays():
    """Return images and labels, of which two in three are missing."""
    images, labels = make_arrays(count=60)
    return images, np.where(np.arange(60) % 3 == 0, labels, -1)


def test_images_without_a_label_live_in_shards(arrays, tmp_path, capsys):
    images, labels = arrays
    index = loaders.write_shards(arrays, tmp_path, shard_bytes=images[:10].nbytes)
    assert index.records == 60
    assert sum(index.class_counts) == 20
    assert index.class_counts == tuple(np.bincount(labels[labels >= 0]))
    stream = loaders.ShardStream(tmp_path, batch_size=7)
    pairs = list(stream)
    np.testing.assert_array_equal(np.concatenate([part for part, _ in pairs]), images)
    np.testing.assert_array_equal(np.concatenate([part for _, part in pairs]), labels)
    np.testing.assert_array_equal(stream.labels, labels)
    assert loaders.verify_shards(tmp_path) == []
    assert loaders.write_shards(arrays, tmp_path, shard_bytes=images[:10].nbytes) == index  # finished already
    assert main(["shards", "info", str(tmp_path)]) == 0
    assert "unlabelled    40 images" in capsys.readouterr().out


def test_a_fraction_of_each_class_is_one_of_the_unlabelled_too(arrays, tmp_path):
    loaders.write_shards(arrays, tmp_path)
    chosen = loaders.ShardStream(tmp_path, subset=0.5).labels
    assert (chosen == -1).sum() == 20
    for label in np.unique(arrays[1]):
        assert (chosen == label).sum() == max(1, round(0.5 * (arrays[1] == label).sum()))


def test_a_set_without_any_label(arrays, tmp_path, capsys):
    index = loaders.write_shards((arrays[0], np.full(60, -1)), tmp_path)
    assert (index.records, index.class_names, index.class_counts) == (60, (), ())
    assert list(loaders.ShardStream(tmp_path).labels) == [-1] * 60
    assert main(["shards", "info", str(tmp_path)]) == 0
    assert "0, 0 to 0 images each" in capsys.readouterr().out


def test_an_hdf5_file_may_hold_some(arrays, tmp_path):
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["train/images"], file["train/labels"] = arrays
    index = loaders.build_shards(tmp_path / "set.h5", tmp_path / "shards")
    assert index.records - sum(index.class_counts) == 40


def test_other_negative_labels_are_refused(arrays, tmp_path):
    with pytest.raises(ValueError, match="labels must be >= 0, or -1 for an image without one, got -2"):
        loaders.write_shards((arrays[0], arrays[1] * 2), tmp_path)
