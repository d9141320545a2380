"""Images in a folder tree: one folder for each class, or Tiny ImageNet's layout."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from loaders.sources.base import Item, name_key
from loaders.sources.content import ITEMS, Spread, files_digest
from loaders.sources.layout import check_level, is_class
from loaders.text import printable, read_lines, read_words

DEPTH = 100  # folders in folders; a path has no room for many more


class ImageFolder:
    """root/<class>/…/<image>: labels follow the sorted names of the class folders, empty ones included.

    Links to files and folders are followed, except where a folder would contain itself. Files that are no images, and
    files beside the class folders or in hidden folders, are reported and not read.

    Raises FileNotFoundError or NotADirectoryError if root is not a folder, ValueError if it has no class folders, or
    is recognisably a level too high, see loaders.layout.
    """

    unit = "images"

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self.class_names = [entry.name for entry in _listing(self.root) if entry.is_dir() and is_class(entry.name)]
        if not self.class_names:
            raise ValueError(
                f"ImageFolder: {printable(self.root)} must have one folder for each class, it has no folders; "
                "move images without classes into a single one, and give ImageNet's validation set with its ground "
                "truth and synsets"
            )
        check_level(self.root, self.class_names)
        self._listed = Listed(self.items())
        folders = self._listed.folders
        self.remarks = []
        if len(folders) >= 2 * len(self.class_names) > 2:
            self.remarks.append(
                f"the images of {printable(self.root)} lie in {len(folders)} folders; their labels are the "
                f"{len(self.class_names)} outermost folders"
            )

    @property
    def total(self) -> int:
        return self._listed.count

    @property
    def sample(self) -> list[Item]:
        """Items spread over the source."""
        return list(self._listed.sample)

    @property
    def changed(self) -> float:
        """When the last of its files changed."""
        return self._listed.changed

    def describe(self) -> dict[str, Any]:
        return {"kind": "image folder", "name": self.root.resolve().name, **self._listed.describe()}

    def items(self) -> Iterator[Item]:
        labels = {name: label for label, name in enumerate(self.class_names)}
        for position, (name, path, problem) in enumerate(self._files(), 1):
            label = labels.get(name.partition("/")[0], 0)
            yield Item(name, label, path, position=position, problem=problem)

    def _files(self) -> Iterator[tuple[str, str, str | None]]:
        """(name, path, problem) of every file, in order."""
        for name in self.class_names:
            yield from _walk(self.root / name, name, frozenset())
        for entry in _listing(self.root):
            if not entry.is_dir():
                yield entry.name, entry.path, "outside the class folders"
            elif not is_class(entry.name):
                for name, path, _ in _walk(Path(entry.path), entry.name, frozenset()):
                    yield name, path, "in a hidden folder, which is no class"


class Listed:
    """What one walk over a source's files tells: how many, in which folders, last changed when, a sample, a digest."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.count, self.changed = 0, 0.0
        self.folders: set[str] = set()
        self.sample = Spread[Item](ITEMS)
        names, sizes = hashlib.sha256(), hashlib.sha256()
        for item in items:
            self.count += 1
            names.update(name_key(item.name) + b"\0")
            if item.problem is None:
                self.folders.add(item.name.rpartition("/")[0])
                self.sample.add(item)
                size, changed = _size_and_time(item.path)
                sizes.update(b"%d\0" % size)
                self.changed = max(self.changed, changed)
            else:
                sizes.update(item.problem.encode() + b"\0")
        self._names, self._content = names.hexdigest()[:16], files_digest(sizes, [item.path for item in self.sample])

    def describe(self) -> dict[str, Any]:
        return {"files": self.count, "names": self._names, "content": self._content}


def _size_and_time(path: str) -> tuple[int, float]:
    try:
        found = os.stat(path)
    except OSError:  # gone meanwhile: reading it will say so
        return -1, 0.0
    return found.st_size, found.st_ctime


class TinyImageNet:
    """The layout of tiny-imagenet-200: wnids.txt, train/<wnid>/images/*, val/images/* with val_annotations.txt.

    split: "train" or "val" (the test images have no labels). Labels follow the sorted wnids.
    """

    unit = "images"

    def __init__(self, root: str | os.PathLike[str], split: str = "train") -> None:
        self.root, self.split = Path(root), split
        self.class_names = sorted(read_words(self.root / "wnids.txt"), key=name_key)
        if split not in ("train", "val"):
            raise ValueError(f'TinyImageNet: split must be "train" or "val", got {split!r}')
        self._items = list(self._train() if split == "train" else self._val())
        self._listed = Listed(self._items)

    @property
    def total(self) -> int:
        return len(self._items)

    @property
    def changed(self) -> float:
        """When the last of its files changed."""
        return self._listed.changed

    @property
    def sample(self) -> list[Item]:
        """Items spread over the source."""
        return list(self._listed.sample)

    def describe(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for item in self._items:
            digest.update(name_key(item.name) + b"\0%d\0" % item.label)
        listed = self._listed.describe()
        return {"kind": "Tiny ImageNet", "split": self.split, **listed, "names": digest.hexdigest()[:16]}

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
        for number, line in enumerate(read_lines(annotations), 1):
            fields = line.split("\t")
            if len(fields) < 2 or fields[1] not in labels:
                raise ValueError(
                    f"TinyImageNet: {annotations} line {number} must be <file> <wnid> …, got {printable(line)}"
                )
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
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: name_key(entry.name))
    except OSError as error:
        number, reason = error.errno or 0, error.strerror or error
        raise OSError(
            number, f"cannot list the folder {printable(folder)}: {reason}; give one that can be read"
        ) from error


def _walk(folder: Path, prefix: str, above: frozenset[str]) -> Iterator[tuple[str, str, str | None]]:
    above |= {os.path.realpath(folder)}
    for entry in _listing(folder):
        name = f"{prefix}/{entry.name}"
        if entry.is_dir():
            if os.path.realpath(entry.path) in above:
                yield name, entry.path, "a link to a folder that contains it"
            elif len(above) > DEPTH:
                yield name, entry.path, f"more than {DEPTH} folders deep"
            else:
                yield from _walk(Path(entry.path), name, above)
        elif not entry.is_file():
            yield name, entry.path, "a broken link or not a file"
        else:
            yield name, entry.path, None
