"""Images in a folder, nested or not, without labels or with those of a table."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from loaders.labels import read_labels
from loaders.shards.format import UNLABELLED
from loaders.sources.base import Item
from loaders.sources.class_folders import is_class
from loaders.sources.table_labels import TableLabels, labels_digest
from loaders.sources.walk import FileSource, Listed, hidden, walk
from loaders.text import printable

TABLES = (".csv", ".tsv")


class ImageFiles(FileSource):
    """All images below a folder, nested or not: without labels, or with those of a table.

    A row of the table labels its image. An outermost folder that is called like a label of the table gives it to those
    of its images that have none there. All other images have no label, so folders by year or by camera may stay as
    they are. Links are followed as by ImageFolder. Tables, hidden files and those in hidden folders are reported and
    not read.

    Parameters
    ----------
    root : str or path
        The folder of the images.
    labels : str or path, optional
        A table of files, relative to root or absolute, and labels; see read_labels and match_labels. None: no image has
        a label.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If root is no folder, or there is no such table.
    ValueError
        If root has no files, the table is malformed, or it names files that are not there.
    """

    def __init__(self, root: str | os.PathLike[str], labels: str | os.PathLike[str] | None = None) -> None:
        self.root = Path(root)
        self.class_names: list[str] = []
        self.remarks: list[str] = []
        self._table: TableLabels | None = None
        names: list[str] = []
        self._listed = Listed(self._noted(names))
        if not names:
            raise ValueError(f"ImageFiles: {printable(self.root)} must be a folder with images in it, it has no files")
        if labels is not None:
            self._table = TableLabels(read_labels(labels), names, self.root)
            self.class_names, self.remarks = self._table.class_names, list(self._table.remarks)
        missing = sum(self._label_of(name) == UNLABELLED for name in names)
        if labels is None:
            self.remarks.append(
                f"{missing} files of {printable(self.root)} have no label; a table of file and label goes with labels "
                "(--labels)"
            )
        elif missing:
            self.remarks.append(f"{missing} of {len(names)} files of {printable(self.root)} have no label")

    def describe(self) -> dict[str, Any]:
        """Return what the index says about the source; see ImageSource."""
        described = {"kind": "image files", "name": self.root.resolve().name, **self._listed.describe()}
        if not self.class_names:
            return described
        return {**described, "labels": labels_digest(self.items())}

    def items(self) -> Iterator[Item]:
        """Return the files in the order of their names."""
        for item in self._unlabelled():
            label = self._label_of(item.name) if item.problem is None else UNLABELLED
            yield replace(item, label=label)

    def _unlabelled(self) -> Iterator[Item]:
        for position, (path_in_root, path, problem) in enumerate(walk(self.root, "."), 1):
            name = path_in_root.removeprefix("./")
            yield Item(name, UNLABELLED, path, position=position, problem=problem or _problem(name))

    def _noted(self, names: list[str]) -> Iterator[Item]:
        """The items; the names of those that can be read go into a list."""
        for item in self._unlabelled():
            if item.problem is None:
                names.append(item.name)
            yield item

    def _label_of(self, name: str) -> int:
        return UNLABELLED if self._table is None else self._table.label_of(name)


def _problem(name: str) -> str | None:
    """Why a file is not read."""
    if not all(map(is_class, name.split("/")[:-1])):
        return "in a hidden folder"
    return "a table, not an image" if name.lower().endswith(TABLES) else hidden(name)
