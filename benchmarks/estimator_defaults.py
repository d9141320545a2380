"""What the defaults of HebbianTransformer are worth beside units of random directions in the same pipeline.

    python benchmarks/estimator_defaults.py cifar10.h5

The first 2,000 training images of CIFAR-10, five folds: 64 units of 6×6 at every fourth pixel, averages over 2×2 cells,
scaling, ridge whose penalty is chosen by leaving one out. The gain's standard error is that of the five folds.
"""

import argparse

import h5py
import numpy as np
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import hebbcore
from hebbcore.estimators import HebbianTransformer
from hebbcore.evaluation import random_filters


def main() -> None:
    """Print a line for each rule, with and without whitening."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="HDF5 file with train/images and train/labels")
    with h5py.File(parser.parse_args().file) as file:
        images, labels = file["train/images"][:2000], file["train/labels"][:2000]
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(images, labels))
    print(f"{'rule':<12}{'whiten':<8}{'accuracy':>10}{'random':>10}{'gain':>16}")
    for whiten in (True, False):
        for rule in hebbcore.RULES:
            scores = []
            for seed, (train, test) in enumerate(folds):
                transformer = HebbianTransformer(
                    64, 6, stride=4, rule=rule, whiten=whiten, pool=2, random_state=seed, device="cpu"
                ).fit(images[train])
                pair = [score(transformer, images, labels, train, test)]
                (learner,) = transformer.network_.learners.values()
                drawn = random_filters(64, learner.weights[0].size, np.random.default_rng(seed))
                learner.weights = drawn.reshape(learner.weights.shape)
                scores.append([*pair, score(transformer, images, labels, train, test)])
            learned, drawn = np.array(scores).T
            gain = learned - drawn
            text = f"{gain.mean():+.1f} ± {gain.std(ddof=1) / len(gain) ** 0.5:.1f}"
            print(f"{rule:<12}{whiten!s:<8}{learned.mean():10.1f}{drawn.mean():10.1f}{text:>16}", flush=True)


def score(
    transformer: HebbianTransformer, images: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray
) -> float:
    """Return the accuracy in percent on the test images."""
    seen, unseen = transformer.transform(images[train]), transformer.transform(images[test])
    readout = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-1, 5, 7)))
    return 100 * readout.fit(seen, labels[train]).score(unseen, labels[test])


if __name__ == "__main__":
    main()
