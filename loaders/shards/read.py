"""Read records out of a set of shards: whole runs of bytes, without h5py in the way."""

import math
import mmap
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loaders.shards.format import (
    Bytes,
    Ints,
    ShardTable,
    decode_name,
    labels_fault,
    read_encoded_names,
    read_table,
    record_crc,
)
from loaders.shards.index import Index, read_index
from loaders.text import printable

IOV_MAX = 1024  # buffers a system call takes
WINDOWS = 3


@dataclass(frozen=True)
class Block:
    """The bytes of some records: record i is data[starts[i] : starts[i + 1]]."""

    data: Bytes
    starts: Ints

    def __getitem__(self, i: int) -> memoryview:
        return self.data.data[self.starts[i] : self.starts[i + 1]]


def checked_table(folder: Path, index: Index, number: int) -> ShardTable:
    """The tables of shard `number`, if it is the one that the index means."""
    shard = index.shards[number]
    path = folder / shard.file
    table = read_table(path)
    _check_size(path, shard.bytes)
    if (table.identity, table.number) != (index.identity, number):
        raise ValueError(f"{path} belongs to another set than the index beside it; build the set again")
    if len(table.labels) != shard.records or (table.shape, table.dtype) != (index.image_shape, index.dtype):
        raise ValueError(f"{path} does not hold what the index says; build the set again")
    if fault := labels_fault(table.labels, len(index.class_names)):
        raise ValueError(f"{path} is damaged: {fault}")
    if index.digest and not table.digest:
        raise ValueError(f"{path} has no digest, though the index beside it has one; build the set again")
    return table


def _check_size(path: Path, size: int) -> None:
    found = os.path.getsize(path)
    if found != size:
        raise OSError(f"{path} is truncated or changed: it must have {size} bytes, got {found}; build the set again")


class ShardSet:
    """All shards of a folder, checked against its index; records are numbered through, shard after shard.

    labels: (n,) int64. Holds 28 bytes a record in memory and no open file.
    Raises FileNotFoundError, OSError or ValueError for a missing, truncated, foreign or inconsistent file.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.index: Index = read_index(folder)
        self._paths = [self.folder / shard.file for shard in self.index.shards]
        tables = [checked_table(self.folder, self.index, number) for number in range(len(self._paths))]
        self.labels: Ints = np.concatenate([table.labels for table in tables])
        self._starts: Ints = np.concatenate([table.starts for table in tables])
        self._lengths: npt.NDArray[np.uint32] = np.concatenate([table.lengths for table in tables]).astype(np.uint32)
        self._crc32: npt.NDArray[np.uint32] = np.concatenate([table.crc32 for table in tables])
        self._firsts: Ints = np.cumsum([0] + [len(table.labels) for table in tables])

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def mean_bytes(self) -> float:
        """Bytes of an average record."""
        return float(self._lengths.mean())

    def read(self, records: Ints, out: Bytes | None = None) -> Block:
        """The bytes of records, in any order; the disk is read in its own order, neighbours in one go.

        out: (total,) uint8 to read into; None: a new array.
        """
        lengths = self._lengths[records].astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        data = np.empty(starts[-1], np.uint8) if out is None else out
        rows = np.argsort(records)
        shards, _ = self.locate(records[rows])
        positions = self._starts[records[rows]]
        # a run ends where the next record is in another shard or not the next one on disk
        breaks = (np.diff(shards) != 0) | (positions[1:] != positions[:-1] + lengths[rows][:-1])
        edges = np.concatenate([[0], np.flatnonzero(breaks) + 1, [len(records)]])
        runs = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
        block = Block(data, starts)
        for shard, group in groupby(runs, key=lambda run: int(shards[run[0]])):
            with self._opened(shard) as scatter:
                for first, stop in group:
                    scatter(int(positions[first]), block, rows[first:stop])
        return block

    @contextmanager
    def _opened(self, number: int) -> Iterator[Callable[[int, Block, Ints], None]]:
        """A function that reads neighbours from a position in a shard's file on, each to its own row of a block."""
        path = self._paths[number]
        _check_size(path, self.index.shards[number].bytes)
        with open(path, "rb", buffering=0) as file:
            if self.index.image_shape is None:
                yield partial(_scatter_read, file.fileno(), path)
                return
            # raw images are copied at the speed of memory, which reading only reaches half of
            size = math.prod(self.index.image_shape) * np.dtype(self.index.dtype).itemsize
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                yield partial(_scatter_copy, mapped, size)

    def damage(self, record: int, image: bytes | memoryview) -> str | None:
        """What the checksum says about a record's bytes; None if they are right."""
        found, expected = record_crc(image, int(self.labels[record])), int(self._crc32[record])
        return None if found == expected else f"its CRC-32 must be {expected:08x}, got {found:08x}"

    def locate(self, records: Ints) -> tuple[Ints, Ints]:
        """The numbers of the shards of some records, and the records' numbers in these."""
        shards = np.searchsorted(self._firsts, records, side="right") - 1
        return shards, records - self._firsts[shards]

    def location(self, record: int) -> tuple[str, int]:
        """The shard's file name and the record's number in it."""
        (shard,), (number,) = self.locate(np.array([record]))
        return self._paths[shard].name, int(number)

    def name_of(self, record: int) -> str:
        """Where a record came from, fit for messages."""
        file, number = self.location(record)
        try:
            return printable(decode_name(read_encoded_names(self.folder / file)[number]))
        except (OSError, ValueError):
            return "its name is damaged too"

    def describe(self, record: int) -> str:
        """Where a record is and where it came from, for messages."""
        file, number = self.location(record)
        return f"record {number} of {self.folder / file} ({self.name_of(record)})"


