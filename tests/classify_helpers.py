"""Photos of digits and features with a few labels, and a small network, for the tests of few-label classifiers."""

import csv

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, make_blobs

import hebbcore

CLASSES = ("none", "one", "two")


def blobs(n=600, classes=4, labels=3, spread=1.0, seed=0, weights=None):
    """Return features (n, 20), true classes, and y with so many labels of each class."""
    counts = n // classes if weights is None else (np.array(weights) * n).astype(int)
    size = n if weights is None else counts.tolist()
    centres = np.random.default_rng(5).standard_normal((classes, 20)) * 2
    features, true = make_blobs(size, 20, centers=centres, cluster_std=spread, random_state=seed)
    y = np.full(len(true), -1)
    for number in range(classes):
        chosen = np.flatnonzero(true == number)[:labels]
        y[chosen] = number
    return features.astype(np.float32), true, y


def digits(folder, first=0, count=60):
    """Write so many digits, 0 to 2, as PNGs into a folder; returns {file: class}."""
    data = load_digits()
    numbers = np.flatnonzero(data.target < len(CLASSES))[first : first + count]
    folder.mkdir(parents=True)
    for number in numbers:
        pixels = (data.images[number] * 255 / 16).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04}.png")
    return {f"{number:04}.png": CLASSES[data.target[number]] for number in numbers}


def darken(path):
    """Give a photo half its brightness, and the size of file that all get here."""
    image = Image.open(path).point(lambda value: value // 2)
    image.save(path, compress_level=0)


def some_labels(truth, each=3):
    """Return the labels of the first few files of each class."""
    return {
        file: label
        for name in sorted(set(truth.values()))
        for file, label in [(file, label) for file, label in truth.items() if label == name][:each]
    }


def write_labels(path, labels):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "label"), *labels.items()])


def rows_of(path):
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def right(rows, truth):
    """Return the share of rows whose label is right, of those without a label of their own."""
    found = [row["label"] == truth[row["file"]] for row in rows if row.get("labelled") != "1"]
    return sum(found) / len(found)


def save_network(path, side=8):
    """Save a small network with random weights, for photos."""
    layers = [hebbcore.Conv(12, 3), hebbcore.Relu(), hebbcore.Pool(2)]
    hebbcore.save(path, hebbcore.Network(layers, image_shape=(side, side, 3), device="cpu", seed=1))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A working folder with 60 photos, labels of three a class, and net.h5; returns what is true of each."""
    monkeypatch.chdir(tmp_path)
    truth = digits(tmp_path / "photos")
    write_labels(tmp_path / "labels.csv", some_labels(truth))
    save_network(tmp_path / "net.h5")
    return truth


def shared_weights(indices):
    """Return the weights (n, n) of the graph of nearest neighbours (n, k), by sets of Python."""
    n = len(indices)
    sets = [{i, *indices[i, :15].tolist()} for i in range(n)]
    weights = np.zeros((n, n))
    for i in range(n):
        alike = {j: len(sets[i] & sets[j]) / len(sets[i] | sets[j]) for j in indices[i].tolist()}
        for j in sorted(alike, key=lambda j: -alike[j])[:10]:
            weights[i, j] = alike[j] ** 2
    return (weights + weights.T) / 2


def unit_rows(generator, n, d):
    rows = generator.standard_normal((n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
