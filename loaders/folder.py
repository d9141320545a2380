"""Images in a folder tree: one folder for each class, or Tiny ImageNet's layout."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from loaders.images import SUFFIXES
from loaders.sources import Item, name_key

NOT_AN_IMAGE = "not an image by its name"


class ImageFolder:
    """root/<class>/…/<image>: labels follow the sorted names of the class folders, empty ones included.

    Links to files and folders are followed, except where a folder would contain itself. Files that are no images by
    their name, and files beside the class folders, are reported and not read.

    Raises FileNotFoundError or NotADirectoryError if root is not a folder, ValueError if it has no class folders.
    """

    unit = "images"

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self.class_names = [entry.name for entry in _listing(self.root) if entry.is_dir()]
        if not self.class_names:
            raise ValueError(f"ImageFolder: {self.root} must have one folder for each class, it has no folders")
        if "train" in self.class_names and {"val", "test"} & set(self.class_names):
            raise ValueError(f"ImageFolder: {self.root} holds splits, not classes; give {self.root / 'train'}")
        self._count, digest = 0, hashlib.sha256()
        for name, _, _ in self._files():
            self._count += 1
            digest.update(name_key(name) + b"\0")
        self._digest = digest.hexdigest()[:16]

    @property
    def total(self) -> int:
        return self._count

    def describe(self) -> dict[str, Any]:
        return {"kind": "image folder", "name": self.root.resolve().name, "files": self.total, "names": self._digest}

    def items(self) -> Iterator[Item]:
        labels = {name: label for label, name in enumerate(self.class_names)}
        for position, (name, path, problem) in enumerate(self._files(), 1):
            label = labels.get(PurePath(name).parts[0], 0)
            yield Item(name, label, path, position=position, problem=problem)

    def _files(self) -> Iterator[tuple[str, str, str | None]]:
        """(name, path, problem) of every file, in order."""
        for name in self.class_names:
            yield from _walk(self.root / name, name, frozenset())
        for entry in _listing(self.root):
            if not entry.is_dir():
                yield entry.name, entry.path, "outside the class folders"


class TinyImageNet:
    """The layout of tiny-imagenet-200: wnids.txt, train/<wnid>/images/*, val/images/* with val_annotations.txt.

    split: "train" or "val" (the test images have no labels). Labels follow the sorted wnids.
    """

    unit = "images"

    def __init__(self, root: str | os.PathLike[str], split: str = "train") -> None:
        self.root, self.split = Path(root), split
        self.class_names = sorted((self.root / "wnids.txt").read_text(encoding="utf-8").split(), key=name_key)
        if split not in ("train", "val"):
            raise ValueError(f'TinyImageNet: split must be "train" or "val", got {split!r}')
        self._items = list(self._train() if split == "train" else self._val())

    @property
    def total(self) -> int:
        return len(self._items)

    def describe(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for item in self._items:
            digest.update(name_key(item.name) + b"\0%d\0" % item.label)
        return {"kind": "Tiny ImageNet", "split": self.split, "files": self.total, "names": digest.hexdigest()[:16]}

    def items(self) -> Iterator[Item]:
        return iter(self._items)

    def _train(self) -> Iterator[Item]:
        position = 0
        for label, wnid in enumerate(self.class_names):
            folder = self.root / "train" / wnid / "images"
            for name, path, problem in _walk(folder, f"train/{wnid}/images", frozenset()):
                position += 1
                yield Item(name, label, path, position=position, problem=problem)

    def _val(self) -> Iterator[Item]:
        labels = {wnid: label for label, wnid in enumerate(self.class_names)}
        wnids = {}
        annotations = self.root / "val" / "val_annotations.txt"
        for number, line in enumerate(annotations.read_text(encoding="utf-8").splitlines(), 1):
            fields = line.split("\t")
            if len(fields) < 2 or fields[1] not in labels:
                raise ValueError(f"TinyImageNet: {annotations} line {number} must be <file> <wnid> …, got {line!r}")
            wnids[fields[0]] = fields[1]
        files = _walk(self.root / "val" / "images", "val/images", frozenset())
        for position, (name, path, problem) in enumerate(files, 1):
            wnid = wnids.get(os.path.basename(path))
            if wnid is None and problem is None:
                problem = "not in val_annotations.txt"
            yield Item(name, labels[wnid] if wnid else 0, path, position=position, problem=problem)


def folder_items(folder: str) -> list[Item]:
    """The files below a folder in order, all with label 0."""
    files = _walk(Path(folder), ".", frozenset())
    return [
        Item(name.removeprefix("./"), 0, path, position=position, problem=problem)
        for position, (name, path, problem) in enumerate(files, 1)
    ]


def _listing(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: name_key(entry.name))


def _walk(folder: Path, prefix: str, above: frozenset[str]) -> Iterator[tuple[str, str, str | None]]:
    above |= {os.path.realpath(folder)}
    for entry in _listing(folder):
        name = f"{prefix}/{entry.name}"
        if entry.is_dir():
            if os.path.realpath(entry.path) in above:
                yield name, entry.path, "a link to a folder that contains it"
            else:
                yield from _walk(Path(entry.path), name, above)
        elif not entry.is_file():
            yield name, entry.path, "a broken link or not a file"
        else:
            yield name, entry.path, None if os.path.splitext(entry.name)[1].lower() in SUFFIXES else NOT_AN_IMAGE
