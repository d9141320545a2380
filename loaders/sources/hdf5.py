"""HDF5 files of arrays: images that are read when they are sliced, labels and names.

Shards are built from uint8 images with labels (open_hdf5); a command that trains on a file takes what it holds.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from loaders.hdf5 import MAX_CHUNK, check_unpacked, find, stored_dataset
from loaders.shards.format import decode_name
from loaders.sources.arrays import MAX_CLASSES, ArraySource, array_source
from loaders.text import printable

TEXT = 4096  # bytes of a name
AT_A_TIME = 64  # texts, any of which may be as long as the file
SOFT_LINKS = 16
SPLITS = 100  # groups that are looked into

Refusal = Callable[[str], str]  # from what HDF5 found wrong to an error


def open_hdf5(path: str | os.PathLike[str], split: str = "train") -> ArraySource:
    """Open an HDF5 file with `<split>/images` and `<split>/labels` as a source.

    Optional: `<split>/filenames` and a file attribute `class_names`. The images are read as they are needed.

    Parameters
    ----------
    path : str or path
        The file; it stays open as long as the source lives.
    split : str
        The group that holds images (n, H, W, C) uint8 and labels (n,) integers.

    Returns
    -------
    ArraySource

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If the images are not uint8, or the labels no integers.
    ValueError
        If the split is not there or is stored in other files, or the file claims more than it holds.
    """

    def refusal(reason: str) -> str:
        return f"open_hdf5: {printable(path)} must hold <split>/images and <split>/labels: {reason}"

    with _faults(refusal):
        file = h5py.File(path, "r", rdcc_nbytes=MAX_CHUNK)  # a cache in which every chunk has room
    with _closed_by_errors(file):
        with _faults(refusal):
            images = StoredImages(stored_dataset(file, f"{split}/images", "iuf"), refusal)
            stored = stored_dataset(file, f"{split}/labels", "iuf")
            if stored.shape != images.shape[:1]:
                raise ValueError(f"its {split}/labels must have the shape {images.shape[:1]}, got {stored.shape}")
            labels, names = stored[:], None
            if file[split].get("filenames", getlink=True) is not None:
                names = _texts(stored_dataset(file, f"{split}/filenames", "SO"), len(labels))
            class_names = _class_names(file)
        return array_source(
            images,
            labels,
            class_names=class_names,
            description={"kind": "HDF5 arrays", "name": os.path.basename(path), "split": split},
            names=names,
            caller=f"open_hdf5: {printable(path)}",
        )


def hdf5_splits(path: str | os.PathLike[str]) -> list[str]:
    """The splits of an HDF5 file: groups that hold images; of very many the first.

    Links out of the file and damaged groups are none. Raises ValueError for a file that is damaged as a whole.
    """

    def refusal(reason: str) -> str:
        return f"{printable(path)} cannot be read as HDF5 ({reason}); get the file again."

    with _faults(refusal), h5py.File(path, "r") as file:
        return [name for name in islice(file, SPLITS) if _holds_images(file, name)]


def _holds_images(file: h5py.File, name: str) -> bool:
    try:
        return find(file, f"{name}/images", SOFT_LINKS) is not None
    except Exception:  # HDF5 meets damage with all kinds of exceptions; whoever opens this group is told
        return False


def hdf5_arrays(path: str | os.PathLike[str], split: str) -> "tuple[StoredImages, npt.NDArray[Any] | None]":
    """Images and labels of a split of an HDF5 file, as they are; labels are None if it has none.

    Reading all images at once takes no more memory than their bytes on the disk allow.
    Raises ValueError, without a function's name, if the file holds something else, damage, or links out of it.
    """

    def refusal(reason: str) -> str:
        return (
            f"{printable(path)} cannot be read as HDF5 ({reason}); give an HDF5 file, or a folder of shards "
            "(hebbcore shards)."
        )

    with _faults(refusal):
        file = h5py.File(path, "r")
    with _closed_by_errors(file):
        with _faults(refusal):
            images, labels = (find(file, f"{split}/{name}", SOFT_LINKS) for name in ("images", "labels"))
            shape, label_shape = getattr(images, "shape", None), getattr(labels, "shape", "a group")
            names = [*islice(file, 10), *["…"] * (len(file) > 10)]
        if not shape:
            raise ValueError(f"{printable(path)} must hold {split}/images; it holds {', '.join(names) or 'nothing'}.")
        if not shape[0]:
            raise ValueError(f"{printable(path)}: {split}/images must hold at least one image, got {shape}.")
        if labels is not None and label_shape != shape[:1]:
            raise ValueError(
                f"{printable(path)}: {split}/labels must hold {shape[0]} labels, one for each of {split}/images, or be "
                f"left out; got {label_shape}."
            )
        if labels is not None and h5py.check_string_dtype(labels.dtype) is not None:
            raise ValueError(
                f"{printable(path)}: {split}/labels must be integers, numbers of classes, got texts; number the "
                "classes from 0, and let the file have their names as its attribute class_names."
            )
        with _faults(refusal):
            for name, dataset in (("images", images), ("labels", labels)):
                if dataset is not None:
                    check_unpacked(dataset, f"{split}/{name}", "biufc")
            return StoredImages(images, refusal), None if labels is None else np.asarray(labels[...])


def hdf5_names(path: str | os.PathLike[str], split: str) -> list[str] | None:
    """`<split>/filenames` of an HDF5 file that hdf5_arrays takes: where its images come from; None if it has none.

    Raises ValueError, without a function's name, if they are something else than a text for each image.
    """

    def refusal(reason: str) -> str:
        return f"{printable(path)}: {split}/filenames must be a text for each image, or be left out: {reason}"

    with _faults(refusal), h5py.File(path, "r") as file:
        images, names = (find(file, f"{split}/{name}", SOFT_LINKS) for name in ("images", "filenames"))
        if images is None or names is None:
            return None
        check_unpacked(names, f"{split}/filenames", "SO")
        return _texts(names, len(images))


def hdf5_class_names(path: str | os.PathLike[str]) -> list[str] | None:
    """The attribute `class_names` of an HDF5 file that hdf5_arrays takes: what labels mean; None if it has none.

    Raises ValueError, without a function's name, if it is something else than texts.
    """

    def refusal(reason: str) -> str:
        return f"{printable(path)}: class_names must be a text for each label, or be left out: {reason}"

    with _faults(refusal), h5py.File(path, "r") as file:
        return _class_names(file)


def _class_names(file: h5py.File) -> list[str] | None:
    if "class_names" not in file.attrs:
        return None
    shape = file.attrs.get_id("class_names").shape
    if len(shape) != 1:
        raise ValueError(f"its class_names must be texts (k,), got the shape {shape}")
    if shape > (MAX_CLASSES,):
        raise ValueError("its class_names are too many")
    return [_text(name) for name in file.attrs["class_names"]]


class StoredImages:
    """A dataset that slices like an array, with errors that name the file. The file is open as long as this lives."""

    def __init__(self, dataset: h5py.Dataset, refusal: Refusal) -> None:
        self._dataset, self._refusal = dataset, refusal
        self.shape, self.dtype = tuple(map(int, dataset.shape)), dataset.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        with _faults(self._refusal):
            return self._dataset[key]


@contextmanager
def _closed_by_errors(file: h5py.File) -> Iterator[None]:
    """Close a file that else stays open: an error's traceback would keep it so."""
    try:
        yield
    except BaseException:
        file.close()
        raise


@contextmanager
def _faults(refusal: Refusal) -> Iterator[None]:
    """Raise a ValueError that names the file: HDF5 meets damage with all kinds of exceptions, none of which does."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(refusal(printable(error))) from error


def _texts(dataset: h5py.Dataset, count: int) -> list[str]:
    if dataset.shape != (count,):
        raise ValueError(f"its {dataset.name} must have the shape {(count,)}, got {dataset.shape}")
    return [_text(name) for first in range(0, count, AT_A_TIME) for name in dataset[first : first + AT_A_TIME]]


def _text(name: Any) -> str:
    text = decode_name(name) if isinstance(name, bytes) else name
    if not isinstance(text, str) or len(text) > TEXT:
        raise ValueError(f"its names must be texts of at most {TEXT} letters")
    return text
