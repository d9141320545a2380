"""Learn filters from real images without labels, and see what they are worth to a linear classifier.

    python examples/quickstart.py                            digits and two photos that scikit-learn ships
    python examples/quickstart.py --cifar10 cifar10.h5       CIFAR-10: HDF5 with train/ and test/, images and labels

The rows from "random filters" to "SoftHebb" go through the same pipeline: whitened patches, a layer of filters of
length 1, Triangle activation (what exceeds the mean of the units), average pooling to a few cells. "dictionary" is the
preset of that name, and "its random patches" the same network whose units stay the patches from which they start. Then
scaling and ridge regression whose penalty is chosen on the labelled images. With 10 labels a class: mean of ten
selections, and its 95 % interval.
"""

import argparse
import time
import warnings
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


def photo_crops(size: int = 32, crops: int = 500) -> Array:
    """Return square pieces of two photos."""
    generator = np.random.default_rng(0)
    pieces = []
    for photo in load_sample_images().images:
        height, width, _ = photo.shape
        for _ in range(crops // 2):
            y, x = generator.integers(height - size), generator.integers(width - size)
            pieces.append(photo[y : y + size, x : x + size])
    return np.stack(pieces)


def dictionary(images: Array, units: tuple[int, int, int, int], learn: bool = True) -> hebbcore.Network:
    """Return the preset "dictionary", trained; without learning its units stay patches."""
    network = hebbcore.preset("dictionary", image_shape=images.shape[1:], units=units, device="cpu")
    return hebbcore.fit(network, images, progress=learn, **({} if learn else {"epochs": 1, "rate_factor": 1e-9}))


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
    model = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-1, 4, 11)))
    return 100 * float(model.fit(train, train_labels).score(test, test_labels))


def main() -> None:
    """Train, print the table, draw the filters."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", metavar="FILE", help="HDF5 file with CIFAR-10 instead of the digits")
    parser.add_argument("--images", type=int, default=5000, help="CIFAR-10 training images (default 5000)")
    parser.add_argument("--out", type=Path, default=Path("filters.png"), help="picture of the learned filters")
    args = parser.parse_args()
    start = time.perf_counter()
    warnings.filterwarnings("ignore", "fit: .* won none of the .* patches")  # digits have few different ones

    data, units, kernel, cells, sizes = (
        (cifar10(args.cifar10, args.images), 96, 5, 4, (64, 256, 256, 96)) if args.cifar10
        else (digits(), 32, 5, 2, (32, 64, 64, 32))
    )  # fmt: skip
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
    one_layer = ("random filters", "random patches", "k-means", *RATES)
    for name in ("raw pixels", *one_layer, "its random patches", "dictionary"):
        seen, unseen = train, test
        if name != "raw pixels":
            deep = network
            if name in one_layer:
                conv.weights = bank(name, patches, units).reshape(conv.weights.shape)
            else:
                deep = dictionary(train, sizes, learn=name == "dictionary")
            seen, unseen = deep.transform(train), deep.transform(test)
        seen, unseen = seen.reshape(len(seen), -1), unseen.reshape(len(unseen), -1)
        few = mean_interval([accuracy(seen[i], unseen, train_labels[i], test_labels) for i in selections])
        rows.append(f"{name:<18}{accuracy(seen, unseen, train_labels, test_labels):10.1f}{few!s:>16}")
    print(f"\n{'test accuracy, %':<18}{'all labels':>10}{'10 a class':>16}", *rows, sep="\n")

    if not args.cifar10:
        print("\nThe dictionary of pieces of two photos, for the picture")
        deep = dictionary(photo_crops(), (32, 64, 64, 96))
    wide, whitened = deep["conv4"].weights, deep["whiten5"].kernel_size
    save_filters(wide.reshape(len(wide), *whitened, -1), args.out)
    print(f"\n{args.out}: the filters of the dictionary's wide branch. {time.perf_counter() - start:.0f} s in all.")


if __name__ == "__main__":
    main()
