"""Tar archives of unknown origin: their members, where these lie, and what is wrong with a damaged or hostile one.

Sources read an archive where it lies: headers one after the other, images by their position in the file.
"""

import gzip
import os
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import IO, Any, BinaryIO

from loaders.sources.base import Item
from loaders.sources.class_folders import HIDDEN, is_hidden
from loaders.sources.content import archive_digest
from loaders.sources.unpack import Part, unpacked
from loaders.text import printable


@dataclass(frozen=True)
class Member:
    """One entry of a tar file: size bytes at offset of the file. plain: an ordinary file, not a link or sparse."""

    name: str
    offset: int
    size: int
    plain: bool


class TarSource:
    """What the sources that read an uncompressed tar share."""

    unit = "B"
    kind = ""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = str(path)
        found = os.stat(path)
        self.total, self.changed = found.st_size, found.st_ctime

    def describe(self) -> dict[str, Any]:
        """Return what the index says about the source; see ImageSource."""
        content = archive_digest(self.path)
        return {"kind": self.kind, "name": os.path.basename(self.path), "bytes": self.total, "content": content}

    def members(self) -> Iterator[Member]:
        """Return the archive's members in order."""
        with open(self.path, "rb") as file:
            yield from tar_members(file, 0, self.total)

    def item(self, name: str, label: int, member: Member, problem: str | None = None) -> Item:
        """Return a member as an item of the source.

        Parameters
        ----------
        name, label
            What the item is called, and its label.
        member : Member
            Where its bytes are.
        problem : str, optional
            Why it is not read; neither a hidden file nor a link is read in any case.
        """
        if is_hidden(name):
            problem = HIDDEN
        elif problem is None and not member.plain:
            problem = "a link or not a file"
        return Item(name, label, self.path, member.offset, member.size, member.offset + member.size, problem)


def tar_members(file: BinaryIO, start: int, stop: int) -> Iterator[Member]:
    """The entries, without folders, of the uncompressed tar archive in file[start:stop], in order.

    Raises ValueError if the archive is compressed, damaged or cut short.
    """
    name, archive, end = printable(file.name), Part(file, 0, stop), start
    archive.seek(start)
    with tar_faults(f"tar_members: {name} is not a whole uncompressed tar archive at byte {start}"):
        for tar, entry in _entries(archive):
            if not entry.isdir():
                plain = entry.isreg() and not entry.issparse()
                yield Member(entry.name, entry.offset_data, entry.size, plain)
            end = tar.offset
    # tarfile takes a damaged header, and one block of zeros, for the end of the archive
    file.seek(min(end, stop))
    if end < stop and file.read(min(2 * tarfile.BLOCKSIZE, stop - end)).strip(b"\0"):
        raise ValueError(f"tar_members: {name} has a damaged header at byte {end}; get the archive again")
    if start == 0 and end >= stop:
        raise ValueError(
            f"tar_members: {name} ends without the mark of a tar's end; it is cut short, get the archive again"
        )
    if (again := _goes_on_at(file, end, stop)) is not None:
        raise ValueError(
            f"tar_members: {name} has its end at byte {end}, but goes on at byte {again}: it is damaged, or several "
            "archives that cat has joined, which tar --concatenate does; get it again, or unpack it with tar "
            "--ignore-zeros"
        )


def _goes_on_at(file: BinaryIO, end: int, stop: int) -> int | None:
    """Where the next member begins behind the zeros that tarfile takes for the end; None if nothing follows."""
    file.seek(end)
    for at in range(end, stop, tarfile.BLOCKSIZE):
        block = file.read(min(tarfile.BLOCKSIZE, stop - at))
        if block.strip(b"\0") and _is_header(block):
            return at
    return None


def _is_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def is_tar(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as an uncompressed tar does: with a member's header, or with zeros, if it is empty."""
    with open(path, "rb") as file:
        header = file.read(tarfile.BLOCKSIZE)
    return _is_header(header) or header == bytes(tarfile.BLOCKSIZE)


def first_members(path: str | os.PathLike[str], count: int) -> list[Member]:
    """The first so many files of an uncompressed tar that are not hidden. Raises ValueError as tar_members.

    Links, the name of a volume and the lists of an incremental archive are none.
    """
    with open(path, "rb") as file:
        members = tar_members(file, 0, os.path.getsize(path))
        return list(islice((member for member in members if member.plain and not is_hidden(member.name)), count))


def first_names(path: str | os.PathLike[str], count: int) -> Iterator[str]:
    """The names, without folders, of the first so many files of a tar that are not hidden; gzip may compress it."""
    with open(path, "rb") as file, tar_faults(f"first_names: {printable(path)} is not a whole tar archive"):
        files = (entry for _, entry in _entries(unpacked(path, file)) if entry.isreg() and not is_hidden(entry.name))
        yield from (PurePosixPath(entry.name).name for entry in islice(files, count))


def tar_files(caller: str, path: str | os.PathLike[str], wanted: Collection[str]) -> dict[str, bytes]:
    """What the files of these names hold in a tar archive; see read_tar."""
    files: dict[str, bytes] = {}

    def keep(name: str, stream: IO[bytes]) -> None:
        files[name] = stream.read()

    read_tar(caller, path, wanted, keep)
    return files


def read_tar(
    caller: str, path: str | os.PathLike[str], wanted: Collection[str], read: Callable[[str, IO[bytes]], None]
) -> None:
    """Call `read` for each file of these names in a tar archive, in whichever folders; it may be compressed by gzip.

    Raises ValueError if the archive is damaged, cut short or unpacks to too much.
    """
    with open(path, "rb") as file, tar_faults(f"{caller}: {printable(path)} is not a whole tar archive"):
        for tar, entry in _entries(unpacked(path, file)):
            name = PurePosixPath(entry.name).name
            stream = tar.extractfile(entry) if entry.isreg() and not entry.issparse() and name in wanted else None
            if stream is not None:
                read(name, stream)


def _entries(archive: Part) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The entries of an archive, with the tarfile that stands behind each; none is larger than the archive."""
    with tarfile.open(fileobj=archive, mode="r:") as tar:
        entry = tar.next()
        while entry is not None:
            tar.members = []  # type: ignore[attr-defined]  # would grow to a gigabyte over ImageNet
            stored = entry.isreg() and not entry.issparse()  # a sparse file's size counts its holes too
            if entry.size < 0 or (stored and entry.offset_data + entry.size > archive.most):
                raise tarfile.ReadError(
                    f"unexpected end of data in {printable(entry.name)} of {entry.size} bytes, at most {archive.most} "
                    "are read"
                )
            yield tar, entry
            entry = tar.next() if tar.offset < archive.most else None


@contextmanager
def tar_faults(where: str) -> Iterator[None]:
    """Raise a ValueError that names the archive for what tarfile meets in a damaged or hostile one."""
    try:
        yield
    except (
        tarfile.TarError,
        gzip.BadGzipFile,
        zlib.error,
        EOFError,
        RecursionError,
        OverflowError,
        UnicodeError,
    ) as error:
        reason = "headers of headers without end" if isinstance(error, RecursionError) else printable(error)
        raise ValueError(f"{where}: {reason}; get the archive again") from error
