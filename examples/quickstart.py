"""Learn filters from real images without labels, and see what they are worth to a linear classifier.

    python examples/quickstart.py                            digits and two photos that scikit-learn ships
    python examples/quickstart.py --cifar10 cifar10.h5       CIFAR-10: HDF5 with train/ and test/, images and labels

Every row of the table but the pixels goes through the same pipeline: whitened patches, a layer of filters of length 1,
Triangle activation (what exceeds the mean of the units), average pooling to a few cells, scaling, ridge regression
whose penalty is chosen on the labelled images. With 10 labels a class: mean and 95 % interval of ten selections.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from sklearn.datasets import load_digits, load_sample_images
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import hebbcore
from hebbcore.evaluation import kmeans_centres, labelled_subset, mean_interval, random_filters, random_patches
from hebbcore.plots import save_filters

RATES = {"HPCA": 0.03, "SWTA": 0.5, "SignedWTA": 0.5, "SoftHebb": 0.2}  # learning rates of the rules
Array = Any


def digits() -> tuple[Array, Array, Array, Array]:
    """Return 1,000 training and 797 test digits, 8×8, as (images, images, labels, labels)."""
    data = load_digits()
    images = (data.images / 16).astype(np.float32)[..., None]
    return tuple(train_test_split(images, data.target, train_size=1000, stratify=data.target, random_state=0))


def cifar10(path: str, images: int) -> tuple[Array, Array, Array, Array]:
    """Return the first training images of CIFAR-10 and 2,000 test images."""
    with h5py.File(path) as file:
        train, test = file["train"], file["test"]
        return (
            train["images"][:images] / np.float32(255),
            test["images"][:2000] / np.float32(255),
            train["labels"][:images],
            test["labels"][:2000],
        )


def photo_crops(size: int = 24, crops: int = 4000) -> Array:
    """Return square pieces of two photos, each without its mean colour."""
    generator = np.random.default_rng(0)
    pieces = []
    for photo in load_sample_images().images:
        height, width, _ = photo.shape
        for _ in range(crops // 2):
            y, x = generator.integers(height - size), generator.integers(width - size)
            pieces.append(photo[y : y + size, x : x + size])
    images = np.stack(pieces) / np.float32(255)
    images -= images.mean(axis=(1, 2), keepdims=True)
    return images / images.std()


def bank(name: str, patches: Array, units: int) -> Array:
    """Return filters (units, numbers in a patch) of length 1, learned from whitened patches or made without."""
    if name in RATES:
        layer = hebbcore.train_layer(
            patches, units, rule=name.lower(), learning_rate=RATES[name], batch_size=250, epochs=4, device="cpu",
            initial_weights="rule" if name == "HPCA" else "patches", progress=True,
        )  # fmt: skip
        filters = layer.weights
    elif name == "k-means":
        filters = kmeans_centres(patches, units, 0)
    else:
        generator = np.random.default_rng(0)
        numbers = name == "random filters"
        filters = (random_filters(units, patches.shape[1], generator) if numbers
                   else random_patches(patches, units, generator))  # fmt: skip
    return filters / np.linalg.norm(filters, axis=1, keepdims=True)


def accuracy(train: Array, test: Array, train_labels: Array, test_labels: Array) -> float:
    """Return the test accuracy of a ridge classifier in per cent."""
    model = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-1, 4, 6)))
    return 100 * float(model.fit(train, train_labels).score(test, test_labels))


def main() -> None:
    """Train, print the table, draw the filters."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", metavar="FILE", help="HDF5 file with CIFAR-10 instead of the digits")
    parser.add_argument("--images", type=int, default=5000, help="CIFAR-10 training images (default 5000)")
    parser.add_argument("--out", type=Path, default=Path("filters.png"), help="picture of the learned filters")
    args = parser.parse_args()
    start = time.perf_counter()

    data, units, kernel, cells = (
        (cifar10(args.cifar10, args.images), 96, 5, 4) if args.cifar10 else (digits(), 32, 5, 2)
    )
    train, test, train_labels, test_labels = data
    network = hebbcore.Network(
        [hebbcore.Whiten(kernel), hebbcore.Conv(units, 1, linear=True), hebbcore.Triangle(), hebbcore.GridPool(cells)],
        train.shape[1:], device="cpu",
    )  # fmt: skip
    whiten, conv = network.layers[:2]
    whiten.observe(train[:2000])
    whiten.settle()
    patches = network.transform(train[:1000], "whiten1").reshape(-1, kernel * kernel * train.shape[3])
    patches = patches[np.random.default_rng(0).permutation(len(patches))[:100_000]]

    selections = [labelled_subset(train_labels, 100 / len(train), seed, "stratified") for seed in range(10)]
    print(f"{len(train):,} training images, {len(patches):,} patches, {units} filters of {kernel}×{kernel}, no labels")
    rows = []
    for name in ("raw pixels", "random filters", "random patches", "k-means", *RATES):
        seen, unseen = train, test
        if name != "raw pixels":
            conv.weights = bank(name, patches, units).reshape(conv.weights.shape)
            seen, unseen = network.transform(train), network.transform(test)
        seen, unseen = seen.reshape(len(seen), -1), unseen.reshape(len(unseen), -1)
        few = mean_interval([accuracy(seen[i], unseen, train_labels[i], test_labels) for i in selections])
        rows.append(f"{name:<18}{accuracy(seen, unseen, train_labels, test_labels):10.1f}{few!s:>16}")
    print(f"\n{'test accuracy, %':<18}{'all labels':>10}{'10 a class':>16}", *rows, sep="\n")

    filters = conv.weights.reshape(units, kernel, kernel, -1)
    if not args.cifar10:
        print("\nSWTA on pieces of two photos, for the picture")
        filters = hebbcore.train_layer(
            photo_crops(), 96, 9, rule="swta", learning_rate=0.5, epochs=1, batch_size=32, initial_weights="patches",
            progress=True, device="cpu",
        ).weights  # fmt: skip
    save_filters(filters, args.out)
    print(f"\n{args.out}: the learned filters. {time.perf_counter() - start:.0f} s in all.")


if __name__ == "__main__":
    main()
