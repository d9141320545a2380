"""Does learning pay? Accuracy of the preset "dictionary" against units and labels, by dictionaries of several origins.

    python benchmarks/dictionary.py cifar10.h5 --json FILE [--units 64 256 1024] [--methods learned random k-means]
        [--seeds 0 1 2] [--labels 10 500 50000] [--validate 10000] [--device cuda --precision tf32]
        [--folder DIR --memory "20 GiB"]

learned: as the preset learns. random: the patches that units start from, in every dictionary. k-means: spherical
k-means (KWTA of one winner) in every dictionary. `--units` u stands for units=(128, u, u, 25 u / 64) of the preset, and
with `--layers 2` for (128, u, 25 u / 64).
The readout is RidgeReadout on standardised features of all training images, or of `--labels` of them, as many of each
class, in `--draws` selections; it chooses its penalty, a power of ten, on the labelled images. Features are made of the
images that a selection has alone; units learn from all. `--validate` N judges by the last N training images, which are
then not trained on, instead of the test images: what is chosen, choose so. Rows that FILE holds are not measured again.
`--folder` is for features that memory does not hold: they lie there, rounded to float16, in files without names that go
with the row, or with the program.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import hebbcore
from hebbcore import KWTA, Branches, Conv, Layer, Network
from hebbcore.dictionary import dictionary, training
from hebbcore.engine import backend, devices
from hebbcore.evaluation import RidgeReadout, labelled_subset

METHODS = ("learned", "random", "k-means")
BLOCK = 500  # images whose features are made at a time for a file
PENALTIES = 10.0 ** np.arange(-2, 6)  # of all rows that are kept: others cannot be compared with them


def sizes(units: int, layers: int) -> tuple[int, ...]:
    """Return the preset's units."""
    return (128, *[units] * (layers - 1), max(1, round(25 * units / 64)))


def to_k_means(layers: Sequence[Layer]) -> None:
    """Let all units learn by spherical k-means."""
    for layer in layers:
        if isinstance(layer, Branches):
            for branch in layer.branches:
                to_k_means(branch)
        elif isinstance(layer, Conv):
            layer.rule, layer.normalize_patches = KWTA(1), True


def trained(method: str, units: int, seed: int, images: Any, args: argparse.Namespace) -> Network:
    """Return the network with dictionaries of this origin."""
    units = sizes(units, args.layers)
    layers, shape = dictionary(images.shape[1:], units)
    if method == "k-means":
        to_k_means(layers)
    network = Network(layers, image_shape=shape, seed=seed, device=args.device, precision=args.precision)
    network.training = training(units)
    still = {"rate_factor": 1e-30, "epochs": 1} if method == "random" else {}  # too little to move a unit
    return hebbcore.fit(network, images, seed=seed, **still)


def selections(labels: Any, counts: Sequence[int], draws: int) -> dict[int, list[Any]]:
    """Return for each number of labels the rows of its selections: one of all rows, `draws` of fewer."""
    few = {count: [labelled_subset(labels, count, draw, "stratified") for draw in range(draws)] for count in counts}
    return few | {count: [np.arange(count)] for count in counts if count == len(labels)}


def features_of(network: Network, images: Any, folder: Path | None) -> Any:
    """Return the features (images, numbers) of images and their mirror images; with a folder, mapped from there."""
    if folder is None:
        features = network.transform(images, mirror=True)
        return features.reshape(len(features), -1)
    folder.mkdir(parents=True, exist_ok=True)
    file: Any = None
    for first in range(0, len(images), BLOCK):
        block = devices.to_device(network.transform(images[first : first + BLOCK], mirror=True), "cpu")
        block = block.reshape(len(block), -1)
        if file is None:
            shape = len(images), block.shape[1]
            with tempfile.TemporaryFile(dir=folder) as unnamed:
                file = np.memmap(unnamed, np.float16, "w+", shape=shape)
        file[first : first + len(block)] = block
    return file


def tell(line: str) -> None:
    """Show how far a readout is."""
    print(line, file=sys.stderr, flush=True)


def accuracy(features: Any, labels: Any, test: Any, answers: Any, memory: str, folder: Path | None) -> float:
    """Return the accuracy of a readout of these labelled rows, in percent."""
    readout = RidgeReadout(PENALTIES, standardize=True, memory=memory, folder=folder, progress=tell)
    readout.fit(features, labels)
    return 100 * readout.score(test, answers)


