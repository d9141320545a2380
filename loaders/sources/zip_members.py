"""Zip archives of unknown origin: their members, where these lie, and what is wrong with a damaged or hostile one.

The standard library's zipfile keeps an object for each member, gigabytes for ImageNet, and finds one by reading the
whole directory of the archive. Here the directory is read one entry after the other, and a member from its place.
"""

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO

from loaders.sources.base import MAX_FILE
from loaders.sources.unpack import FACTOR
from loaders.text import printable

SMALL = 2**26  # bytes that any member may unpack to; a larger one 64 times its size
STORED, DEFLATED = 0, 8
_BEGINS = (b"PK\3\4", b"PK\5\6")  # with a member, or with the end of an empty archive
_BEGINS_ENTRY = b"PK\1\2"
_END, _END64, _LOCATOR = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_END_BYTES, _LOCATOR_BYTES, _END64_BYTES = 22, 20, 56
_ENTRY, _LOCAL = struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s5H3L2H")
_COMMENT = 2**16  # bytes that a comment may have after the directory
_PIECE = 2**20
_WIDE, _UNICODE_NAME = 1, 0x7075  # kinds of extra fields
_WRAP, _WRAP_COUNT = 2**32, 2**16  # where sizes, places and the number of entries begin anew if 64 bits are not used


@dataclass(frozen=True)
class _Directory:
    """The directory of an archive.

    count: its entries, or without `wide`, 64 bits, what 16 bits hold of that number. start, length: its bytes in the
    file. shift: of all places, by what lies in front. wraps: whether places are beyond 32 bits, and begin anew there.
    """

    count: int
    length: int
    start: int
    shift: int
    wide: bool
    wraps: bool


@dataclass(frozen=True)
class ZipMember:
    """A file in a zip archive.

    offset: of its header in the archive. packed, size: bytes there, and unpacked. problem: why it cannot be read.
    """

    name: str
    offset: int
    packed: int
    size: int
    method: int
    crc32: int
    problem: str | None


