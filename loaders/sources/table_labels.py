"""The labels that a table gives to the images of a folder or an archive."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

from loaders.labels import Row, match_labels
from loaders.shards.format import UNLABELLED
from loaders.sources.base import Item, name_key
from loaders.text import printable, tidy


class TableLabels:
    """Labels by the names of images, those of a table first, then those of folders that are called like its labels.

    rows: of the table, see read_labels. names: of the images, relative to where they lie, of which root is the name.
    remarks: what a user should know. Raises ValueError if the table names files that are not there.
    """

    def __init__(self, rows: Sequence[Row], names: Sequence[str], root: Any) -> None:
        labels, self.class_names = match_labels(rows, names, root)
        self.remarks: list[str] = []
        self._of_files = {name: label for name, label in zip(names, labels.tolist(), strict=True) if label >= 0}
        self._of_folders = {name: label for label, name in enumerate(self.class_names)}
        folders = set(map(_outermost, names)) - {""}
        others = sorted(folders.difference(self.class_names), key=name_key)
        if 0 < len(others) < len(folders):
            listed = ", ".join(map(printable, others[:5])) + ", …" * (len(others) > 5)
            self.remarks.append(f"folders that are called like no label of the table give none: {listed}")
        against = sum(self._of_folders.get(_outermost(name), label) != label for name, label in self._of_files.items())
        if against:
            self.remarks.append(
                f"{against} images lie in a folder named after another label than theirs in the table, which they have"
            )

    def label_of(self, name: str) -> int:
        """The label of an image, -1 if it has none."""
        label = self._of_files.get(name)
        return self._of_folders.get(_outermost(name), UNLABELLED) if label is None else label


def labels_digest(items: Iterable[Item]) -> str:
    """A digest of the labels of images."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(name_key(item.name) + b"\0%d\0" % item.label)
    return digest.hexdigest()[:16]


def folder_of_all(folders: Collection[PurePosixPath]) -> str:
    """The innermost folder that holds all of these of an archive; "" is that of the archive."""
    some = next(iter(folders))
    around = (above for above in (some, *some.parents) if all(each.is_relative_to(above) for each in folders))
    return str(next(around, ".")).removeprefix(".")


def _outermost(name: str) -> str:
    """The outermost folder of a file, as labels are tidied; "", which is no label, if it lies in none."""
    folder, inside, _ = name.partition("/")
    return tidy(folder) if inside else ""
