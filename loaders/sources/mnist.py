"""MNIST, Fashion-MNIST and whatever else comes as idx files, compressed or not."""

import math
import os
from collections.abc import Collection
from pathlib import Path

import numpy as np

from loaders.shards.format import Bytes
from loaders.sources.arrays import ArraySource, array_source
from loaders.sources.unpack import GZIP, gunzipped
from loaders.text import printable

PREFIX = {"train": "train", "test": "t10k"}
FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def find_idx(folder: Path, split: str, what: str) -> Path | None:
    """The file of a split's "images" or "labels" under any of its usual names."""
    kind = "idx3-ubyte" if what == "images" else "idx1-ubyte"
    for name in (f"{PREFIX[split]}-{what}-{kind}", f"{PREFIX[split]}-{what}.{kind}"):
        for suffix in ("", ".gz"):
            if (folder / (name + suffix)).is_file():
                return folder / (name + suffix)
    return None


def is_mnist(names: Collection[str]) -> bool:
    """Whether these file names of one folder are those of idx files of MNIST's kind."""
    images = {f"{split}-images{mark}idx3-ubyte" for split in PREFIX.values() for mark in "-."}
    return any(name.removesuffix(".gz") in images for name in names)


def open_mnist(folder: str | os.PathLike[str], split: str = "train") -> ArraySource:
    """MNIST or Fashion-MNIST from the folder with its idx files, compressed or not.

    Class names are the digits, or Fashion-MNIST's if the folder's name has "fashion" in it.

    Parameters
    ----------
    folder : str or path
        The folder that holds the idx files.
    split : str
        "train" or "test".

    Returns
    -------
    ArraySource
        Images (n, 28, 28, 1) uint8.

    Raises
    ------
    FileNotFoundError
        If a file of the split is missing.
    ValueError
        If a file is damaged.
    """
    if split not in PREFIX:
        raise ValueError(f'open_mnist: split must be "train" or "test", got {split!r}')
    root = Path(folder)
    arrays = []
    for what in ("images", "labels"):
        path = find_idx(root, split, what)
        if path is None:
            raise FileNotFoundError(f"open_mnist: {root} lacks {PREFIX[split]}-{what}-idx…-ubyte or the same with .gz")
        arrays.append(read_idx(path))
    images, labels = arrays
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"open_mnist: {printable(root)} must hold images (n, H, W) and as many labels, got {images.shape} and "
            f"{labels.shape}; get the files again"
        )
    fashion = "fashion" in root.resolve().name.lower()
    names = FASHION if fashion else None
    kind = "Fashion-MNIST" if fashion else "MNIST"
    return array_source(
        images, labels, class_names=names, description={"kind": kind, "split": split}, caller=f"open_mnist: {root}"
    )


def read_idx(path: str | os.PathLike[str]) -> Bytes:
    """The uint8 array of an idx file; ValueError if it is something else, damaged or cut short."""
    name, data = printable(path), Path(path).read_bytes()
    if data[:2] == GZIP:
        data = gunzipped(path, data)
    if len(data) < 4 or data[:3] != b"\0\0\x08" or not 1 <= data[3] <= 4 or len(data) < 4 + 4 * data[3]:
        raise ValueError(f"read_idx: {name} must be an idx file of unsigned bytes, it starts with {data[:4]!r}")
    start = 4 + 4 * data[3]
    shape = tuple(np.frombuffer(data[4:start], ">u4").astype(int).tolist())
    if 0 in shape or len(data) - start != math.prod(shape):
        raise ValueError(
            f"read_idx: {name} must hold {math.prod(shape)} bytes, more than 0, for its shape {shape}, got "
            f"{len(data) - start}; get it again"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
