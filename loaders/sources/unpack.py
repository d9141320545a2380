"""Files compressed by gzip, of unknown origin: what they claim is compared with what is there.

A compressed file may unpack to 64 times its size and 256 MiB; who means more unpacks it first.
"""

import gzip
import io
import os
import zlib
from typing import BinaryIO, cast

from loaders.text import printable

GZIP = b"\x1f\x8b"  # how a compressed file begins
FACTOR = 64
FREE = 2**28
PIECE = 2**20


def most_unpacked(path: str | os.PathLike[str]) -> int:
    """Bytes that a compressed file may unpack to."""
    return FACTOR * os.path.getsize(path) + FREE


def gunzipped(path: str | os.PathLike[str], data: bytes) -> bytes:
    """What a gzip file unpacks to. Raises ValueError if it is damaged or unpacks to too much."""
    most, parts, size = most_unpacked(path), list[bytes](), 0
    while data.rstrip(b"\0"):  # members one after the other, and perhaps zeros at the end
        unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            parts.append(unpacker.decompress(data, most - size + 1))
        except zlib.error as error:
            raise ValueError(f"{printable(path)} is a damaged gzip file: {error}; get it again") from error
        size += len(parts[-1])
        if size > most:
            raise ValueError(
                f"{printable(path)} unpacks to more than {most} bytes; if that is right, unpack it with gunzip"
            )
        if not unpacker.eof:
            raise ValueError(f"{printable(path)} is a damaged gzip file: it is cut short; get it again")
        data = unpacker.unused_data
    return b"".join(parts)


class Part(io.RawIOBase):
    """The bytes start…stop of a file, as a file to read; asking for more than there is costs nothing."""

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self._file, self._start, self._at, self.most = file, start, 0, stop - start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.most}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        rest = max(0, self.most - self._at)
        self._file.seek(self._start + min(self._at, self.most))
        rest = rest if size is None or size < 0 else min(size, rest)
        parts = list[bytes]()  # Python makes room for all that is asked for before it reads
        while rest and (part := self._file.read(min(rest, PIECE))):
            parts.append(part)
            rest -= len(part)
        data = b"".join(parts)
        self._at += len(data)
        return data


def unpacked(path: str | os.PathLike[str], file: BinaryIO) -> Part:
    """The bytes of an open file, unpacked if it is a gzip file; at most what one may unpack to."""
    compressed = file.read(2) == GZIP
    file.seek(0)
    if not compressed:
        return Part(file, 0, os.path.getsize(path))
    return Part(cast(BinaryIO, gzip.GzipFile(fileobj=file)), 0, most_unpacked(path))
