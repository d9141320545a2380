"""Files in a tree of folders: in order, and what one walk over them tells."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from loaders.sources.base import Item, name_key
from loaders.sources.class_folders import HIDDEN, is_hidden
from loaders.sources.content import ITEMS, Spread, files_digest
from loaders.text import printable

DEPTH = 100  # folders in folders; a path has no room for many more


class Listed:
    """What one walk over a source's files tells: how many, in which folders, last changed when, a sample, a digest."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.count, self.changed = 0, 0.0
        self.folders: set[str] = set()
        self.sample = Spread[Item](ITEMS)
        names, sizes = hashlib.sha256(), hashlib.sha256()
        for item in items:
            self.count += 1
            names.update(name_key(item.name) + b"\0")
            if item.problem in (None, HIDDEN):  # those too, as when they were read: sets of then go on
                self.sample.add(item)
                size, changed = _size_and_time(item.path)
                sizes.update(b"%d\0" % size)
                self.changed = max(self.changed, changed)
                if item.problem is None:
                    self.folders.add(item.name.rpartition("/")[0])
            else:
                sizes.update(item.problem.encode() + b"\0")
        self._names, self._content = names.hexdigest()[:16], files_digest(sizes, [item.path for item in self.sample])

    def describe(self) -> dict[str, Any]:
        return {"files": self.count, "names": self._names, "content": self._content}


def hidden(name: str) -> str | None:
    """Why a file is not read, if it is hidden or in a hidden folder."""
    return HIDDEN if is_hidden(name) else None


class FileSource:
    """What sources of files share; each of them lists its files once."""

    unit = "images"
    _listed: Listed

    @property
    def total(self) -> int:
        """Number of files."""
        return self._listed.count

    @property
    def changed(self) -> float:
        """When the last of the files changed (ctime, in seconds)."""
        return self._listed.changed

    @property
    def sample(self) -> list[Item]:
        """Items spread over the source."""
        return [item for item in self._listed.sample if item.problem is None]


def folder_items(folder: str) -> list[Item]:
    """The files below a folder in order, all with label 0."""
    return [
        Item(file := name.removeprefix("./"), 0, path, position=position, problem=problem or hidden(file))
        for position, (name, path, problem) in enumerate(walk(Path(folder), "."), 1)
    ]


class Entry:
    """An entry of a folder. What the system does not look at, such as a link to itself, is neither folder nor file."""

    __slots__ = ("_found", "name", "path")

    def __init__(self, found: os.DirEntry[str]) -> None:
        self.name, self.path, self._found = found.name, found.path, found

    def is_dir(self) -> bool:
        """Whether it is a folder, or a link to one."""
        return _is(self._found.is_dir)

    def is_file(self) -> bool:
        """Whether it is a file, or a link to one."""
        return _is(self._found.is_file)


def _is(asked: Callable[[], bool]) -> bool:
    try:
        return asked()
    except OSError:
        return False


def listing(folder: Path) -> list[Entry]:
    """The entries of a folder, sorted. Raises OSError that names the folder if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(map(Entry, entries), key=lambda entry: name_key(entry.name))
    except OSError as error:
        number, reason = error.errno or 0, error.strerror or error
        raise OSError(
            number, f"cannot list the folder {printable(folder)}: {reason}; give one that can be read"
        ) from error


def walk(folder: Path, prefix: str, above: frozenset[str] = frozenset()) -> Iterator[tuple[str, str, str | None]]:
    """(name, path, problem) of every file below a folder, in order. Names begin with the prefix.

    Links are followed, except where a folder would contain itself. above: the real paths of the folders around it.
    """
    above |= {os.path.realpath(folder)}
    for entry in listing(folder):
        name = f"{prefix}/{entry.name}"
        if entry.is_dir():
            if _holds_any(os.path.realpath(entry.path), above):
                yield name, entry.path, "a link to a folder that contains it"
            elif len(above) > DEPTH:
                yield name, entry.path, f"more than {DEPTH} folders deep"
            else:
                yield from walk(Path(entry.path), name, above)
        elif not entry.is_file():
            yield name, entry.path, "a broken link or not a file"
        else:
            yield name, entry.path, None


def _holds_any(folder: str, others: Iterable[str]) -> bool:
    """Whether a folder is one of the others or around it; all are real paths."""
    start = folder.rstrip("/") + "/"
    return any(f"{other}/".startswith(start) for other in others)


def _size_and_time(path: str) -> tuple[int, float]:
    try:
        found = os.stat(path)
    except OSError:  # gone meanwhile: reading it will say so
        return -1, 0.0
    return found.st_size, found.st_ctime
