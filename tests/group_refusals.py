"""What two processes that would not do the same are told; tests/test_group.py runs it by one mpiexec.

Each case is a training for which rank 1 has something else. Results go to a file of JSON for each rank: {case: error}.
"""

import json
import sys
from pathlib import Path

import numpy as np

import hebbcore as h
import loaders

IMAGES = np.random.default_rng(5).random((20, 6, 6, 3))


class Observer(h.Layer):
    """A layer of one's own that takes statistics."""

    in_place = observes = True
    name = ""


def train(data=IMAGES, layers=None, **more):
    network = h.Network(layers or [h.Conv(4, 3)], device="cpu")
    h.fit(network, data, group=h.world(), epochs=1, **more)


def with_version(version):
    before, h.__version__ = h.__version__, version
    try:
        train()
    finally:
        h.__version__ = before


def shards(folder, seed):
    """Return a stream of shards; each process writes its own, as on machines without a shared file system."""
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 6, 6, 3), np.uint8)
    loaders.write_shards((pixels, np.arange(20) % 5), folder)
    return loaders.ShardStream(folder, batch_size=7, labels=False)


class Batches:
    """Batches of which only the number is known, and which each process reads."""

    def __init__(self, images):
        self.images_read = images

    def __len__(self):
        return 2

    def __iter__(self):
        yield from np.split(self.images_read, 2)


def main(path):
    other = h.world().rank == 1
    folder = Path(f"{path}.shards")
    cases = {
        "nothing": lambda: train(),
        "copies of shards": lambda: train(shards(folder / f"copy{other}", 0)),
        "statistics of one's own": lambda: train(layers=[h.Conv(4, 3), Observer()]),
        "version": lambda: with_version("1.2.3" if other else h.__version__),
        "settings": lambda: train(learning_rate=0.02 if other else 0.01),
        "layers": lambda: train(layers=[h.Conv(5 if other else 4, 3)]),
        "rules": lambda: train(layers=[h.Conv(4, 3, "swta" if other else "hpca")]),
        "the same batches": lambda: train(Batches(IMAGES * (1 + 1e-9 * other))),
        "batches": lambda: train(Batches(IMAGES[::-1] if other else IMAGES)),
        "batches of a layer": lambda: h.train_layer(Batches(IMAGES + 0.1 * other), 4, 3, group=h.world(), device="cpu"),
        "images": lambda: train(IMAGES[::-1] if other else IMAGES),
        "number of images": lambda: train(IMAGES[:13] if other else IMAGES),
        "images of shards": lambda: train(shards(folder / f"rank{other}", int(other))),
    }
    found = {}
    for name, case in cases.items():
        try:
            case()
            found[name] = None
        except (ValueError, RuntimeError) as error:
            found[name] = str(error)
    Path(f"{path}.{int(other)}").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
