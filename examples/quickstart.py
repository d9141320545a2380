"""Learn filters from real images without labels, and see what they are worth to a linear classifier.

    python examples/quickstart.py                            digits and two photos that scikit-learn ships
    python examples/quickstart.py --cifar10 cifar10.h5       CIFAR-10: HDF5 with train/ and test/, images and labels

Every row of the table goes through the same pipeline: a layer of filters, Triangle activation (what exceeds the mean of
the units), average pooling to a few cells, scaling, ridge regression whose penalty is chosen on the training images.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.datasets import load_digits, load_sample_images
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import hebbcore
from hebbcore.plots import save_filters

RULES: dict[str, tuple[hebbcore.Rule, float]] = {  # with their learning rates
    "HPCA": (hebbcore.HPCA(), 1e-2),
    "SWTA": (hebbcore.SWTA(), 1.0),
    "SoftHebb": (hebbcore.SoftHebb(), 0.08),
}
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


def features(layer: hebbcore.HebbianLayer, images: Array, cells: int) -> Array:
    """Return the pooled Triangle features (n, cells · cells · units) of the images."""
    parts = []
    for start in range(0, len(images), 256):
        scores = layer.transform(images[start : start + 256])
        active = np.maximum(scores - scores.mean(axis=-1, keepdims=True), 0)
        rows = [c.mean(axis=1) for c in np.array_split(active, cells, axis=1)]
        pooled = [c.mean(axis=1) for row in rows for c in np.array_split(row, cells, axis=1)]
        parts.append(np.concatenate(pooled, axis=1))
    return np.concatenate(parts)


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
        (cifar10(args.cifar10, args.images), 96, 5, 4) if args.cifar10 else (digits(), 64, 3, 3)
    )
    train, test, train_labels, test_labels = data
    mean, deviation = train.mean(axis=(0, 1, 2)), train.std(axis=(0, 1, 2))
    train, test = (train - mean) / deviation, (test - mean) / deviation
    few = np.concatenate([np.flatnonzero(train_labels == label)[:10] for label in np.unique(train_labels)])
    epochs = max(1, 20000 // len(train))

    layers: dict[str, hebbcore.HebbianLayer] = {}
    generator = np.random.default_rng(0)
    shape = (units, kernel, kernel, train.shape[3])
    layers["random filters"] = hebbcore.HebbianLayer(generator.normal(size=shape).astype(np.float32), hebbcore.SWTA())
    patches = hebbcore.im2col(train[:1000], kernel)
    patches = patches[generator.permutation(len(patches))[:50_000]]
    k_means = MiniBatchKMeans(units, n_init=1, batch_size=1024, random_state=0).fit(patches)
    centres = k_means.cluster_centers_.reshape(shape).astype(np.float32)
    layers["k-means"] = hebbcore.HebbianLayer(centres, hebbcore.SWTA())
    for name, (rule, rate) in RULES.items():
        print(f"{name}: {units} filters of {kernel}×{kernel}, {epochs} epochs of {len(train):,} images, no labels")
        layers[name] = hebbcore.train_layer(
            train,
            units,
            kernel,
            rule=rule,
            learning_rate=rate,
            epochs=epochs,
            batch_size=32,
            progress=True,
            device="cpu",
        )

    print(f"\ntest accuracy in %   {'all labels':>10} {'10 a class':>10}")
    pixels = train.reshape(len(train), -1), test.reshape(len(test), -1)
    for name in ("raw pixels", *layers):
        seen, unseen = pixels if name == "raw pixels" else (features(layers[name], x, cells) for x in (train, test))
        scores = [accuracy(seen[i], unseen, train_labels[i], test_labels) for i in (slice(None), few)]
        print(f"{name:20} {scores[0]:10.1f} {scores[1]:10.1f}", flush=True)

    if args.cifar10:
        filters = layers["SoftHebb"].weights
    else:
        print("\nSWTA on pieces of two photos, for the picture")
        filters = hebbcore.train_layer(
            photo_crops(), 96, 9, rule="swta", learning_rate=1.0, epochs=3, batch_size=32, progress=True, device="cpu"
        ).weights
    save_filters(filters, args.out)
    print(f"\n{args.out}: the learned filters. {time.perf_counter() - start:.0f} s in all.")


if __name__ == "__main__":
    main()
