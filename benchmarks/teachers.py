"""Does a teacher in the hidden layers help? FastHebb's 6-layer network, with and without its deep teacher.

    python benchmarks/teachers.py cifar10.h5 --json FILE [--device cuda|cpu] [--images 50000] [--test 10000]
        [--rules swta hpca] [--labels 1 10 100] [--epochs 1] [--rate 1e-3] [--batch 64] [--seed 0]

For each rule a network of the preset "fasthebb-6" (SWTA behind ZCA whitening, HPCA behind a batch norm of the images)
learns from the first `--images` training images: without a teacher, and with that of "fasthebb-6", which knows the
labels of `--labels` percent of the images (as many of each class) and lets the others teach all units. Of its last
layer's output, then frozen, learn from the same labelled images: "hebbian", Supervised in one step at rate 1 (class
means, compared by cosines), and "ridge", RidgeReadout. "own" is the Supervised layer that learned with the network, at
its rate. Accuracy on the first `--test` test images in percent.

FILE gets a row for each, and the same command goes on from there.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import hebbcore
from hebbcore.evaluation.readouts import make_readout

PREPROCESS = {"swta": "whiten", "hpca": "normalize"}


def kept_labels(labels: Any, percent: float, seed: int) -> Any:
    """Return labels of which so many percent of each class are left, the others −1."""
    random, left = np.random.default_rng(seed), np.full_like(labels, -1)
    for label in np.unique(labels):
        where = random.permutation(np.flatnonzero(labels == label))
        kept = where[: max(1, round(len(where) * percent / 100))]
        left[kept] = label
    return left


def trained(args: argparse.Namespace, rule: str, images: Any, labels: Any, teacher: str | None) -> Any:
    """Return a network that learned from images, whose labels the teacher and the classifier on top know."""
    network = hebbcore.preset(
        "fasthebb-6", rule=rule, preprocess=PREPROCESS[rule], classes=10, seed=args.seed, device=args.device
    )
    return hebbcore.fit(
        network, images, labels=labels, teacher=teacher, epochs=args.epochs, learning_rate=args.rate,
        batch_size=args.batch, seed=args.seed,
    )  # fmt: skip


def features(network: Any, images: Any) -> Any:
    """Return the output of the last layer before the classifier, in pieces."""
    return np.concatenate([network.transform(images[i : i + 1000], "bn5") for i in range(0, len(images), 1000)])


def accuracies(network: Any, train: tuple[Any, Any], test: tuple[Any, Any], selections: dict[float, Any]) -> Any:
    """Yield (percent, figures) of classifiers on frozen features for several selections of labels of train."""
    rows, tests = features(network, train[0]), features(network, test[0])
    own = 100 * float((network.predict(test[0]) == test[1]).mean())
    for percent, labels in selections.items():
        known = labels >= 0
        hebbian = hebbcore.train_layer(
            rows[known], 10, rule="supervised", labels=labels[known], learning_rate=1.0, batch_size=int(known.sum())
        )  # fmt: skip
        ridge = make_readout("ridge").fit(rows[known], labels[known])
        answers = {"hebbian": hebbian.to_device("cpu").transform(tests).argmax(axis=1), "ridge": ridge.predict(tests)}
        yield percent, {"own": own} | {name: 100 * float((found == test[1]).mean()) for name, found in answers.items()}


def main() -> None:
    """Measure, and write a row for each rule, with and without a teacher, and number of labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--json", required=True, type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--rules", nargs="+", default=("swta", "hpca"), choices=PREPROCESS)
    parser.add_argument("--labels", type=float, nargs="+", default=(1, 10, 100))
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with h5py.File(args.data) as file:
        train, test = (
            (file[f"{part}/images"][:count], file[f"{part}/labels"][:count].astype(np.int64))
            for part, count in (("train", args.images), ("test", args.test))
        )
    settings = {key: value for key, value in vars(args).items() if key not in ("data", "json", "rules", "labels")}
    settings |= {"machine": platform.machine(), "hebbcore": hebbcore.__version__}
    results: dict[str, Any] = {"settings": settings, "rows": []}
    if args.json.exists():
        results = json.loads(args.json.read_text())
        if results["settings"] != settings:
            raise SystemExit(f"teachers: {args.json} has rows of other settings; name another file.")
    done = {(row["rule"], row["teacher"], row["labels"]) for row in results["rows"]}
    every = {percent: kept_labels(train[1], percent, args.seed) for percent in args.labels}
    for rule in args.rules:
        # without a teacher labels change the classifier on top alone: one training serves all of them
        plans = [(None, every), *(("fasthebb-6", {percent: labels}) for percent, labels in every.items())]
        for teacher, selections in plans:
            missing = {percent: some for percent, some in selections.items() if (rule, teacher, percent) not in done}
            if not missing:
                continue
            began = time.perf_counter()
            network = trained(args, rule, train[0], missing[max(missing)], teacher)
            seconds = time.perf_counter() - began
            for percent, figures in accuracies(network, train, test, missing):
                if teacher is None and percent != max(missing):
                    del figures["own"]  # it had more labels
                rounded = {name: round(value, 2) for name, value in figures.items()}
                row = {"rule": rule, "teacher": teacher, "labels": percent, **rounded, "seconds": round(seconds, 1)}
                results["rows"].append(row)
                print(json.dumps(row), flush=True)
                args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
