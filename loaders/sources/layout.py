"""Folders that are a level off: splits, wrappers and other sets' folders where folders of classes should be."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path

from loaders.images.formats import looks_like_an_image
from loaders.sources.class_folders import is_class, split_named, splits_in
from loaders.sources.detect import kind_of_folder
from loaders.sources.walk import Entry
from loaders.text import printable

VALIDATION = (
    "ImageNet's validation images need the devkit's ground truth and meta.mat as ground_truth and synsets "
    "(--ground-truth and --synsets), or Kaggle's LOC_val_solution.csv as labels (--labels), and other images need a "
    "table of file and label as labels"
)
LEVELS = 5  # folders in folders that are looked into,
FOLDERS = 2000  # how many of them on each level,
ENTRIES = 1500  # and at how many of a folder's entries


def check_level(root: Path, classes: Sequence[str]) -> None:
    """Raise ValueError, with the right path, if the folders in root are recognisably not classes.

    classes: their names. A few levels of folders are looked at, and no file is opened.
    """
    try:
        _check_level(root, classes)
    finally:
        _look.cache_clear()


def _check_level(root: Path, classes: Sequence[str]) -> None:
    if other := _other_set(root, LEVELS):
        raise ValueError(f"ImageFolder: {printable(root)} is a level too high; give {printable(other)}")
    if holder := _holder_of_splits(root, LEVELS):
        raise ValueError(f"ImageFolder: {printable(root)} holds splits, not classes: {_right_splits(root, holder)}")
    if len(classes) == 1:
        _check_wrapper(root, classes[0])
    for name in classes if len(classes) > 1 else ():
        inner = _look(root / name).folders if split_named(name) else []
        if len(inner) > 1 and not any(_look(root / other).folders for other in classes if other != name):
            raise ValueError(
                f"ImageFolder: {printable(root)} is a level too high: only {printable(name)} of its folders "
                f"holds folders; give {printable(root / name)}, or rename it if it is a class"
            )


def _right_splits(root: Path, holder: Path) -> str:
    """Which splits a folder holds, and which to give: those with class folders, unless none has any."""
    splits = sorted(splits_in(_look(holder).folders), key=lambda name: split_named(name) != "train")
    classes = [name for name in splits if _look(holder / name).folders]
    flat = [printable(name) for name in splits if classes and name not in classes]
    where = "" if holder == root else f"{printable(holder)} "
    return (
        f"{where}has {', '.join(map(printable, splits))}; give "
        f"{' or '.join(printable(holder / name) for name in classes or splits)}, or rename them if they are classes"
        + f"; {' and '.join(flat)} without class folders would have no labels: {VALIDATION}"
        * bool(flat)
    )


def _check_wrapper(root: Path, name: str) -> None:
    """Refuse one folder that holds, perhaps in one more, several folders and no images."""
    folder = root / name
    seen = _look(folder)
    while len(seen.folders) == 1 and not seen.has_images and len(folder.parts) < len(root.parts) + LEVELS:
        folder /= seen.folders[0]
        seen = _look(folder)
    if len(seen.folders) > 1 and not seen.has_images:
        raise ValueError(
            f"ImageFolder: {printable(root)} is a level too high: all of it would be one class, {printable(name)}; "
            f"give {printable(folder)}, which has {len(seen.folders)} folders, or put the images of one class into one"
        )


def _other_set(folder: Path, levels: int) -> Path | None:
    """A folder in this one, or in folders without images, that is recognised as another source, such as MNIST."""
    for name in _look(folder).folders[:FOLDERS]:
        inner = folder / name
        seen = _look(inner)
        if kind_of_folder(seen.files):
            return inner
        if levels > 1 and not seen.has_images and (found := _other_set(inner, levels - 1)):
            return found
    return None


def _holder_of_splits(root: Path, levels: int) -> Path | None:
    """This folder or one in it whose folders are splits; one whose splits hold images, if there are several."""
    found: list[Path] = []
    level = [root]
    for _ in range(levels):
        found += [folder for folder in level if splits_in(_look(folder).folders)]
        inner = [folder / name for folder in level if folder not in found for name in _look(folder).folders]
        level = [folder for folder in inner[:FOLDERS] if not _look(folder).has_images]
    with_images = (
        holder for holder in found if any(_image_below(holder / name, LEVELS) for name in _look(holder).folders)
    )
    return next(with_images, found[0] if found else None)


def _image_below(folder: Path, levels: int) -> bool:
    seen = _look(folder)
    return seen.has_images or (levels > 1 and any(_image_below(folder / name, levels - 1) for name in seen.folders[:3]))


@dataclass(frozen=True)
class _Seen:
    """What is in a folder, by the first of its entries."""

    folders: list[str]
    files: list[str]

    @cached_property
    def has_images(self) -> bool:
        return any(map(looks_like_an_image, self.files))


@lru_cache(2 * FOLDERS)
def _look(folder: Path) -> _Seen:
    """Empty if the folder cannot be read."""
    try:
        with os.scandir(folder) as entries:
            first = list(map(Entry, islice(entries, ENTRIES)))
            folders = {entry.name for entry in first if entry.is_dir()}
            files = [entry.name for entry in first if entry.name not in folders]
            return _Seen(sorted(filter(is_class, folders)), files)
    except OSError:
        return _Seen([], [])
