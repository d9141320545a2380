"""Shards and batches that the tests of ShardStream share."""

from pathlib import Path

import numpy as np
import pytest
from loaders_helpers import make_arrays, make_tree

import loaders

COUNT = 103


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """103 raw images in 9 shards, so that batches of 8 cross shards and the last one is short."""
    folder = tmp_path_factory.mktemp("raw")
    loaders.write_shards(make_arrays(COUNT), folder, shard_bytes=12 * 240)
    return folder


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    tree = make_tree(tmp_path_factory.mktemp("data") / "tree", classes=4, images=8)
    folder = tmp_path_factory.mktemp("packed")
    loaders.build_shards(tree, folder, workers=1, shard_bytes=20_000)
    return folder


def collect(stream) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(stream)


def assert_same(left, right) -> None:
    assert len(left) == len(right)
    for (images, labels), (other_images, other_labels) in zip(left, right, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


def keys(batches) -> list[bytes]:
    """What tells one image from another."""
    return [image.tobytes() for images, _ in batches for image in images]
