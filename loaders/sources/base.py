"""What build_shards reads from: a source lists items, and an item is anything that can be read to bytes."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, runtime_checkable

from loaders.sources.arrays import ArraySource
from loaders.text import printable

HEAD = 32  # bytes that tell what kind of file it is
MAX_FILE = 2**30


@dataclass(frozen=True)
class Item:
    """One encoded image of a source, not yet read.

    Its bytes are `size` bytes at `offset` of the file `path`: a whole file, or a part of an archive. Where they lie in
    no file as they are (a compressed member of an archive, a row of a table), the function `load` returns them. Items
    go to worker processes, so `load` must pickle: a function of a module, or functools.partial of one.

    Parameters
    ----------
    name : str
        Where the image came from, such as "n01440764/n01440764_10026.JPEG"; names of files are relative to the source.
    label : int
        Position of the image's class in the source's `class_names`; -1: the image has no label.
    path : str
        The file that holds the bytes. When it has changed since they were read, they are compared with their checksum.
    offset : int
        First byte in the file.
    size : int
        Number of bytes; -1: all up to the end of the file.
    position : int
        How far through the source this item is, in the unit of the source's `total`.
    problem : str, optional
        Why there is nothing to read (a text file, a broken link); such an item is only reported.
    load : callable, optional
        From a number of bytes to the first so many bytes of the image, or to all if it has fewer; raises ValueError if
        they are damaged. None: they are read from the file.
    """

    name: str
    label: int
    path: str
    offset: int = 0
    size: int = -1
    position: int = 0
    problem: str | None = None
    load: Callable[[int], bytes] | None = None

    @property
    def in_archive(self) -> bool:
        """Whether other items may lie in the same file."""
        return self.size >= 0 or self.load is not None

    def head(self) -> bytes:
        """Return the first bytes, 32 if there are so many, which tell images from other files.

        Raises
        ------
        ValueError
            If there are fewer bytes than the size says, or they are damaged.
        OSError
            If the file cannot be read.
        """
        return self._file_bytes(HEAD) if self.load is None else self.load(HEAD)

    def read(self) -> bytes:
        """Return all bytes.

        Raises
        ------
        ValueError
            If there are fewer bytes than the size says, more than 1 GiB, or they are damaged.
        OSError
            If the file cannot be read.
        """
        if self.load is None:
            return self._file_bytes(None)
        data = self.load(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise ValueError(f"it unpacks to more than the {MAX_FILE} bytes an image may have")
        return data

    def _file_bytes(self, most: int | None) -> bytes:
        with open(self.path, "rb") as file:
            there = max(0, os.fstat(file.fileno()).st_size - self.offset)
            if self.size > there:
                raise ValueError(f"{printable(self.path)} ends before the {self.size} bytes of this image")
            size = there if self.size < 0 else self.size
            if most is None and size > MAX_FILE:
                raise ValueError(f"the file has {size} bytes, more than the {MAX_FILE} an image may have")
            file.seek(self.offset)
            return file.read(size if most is None else min(size, most))


@runtime_checkable
class ImageSource(Protocol):
    """Encoded images, listed one after the other in an order that never changes.

    A source may tell more, by attributes that it need not have:

    - `sample`: items spread over the source; without it the first ones stand for all.
    - `changed`: when the last of its files changed (ctime, in seconds). Without it a build that goes on does not look
      for files that were touched after they were read.
    - `remarks`: texts that build_shards logs as warnings.
    """

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the labels 0, 1, …"""

    @property
    def total(self) -> int:
        """The position after the last item."""

    @property
    def unit(self) -> str:
        """What positions count: "images" or "B"."""

    def describe(self) -> dict[str, Any]:
        """Return what the index says about the source, in JSON types; it differs when the source's content does.

        Under the key "content" stands a digest of what the source holds, as far as that is quick to tell.
        """

    def items(self) -> Iterator[Item]:
        """Return the items from the first to the last, from the beginning at each call."""


Source = ImageSource | ArraySource


def sample_of(source: ImageSource, count: int) -> Sequence[Item]:
    """At most `count` items of a source: spread over it if it has a `sample`, otherwise the first ones."""
    items = list(getattr(source, "sample", None) or islice(source.items(), count))
    return items[:: -(-len(items) // count)] if items else []


def changed_at(source: ImageSource) -> float | None:
    """When the last of a source's files changed (ctime); None if the source does not say."""
    changed: float | None = getattr(source, "changed", None)
    return changed


def remarks_of(source: Source) -> Sequence[str]:
    """What a user should know about a source."""
    remarks: Sequence[str] = getattr(source, "remarks", ())
    return remarks


def name_key(name: str) -> bytes:
    """Sort names by their bytes, whatever the locale, so that every machine gives the same labels."""
    return os.fsencode(name)
