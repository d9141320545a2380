"""Digits and a small network trained on them, for the tests of evaluations."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

import hebbcore
import loaders

TRAIN, TEST = slice(0, 300), slice(300, 420)


@pytest.fixture(scope="module")
def digits():
    """Return digits as uint8 images (n, 8, 8, 1), and labels."""
    data = load_digits()
    return np.round(data.images * (255 / 16)).astype(np.uint8)[..., None], data.target.astype(np.int64)


@pytest.fixture(scope="module")
def trained(digits):
    """Return a small trained network."""
    net = hebbcore.Network(
        [
            hebbcore.Conv(12, 3, "hpca"), hebbcore.Pool(2), hebbcore.BatchNorm(), hebbcore.Dense(16, "hpca"),
            hebbcore.BatchNorm(),
        ]
    )  # fmt: skip
    return hebbcore.fit(net, digits[0][TRAIN], epochs=2, learning_rate=1e-2)


def streams(digits, batch=50):
    images, labels = digits
    return [loaders.ArrayStream(images[part], labels[part], batch) for part in (TRAIN, TEST)]