def is_zip(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins or ends as a zip archive does: one that unpacks itself has a program in front.

    A file that holds an archive among other things, as a tar may, is none.
    """
    with open(path, "rb") as file:
        if file.read(4) in _BEGINS:
            return True
        size = os.fstat(file.fileno()).st_size
        tail, at = _tail(file, size)
        if at < 0 or at + _END_BYTES + int.from_bytes(tail[at + 20 : at + 22], "little") != len(tail):
            return False
        try:
            directory = _directory(file, size, printable(path))
        except ValueError:
            return False
        file.seek(directory.start)
        return directory.count > 0 and file.read(4) == _BEGINS_ENTRY


def zip_members(path: str | os.PathLike[str]) -> Iterator[ZipMember]:
    """The files of a zip archive, in the order of its directory.

    The Mac's Archive Utility packs more than 65,535 files or 4 GiB without fields of 64 bits: the number of entries and
    their places are what is left of them in 16 and 32.

    Raises ValueError if the archive is encrypted, damaged, cut short or a part of several.
    """
    shown = printable(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        directory = _directory(file, size, shown)
        file.seek(directory.start)
        end, number, shift, last = directory.start + directory.length, 0, directory.shift, 0
        while file.tell() + _ENTRY.size <= end:
            header = file.read(_ENTRY.size)
            if len(header) < _ENTRY.size or header[:4] != _BEGINS_ENTRY:
                break
            number += 1
            member, is_folder = _member(header, file, shown, shift)
            if directory.wraps and member.offset < last:
                member, shift = replace(member, offset=member.offset + _WRAP), shift + _WRAP
            last = member.offset
            if member.offset + _LOCAL.size + member.packed > directory.start:
                raise ValueError(
                    f"zip_members: {shown} has a damaged directory: {printable(member.name)} of {member.packed} bytes "
                    "does not lie in the archive; get the archive again"
                )
            if not is_folder:
                yield member
        if number != directory.count and (directory.wide or (number - directory.count) % _WRAP_COUNT):
            raise ValueError(
                f"zip_members: {shown} has a damaged directory: entry {number + 1} of {directory.count} is not there; "
                "get the archive again"
            )


def _tail(file: BinaryIO, size: int) -> tuple[bytes, int]:
    """The last bytes of a file, and where in them the end of an archive begins; -1: there is none."""
    file.seek(max(0, size - _END_BYTES - _COMMENT))
    tail = file.read()
    return tail, tail.rfind(_END)


def _directory(file: BinaryIO, size: int, shown: str) -> _Directory:
    tail, at = _tail(file, size)
    if at < 0 or len(tail) - at < _END_BYTES:
        raise ValueError(
            f"zip_members: {shown} has no directory at its end: it is cut short, or a part of several files; get the "
            "whole archive again"
        )
    disk, first, here, count, length, start = struct.unpack_from("<4H2L", tail, at + 4)
    end, wide = size - len(tail) + at, False
    if at >= _LOCATOR_BYTES and tail[at - _LOCATOR_BYTES :].startswith(_LOCATOR):
        (written,) = struct.unpack_from("<Q", tail, at - _LOCATOR_BYTES + 8)
        for place in (written, end - _LOCATOR_BYTES - _END64_BYTES):  # or behind other bytes
            file.seek(min(place, size))
            large = file.read(_END64_BYTES)
            if large.startswith(_END64):
                break
        if len(large) < _END64_BYTES or not large.startswith(_END64):
            raise ValueError(f"zip_members: {shown} has a damaged directory of 64 bits; get the archive again")
        disk, first, here, count, length, start = struct.unpack_from("<2L4Q", large, 16)
        end, wide = place, True
    if disk or first or here != count:
        raise ValueError(f"zip_members: {shown} is a part of several files; join them into one archive (zip -s 0)")
    if start + length > end or count * _ENTRY.size > length:
        raise ValueError(f"zip_members: {shown} claims a directory that it does not have; get the archive again")
    file.seek(end - length)  # where it ends at its end record; at `start` may be that of an archive in front
    shift = end - start - length if file.read(4) == _BEGINS_ENTRY else 0
    file.seek(0)
    alone = not shift or file.read(4) != _BEGINS[0]  # else members are where nothing, or a program, should be
    wraps = not alone and not wide and shift % _WRAP == 0
    if not alone and not wraps:
        raise ValueError(
            f"zip_members: {shown} has other members in front of an archive, as of two archives that cat has joined; "
            "give each by itself"
        )
    return _Directory(count, length, start + shift, 0 if wraps else shift, wide, wraps)


def _member(header: bytes, file: BinaryIO, shown: str, shift: int) -> tuple[ZipMember, bool]:
    """An entry of the directory, and whether it is a folder; reads the fields of variable length behind it.

    shift: see _directory.
    """
    fields = _ENTRY.unpack(header)
    flags, method, crc, packed, size = fields[3], fields[4], fields[7], fields[8], fields[9]
    name_length, extra_length, comment_length, attributes, offset = fields[10], fields[11], fields[12], *fields[15:]
    encoded, extra = file.read(name_length), file.read(extra_length)
    file.seek(comment_length, os.SEEK_CUR)
    name = encoded.decode("utf-8", "surrogateescape") if flags & 0x800 else _old_name(encoded, extra)
    name = name.replace("\\", "/").removeprefix("./")  # some programs of Windows write its separator
    if flags & 0x1:
        raise ValueError(
            f"zip_members: {shown} is encrypted ({printable(name)}); unpack it with its password and give the folder"
        )
    size, packed, offset = _wide(extra, size, packed, offset)
    problem = None
    if stat.S_ISLNK(attributes >> 16):
        problem = "a link or not a file"
    elif method not in (STORED, DEFLATED):
        problem = f"compressed by method {method} of zip; only deflate is read, pack it again"
    elif size > max(SMALL, FACTOR * packed):
        problem = f"claims to unpack from {packed} bytes to {size}"
    return ZipMember(name, offset + shift, packed, size, method, crc, problem), name.endswith("/")


def _old_name(encoded: bytes, extra: bytes) -> str:
    """A name without the mark of UTF-8: most programs write UTF-8 all the same, older ones the letters of DOS.

    Some write the letters of the country's DOS or Windows, and in an extra field UTF-8.
    """
    for kind, data in _fields(extra):
        if kind == _UNICODE_NAME and data[1:5] == zlib.crc32(encoded).to_bytes(4, "little"):
            return data[5:].decode("utf-8", "surrogateescape")
    try:
        return encoded.decode("utf-8")
    except UnicodeDecodeError:
        return encoded.decode("cp437")


def _wide(extra: bytes, *values: int) -> list[int]:
    """Sizes and offset, those of them that do not fit 32 bits from the extra field of 64 bits."""
    for kind, data in _fields(extra):
        if kind == _WIDE:
            wide = iter(struct.unpack_from(f"<{len(data) // 8}Q", data))
            return [next(wide, value) if value == 0xFFFFFFFF else value for value in values]
    return list(values)


def _fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    """(kind, data) of the extra fields of an entry; the last one may be cut short."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        yield kind, extra[at + 4 : at + 4 + length]
        at += 4 + length


def loader(path: str, member: ZipMember) -> "partial[bytes]":
    """What reads a member: a function of the most bytes that are wanted, which pickles; see Item.load."""
    return partial(_read, path, member.offset, member.packed, member.size, member.method, member.crc32)


def read_member(path: str, member: ZipMember) -> bytes:
    """All bytes of a member, at most 1 GiB. Raises ValueError that names it if it cannot be read."""
    try:
        if member.problem is not None:
            raise ValueError(member.problem)
        return loader(path, member)(MAX_FILE)
    except ValueError as error:
        raise ValueError(f"{printable(member.name)} of {printable(path)} cannot be read: {error}") from None


def _read(path: str, offset: int, packed: int, size: int, method: int, crc32: int, most: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        header = file.read(_LOCAL.size)
        if len(header) < _LOCAL.size or not header.startswith(b"PK\3\4"):
            raise ValueError("damaged in its archive: its header is not where the directory says")
        file.seek(sum(_LOCAL.unpack(header)[-2:]), os.SEEK_CUR)
        wanted = min(size, most)
        data = file.read(min(packed, wanted)) if method == STORED else _inflated(file, packed, wanted)
    if len(data) < wanted:
        raise ValueError(f"damaged in its archive: it must have {size} bytes, got {len(data)}")
    if wanted == size and zlib.crc32(data) != crc32:
        raise ValueError("damaged in its archive: its checksum differs")
    return data


def _inflated(file: BinaryIO, packed: int, wanted: int) -> bytes:
    """The first so many bytes of what the next ones of a file unpack to."""
    unpacker, parts, size = zlib.decompressobj(-zlib.MAX_WBITS), list[bytes](), 0
    try:
        while size < wanted and packed > 0 and not unpacker.eof and (piece := file.read(min(packed, _PIECE))):
            packed -= len(piece)
            while size < wanted and (part := unpacker.decompress(piece, wanted - size)):
                parts.append(part)
                size, piece = size + len(part), unpacker.unconsumed_tail
    except zlib.error as error:
        raise ValueError(f"damaged in its archive: {error}") from error
    return b"".join(parts)
