"""Tiny ImageNet, in the folder that it unpacks to."""

import hashlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from loaders.sources.base import Item, name_key
from loaders.sources.walk import FileSource, Listed, hidden, walk
from loaders.text import printable, read_lines, read_words

WNIDS = "wnids.txt"


def is_tiny_imagenet(names: Collection[str]) -> bool:
    """Whether a folder with files of these names is Tiny ImageNet's."""
    return WNIDS in names


class TinyImageNet(FileSource):
    """The layout of tiny-imagenet-200: `wnids.txt`, `train/<wnid>/images/*`, `val/images/*` with its annotations.

    Labels follow the sorted wnids.

    Parameters
    ----------
    root : str or path
        The folder that holds wnids.txt.
    split : str
        "train" or "val" (the test images have no labels).

    Raises
    ------
    FileNotFoundError
        If wnids.txt or the annotations are missing.
    ValueError
        If there is no such split, or a line of the annotations is not `<file> <wnid> …`.
    """

    def __init__(self, root: str | os.PathLike[str], split: str = "train") -> None:
        self.root, self.split = Path(root), split
        self.class_names = sorted(read_words(self.root / WNIDS), key=name_key)
        if split not in ("train", "val"):
            raise ValueError(f'TinyImageNet: split must be "train" or "val", got {split!r}')
        self._items = list(self._train() if split == "train" else self._val())
        self._listed = Listed(self._items)

    def describe(self) -> dict[str, Any]:
        """Return what the index says about the source; see ImageSource."""
        digest = hashlib.sha256()
        for item in self._items:
            digest.update(name_key(item.name) + b"\0%d\0" % item.label)
        listed = self._listed.describe()
        return {"kind": "Tiny ImageNet", "split": self.split, **listed, "names": digest.hexdigest()[:16]}

    def items(self) -> Iterator[Item]:
        """Return the images in order."""
        return iter(self._items)

    def _train(self) -> Iterator[Item]:
        position = 0
        for label, wnid in enumerate(self.class_names):
            folder = self.root / "train" / wnid / "images"
            for name, path, problem in walk(folder, f"train/{wnid}/images"):
                position += 1
                yield Item(name, label, path, position=position, problem=problem or hidden(name))

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
        files = walk(self.root / "val" / "images", "val/images")
        for position, (name, path, problem) in enumerate(files, 1):
            wnid = wnids.get(os.path.basename(path))
            if wnid is None and problem is None:
                problem = "not in val_annotations.txt"
            problem = problem or hidden(name)
            yield Item(name, labels[wnid] if wnid else 0, path, position=position, problem=problem)