def _scatter_read(descriptor: int, path: Path, position: int, block: Block, rows: Ints) -> None:
    for first in range(0, len(rows), IOV_MAX):
        parts = [block[row] for row in rows[first : first + IOV_MAX].tolist()]
        while parts:
            count = os.preadv(descriptor, parts, position)
            if not count:
                raise OSError(f"{path} ended while it was read; restore it or build the set again")
            position += count
            while parts and count >= len(parts[0]):
                count -= len(parts.pop(0))
            if parts:
                parts[0] = parts[0][count:]


def _scatter_copy(mapped: mmap.mmap, size: int, position: int, block: Block, rows: Ints) -> None:
    images = np.frombuffer(mapped, np.uint8, len(rows) * size, position).reshape(-1, size)
    if rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        np.copyto(block.data.reshape(-1, size)[rows[0] : rows[-1] + 1], images)
    else:
        block.data.reshape(-1, size)[rows] = images


@dataclass(frozen=True)
class Window:
    """Records that are read together, from `start` of an epoch's order on, and their bytes as soon as they are."""

    start: int
    block: Future[Block]


class Windows:
    """Reads an order of records ahead, window after window of `batches` batches; edges: where each of them ends.

    WINDOWS of them are in memory, one in use and the others being read, or as many as the batches under way need.
    """

    def __init__(self, shards: ShardSet, order: Ints, edges: Ints, batches: int, reader: ThreadPoolExecutor) -> None:
        self._shards, self._order, self._reader = shards, order, reader
        self._batches, self._edges = batches, edges
        self._windows: dict[int, Window] = {}

    def of_batch(self, batch: int, delivered: int) -> Window:
        """The window that holds a batch; all batches before `delivered` are done with theirs."""
        number = batch // self._batches
        for old in [old for old in self._windows if (old + 1) * self._batches <= delivered]:
            del self._windows[old]
        # the next ones are read as soon as older ones are not needed any more
        for ahead in range(WINDOWS - sum(old < number for old in self._windows)):
            self._request(number + ahead)
        self._request(number)
        return self._windows[number]

    def _request(self, number: int) -> None:
        first = number * self._batches
        if number not in self._windows and first < len(self._edges) - 1:
            start, end = self._edges[first], self._edges[min(first + self._batches, len(self._edges) - 1)]
            self._windows[number] = Window(int(start), self._reader.submit(self._shards.read, self._order[start:end]))
