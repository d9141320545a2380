"""What has changed in a folder of photos since they were read into shards: which files, and whether it matters."""

import os
import re
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import loaders
from hebbcore.checks import printable
from loaders.images.formats import format_of, looks_like_an_image
from loaders.shards.changes import FILES
from loaders.shards.format import INDEX, read_names, read_table
from loaders.sources.base import Item
from loaders.sources.content import Spread

_SHOWN = 3  # files that are named
_MOST = 10_000  # photos that were touched, as all of a copy are, and are read again
_OF_FILES = re.compile(r"(files|names|content|name) .+ there and .+ here")  # what differs where files alone do


@dataclass(frozen=True)
class Since:
    """Files that are new, and that are gone, since photos were read, by name; known: whether that can be told."""

    new: Sequence[str] = ()
    gone: Sequence[str] = ()
    known: bool = False

    @classmethod
    def of(cls, names: Collection[str], folder: Path, left_out: Collection[str]) -> "Since":
        """Compare the names of files with those that a folder's shards were made of.

        left_out: names of those that are in no shard.
        """
        if not (folder / INDEX).is_file():  # the build was interrupted
            return cls()
        before = {*(name for path in _shards(folder) for name in read_names(path)), *left_out}
        new, gone = (sorted(some, key=os.fsencode) for some in (set(names) - before, before - set(names)))
        return cls(new, gone, True)

    def told(self) -> str:
        """Return it in words, "" if there is nothing to tell."""
        parts = [f"{word}: {_listed(some)}" for word, some in (("new", self.new), ("gone", self.gone)) if some]
        return "; ".join(parts)


def photos_are_the_same(source: Any, folder: Path, found: str, since: Since, left_out: Collection[str]) -> bool:
    """Return True if shards hold the photos of a folder as they are, and files that are no photos have changed alone.

    Such are those of systems and programs, as .DS_Store and Thumbs.db, and tables. Photos that were touched since are
    compared with the checksums that were taken then; where that are very many, they do not count as the same. A sample
    of the others is compared too: those of another folder may be older, and have the same names.

    source: the photos of the folder. found: what messages say that the shards differ in. left_out: see Since.of.
    """
    differences = found.removesuffix(")").rpartition("(")[2].split(", ")
    settings = {**loaders.read_index(folder).source, **source.describe()} if since.known else {"labels": ""}
    if "labels" in settings or not all(map(_OF_FILES.fullmatch, differences)) or set(since.gone) - set(left_out):
        return False
    items = {item.name: item for item in source.items()}
    written = min(path.stat().st_mtime for path in _shards(folder))
    if any(_is_photo(items[name]) for name in since.new):
        return False
    if any(_is_photo(item) and _changed_at(item) > written for item in map(items.get, left_out) if item is not None):
        return False  # it was damaged, and may be no more
    touched: list[tuple[Item, int]] = []
    untouched = Spread[tuple[Item, int]](FILES)
    for path in _shards(folder):
        checksums = read_table(path).source_crc32
        if checksums is None:  # of an earlier version
            return False
        named = zip(read_names(path), checksums.tolist(), strict=True)
        for name, checksum in named:
            is_touched = _changed_at(items[name]) > written
            (touched.append if is_touched else untouched.add)((items[name], checksum))
    return len(touched) <= _MOST and all(
        zlib.crc32(item.read()) == checksum for item, checksum in (*untouched, *touched)
    )


def _is_photo(item: Item) -> bool:
    return item.problem is None and (looks_like_an_image(item.name) or format_of(item.head()) is not None)


def _changed_at(item: Item) -> float:
    return os.stat(item.path).st_ctime


def _shards(folder: Path) -> list[Path]:
    return [folder / shard.file for shard in loaders.read_index(folder).shards]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(map(printable, names[:_SHOWN])) + (f" and {more:,} more" if more > 0 else "")
