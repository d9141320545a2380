"""Units that win nothing, and what the features are worth, for each rule that competes, start and remedy.

    python benchmarks/dead_units.py cifar10.h5 --units 400 --json benchmarks/results/dead_units_400.json

Raw (or with --whiten contrast normalised, whitened) 6×6 patches of the first 3,000 training images of CIFAR-10, one
epoch; dead: units that win none of 50,000 other patches. Accuracy of a ridge readout (penalty by leaving one out) on
the last 2,000 training images, which nothing else sees, after Triangle (signed WTA: Split) at every third pixel,
averages over 2×2 cells, and scaling. Random numbers and random patches as filters are in the same pipeline.
"""

import argparse
import json
import platform
import time
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from sklearn.linear_model import RidgeClassifierCV
from sklearn.preprocessing import StandardScaler

import hebbcore
from hebbcore.evaluation import random_filters, random_patches

KERNEL, STRIDE, CELLS = 6, 3, 2
RATES = {"swta": 0.1, "kwta": 0.1, "signedwta": 0.1, "softhebb": 0.05, "hardwta": 0.05, "krotov": 0.02}
REMEDIES = {"off": {}, "conscience": {"conscience": 0.05}, "revival": {"revival": 10.0}}
STARTS = ("rule", "patches", "k-means++")
PENALTIES = np.logspace(0, 5, 11)
Array = Any


def main() -> None:
    """Measure, and print a line of JSON for each combination."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="HDF5 file with train/images and train/labels")
    parser.add_argument("--units", type=int, default=400)
    parser.add_argument("--images", type=int, default=2000, help="training images of the readout")
    parser.add_argument("--whiten", action="store_true")
    parser.add_argument("--rules", nargs="+", default=list(RATES), choices=RATES)
    parser.add_argument("--starts", nargs="+", default=["rule", "patches"], choices=STARTS)
    parser.add_argument("--remedies", nargs="+", default=list(REMEDIES), choices=REMEDIES)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where all lines go")
    args = parser.parse_args()
    with h5py.File(args.file) as file:
        images, labels = (file[f"train/{key}"][...] for key in ("images", "labels"))
    given = (images[: args.images], labels[: args.images], images[-2000:], labels[-2000:])
    network = hebbcore.Network([hebbcore.Whiten(KERNEL, stride=4)], images.shape[1:], device="cpu")
    if args.whiten:
        network.layers[0].observe(images[:3000])
        network.layers[0].settle()
    learned, others = (
        network.transform(part).reshape(-1, KERNEL * KERNEL * 3) if args.whiten else hebbcore.im2col(part, KERNEL, 4)
        for part in (images[:3000], images[3000:4100])
    )
    lines = []
    for seed in range(args.seeds):
        generator = np.random.default_rng(seed)
        banks: list[dict[str, Any]] = [
            {"bank": "random numbers", "weights": random_filters(args.units, learned.shape[1], generator)},
            {"bank": "random patches", "weights": random_patches(learned, args.units, generator)},
        ]
        banks += [
            {"bank": rule, "start": start, "remedy": remedy}
            for rule in args.rules
            for start in args.starts
            for remedy in args.remedies
            if remedy != "conscience" or hebbcore.RULES[rule]().takes_bias
        ]
        for bank in banks:
            start = time.perf_counter()
            rule, weights = bank["bank"], bank.pop("weights", None)
            if weights is None:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", ".* units of the layer won none")
                    weights = hebbcore.train_layer(
                        learned, args.units, rule=rule, learning_rate=RATES[rule], batch_size=500, seed=seed,
                        initial_weights=bank["start"], device="cpu", **REMEDIES[bank["remedy"]],
                    ).weights  # fmt: skip
            else:
                rule = "swta"
            line = {
                **bank, "units": args.units, "whitened": args.whiten, "seed": seed,
                "dead": dead_units(weights, rule, others), "seconds": round(time.perf_counter() - start, 1),
                "accuracy": accuracy(network.layers[0] if args.whiten else None, weights, rule, given),
            }  # fmt: skip
            lines.append(line)
            print(json.dumps(line), flush=True)
    if args.json:
        settings = {**vars(args), "file": None, "json": None}
        machine = {"python": platform.python_version(), "numpy": np.__version__}
        args.json.write_text(json.dumps({"settings": settings, "machine": machine, "lines": lines}, indent=1) + "\n")


def dead_units(weights: Array, rule: str, patches: Array) -> int:
    """Return how many units win none of the patches."""
    out = hebbcore.HebbianLayer(weights, hebbcore.RULES[rule](), linear=True).transform(patches[:50_000])
    winners = (abs(out) if rule == "signedwta" else out).argmax(axis=1)
    return len(weights) - len(np.unique(winners))


def accuracy(whiten: hebbcore.Whiten | None, weights: Array, rule: str, given: tuple[Array, ...]) -> float:
    """Return the accuracy in percent on the held-out images."""
    images, labels, held_out, held_out_labels = given
    layers: list[hebbcore.Layer] = []
    if whiten is not None:
        layers.append(hebbcore.Whiten(KERNEL, stride=STRIDE))
    kernel, stride = (1, 1) if whiten is not None else (KERNEL, STRIDE)
    learner = hebbcore.Conv(len(weights), kernel, rule, stride=stride, linear=True)
    activation = hebbcore.Split() if rule == "signedwta" else hebbcore.Triangle()
    network = hebbcore.Network([*layers, learner, activation, hebbcore.GridPool(CELLS)], images.shape[1:], device="cpu")
    if whiten is not None:
        network.layers[0].restore(whiten.arrays())
    learner.weights = weights.reshape(learner.weights.shape)
    features, tested = (network.transform(part).reshape(len(part), -1) for part in (images, held_out))
    scaler = StandardScaler().fit(features)
    readout = RidgeClassifierCV(PENALTIES).fit(scaler.transform(features), labels)
    return round(100 * readout.score(scaler.transform(tested), held_out_labels), 2)


if __name__ == "__main__":
    main()
