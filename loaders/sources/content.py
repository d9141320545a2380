"""What a set is made from, as a digest: everything that costs little to look at, and a sample of the bytes."""

import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

T = TypeVar("T")

ITEMS = 512  # files of which the ends are read
END = 2**16
FILE_BYTES = 2**26  # of an archive; a larger one is sampled
ARRAY_BYTES = 2**30  # of arrays, which read at the speed of memory


class Spread(Generic[T]):
    """Keeps between `least` and twice as many of the things added, evenly spread, however many there are."""

    def __init__(self, least: int) -> None:
        self._least, self._stride, self._count = least, 1, 0
        self._kept: list[T] = []

    def add(self, thing: T) -> None:
        if self._count % self._stride == 0:
            self._kept.append(thing)
            if len(self._kept) == 2 * self._least:
                self._kept, self._stride = self._kept[::2], 2 * self._stride
        self._count += 1

    def __iter__(self) -> Iterator[T]:
        return iter(self._kept)


def files_digest(listing: "hashlib._Hash", sample: Iterable[str]) -> str:
    """A digest of files from the digest of their sizes, and the first and last 64 KiB of a sample of them."""
    digest = listing.copy()
    for path in sample:
        try:
            with open(path, "rb") as file:
                digest.update(file.read(END))
                file.seek(max(END, os.fstat(file.fileno()).st_size - END))
                digest.update(file.read(END))
        except OSError:
            digest.update(b"cannot be read")
    return digest.hexdigest()[:16]


def archives_digest(paths: Sequence[str]) -> str:
    """A digest of files, of which 64 MiB are read in all, and at least 128 KiB of each."""
    most = max(2 * END, FILE_BYTES // max(1, len(paths)))
    return hashlib.sha256("".join(archive_digest(path, most) for path in paths).encode()).hexdigest()[:16]


def archive_digest(path: str, most: int = FILE_BYTES) -> str:
    """A digest of one file. A larger one than `most` bytes, 64 MiB, is read in blocks of 64 KiB spread over it."""
    size = os.path.getsize(path)
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        last = max(0, size - END)
        count = min(most, size) // END + 1
        for position in np.linspace(0, last, count).astype(int).tolist() if size > most else range(0, size, END):
            file.seek(position)
            digest.update(file.read(END))
    return digest.hexdigest()[:16]


def arrays_digest(images: Any, names: Sequence[str] | None) -> str:
    """A digest of names and images; images of more than 1 GiB are read in blocks spread over them."""
    crc = zlib.crc32("\0".join(names or []).encode("utf-8", "surrogateescape"))
    total, image_bytes = len(images), int(np.prod(images.shape[1:])) * images.dtype.itemsize
    length = max(1, 2**20 // image_bytes)
    blocks = -(-total // length)
    count = min(blocks, max(1, ARRAY_BYTES // (length * image_bytes)))
    for block in np.linspace(0, blocks - 1, count).astype(int):
        crc = zlib.crc32(np.ascontiguousarray(images[block * length : (block + 1) * length]).data, crc)
    return f"{crc:08x}"
