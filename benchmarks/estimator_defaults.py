"""What the defaults of HebbianTransformer are worth beside units of random directions in the same pipeline.

    python benchmarks/estimator_defaults.py [cifar10.h5]

The first 2,000 training images of CIFAR-10, 64 units of 6×6 at every fourth pixel; without a file the digits of
scikit-learn, 24 units of 5×5. Five folds, each with directions of its own; averages over 2×2 cells, and all places;
ridge on scaled features, whose penalty is chosen by leaving one out. The gain's standard error is that of the folds.
"""

import argparse
from typing import Any

import h5py
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import hebbcore
from hebbcore.estimators import HebbianTransformer
from hebbcore.evaluation import random_filters


def main() -> None:
    """Print a line for each rule, with and without whitening, with and without pooling."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", help="HDF5 file with train/images and train/labels")
    path = parser.parse_args().file
    if path is None:
        digits = load_digits()
        images, labels = (digits.images / 16).astype(np.float32)[..., None], digits.target
        options: dict[str, Any] = {"units": 24, "kernel_size": 5}
    else:
        with h5py.File(path) as file:
            images, labels = file["train/images"][:2000], file["train/labels"][:2000]
        options = {"units": 64, "kernel_size": 6, "stride": 4}
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(images, labels))
    print(f"{'rule':<12}{'whiten':<8}{'pool':<6}{'accuracy':>10}{'random':>10}{'gain':>16}")
    for whiten in (True, False):
        for rule in hebbcore.RULES:
            scores = []
            for seed, (train, test) in enumerate(folds):
                transformer = HebbianTransformer(
                    rule=rule, whiten=whiten, pool=2, random_state=seed, device="cpu", **options
                ).fit(images[train])
                learned = scores_of(transformer, images, labels, train, test)
                (learner,) = transformer.network_.learners.values()
                drawn = random_filters(options["units"], learner.weights[0].size, np.random.default_rng(seed))
                learner.weights = drawn.reshape(learner.weights.shape)
                scores.append([learned, scores_of(transformer, images, labels, train, test)])
            for pool, (learned, drawn) in zip(("2", "None"), np.array(scores).transpose(2, 1, 0), strict=True):
                gain = learned - drawn
                text = f"{gain.mean():+.1f} ± {gain.std(ddof=1) / len(gain) ** 0.5:.1f}"
                print(
                    f"{rule:<12}{whiten!s:<8}{pool:<6}{learned.mean():10.1f}{drawn.mean():10.1f}{text:>16}", flush=True
                )


def scores_of(
    transformer: HebbianTransformer, images: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray
) -> list[float]:
    """Return the accuracies in percent on the test images, of the pooled features and of those before the pooling."""
    *_, before, last = transformer.network_.names
    scores = []
    for layer in (last, before):
        features = transformer.network_.transform(images, layer).reshape(len(images), -1)
        readout = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-1, 5, 7)))
        scores.append(100 * readout.fit(features[train], labels[train]).score(features[test], labels[test]))
    return scores


if __name__ == "__main__":
    main()
