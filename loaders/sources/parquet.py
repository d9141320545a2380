"""Parquet files of encoded images, as Hugging Face writes them: read a few rows at a time."""

import os
import threading
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from loaders.shards.format import UNLABELLED
from loaders.sources.arrow_columns import Columns, Labels, columns_of, import_arrow
from loaders.sources.base import Item
from loaders.sources.content import archives_digest
from loaders.sources.splits import files_of_split, files_with, splits_of
from loaders.sources.unpack import FACTOR, FREE
from loaders.text import printable
from loaders.workers import available_cores

SUFFIX = (".parquet",)
MAGIC = b"PAR1"
ROWS = 16  # that are read at a time
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
        self.remarks: list[str] = []
        import_arrow("ParquetImages")
        files, self.split = files_of_split(self._where, files_with(self.path, SUFFIX), split)
        self._files = [str(file) for file in files]
        self.changed = max((os.stat(file).st_ctime for file in self._files), default=0.0)
        self._groups: list[tuple[str, int, int]] = []  # file, row group, rows
        self._columns = self._read_schemas(image, label)
        self.total = sum(rows for _, _, rows in self._groups)
        labels = Labels(self._where, self._columns.class_names)
        if self._columns.label is not None:
            for name, group, _ in self._groups:
                with _faults(name):
                    labels.add(_open(name).read_row_group(group, columns=[self._columns.label]).column(0))
        self._labels, self.class_names = labels.finished()
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
        images, names = _Images(name, group, self._columns), self._names(name, group)
        for row in range(rows):
            number, label = first + row, int(self._labels[first + row])
            called = next(names) or f"{os.path.basename(name)}/{group}/{row:06d}"
            yield Item(called, label, name, position=number + 1, load=_Cell(images, row))

    def _names(self, name: str, group: int) -> Iterator[str | None]:
        """The path of each row's image, if it has one."""
        if not self._columns.has_path:
            while True:
                yield None
        with _faults(name):
            for batch in _open(name).iter_batches(
                batch_size=1024, row_groups=[group], columns=[f"{self._columns.image}.path"]
            ):
                for path in batch.column(0).field("path").to_pylist():
                    yield path[:NAME] if path else None

    def _read_schemas(self, image: str | None, label: str | None) -> Columns:
        """Note the row groups of all files, whose columns must be alike, and return these."""
        found: Columns | None = None
        for name in self._files:
            with _faults(name):
                file = _open(name)
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


def _open(name: str) -> Any:
    arrow = import_arrow("ParquetImages")
    return arrow.parquet.ParquetFile(
        name, buffer_size=2**20, pre_buffer=False, page_checksum_verification=True, memory_map=False
    )


def _check_sizes(group: Any) -> None:
    """Raise ValueError for columns that claim to unpack to too much."""
    for number in range(group.num_columns):
        column = group.column(number)
        packed, size = column.total_compressed_size, column.total_uncompressed_size
        if size > FACTOR * max(0, packed) + FREE:
            raise ValueError(f"{printable(column.path_in_schema)} claims to unpack from {packed} bytes to {size}")


@contextmanager
def _faults(name: str) -> Iterator[None]:
    """Raise a ValueError that names the file: Arrow meets damage with several kinds of exceptions."""
    arrow = import_arrow("ParquetImages")
    try:
        yield
    except FileNotFoundError:
        raise
    except (arrow.ArrowException, OSError, ValueError, IndexError, KeyError) as error:
        if printable(name) in str(error):
            raise
        raise ValueError(
            f"ParquetImages: {printable(name)} is no whole Parquet file of images: {printable(error)}"
        ) from error


class _Images:
    """The images of a row group, which are read in order and a few at a time; any thread may ask for one."""

    def __init__(self, name: str, group: int, columns: Columns) -> None:
        self._name, self._group, self._columns = name, group, columns
        self._lock = threading.Lock()
        # as many as other threads may still want while one is ahead
        self._kept: deque[tuple[int, Any]] = deque(maxlen=2 * available_cores() + 2)
        self._batches: Iterator[Any] = iter(())
        self._next = -1  # row that comes next; -1: nothing was read yet
        self._failed: tuple[int, str] | None = None

    def read(self, row: int) -> bytes | None:
        """The bytes of a row's image, None if it has none. Raises ValueError if they are damaged."""
        with self._lock:
            for start, values in self._kept:
                if start <= row < start + len(values):
                    return self._value(values, row - start)
            if self._failed is not None and row >= self._failed[0]:
                raise ValueError(self._failed[1])
            if self._next < 0 or row < self._next:
                self._begin()
            while True:
                start, values = self._more()
                if row < self._next:
                    return self._value(values, row - start)

    def _begin(self) -> None:
        column = f"{self._columns.image}.bytes" if self._columns.is_struct else self._columns.image
        self._kept.clear()
        self._batches = _open(self._name).iter_batches(
            batch_size=ROWS, row_groups=[self._group], columns=[column], use_threads=False
        )
        self._next = 0

    def _more(self) -> tuple[int, Any]:
        try:
            with _faults(self._name):
                values = next(self._batches, None)
                if values is None or not len(values):
                    raise ValueError("a row group ends before its rows do")
        except ValueError as error:
            self._failed = self._next, str(error)
            raise
        start, self._next = self._next, self._next + len(values)
        self._kept.append((start, values.column(0)))
        return self._kept[-1]

    def _value(self, values: Any, at: int) -> bytes | None:
        if self._columns.is_struct:
            values = values.field("bytes")
        value: bytes | None = values[at].as_py()
        return value


class _Cell:
    """What reads a row's image; see Item.load. Pickled, it takes the bytes along."""

    def __init__(self, images: _Images, row: int) -> None:
        self._images, self._row = images, row

    def __call__(self, most: int) -> bytes:
        return loaded(self._images.read(self._row), most)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        try:
            return partial, (loaded, self._images.read(self._row))
        except ValueError as error:
            return partial, (_fail, str(error))


def loaded(data: bytes | None, most: int) -> bytes:
    """The first bytes of an image. Raises ValueError if there is none."""
    if data is None:
        raise ValueError("the row holds no image, or only the path of one that lies elsewhere")
    return data[:most]


def _fail(reason: str, most: int) -> bytes:
    raise ValueError(reason)
