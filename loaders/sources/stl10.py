"""STL-10's binary files."""

import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO

import numpy as np

from loaders.shards.format import UNLABELLED, Bytes, Ints
from loaders.sources.arrays import ArraySource, array_source
from loaders.sources.tar import read_tar
from loaders.text import printable, read_lines, read_words

SIDE, CHANNELS = 96, 3
IMAGE = SIDE * SIDE * CHANNELS
CLASSES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
FOLDS, CLASS_NAMES = "fold_indices.txt", "class_names.txt"
PARTS = ("train", "test", "unlabeled")
SPLITS = {"train": "train", "test": "test", "unlabeled": "unlabeled", "unlabelled": "unlabeled"}
FILES = frozenset(f"{split}_X.bin" for split in SPLITS.values())


def is_stl10(names: Collection[str]) -> bool:
    """Whether a folder with files of these names holds STL-10's binaries."""
    return not FILES.isdisjoint(names)


def is_stl10_archive(path: Path) -> bool:
    """Whether a file is called like STL-10's archive."""
    return re.match(r"stl10_binary.*\.(tar|tgz|gz)", path.name) is not None


def stl10_splits(path: Path) -> list[str]:
    """The splits whose images are in a folder, or all that are in the archive."""
    if not path.is_dir():
        return list(PARTS)
    return [split for split in PARTS if (path / f"{split}_X.bin").is_file()]


def open_stl10(path: str | os.PathLike[str], split: str | None = None) -> ArraySource:
    """STL-10 from its binary version: the archive, or the folder it unpacks to. Images are read as they are needed.

    The split's files of an archive go to the folder of temporary files (TMPDIR) for as long as the source is in use;
    those of "unlabeled" have 2.6 GiB.

    Parameters
    ----------
    path : str or path
        stl10_binary.tar.gz, or the same unpacked by gunzip, or the folder with train_X.bin and so on.
    split : str, optional
        "train" (None means this), "test", "unlabeled", whose images have no label, or "fold0" to "fold9": the 1,000
        training images of a fold, as fold_indices.txt tells.

    Returns
    -------
    ArraySource
        Images (n, 96, 96, 3) uint8.

    Raises
    ------
    FileNotFoundError
        If a file of the split is missing.
    ValueError
        If there is no such split, or a file is damaged or cut short.
    """
    root, split = Path(path), split or "train"
    fold = re.fullmatch(r"fold(\d)", split)
    if fold is None and split not in SPLITS:
        raise ValueError(
            f"open_stl10: split must be train, test, unlabeled or fold0 to fold9, got {printable(split)!r}"
        )
    name = "train" if fold else SPLITS[split]
    if root.is_dir():
        return _opened(root, split, name, int(fold[1]) if fold else None)
    # the large file has no name, so that a kill leaves nothing of it; it stays for as long as it is mapped into memory
    with TemporaryDirectory(prefix="stl10-") as folder, TemporaryFile() as large:

        def unpack(file: str, stream: IO[bytes]) -> None:
            with open(Path(folder, file), "wb") as out:
                shutil.copyfileobj(stream, large if file == f"{name}_X.bin" else out)

        read_tar("open_stl10", root, (f"{name}_X.bin", f"{name}_y.bin", CLASS_NAMES, FOLDS), unpack)
        large.flush()
        try:
            return _opened(Path(folder), split, name, int(fold[1]) if fold else None, large)
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(str(error).replace(folder, printable(root))) from None


def _opened(root: Path, split: str, name: str, fold: int | None, large: IO[bytes] | None = None) -> ArraySource:
    """A split, or a fold, whose files are called so, of a folder. large: holds the images; None: their file does."""
    images = _images(root / f"{name}_X.bin", large)
    labels = np.full(len(images), UNLABELLED) if name == "unlabeled" else _labels(root / f"{name}_y.bin", len(images))
    rows: Ints = np.arange(len(images))
    if fold is not None:
        rows = _fold(root / FOLDS, fold, len(images))
        images, labels = images[rows], labels[rows]
    return array_source(
        images,
        labels,
        class_names=_class_names(root / CLASS_NAMES),
        description={"kind": "STL-10", "split": split},
        names=[f"{name}/{row:06d}" for row in rows.tolist()],
        caller=f"open_stl10: {printable(root)}",
    )


def _images(path: Path, large: IO[bytes] | None) -> Bytes:
    """The images of a file, where they lie: each is stored column after column, channel after channel."""
    size = _size(path)  # also raises if it is not there
    if large is not None:
        size = os.fstat(large.fileno()).st_size
    if not size or size % IMAGE:
        raise ValueError(
            f"open_stl10: {printable(path)} must hold images of {IMAGE} bytes, got {size} bytes; get the archive again"
        )
    shape = (size // IMAGE, CHANNELS, SIDE, SIDE)
    stored: Bytes = np.memmap(path if large is None else large, np.uint8, "r", shape=shape)
    return stored.transpose(0, 3, 2, 1)


def _labels(path: Path, count: int) -> Ints:
    if _size(path) != count:
        raise ValueError(
            f"open_stl10: {printable(path)} must hold {count} labels, one for each image, got {_size(path)} bytes; get "
            "the archive again"
        )
    labels = np.fromfile(path, np.uint8).astype(np.int64) - 1
    if labels.min() < 0 or labels.max() >= len(CLASSES):
        raise ValueError(f"open_stl10: {printable(path)} must hold labels from 1 to {len(CLASSES)}, it is damaged")
    return labels


def _fold(path: Path, number: int, count: int) -> Ints:
    lines = [line.split() for line in read_lines(path) if line.strip()]
    if number >= len(lines):
        raise ValueError(f"open_stl10: {printable(path)} has {len(lines)} folds, no fold{number}")
    if not all(word.isdecimal() and len(word) < 10 and int(word) < count for word in lines[number]):
        raise ValueError(f"open_stl10: {printable(path)} line {number + 1} must be numbers of images below {count}")
    return np.array(list(map(int, lines[number])), np.int64)


def _class_names(path: Path) -> list[str]:
    names = read_words(path) if path.exists() else CLASSES
    if len(names) != len(CLASSES):
        raise ValueError(f"open_stl10: {printable(path)} must name {len(CLASSES)} classes, got {len(names)}")
    return names


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        raise FileNotFoundError(f"open_stl10: {printable(path)} is missing; get the archive again") from None
