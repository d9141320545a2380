"""From a path to the source it holds."""

import os
from pathlib import Path, PurePosixPath

import h5py

from loaders.sources.base import Source
from loaders.sources.cifar import is_cifar, open_cifar
from loaders.sources.folder import ImageFolder, TinyImageNet
from loaders.sources.hdf5 import open_hdf5
from loaders.sources.imagenet import ClassFolderTar, ImageNetTrain, ImageNetValidation, Member, tar_members
from loaders.sources.mnist import find_idx, open_mnist
from loaders.text import printable


def open_source(
    path: str | os.PathLike[str],
    *,
    split: str | None = None,
    ground_truth: str | os.PathLike[str] | None = None,
    synsets: str | os.PathLike[str] | None = None,
) -> Source:
    """Recognise what a path holds and open it for build_shards.

    path: ImageNet's train or val tar, a tar or a tree of class folders, Tiny ImageNet's folder, CIFAR-10/100 (python or
    binary, tar.gz or unpacked), MNIST's idx folder, or an HDF5 file with train/images, train/labels and so on.
    split: of sources that hold several: "train" (None means this), "test", or "val" for Tiny ImageNet.
    ground_truth, synsets: of ImageNet's val tar or the folder it unpacks to, see ImageNetValidation.

    Raises FileNotFoundError for a missing path, ValueError for one that is none of these or for arguments that it
    has no use for.
    """
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(f"open_source: {printable(root)} does not exist")
    if (ground_truth is None) != (synsets is None):
        raise ValueError("open_source: ground_truth and synsets go together, got only one of them")
    if ground_truth is not None and synsets is not None:
        if split is not None:
            raise ValueError("open_source: ground_truth is of the validation set, which is one split; leave split out")
        return ImageNetValidation(root, ground_truth, synsets)
    source = _folder(root, split or "train") if root.is_dir() else _file(root, split or "train")
    if source is None:
        if split is not None:
            raise ValueError(f"open_source: {printable(root)} holds one split only; leave split out")
        source = ImageFolder(root) if root.is_dir() else _image_tar(root)
    return source


def _folder(root: Path, split: str) -> Source | None:
    names = os.listdir(root)
    if "wnids.txt" in names:
        return TinyImageNet(root, split)
    if is_cifar([name for name in names if (root / name).is_file()]):
        return open_cifar(root, split)
    if any(find_idx(root, name, "images") for name in ("train", "test")):
        return open_mnist(root, split)
    return None


def _file(path: Path, split: str) -> Source | None:
    if h5py.is_hdf5(path):
        return open_hdf5(path, split)
    with open(path, "rb") as file:
        head = file.read(2)
    # ImageNet's tars are not compressed, CIFAR's are, and both may have been repacked
    if head == b"\x1f\x8b" or is_cifar([PurePosixPath(member.name).name for member in _first_members(path, 10)]):
        return open_cifar(path, split)
    return None


def _image_tar(path: Path) -> Source:
    first = _first_members(path, 1)
    if first and first[0].name.endswith(".tar"):
        return ImageNetTrain(path)
    if first and PurePosixPath(first[0].name).parent.name == "":
        raise ValueError(
            f"open_source: {printable(path)} has images outside class folders; if it is ImageNet's validation set give "
            "ground_truth and synsets"
        )
    return ClassFolderTar(path)


def _first_members(path: Path, count: int) -> list[Member]:
    with open(path, "rb") as file:
        members = tar_members(file, 0, os.path.getsize(path))
        return [member for member, _ in zip(members, range(count), strict=False)]
