"""Images for the commands: shards, or an HDF5 file of arrays."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import loaders
from hebbcore import hdf5


def is_shards(path: Path) -> bool:
    """Return True for a folder. Raises FileNotFoundError if there is nothing."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; give a folder of shards (hebbcore shards build), or an HDF5 file."
        )
    return path.is_dir()


def read_arrays(path: Path, split: str) -> tuple[Any, Any]:
    """Return images and labels of <split> of an HDF5 file; None for labels that it does not have.

    They take no more memory than their bytes on the disk allow, see hdf5.require_bounded.
    """
    import h5py

    advice = "; give an HDF5 file, or a folder of shards (hebbcore shards)."
    with hdf5.reading(path, f"{path} cannot be read as HDF5", advice) as file:
        images, labels = (hdf5.member(file, f"{split}/{name}") for name in ("images", "labels"))
        if not isinstance(images, h5py.Dataset) or not images.shape:
            names = [*islice(file, 10), *["…"] * (len(file) > 10)]
            raise ValueError(f"{path} must hold {split}/images; it holds {', '.join(names) or 'nothing'}.")
        hdf5.require_bounded(f"{split}/images", images)
        if labels is None:
            return images[...], None
        if not isinstance(labels, h5py.Dataset) or labels.shape != images.shape[:1]:
            raise ValueError(
                f"{path}: {split}/labels must hold {images.shape[0]} labels, one for each of {split}/images, or be "
                f"left out; got {getattr(labels, 'shape', 'a group')}."
            )
        hdf5.require_bounded(f"{split}/labels", labels)
        return images[...], labels[...]


def labelled_stream(
    path: Path, split: str, batch_size: int, image_size: int | None, unlabelled: int | None = None
) -> Any:
    """Return batches of (images, labels) in order, with state() and restore(), of shards or an HDF5 file.

    unlabelled: the label of all images of a file without labels. Raises ValueError for such a file if it is None.
    """
    if is_shards(path):
        return loaders.ShardStream(path, batch_size=batch_size, image_size=image_size)
    if image_size is not None:
        raise ValueError(f"--image-size is for shards; {path} is a file of arrays.")
    images, labels = read_arrays(path, split)
    if labels is None:
        if unlabelled is None:
            raise ValueError(f"{path} holds {split}/images without {split}/labels, which are needed to evaluate.")
        labels = np.full(len(images), unlabelled)
    return loaders.ArrayStream(images, labels, batch_size=batch_size)
