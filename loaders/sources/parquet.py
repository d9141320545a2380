"""Parquet files of encoded images, as Hugging Face writes them: read a few rows at a time."""

import os
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from loaders.shards.format import UNLABELLED
from loaders.sources.arrow_columns import Columns, Labels, columns_of, import_arrow
from loaders.sources.base import Item
from loaders.sources.content import archives_digest
from loaders.sources.parquet_rows import Cell, Reading, RowGroup, faults, open_parquet
from loaders.sources.splits import files_of_split, files_with, remarks_on_splits, splits_of
from loaders.sources.unpack import FACTOR, FREE
from loaders.text import printable

SUFFIX = (".parquet",)
MAGIC = b"PAR1"
NAME = 4096  # letters of a name
SAMPLE = 64


def has_parquet(names: Collection[str]) -> bool:
    """Whether a folder with files of these names holds Parquet files."""
    return any(name.lower().endswith(SUFFIX) for name in names)


def is_parquet(path: Path) -> bool:
    """Whether a file begins as Parquet files do."""
    with open(path, "rb") as file:
        return file.read(4) == MAGIC


def parquet_splits(path: Path) -> list[str]:
    """The splits of a folder of Parquet files, by their names; none if it is one."""
    return splits_of(files_with(path, SUFFIX))


class ParquetImages:
    """Parquet files with a column of encoded images, and perhaps one of labels.

    Images are bytes, or structs of bytes and path as `datasets` writes them; the path is the name. Classes are those
    that `datasets` noted, otherwise the texts of the column, sorted, or its numbers. Null and -1 are no label. A few
    rows are in memory at a time, however large files and row groups are. Needs pyarrow (extra `parquet`).

    Parameters
    ----------
    path : str or path
        A file, or a folder that holds the files.
    split : str, optional
        Which of several splits that are words of the files' names, as train-00000-of-00004.parquet: "train" (None means
        this), "val" or "test".
    image, label : str, optional
        The columns; None: those of the right type, or called image and label.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    ValueError
        If a file is damaged or cut short, has no such columns or others than the first, or claims too much.
    """

    unit = "images"

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str | None = None,
        *,
        image: str | None = None,
        label: str | None = None,
    ) -> None:
        self.path, self._where = Path(path), f"ParquetImages: {printable(path)}"
        import_arrow("ParquetImages")
        there = files_with(self.path, SUFFIX)
        files, self.split = files_of_split(self._where, there, split)
        self.remarks = remarks_on_splits(there)
        self._files = [str(file) for file in files]
        self.changed = max((os.stat(file).st_ctime for file in self._files), default=0.0)
        self._groups: list[tuple[str, int, int]] = []  # file, row group, rows
        self._reading = Reading()
        self._columns = self._read_schemas(image, label)
        self.total = sum(rows for _, _, rows in self._groups)
        labels = Labels(self._where, self._columns.class_names)
        if self._columns.label is not None:
            for name, group, _ in self._groups:
                with faults(name):
                    labels.add(open_parquet(name).read_row_group(group, columns=[self._columns.label]).column(0))
        self._labels, self.class_names = labels.finished()
        self.remarks += labels.remarks
        missing = self.total - int((self._labels >= 0).sum())
        if self._columns.label is None:
            self._labels = np.full(self.total, UNLABELLED)
        if missing:
            self.remarks.append(f"{missing} rows of {printable(path)} have no label")

    def describe(self) -> dict[str, Any]:
        """Return what the index says about the source; see ImageSource."""
        described = {"kind": "Parquet", "name": self.path.resolve().name, "files": len(self._files), "rows": self.total}
        if self.split is not None:
            described["split"] = self.split
        columns = {"image": self._columns.image, "label": self._columns.label}
        crc = zlib.crc32(np.ascontiguousarray(self._labels, "<i8").data)
        return {**described, "columns": columns, "crc32": crc, "content": archives_digest(self._files)}

    def items(self) -> Iterator[Item]:
        """Return the rows in order, file after file; their images are read when they are asked for.

        Raises
        ------
        ValueError
            While iterating, if the names of a file cannot be read.
        """
        first = 0
        for name, group, rows in self._groups:
            yield from self._items_of(name, group, rows, first)
            first += rows

    @property
    def sample(self) -> list[Item]:
        """Items spread over the source: the first rows of some row groups."""
        each = -(-SAMPLE // max(1, len(self._groups)))
        firsts = np.cumsum([0, *(rows for _, _, rows in self._groups)]).tolist()
        step = max(1, len(self._groups) // SAMPLE)
        return [
            item
            for (name, group, rows), first in list(zip(self._groups, firsts, strict=False))[::step]
            for item in self._items_of(name, group, min(rows, each), first)
        ]

    def _items_of(self, name: str, group: int, rows: int, first: int) -> Iterator[Item]:
        """The first so many rows of a row group, of which the first is row `first` of the source."""
        images, names = RowGroup(name, group, self._columns, self._reading), self._names(name, group)
        for row in range(rows):
            number, label = first + row, int(self._labels[first + row])
            called = next(names) or f"{os.path.basename(name)}/{group}/{row:06d}"
            yield Item(called, label, name, position=number + 1, load=Cell(images, row))

    def _names(self, name: str, group: int) -> Iterator[str | None]:
        """The path of each row's image, if it has one."""
        if not self._columns.has_path:
            while True:
                yield None
        with faults(name):
            for batch in open_parquet(name).iter_batches(
                batch_size=1024, row_groups=[group], columns=[f"{self._columns.image}.path"]
            ):
                for path in batch.column(0).field("path").to_pylist():
                    yield path[:NAME] if path else None

    def _read_schemas(self, image: str | None, label: str | None) -> Columns:
        """Note the row groups of all files, whose columns must be alike, and return these."""
        found: Columns | None = None
        for name in self._files:
            with faults(name):
                file = open_parquet(name)
                columns = columns_of(f"ParquetImages: {printable(name)}", file.schema_arrow, image, label)
                for group in range(file.metadata.num_row_groups):
                    _check_sizes(file.metadata.row_group(group))
                    self._groups.append((name, group, file.metadata.row_group(group).num_rows))
            if found is not None and columns != found:
                raise ValueError(
                    f"{self._where}: {printable(name)} has other columns or classes than {printable(self._files[0])}; "
                    "give files of one set"
                )
            found = columns
        if found is None:
            raise ValueError(f"{self._where} holds no Parquet file")
        return found


def _check_sizes(group: Any) -> None:
    """Raise ValueError for columns that claim to unpack to too much."""
    for number in range(group.num_columns):
        column = group.column(number)
        packed, size = column.total_compressed_size, column.total_uncompressed_size
        if size > FACTOR * max(0, packed) + FREE:
            raise ValueError(f"{printable(column.path_in_schema)} claims to unpack from {packed} bytes to {size}")
