"""What a ridge readout learns from a stream of shards or of arrays, in a group and in one process; prints JSON of both.

Arguments: a folder for shards, and "shards" or "arrays". tests/test_group_commands.py runs it by mpiexec.
"""

import json
import sys
from pathlib import Path

import numpy as np

import hebbcore
import loaders
from hebbcore.evaluation.passes import LabelledStream
from hebbcore.evaluation.readouts import make_readout
from hebbcore.evaluation.ridge.holdout import FEW
from hebbcore.evaluation.sources import OneSource, Source
from hebbcore.features.helpers import helped

ROWS = 7_000
CLASSES = 4


def a_stream(folder, kind):
    """Return images, a tenth of them without a label, brighter from class to class."""
    generator = np.random.default_rng(0)
    labels = generator.integers(-1, CLASSES, ROWS)
    images = generator.integers(0, 200, (ROWS, 4, 4, 1)) + 12 * labels[:, None, None, None].clip(0)
    images = images.astype(np.uint8)
    if kind == "arrays":
        return loaders.ArrayStream(images, labels, batch_size=101), labels
    loaders.write_shards((images, labels), folder, shard_bytes=20_000)
    return loaders.ShardStream(folder, batch_size=101), labels


def fitted(batches):
    model = make_readout("ridge", 0).set_params(memory="16 KiB").fit_stream(batches)
    return model.alpha_, model.validation_scores_.tolist(), model.coef_.tolist(), model.intercept_.tolist()


def main(folder, kind):
    with helped("test", hebbcore.world(), {}) as leads:
        if not leads:
            return
        stream, labels = a_stream(Path(folder), kind)
        network = hebbcore.Network([hebbcore.Conv(3, 3)], (4, 4, 1), precision="float64", device="cpu")
        images = LabelledStream(stream, labels, np.dtype(np.float64))
        images.read()
        keep = np.random.default_rng(1).random(images.images) < 0.95
        source = OneSource(Source.of("conv1", network, "conv1"), images, keep)
        assert source.images > FEW  # which are left out in turn, by rank 0
        print(json.dumps({"many": fitted(source), "one": fitted(list(source))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