def measure(method: str, units: int, seed: int, data: tuple[Any, ...], args: argparse.Namespace) -> dict[str, Any]:
    """Return one row: a network, its costs, and the accuracies by number of labels."""
    images, labels, test, answers = data
    xp = backend.module(args.device)
    begin = time.perf_counter()
    network = trained(method, units, seed, xp.asarray(images), args)
    learned = time.perf_counter()
    chosen = selections(labels, [count for count in args.labels if count <= len(labels)], args.draws)
    used = np.unique(np.concatenate([rows for draws in chosen.values() for rows in draws]))
    features, unseen = (features_of(network, xp.asarray(part), args.folder) for part in (images[used], test))
    float(unseen[-1, -1])
    transformed = time.perf_counter()
    row = {
        "method": method, "units": sizes(units, args.layers), "seed": seed, "features": features.shape[1],
        "gflop_mirrored_image": network.gflop(mirror=True), "seconds_fit": learned - begin,
        "seconds_transform": transformed - learned, "images": len(used) + len(test), "top1": {},
    }  # fmt: skip
    for count, draws in chosen.items():
        found = row["top1"][str(count)] = []
        for rows in draws:
            few = features
            if not np.array_equal(rows, used):
                few = features[backend.namespace(features).asarray(np.searchsorted(used, rows))]
            found.append(accuracy(few, labels[rows], unseen, answers, args.memory, args.folder))
    row["seconds_readouts"] = time.perf_counter() - transformed
    return row


def main() -> None:
    """Measure every combination that the file does not hold yet, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="HDF5 file with train/images, train/labels, test/images and test/labels")
    parser.add_argument("--json", required=True, type=Path, help="where rows are kept")
    parser.add_argument("--units", nargs="+", type=int, default=[64, 256, 1024])
    parser.add_argument("--layers", type=int, default=3, choices=(2, 3), help="of the deep branch (default: 3)")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--labels", nargs="+", type=int, default=[100, 500, 5000, 50000])
    parser.add_argument("--draws", type=int, default=5, help="selections of labelled images")
    parser.add_argument("--images", type=int, help="the first so many training images (default: all)")
    parser.add_argument("--validate", type=int, default=0, help="judge by so many of the last training images")
    parser.add_argument("--folder", type=Path, help="keep features there as float16 (default: in memory, float32)")
    parser.add_argument("--memory", default="4 GiB", help="of a readout (default: 4 GiB)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="float32")
    args = parser.parse_args()
    with h5py.File(args.file) as file:
        images, labels = file["train/images"][:], file["train/labels"][:]
        test, answers = file["test/images"][:], file["test/labels"][:]
    if args.validate:
        test, answers = images[-args.validate :], labels[-args.validate :]
        images, labels = images[: -args.validate], labels[: -args.validate]
    data = (images[: args.images], labels[: args.images], test, answers)
    about = {
        "hebbcore": hebbcore.__version__, "numpy": np.__version__, "machine": platform.machine(),
        "device": {d.name: d.detail for d in hebbcore.devices()}[args.device], "precision": args.precision,
        "train": len(data[0]), "judged": len(test), "validation": bool(args.validate),
    }  # fmt: skip
    rows = []
    if args.json.exists():
        kept = json.loads(args.json.read_text(encoding="utf-8"))
        if kept["about"] != about:
            parser.error(f"{args.json} holds figures of {kept['about']}, these are {about}; take another file")
        rows = kept["rows"]
    for seed in args.seeds:
        for units in args.units:
            for method in args.methods:
                if any(
                    (r["method"], r["units"], r["seed"]) == (method, list(sizes(units, args.layers)), seed)
                    for r in rows
                ):
                    continue
                row = measure(method, units, seed, data, args)
                rows.append(json.loads(json.dumps(row)))
                args.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1), encoding="utf-8")
                top1 = ", ".join(f"{key}: {np.mean(found):.2f}" for key, found in row["top1"].items())
                print(
                    f"{method:8} {units:5} seed {seed}: {top1}; {row['gflop_mirrored_image']:.2f} GFLOP an image, "
                    f"{row['seconds_fit']:.0f} + {row['seconds_transform']:.0f} + {row['seconds_readouts']:.0f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
