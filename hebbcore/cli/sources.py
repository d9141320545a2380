"""Images for the commands: shards, or an HDF5 file of arrays."""

from pathlib import Path
from typing import Any

import numpy as np

import loaders
from hebbcore.engine import parallel
from hebbcore.streams import Described, Stream
from loaders.sources.hdf5 import hdf5_arrays, hdf5_class_names, hdf5_names
from loaders.streams.order import choose

_PIECE = 2**26  # bytes of images read at a time, of which a subset is taken


def is_shards(path: Path) -> bool:
    """Return True for a folder. Raises FileNotFoundError if there is nothing."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; give a folder of shards (hebbcore shards build) or of images, or an HDF5 file."
        )
    return path.is_dir()


def read_arrays(path: Path, split: str, subset: int | float | None = None) -> tuple[Any, Any]:
    """Return images and labels of <split> of an HDF5 file; None for labels that it does not have.

    subset: as a ShardStream's, the very images; a fraction of images without labels is of them all.
    They take no more memory than their bytes on the disk allow.
    """
    images, labels = hdf5_arrays(path, split)
    if labels is None:
        return _chosen(path, images, np.zeros(len(images), np.int64), subset), None
    chosen = _chosen(path, images, labels, subset)
    return chosen, labels if subset is None else labels[choose(labels, subset, 0)]


def some_labels(path: Path, labels: Any, share: int | float | None) -> Any:
    """Return labels of which so many, or this fraction of each class, are left; the others are -1. None: all.

    Raises ValueError for labels that are no numbers of classes, or fewer than are wanted.
    """
    if labels is None:
        raise ValueError(f"{path} holds images without labels, and a layer learns from them; add a data set of labels.")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{path}: labels must be integers, numbers of classes, got {labels.dtype}.")
    known = np.flatnonzero(labels >= 0)
    if isinstance(share, int) and share > len(known):
        raise ValueError(f"{path}: data.labels must be at most the number of its labels ({len(known)}), got {share}.")
    left = np.full(len(labels), -1, np.int64)
    kept = known[choose(labels[known], share, 0)]
    left[kept] = labels[kept]
    return left


def _chosen(path: Path, images: Any, labels: Any, subset: int | float | None) -> Any:
    """Return the images of a subset, read in pieces of bounded size. path: of the file, named in errors."""
    if subset is None:
        return images[...]
    if isinstance(subset, int) and subset > len(images):
        raise ValueError(f"{path}: data.subset must be at most the number of its images ({len(images)}), got {subset}.")
    rows = choose(labels, subset, 0)
    out = np.empty((len(rows), *images.shape[1:]), images.dtype)
    step = max(1, _PIECE // max(1, out[:1].nbytes))
    for first in range(0, len(images), step):
        low, high = np.searchsorted(rows, (first, first + step))
        if low < high:
            out[low:high] = images[first : first + step][rows[low:high] - first]
    return out


def labelled_stream(
    path: Path, split: str, batch_size: int, image_size: int | None, unlabelled: int | None = None
) -> Stream:
    """Return batches of (images, labels) in order, of shards or an HDF5 file.

    unlabelled: the label of all images of a file without labels. Raises ValueError for such a file if it is None.
    """
    if is_shards(path):
        stream: Described = loaders.ShardStream(
            path, batch_size=batch_size, image_size=image_size, threads=parallel.cores()
        )
        return stream
    if image_size is not None:
        raise ValueError(f"--image-size is for shards; {path} is a file of arrays.")
    images, labels = read_arrays(path, split)
    if labels is None:
        if unlabelled is None:
            raise ValueError(f"{path} holds {split}/images without {split}/labels, which are needed to evaluate.")
        labels = np.full(len(images), unlabelled)
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{path}: {split}/labels must be integers, numbers of classes, got {labels.dtype}.")
    classes = hdf5_class_names(path)
    if classes is not None and (labels >= len(classes)).any():
        raise ValueError(
            f"{path}: the label {labels.max()} of {split} has no name among its {len(classes)} class_names."
        )
    return loaders.ArrayStream(
        images, labels, batch_size=batch_size, names=hdf5_names(path, split), class_names=classes
    )
