"""Features for code that knows nothing of hebbcore: plain NumPy, and JAX where it is installed.

    python examples/other_libraries.py

Trains a small network on scikit-learn's digits, without labels, and saves it. From then on a file and `transform` are
all that is needed: NumPy classifies by the nearest class mean, JAX by logistic regression, each on the pixels and on
the features. JAX takes the array by DLPack, without a copy where it can.
"""

import argparse
import importlib.util
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import hebbcore

TRAIN = 1000  # digits to learn from; the other 797 are for testing
STEPS = 300  # of logistic regression


def main() -> None:
    """Train, save, and use the features."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.h5")
        train(images[:TRAIN], path)
        network = hebbcore.load(path)  # in a program of its own, this is the only other call
    features = network.transform(images)
    for name, rows in (("pixels", images / np.float32(255)), ("features", features)):
        rows = rows.reshape(len(rows), -1)
        print(f"{name:<9} nearest class mean, NumPy {100 * nearest_mean(rows, digits.target):5.1f} %", end="")
        if importlib.util.find_spec("jax"):
            print(f"   logistic regression, JAX {100 * logistic(rows, digits.target):5.1f} %", end="")
        print()
    if not importlib.util.find_spec("jax"):
        print("JAX is not installed")


def train(images: np.ndarray, path: Path) -> None:
    """Learn a layer of whitened patches from images, and save it."""
    layers = [
        hebbcore.Whiten(5), hebbcore.Conv(64, 1, "signedwta", learning_rate=0.1), hebbcore.Split(0.5),
        hebbcore.GridPool(2), hebbcore.Power(0.5),
    ]  # fmt: skip
    network = hebbcore.Network(layers, images.shape[1:])
    hebbcore.save(path, hebbcore.fit(network, images, epochs=3))


def nearest_mean(rows: np.ndarray, labels: np.ndarray) -> float:
    """Return the accuracy on the digits after TRAIN of the nearest class mean."""
    means = np.stack([rows[:TRAIN][labels[:TRAIN] == digit].mean(axis=0) for digit in range(10)])
    distances = ((rows[TRAIN:, None] - means) ** 2).sum(axis=2)
    return float((distances.argmin(axis=1) == labels[TRAIN:]).mean())


def logistic(rows: np.ndarray, labels: np.ndarray) -> float:
    """Return the accuracy on the digits after TRAIN of logistic regression by gradient descent."""
    import jax
    import jax.numpy as jnp

    x, y = jnp.from_dlpack(rows), jnp.asarray(labels)
    mean, std = x[:TRAIN].mean(axis=0), x[:TRAIN].std(axis=0) + 1e-3
    x = (x - mean) / std

    def loss(weights: jax.Array) -> jax.Array:
        scores = jax.nn.log_softmax(x[:TRAIN] @ weights)
        return -scores[jnp.arange(TRAIN), y[:TRAIN]].mean() + 1e-3 * (weights**2).sum()

    step = jax.jit(lambda weights: weights - 0.1 * jax.grad(loss)(weights))
    weights = jnp.zeros((x.shape[1], 10))
    for _ in range(STEPS):
        weights = step(weights)
    return float(((x[TRAIN:] @ weights).argmax(axis=1) == y[TRAIN:]).mean())


if __name__ == "__main__":
    main()
