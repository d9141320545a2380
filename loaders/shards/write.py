"""Collect records and write them as shard files of a bounded size."""

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from loaders.files import write_atomically
from loaders.shards.format import FORMAT, PixelSums, encode_names, names_crc, shard_name, table_digest, version_of


@dataclass(frozen=True)
class Record:
    """One source item, ready to be stored: data is its bytes, or reason says why there are none.

    damaged: it should have been an image; otherwise it was not one by its kind or content.
    source_crc32: CRC-32 of the source's bytes; None of an array, whose bytes are data.
    """

    name: str
    label: int
    data: bytes = b""
    crc32: int = 0
    sums: PixelSums = field(default_factory=PixelSums)
    reason: str | None = None
    damaged: bool = False
    source_crc32: int | None = None


class _Output(io.FileIO):
    """A file that keeps a failed write to itself until asked: HDF5 crashes the process when the disk is full."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        try:
            while rest and self._error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self._error = error
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0

    def check(self) -> None:
        if self._error is not None:
            raise self._error


class ShardWriter:
    """Takes records in order and writes a shard whenever the next one would exceed shard_bytes.

    shape: (H, W, C) of raw records, None for packed ones; dtype: their numbers. number, item: where to go on after the
    shards that already exist. What a shard holds is in memory until it is written.
    """

    def __init__(
        self,
        folder: Path,
        identity: str,
        shape: tuple[int, int, int] | None,
        shard_bytes: int,
        number: int = 0,
        item: int = 0,
        dtype: str = "uint8",
    ) -> None:
        self.folder, self.identity, self.shape, self.shard_bytes = folder, identity, shape, shard_bytes
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.number, self.item = number, item
        self._clear()

    def _clear(self) -> None:
        self._first, self._data, self._sums = self.item, bytearray(), PixelSums()
        self._lengths: list[int] = []
        self._labels: list[int] = []
        self._crcs: list[int] = []
        self._source_crcs: list[int] = []
        self._names: list[str] = []
        self._skipped: list[str] = []

    def add(self, record: Record) -> None:
        if record.reason is not None:
            self._skipped += [record.name, record.reason]
        else:
            if self._names and len(self._data) + len(record.data) > self.shard_bytes:
                self.flush()
            self._data += record.data
            self._sums += record.sums
            self._lengths.append(len(record.data))
            self._labels.append(record.label)
            self._crcs.append(record.crc32)
            if record.source_crc32 is not None:
                self._source_crcs.append(record.source_crc32)
            self._names.append(record.name)
        self.item += 1

    def flush(self) -> None:
        """Write what was collected as the next shard, if there is anything."""
        if not self._names and not self._skipped:
            return
        # in a thread of its own, because Ctrl-C would otherwise raise in the middle of HDF5
        with ThreadPoolExecutor(1) as thread:
            thread.submit(write_atomically, self.folder / shard_name(self.number), self._write).result()
        self.number += 1
        self._clear()

    def _write(self, path: Path) -> None:
        images = np.frombuffer(self._data, self.dtype)
        tables: dict[str, Any] = {
            "labels": np.array(self._labels, np.int64),
            "crc32": np.array(self._crcs, np.uint32),
            "names": encode_names(self._names),
            "skipped": encode_names(self._skipped).reshape(-1, 2),
        }
        if self._source_crcs:
            tables["source_crc32"] = np.array(self._source_crcs, np.uint32)
        if self.shape is None:
            tables["offsets"] = np.cumsum([0, *self._lengths], dtype=np.int64)
            tables["images"] = images
        else:
            tables["images"] = images.reshape(-1, *self.shape)
        with _Output(path) as output:
            with h5py.File(output, "w") as file:
                self._fill(file, tables)
            output.check()

    def _fill(self, file: h5py.File, tables: dict[str, Any]) -> None:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = version_of(self.dtype.name)
        file.attrs["identity"] = self.identity
        file.attrs["number"] = self.number
        file.attrs["items"] = np.array([self._first, self.item], np.int64)
        file.attrs["pixel_count"] = self._sums.count
        sums = np.uint64 if self.dtype == np.uint8 else np.float64
        file.attrs["pixel_sum"] = np.array(self._sums.total, sums)
        file.attrs["pixel_sum_squares"] = np.array(self._sums.squares, sums)
        file.attrs["names_crc32"] = names_crc(tables["names"], tables["skipped"])
        for name, values in tables.items():
            file.create_dataset(name, data=values, track_times=False)  # a time of writing would differ each time
        file.attrs["digest"] = table_digest(file.attrs, tables, tables["images"].shape)
