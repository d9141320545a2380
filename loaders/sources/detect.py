"""From a path to the kind of source that it holds.

A new kind of source is a file beside this one and a line of KINDS: open_source, build_shards and the command line find
it there, and a folder above it is refused as one above the others.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import h5py

from loaders.sources.base import Source
from loaders.sources.cifar import is_cifar, is_cifar_archive, open_cifar
from loaders.sources.hdf5 import open_hdf5
from loaders.sources.imagenet import ImageNetTrain, is_train_tar
from loaders.sources.mnist import is_mnist, open_mnist
from loaders.sources.tiny_imagenet import TinyImageNet, is_tiny_imagenet
from loaders.sources.walk import listing


@dataclass(frozen=True)
class Kind:
    """A kind of source: what it is called, how it is opened, and how it is recognised.

    name: for the help of the command line. open: from a path, and a split if the kind has `splits`, to the source.
    folder: whether a folder that holds files of these names is of the kind. file: whether a file is, never raises
    for what it holds. None: no folder is, or no file.
    """

    name: str
    open: Callable[..., Source]
    folder: Callable[[Collection[str]], bool] | None = None
    file: Callable[[Path], bool] | None = None
    splits: bool = True


# the first that recognises a path opens it; what none does are images in class folders, in a tree or a tar
KINDS = (
    Kind("Tiny ImageNet's folder", TinyImageNet, folder=is_tiny_imagenet),
    Kind("HDF5 of arrays", open_hdf5, file=h5py.is_hdf5),
    Kind("CIFAR files", open_cifar, folder=is_cifar, file=is_cifar_archive),
    Kind("MNIST files", open_mnist, folder=is_mnist),
    Kind("ImageNet's tars", ImageNetTrain, file=is_train_tar, splits=False),
)


def kind_of(path: Path) -> Kind | None:
    """The kind of a folder or a file."""
    if path.is_dir():
        return kind_of_folder([entry.name for entry in listing(path) if entry.is_file()])
    return next((kind for kind in KINDS if kind.file and kind.file(path)), None)


def kind_of_folder(names: Collection[str]) -> Kind | None:
    """The kind of a folder that holds files of these names."""
    return next((kind for kind in KINDS if kind.folder and kind.folder(names)), None)
