"""What groups of 2, 3 and 4 processes must do as one process does; tests/test_group.py runs all of it by one mpiexec.

Each case trains alone (rank 0) and in the groups, and tells the largest difference of weights and statistics, relative
to the largest number of each array. Results go to a file of JSON for each rank: {case: {size: difference or error}}.
"""

import copy
import json
import os
import sys
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import hebbcore as h
import loaders
from hebbcore.engine.group.team import wait

if os.environ.get("GROUP_TWINS"):
    import twins  # noqa: F401

RULES = {
    "hpca": h.HPCA(),
    "hpca-adaptive": h.HPCA("adaptive_tanh", scale_by_fan_in=True),
    "ica": h.ICA(),
    "swta": h.SWTA(),
    "kwta": h.KWTA(2),
    "softhebb": h.SoftHebb(),
    "hard": h.HardWTA(),
    "krotov": h.Krotov(),
    "signed": h.SignedWTA(),
    "signed-3": h.SignedWTA(3),
}


@dataclass
class Loops:
    """Batches whose order each loop over them draws anew, as of a DataLoader with a generator."""

    images: np.ndarray

    def __post_init__(self):
        self.generator = np.random.default_rng(1)

    def __iter__(self):
        order = self.generator.permutation(len(self.images))
        return (self.images[order[i : i + 13]] for i in range(0, len(order), 13))


IMAGES = np.random.default_rng(5).random((37, 8, 8, 3))
LABELS = np.random.default_rng(7).integers(-1, 5, 37)
VECTORS = np.random.default_rng(6).random((37, 12))
DEVICE = os.environ.get("GROUP_DEVICE", "cpu")
SIZES = (2, 3, 4)
OPTIONS = {"epochs": 7, "batch_size": 13, "shuffle": True}  # 21 steps of 13, 13 and 11 images


def relative(many, one):
    """Return the largest difference of arrays of the same name, relative to the largest number of each."""
    return max(float(np.abs(many[key] - one[key]).max() / max(1e-30, np.abs(one[key]).max())) for key in one)


def learned(network):
    """Return all that a network has learned."""
    return {
        f"{layer.name}/{key}": np.array(h.to_device(a, "cpu"), float)
        for layer in network.layers
        for key, a in layer.arrays().items()
    }


def a_layer(rule, data, kernel=None, rate=0.02, **more):
    def train(group):
        options = {"epochs": 7} if isinstance(data, list | Loops) else OPTIONS
        layer = h.train_layer(
            data, 10, kernel, rule=rule, learning_rate=rate, precision="float64", device=DEVICE, seed=3, group=group,
            **options, **more,
        )  # fmt: skip
        return {"weights": h.to_device(layer.weights, "cpu")}

    return train


def _ignore(record):
    """Do nothing with a record: that there is somebody who gets them lets them be made."""


def a_network(layers, data=IMAGES, **more):
    def train(group):
        network = h.Network(layers(), precision="float64", device=DEVICE, seed=2)
        options = {} if isinstance(data, list | Loops) else {**OPTIONS, "seed": 4}
        h.fit(network, data, group=group, **{**options, "epochs": 7, "log_seconds": 0.0, "callback": _ignore, **more})
        return learned(network)

    return train


def telling(layers):
    """Return a case: the records of a training, all but their times."""

    def train(group):
        records = []
        network = h.Network(layers(), precision="float64", device=DEVICE, seed=2)
        h.fit(network, IMAGES, group=group, log_seconds=1e9, callback=records.append, **OPTIONS)
        if group is not None and group.rank:
            assert not records
            return {}
        numbers = [list(layer.values()) for record in records for layer in record["layers"].values()]
        return {"numbers": np.array(numbers, float)[:, 1:], "images": np.array([r["images"] for r in records], float)}

    return train


def a_stream(folder, rule, **more):
    """Return a case: a network that learns from shards."""

    def train(group):
        network = h.Network(deep(rule), precision="float64", device=DEVICE, seed=2)
        with loaders.ShardStream(
            folder, batch_size=13, shuffle=True, labels=False, threads=1, shuffle_buffer=2**13, **more
        ) as stream:
            h.fit(network, stream, epochs=7, group=group)
            assert stream.state()["epoch"] == 0
        return learned(network)

    return train


def in_loops(case):
    """Return a case: what case(data) returns, of batches in an order of each loop's own."""
    return lambda group: case(Loops(IMAGES))(group)


def then_alone(layers):
    """Return a case: what a copy of a trained network learns by itself."""

    def train(group):
        network = h.Network(layers(), precision="float64", device=DEVICE, seed=2)
        h.fit(network, IMAGES, group=group, **OPTIONS)
        return learned(h.fit(copy.deepcopy(network), IMAGES, **OPTIONS))

    return train


def diverging(layers):
    """Return a case: what is said of weights that diverge."""

    def train(group):
        network = h.Network(layers(), precision="float64", device=DEVICE, seed=2)
        try:
            h.fit(network, IMAGES, group=group, **OPTIONS)
        except (FloatingPointError, RuntimeError) as error:  # one's own, or another process's, which it cites
            text = str(error).rpartition("FloatingPointError: ")[2]
            return {"text": np.frombuffer(text.encode(), np.uint8).astype(float)}
        raise AssertionError("nothing diverged")

    return train


def block(rule, units=6, **more):
    return [h.Conv(units, 3, rule, learning_rate=0.02, **more), h.BatchNorm(), h.Pool(2)]


def deep(rule):
    """Return a network whose layers learn together or one by one."""
    return [h.BatchNorm(), *block(rule, padding=1), h.Conv(5, 2, rule), h.BatchNorm(modified=True), h.Dense(4, rule)]


