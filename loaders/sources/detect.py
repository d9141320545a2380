"""From a path to the kind of source that it holds.

A new kind of source is a file beside this one and a line of KINDS: open_source, build_shards and the command line find
it there, and a folder above it is refused as one above the others.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import h5py

from loaders.images.formats import looks_like_an_image
from loaders.shards.format import INDEX, PART, PLAN, shard_name
from loaders.sources.base import Source
from loaders.sources.cifar import is_cifar, is_cifar_archive, open_cifar
from loaders.sources.class_folders import is_class
from loaders.sources.class_tars import ImageNetClassTars, has_class_tars
from loaders.sources.hdf5 import hdf5_splits, open_hdf5
from loaders.sources.imagenet import ImageNetTrain, is_train_tar
from loaders.sources.kaggle import SPLITS, KaggleImageNet, is_kaggle
from loaders.sources.mnist import is_mnist, open_mnist
from loaders.sources.parquet import ParquetImages, has_parquet, is_parquet, parquet_splits
from loaders.sources.stacks import is_stack, open_stack
from loaders.sources.stl10 import is_stl10, is_stl10_archive, open_stl10, stl10_splits
from loaders.sources.tar import is_tar
from loaders.sources.tar_images import open_tar, tar_splits
from loaders.sources.tiny_imagenet import TinyImageNet, is_tiny_imagenet
from loaders.sources.walk import Entry, listing
from loaders.sources.webdataset import WebDataset, begins_with_samples, has_samples, is_samples, sample_splits
from loaders.sources.zip_images import ZipImages, zip_splits
from loaders.sources.zip_members import is_zip
from loaders.text import printable


@dataclass(frozen=True)
class Kind:
    """A kind of source: what it is called, how it is opened, and how it is recognised.

    name: how the command line's help calls it. open: opens a path, with a split if one is given and the kind has
    `splits`. folder: tells from the names of a folder's files whether the folder is of this kind; None: no folder is.
    file: tells whether a file is, and raises nothing for what the file holds; None: no file is.
    splits: tells which splits a path holds, none if it is one; None: nothing of this kind holds several.
    beside: tells whether a folder of this kind that holds folders of images too is of this kind all the same, and not
    one of class folders with what they were unpacked from; None: it is.
    options: what else `open` takes by name: "labels", a table of them; "image" and "label", columns.
    """

    name: str
    open: Callable[..., Source]
    folder: Callable[[Collection[str]], bool] | None = None
    file: Callable[[Path], bool] | None = None
    splits: Callable[[Path], Collection[str]] | None = None
    options: Collection[str] = ()
    beside: Callable[[Path], bool] | None = None


def _train_test(path: Path) -> Collection[str]:
    return "train", "test"


# the first that recognises a path opens it; what none does are images in a tree of class folders
KINDS = (
    Kind("Tiny ImageNet's folder", TinyImageNet, folder=is_tiny_imagenet, splits=lambda path: ("train", "val")),
    Kind("Kaggle's ImageNet folder", KaggleImageNet, folder=is_kaggle, splits=lambda path: SPLITS),
    Kind("HDF5 of arrays", open_hdf5, file=h5py.is_hdf5, splits=hdf5_splits),
    Kind("zip of images", ZipImages, file=is_zip, splits=zip_splits, options=("labels",)),
    Kind(
        "Parquet of images",
        ParquetImages,
        folder=has_parquet,
        file=is_parquet,
        splits=parquet_splits,
        options=("image", "label"),
    ),
    Kind("STL-10's binaries", open_stl10, folder=is_stl10, file=is_stl10_archive, splits=stl10_splits),
    Kind("stack of images (TIFF or NumPy)", open_stack, file=is_stack),
    Kind("CIFAR files", open_cifar, folder=is_cifar, file=is_cifar_archive, splits=_train_test),
    Kind("MNIST files", open_mnist, folder=is_mnist, splits=_train_test),
    Kind(
        "WebDataset's tars",
        WebDataset,
        folder=has_samples,
        file=is_samples,
        splits=sample_splits,
        beside=begins_with_samples,
    ),
    Kind("ImageNet's tars", ImageNetTrain, file=is_train_tar),
    Kind("a folder of ImageNet's class tars", ImageNetClassTars, folder=has_class_tars),
    Kind("a tar of class folders", open_tar, file=is_tar, splits=tar_splits),
)


def kind_of(path: Path) -> Kind | None:
    """The kind of a folder or a file. Raises ValueError for a folder of shards, finished or not."""
    if path.is_dir():
        entries = listing(path)
        _refuse_shards(path, entries)
        kind = kind_of_folder([entry.name for entry in entries if entry.is_file()])
        if kind is not None and kind.beside is not None and _has_image_folders(entries) and not kind.beside(path):
            return None
        return kind
    return next((kind for kind in KINDS if kind.file and kind.file(path)), None)


def _refuse_shards(folder: Path, entries: Collection[Entry]) -> None:
    """Raise ValueError for shards, parts of them or what a build begins with: none of their files is an image."""
    seen = [entry.name for entry in entries if not entry.name.startswith(".")]
    parts = [Path(entry.path) for entry in entries if PART.fullmatch(entry.name) and entry.is_dir()]
    begun = seen == [PLAN] or any((part / name).is_file() for part in parts for name in (INDEX, PLAN))
    if begun or shard_name(0) in seen:
        state = "; give the images that they were built from"
        if INDEX not in seen:
            state = ", and their build is not finished: run the same build_shards (hebbcore shards build) again"
        raise ValueError(f"open_source: {printable(folder)} holds shards{state}")


def _has_image_folders(entries: Collection[Entry]) -> bool:
    """Whether one of them is a folder that holds images, and no hidden one."""
    folders = (Path(entry.path) for entry in entries if entry.is_dir() and is_class(entry.name))
    return any(looks_like_an_image(inner.name) for folder in folders for inner in listing(folder))


def is_archive(path: Path) -> bool:
    """Whether a file holds encoded images, or arrays, in another way than as HDF5: an archive."""
    return not h5py.is_hdf5(path) and kind_of(path) is not None


def kind_of_folder(names: Collection[str]) -> Kind | None:
    """The kind of a folder that holds files of these names."""
    return next((kind for kind in KINDS if kind.folder and kind.folder(names)), None)
