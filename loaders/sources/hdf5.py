"""HDF5 files of arrays: images that are read when they are sliced, labels and names."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py

from loaders.hdf5 import MAX_CHUNK, has_link, stored_dataset
from loaders.shards.format import decode_name
from loaders.sources.arrays import MAX_CLASSES, ArraySource, array_source
from loaders.text import printable

TEXT = 4096  # bytes of a name
AT_A_TIME = 64  # texts, any of which may be as long as the file


def open_hdf5(path: str | os.PathLike[str], split: str = "train") -> ArraySource:
    """An HDF5 file with <split>/images (n, H, W, C) uint8 and <split>/labels (n,).

    Optional: <split>/filenames and a file attribute class_names. The images are read as they are needed.
    Raises ValueError if the split is not there or is stored in other files, or the file claims more than it holds.
    """
    with _faults(path):
        file = h5py.File(path, "r", rdcc_nbytes=MAX_CHUNK)  # a cache in which every chunk has room
        images = StoredImages(path, stored_dataset(file, f"{split}/images", "iuf"))
        stored = stored_dataset(file, f"{split}/labels", "iuf")
        if stored.shape != images.shape[:1]:
            raise ValueError(f"its {split}/labels must have the shape {images.shape[:1]}, got {stored.shape}")
        labels, names, class_names = stored[:], None, None
        if has_link(file[split], "filenames"):
            names = _texts(stored_dataset(file, f"{split}/filenames", "SO"), len(labels))
        if "class_names" in file.attrs:
            if file.attrs.get_id("class_names").shape > (MAX_CLASSES,):
                raise ValueError("its class_names are too many")
            class_names = [_text(name) for name in file.attrs["class_names"]]
    description = {"kind": "HDF5 arrays", "name": os.path.basename(path), "split": split}
    return array_source(
        images,
        labels,
        class_names=class_names,
        description=description,
        names=names,
        caller=f"open_hdf5: {printable(path)}",
    )


class StoredImages:
    """A dataset that slices like an array and whose errors name the file. The file is open as long as this lives."""

    def __init__(self, path: str | os.PathLike[str], dataset: h5py.Dataset) -> None:
        self._path, self._dataset = path, dataset
        self.shape, self.dtype = tuple(map(int, dataset.shape)), dataset.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        with _faults(self._path):
            return self._dataset[key]


@contextmanager
def _faults(path: str | os.PathLike[str]) -> Iterator[None]:
    """Raise a ValueError that names the file: HDF5 meets damage with all kinds of exceptions, none of which does."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"open_hdf5: {printable(path)} must hold <split>/images and <split>/labels: {printable(error)}"
        ) from error


def _texts(dataset: h5py.Dataset, count: int) -> list[str]:
    if dataset.shape != (count,):
        raise ValueError(f"its {dataset.name} must have the shape {(count,)}, got {dataset.shape}")
    return [_text(name) for first in range(0, count, AT_A_TIME) for name in dataset[first : first + AT_A_TIME]]


def _text(name: Any) -> str:
    text = decode_name(name) if isinstance(name, bytes) else name
    if not isinstance(text, str) or len(text) > TEXT:
        raise ValueError(f"its names must be texts of at most {TEXT} letters")
    return text
