"""Training from shards on disk is training from the same batches in memory."""

import re

import numpy as np

import hebbcore
import loaders


def test_a_layer_learns_from_a_stream_what_it_learns_from_its_batches(tmp_path, capsys):
    generator = np.random.default_rng(0)
    images, labels = generator.integers(0, 256, (50, 10, 9, 3), np.uint8), generator.integers(0, 4, 50)
    loaders.write_shards((images, labels), tmp_path / "shards", shard_bytes=4000)
    options = {"batch_size": 16, "shuffle": True, "seed": 3}
    with loaders.ShardStream(tmp_path / "shards", **options) as stream:
        batches = [batch.copy() for _ in range(2) for batch, _ in stream]
    settings = {"units": 6, "kernel_size": 3, "rule": "swta", "learning_rate": 0.5}
    expected = hebbcore.train_layer(batches, **settings)
    with loaders.ShardStream(tmp_path / "shards", **options) as stream:
        layer = hebbcore.train_layer(stream, epochs=2, progress=True, **settings)
    np.testing.assert_array_equal(layer.weights, expected.weights)
    assert re.search(r"100/100 \[\d\d:\d\d<", capsys.readouterr().err)  # twice the 50 images: a time left
