"""A `datasets.Dataset` in memory or in its cache as a source. The library is not imported: its objects bring it."""

import hashlib
import os
import zlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from loaders.shards.format import UNLABELLED
from loaders.sources.arrow_columns import Labels, columns_of
from loaders.sources.base import Item
from loaders.sources.content import END, ITEMS
from loaders.sources.parquet import NAME, SAMPLE
from loaders.sources.parquet_rows import loaded

ROWS = 16  # that are taken at a time


def is_dataset(source: object) -> bool:
    """Whether something is an object of Hugging Face's datasets."""
    return type(source).__module__.partition(".")[0] == "datasets"


class DatasetImages:
    """A `datasets.Dataset` with a column of images, and perhaps one of labels; see ParquetImages.

    Images are taken as they are encoded, not as the dataset would decode them. One that is only a path is read from
    that file. Names are the paths of the images, or the numbers of the rows.

    Parameters
    ----------
    dataset : datasets.Dataset
        One split, such as load_dataset(…)["train"].
    image, label : str, optional
        The columns; None: those of the types Image and ClassLabel, or called image and label.

    Raises
    ------
    TypeError
        If it is another object of the library, such as all splits.
    ValueError
        If it has no such columns.
    """

    unit = "images"

    def __init__(self, dataset: Any, *, image: str | None = None, label: str | None = None) -> None:
        if isinstance(dataset, dict):
            listed = ", ".join(map(repr, dataset))
            raise TypeError(f"DatasetImages: dataset must be one split, got a dict of {listed}; give one of them")
        if not hasattr(dataset, "with_format") or not hasattr(dataset, "__len__"):
            raise TypeError(
                f"DatasetImages: dataset must be a datasets.Dataset, whose rows can be counted, got "
                f"{type(dataset).__name__}; load it without streaming"
            )
        rows = dataset.with_format("arrow")
        self._columns = columns_of("DatasetImages: dataset", rows[:0].schema, image, label)
        self._rows, self.total = rows.select_columns([self._columns.image]), len(dataset)
        self.remarks: list[str] = []
        labels = Labels("DatasetImages: dataset", self._columns.class_names)
        if self._columns.label is not None:
            only = rows.select_columns([self._columns.label])
            for first in range(0, self.total, 2**16):
                labels.add(only[first : first + 2**16].column(0))
        self._labels, self.class_names = labels.finished()
        self.remarks += labels.remarks
        if self._columns.label is None:
            self._labels = np.full(self.total, UNLABELLED)
        if missing := int((self._labels < 0).sum()):
            self.remarks.append(f"{missing} rows of the dataset have no label")

    def describe(self) -> dict[str, Any]:
        """Return what the index says about the source; see ImageSource."""
        digest = hashlib.sha256()
        for row in np.linspace(0, self.total - 1, min(self.total, ITEMS)).astype(int).tolist():
            item = self._item(row, self._rows[row : row + 1].column(0)[0].as_py())
            try:
                data = item.read()
            except (ValueError, OSError):
                data = b"cannot be read"
            digest.update(b"%d\0" % len(data) + data[:END] + data[-END:])
        columns = {"image": self._columns.image, "label": self._columns.label}
        crc = zlib.crc32(np.ascontiguousarray(self._labels, "<i8").data)
        content = digest.hexdigest()[:16]
        return {"kind": "datasets.Dataset", "rows": self.total, "columns": columns, "crc32": crc, "content": content}

    @property
    def sample(self) -> list[Item]:
        """Items spread over the source."""
        return [
            self._item(row, self._rows[row : row + 1].column(0)[0].as_py())
            for row in np.linspace(0, self.total - 1, min(self.total, SAMPLE)).astype(int).tolist()
        ]

    def items(self) -> Iterator[Item]:
        """Return the rows in order."""
        for first in range(0, self.total, ROWS):
            for row, value in enumerate(self._rows[first : first + ROWS].column(0).to_pylist(), first):
                yield self._item(row, value)

    def _item(self, row: int, value: Any) -> Item:
        if not isinstance(value, dict):
            value = {"bytes": value}
        data, path, label = value.get("bytes"), value.get("path"), int(self._labels[row])
        name = path[:NAME] if path else f"{row:07d}"
        if data is None and path and os.path.isfile(path):
            return Item(name, label, path, position=row + 1)
        return Item(name, label, "", position=row + 1, load=partial(loaded, data))
