"""From a path to the source that it holds, opened."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from loaders.images.formats import format_of
from loaders.sources.base import Source
from loaders.sources.class_folders import is_of_photos
from loaders.sources.detect import Kind, kind_of
from loaders.sources.folder import ImageFolder, class_folders
from loaders.sources.hugging_face import DatasetImages, is_dataset
from loaders.sources.image_files import ImageFiles
from loaders.sources.imagenet import ImageNetValidation
from loaders.text import printable

COMPRESSED = {b"\x1f\x8b": "gunzip", b"\xfd7zXZ\0": "unxz", b"BZh": "bunzip2", b"\x28\xb5\x2f\xfd": "unzstd"}


def open_source(
    path: Any,
    *,
    split: str | None = None,
    ground_truth: str | os.PathLike[str] | None = None,
    synsets: str | os.PathLike[str] | None = None,
    labels: str | os.PathLike[str] | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> Source:
    """Recognise what a path holds and open it for build_shards.

    Parameters
    ----------
    path : str, path or datasets.Dataset
        ImageNet's train or val tar or the folder of its class tars, Kaggle's ImageNet as a zip or the folder it unpacks
        to, a tar, a zip or a tree of class folders, Tiny ImageNet's folder, CIFAR-10/100 (python or binary, tar.gz or
        unpacked), MNIST's idx folder, STL-10's archive or folder, a TIFF or NumPy stack, an HDF5 file with
        train/images, train/labels and so on, Parquet files of images or tars of WebDataset or a folder of either, or a
        folder of images without class folders, or with folders that are all named after dates or by cameras, whose
        images have no label.
    split : str, optional
        Which part of a source that holds several: "train" (None means this), "test", "val", or others of some kinds.
    ground_truth : str or path, optional
        The devkit's file for ImageNet's val tar or the folder it unpacks to; see ImageNetValidation.
    synsets : str or path, optional
        The devkit's other file for it; see ImageNetValidation.
    labels : str or path, optional
        A table of files and labels for a folder or a zip of images; see ImageFiles and ZipImages.
    image_column, label_column : str, optional
        Columns of Parquet files or of a dataset; see ParquetImages.

    Returns
    -------
    ArraySource or ImageSource

    Raises
    ------
    FileNotFoundError
        If there is nothing at the path.
    ValueError
        If it is none of these, or has no use for an argument that is given.
    """
    if is_dataset(path):
        if any(argument is not None for argument in (split, ground_truth, synsets, labels)):
            raise ValueError("open_source: a dataset tells its labels and is one split; leave other arguments out")
        return DatasetImages(path, image=image_column, label=label_column)
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(f"open_source: {printable(root)} does not exist")
    if (ground_truth is None) != (synsets is None):
        raise ValueError("open_source: ground_truth and synsets go together, got only one of them")
    if ground_truth is not None and synsets is not None:
        if labels is not None:
            raise ValueError("open_source: labels and ground_truth both tell the labels; give one of them")
        if split is not None:
            raise ValueError(
                "open_source: ground_truth belongs to the validation set, which is one split; leave split out"
            )
        return ImageNetValidation(root, ground_truth, synsets)
    kind = kind_of(root)
    options = {"labels": labels, "image": image_column, "label": label_column}
    options = {name: value for name, value in options.items() if value is not None}
    _check_options(root, kind, options)
    if labels is not None and kind is None:
        if split is not None:
            raise ValueError(f"open_source: {printable(root)} with labels holds one split only; leave split out")
        return ImageFiles(root, labels)
    if kind is not None and kind.splits:
        return kind.open(root, **options) if split is None else kind.open(root, split, **options)
    if kind is None and not root.is_dir():
        _refuse_file(root)
    if split is not None:
        raise ValueError(f"open_source: {printable(root)} holds one split only; leave split out")
    if kind is not None:
        return kind.open(root, **options)
    classes = class_folders(root)
    if not all(map(is_of_photos, classes)):
        return ImageFolder(root)
    files = ImageFiles(root)
    if classes:
        files.remarks.insert(0, f"folders of {printable(root)} are named after dates or by cameras, and are no classes")
    return files


def _refuse_file(path: Path) -> None:
    """Raise ValueError for a file that is of no kind: a single image, or a compressed tar with what unpacks it."""
    with open(path, "rb") as file:
        head = file.read(32)
    if format_of(head) is not None:
        raise ValueError(f"open_source: {printable(path)} is a single image; put it into a folder, and give that")
    program = next((program for magic, program in COMPRESSED.items() if head.startswith(magic)), None)
    if program is not None:
        raise ValueError(
            f"open_source: {printable(path)} is compressed, and images are read out of archives where they lie; unpack "
            f"it first ({program}), and give the tar or the folder"
        )
    raise ValueError(
        f"open_source: {printable(path)} is neither a tar, a zip nor another kind of file that images are read from, "
        "or it is damaged at its start; give an archive or the folder of the images, or get the file again"
    )


def _check_options(root: Path, kind: Kind | None, options: Collection[str]) -> None:
    """Raise ValueError for options that a path has no use for."""
    takes = kind.options if kind is not None else ("labels",) if root.is_dir() else ()
    plain = "a folder of images" if root.is_dir() else "a file"
    what = plain if kind is None else f"of the kind {kind.name}"
    if "labels" in options and "labels" not in takes:
        raise ValueError(f"open_source: labels are for a folder or a zip of images; {printable(root)} is {what}")
    if not set(options) <= set(takes):
        raise ValueError(f"open_source: columns are of Parquet files and datasets; {printable(root)} is {what}")
