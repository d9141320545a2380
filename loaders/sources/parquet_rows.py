"""The rows of Parquet files: their images, read in order and a few at a time, also for other threads and processes."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from loaders.sources.arrow_columns import Columns, import_arrow
from loaders.text import printable
from loaders.workers import available_cores

ROWS = 16  # that are read at a time


def open_parquet(name: str) -> Any:
    """A file to be read column by column, in pieces, with its checksums compared where it has them."""
    arrow = import_arrow("ParquetImages")
    return arrow.parquet.ParquetFile(
        name, buffer_size=2**20, pre_buffer=False, page_checksum_verification=True, memory_map=False
    )


@contextmanager
def faults(name: str) -> Iterator[None]:
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


class Reading:
    """What the row groups of a source share: a lock, the rows that were read last, and how many are being read.

    Threads ask for rows somewhat out of order, each for as many as it takes at a time.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.kept: deque[tuple[RowGroup, int, Any]] = deque(maxlen=2 * available_cores() + 2)  # group, first row, rows
        self._groups: deque[RowGroup] = deque()

    def begin(self, group: "RowGroup") -> None:
        """Take a row group up, and close the oldest."""
        if group in self._groups:
            self._groups.remove(group)
        self._groups.append(group)
        if len(self._groups) > available_cores() + 2:
            self._groups.popleft().close()


class RowGroup:
    """The images of a row group, which are read in order and a few at a time; any thread may ask for one."""

    def __init__(self, name: str, group: int, columns: Columns, reading: Reading) -> None:
        self._name, self._group, self._columns, self._reading = name, group, columns, reading
        self._failed: tuple[int, str] | None = None
        self.close()

    def read(self, row: int) -> bytes | None:
        """The bytes of a row's image, None if it has none. Raises ValueError if they are damaged."""
        with self._reading.lock:
            for group, start, values in self._reading.kept:
                if group is self and start <= row < start + len(values):
                    return self._value(values, row - start)
            if self._failed is not None and row >= self._failed[0]:
                raise ValueError(self._failed[1])
            if self._next < 0 or row < self._next:
                self._begin()
            while True:
                start, values = self._more()
                if row < self._next:
                    return self._value(values, row - start)

    def close(self) -> None:
        """Let go of the file."""
        self._batches: Iterator[Any] = iter(())
        self._next = -1  # row that comes next; -1: nothing is open

    def _begin(self) -> None:
        self._reading.begin(self)
        column = f"{self._columns.image}.bytes" if self._columns.is_struct else self._columns.image
        self._batches = open_parquet(self._name).iter_batches(
            batch_size=ROWS, row_groups=[self._group], columns=[column], use_threads=False
        )
        self._next = 0

    def _more(self) -> tuple[int, Any]:
        try:
            with faults(self._name):
                values = next(self._batches, None)
                if values is None or not len(values):
                    raise ValueError("a row group ends before its rows do")
        except ValueError as error:
            self._failed = self._next, str(error)
            raise
        start, self._next = self._next, self._next + len(values)
        self._reading.kept.append((self, start, values.column(0)))
        return start, values.column(0)

    def _value(self, values: Any, at: int) -> bytes | None:
        if self._columns.is_struct:
            values = values.field("bytes")
        value: bytes | None = values[at].as_py()
        return value


class Cell:
    """What reads a row's image; see Item.load. Pickled, it takes the bytes along."""

    def __init__(self, images: RowGroup, row: int) -> None:
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