def scaled(rule):
    return [h.Conv(6, 3, rule, learning_rate=0.02), h.Scale(), h.Split(0.5), h.Pool(2), h.Dense(4, "softhebb")]


def taught():
    return [h.Conv(8, 3, h.HPCA()), h.Pool(2), h.Dense(5, "supervised", learning_rate=0.1)]


def coded():
    codes = {"response": "cosine-exp", "normalize_patches": True, "initial_weights": "k-means++"}
    return [h.Whiten(3, epsilon=0.1), h.Conv(8, 1, h.SignedWTA(), **codes), h.Nystrom(), h.Pool(2), h.Dense(3)]


def cases(folder=None):
    """Return all cases, by name; folder: for shards."""
    folder, found = Path(folder or "."), {}
    found["shards"] = a_stream(folder / "sound", "swta")
    found["shards, some left out"] = a_stream(folder / "damaged", "kwta", on_error="skip")
    found["shards, cropped"] = a_stream(folder / "sound", "softhebb", transform=loaders.RandomResizedCrop(7))
    found["shards, a part"] = a_stream(folder / "sound", "softhebb", part=(1, 2), drop_last=True)
    for name, rule in RULES.items():
        helped = {"conscience": 0.1, "revival": 1.0} if rule.takes_bias else {"revival": 1.0} if rule.competes else {}
        found[f"{name}, conv"] = a_layer(rule, IMAGES, 3, padding=1, **helped)
        found[f"{name}, dense"] = a_layer(rule, VECTORS)
        found[f"{name}, together"] = a_network(lambda rule=rule: deep(rule))
        found[f"{name}, layerwise"] = a_network(lambda rule=rule: deep(rule), mode="layerwise", schedule="cosine")
    found["whole images whitened"] = a_network(lambda: [h.Whiten(epsilon=0.1), *deep("hpca")])
    found["scale"] = a_network(lambda: scaled(h.SignedWTA()))
    found["scale, layerwise"] = a_network(lambda: scaled(h.KWTA(1)), mode="layerwise")
    found["codes of a sample"] = a_network(coded, mode="layerwise", sample=200, statistics_images=30)
    found["codes, together"] = a_network(coded)
    found["diverging"] = diverging(
        lambda: [*block("hpca"), h.Conv(9, 2), h.Conv(6, 1, learning_rate=1e9), h.Pool(1), h.Conv(4, 1), h.Conv(5, 1)]
    )
    found["codes"] = a_network(coded, mode="layerwise", statistics_images=30)
    found["rate auto"] = a_layer("hpca", IMAGES, 3, "auto")
    found["patches, then rivals"] = a_layer(h.KWTA(1), IMAGES, 3, initial_weights="patches", conscience=0.1)
    found["batches of one image"] = a_network(lambda: deep("swta"), [IMAGES[i : i + 1] for i in range(5)])
    found["vectors one by one"] = a_layer("hpca", [VECTORS[i : i + 1] for i in range(5)])
    found["a list of batches"] = a_network(lambda: deep("kwta"), [IMAGES[:9], IMAGES[9:11], IMAGES[11:]])
    found["rivals, a copy alone"] = then_alone(lambda: block(h.KWTA(1), 30, revival=1.0, conscience=0.1))
    found["supervised"] = a_layer("supervised", VECTORS, labels=LABELS)
    found["taught, together"] = a_network(lambda: taught(), labels=LABELS, teacher={"conv1": 5}, classes=5)
    found["taught, a sample"] = a_network(
        lambda: taught(), labels=LABELS, teacher={"conv1": 5}, classes=5, mode="layerwise", sample=100
    )
    found["loops that differ, from patches"] = in_loops(
        lambda data: a_network(lambda: block("swta", initial_weights="patches"), data)
    )
    found["loops that differ, a layer from patches"] = in_loops(
        lambda data: a_layer("swta", data, 3, initial_weights="patches")
    )
    found["records"] = telling(lambda: deep(h.KWTA(1)))
    return found


def write_shards(folder):
    """Write shards, and others of which the records of a whole batch's worth are damaged."""
    pixels = np.random.default_rng(0).integers(0, 256, (45, 8, 8, 3), np.uint8)
    for name in ("sound", "damaged"):
        loaders.write_shards((pixels, np.arange(45) % 5), folder / name, shard_bytes=3000)
    for shard in sorted((folder / "damaged").glob("*.h5")):
        data = shard.read_bytes()
        for image in pixels[20:40:3]:
            data = data.replace(image.tobytes(), bytes(192))
        shard.write_bytes(data)


def compared(train, one, group):
    """Return the difference of what a group learns, or the error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            many = train(group)
        return relative(many, one) if group.rank == 0 else 0.0
    except Exception:
        return traceback.format_exc()


def meet(world):
    """Wait for all processes, and leave the cores to them: MPI's own waiting, as at its end, would take one each."""
    wait(world.Ibarrier().Test)


def main(path, chosen):
    world = MPI.COMM_WORLD
    meet(world)
    groups = {size: world.Split(0 if world.rank < size else MPI.UNDEFINED, world.rank) for size in SIZES}
    groups = {size: h.Group(part) for size, part in groups.items() if part != MPI.COMM_NULL}
    results = {}
    if world.rank == 0:
        write_shards(Path(path).parent)
    meet(world)
    for name, train in cases(Path(path).parent).items():
        if chosen in name:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                one = train(None) if world.rank == 0 else None
            results[name] = {size: compared(train, one, group) for size, group in groups.items()}
    Path(f"{path}.{world.rank}").write_text(json.dumps(results))
    meet(world)


if __name__ == "__main__":
    from mpi4py import MPI

    main(sys.argv[1], "".join(sys.argv[2:]))
