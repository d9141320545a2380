"""The board: which photos have which labels, in memory and on the disk, for many threads."""

import threading
import time
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hebbcore.page.store import NO_LABEL, UNSURE, Point, Store

MOST_CLASSES = 1_000
MOST_LETTERS = 200  # of a class's name
_NO_LETTERS = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of characters, line ends

Ints = npt.NDArray[np.int64]


class Versions:
    """A number that grows with every change, also from one start of the server to the next."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.value = time.time_ns() // 1_000_000

    def next(self) -> int:
        """Return the next number."""
        with self._lock:
            self.value += 1
            return self.value


class Board:
    """Photos, known by their names, and their labels.

    names: of the photos 0, 1, … store: holds what was labelled before. Raises ValueError if two photos have one name,
    or if the store is about other photos.
    """

    def __init__(self, names: Sequence[str], store: Store, versions: Versions) -> None:
        self.names, self.versions = names, versions
        self._numbers = {name: number for number, name in enumerate(names)}
        if len(self._numbers) < len(names):
            raise ValueError("label: photos must have different names; some have the same.")
        self._store, self._lock = store, threading.Lock()
        self._classes = store.classes()
        self._codes = np.full(len(names), NO_LABEL, np.int64)
        found, strange = 0, 0
        for name, code in store.standing():
            number = self._numbers.get(name)
            found, strange = found + (number is not None), strange + (number is None)
            if number is not None:
                self._codes[number] = code
        if strange and not found:
            raise ValueError("label: the labels are of other photos: none of them is among these.")
        self.last_change = 0.0  # of labels, by time.monotonic

    @property
    def classes(self) -> list[str]:
        """Names of the classes 1, 2, …"""
        with self._lock:
            return list(self._classes)

    def codes(self) -> Ints:
        """Return the label of each photo: the number of a class, UNSURE or NO_LABEL."""
        with self._lock:
            return self._codes.copy()

    def curve(self) -> list[Point]:
        """Return the estimates of accuracy."""
        with self._lock:
            return self._store.curve()

    def add_point(self, point: Point) -> None:
        """Keep an estimate of accuracy."""
        with self._lock:
            self._store.add_point(point)

    def can_undo(self) -> bool:
        """Return whether an action can be undone."""
        with self._lock:
            return self._store.last_standing() > 0

    def give(self, photos: Iterable[int], label: str | None, unsure: bool = False) -> tuple[int, int]:
        """Give photos a label, or take it away, in one action; returns (version, number of the action).

        Raises ValueError for a class that there is not.
        """
        with self._lock:
            code = UNSURE if unsure else NO_LABEL if label is None else self._code_of(label)
            return self._note(dict.fromkeys(photos, code))

    def _code_of(self, name: str) -> int:
        if name not in self._classes:
            raise ValueError(f"there is no class {name!r}; add it first.")
        return self._classes.index(name) + 1

    def _note(
        self, codes: Mapping[int, int], classes: Sequence[str] = (), digest: str | None = None
    ) -> tuple[int, int]:
        before = {photo: int(self._codes[photo]) for photo in codes}
        new = {photo: code for photo, code in codes.items() if code != before[photo]}
        if not new and not classes and digest is None:
            return self.versions.value, self._store.last_action()
        changes = [(self.names[photo], before[photo], code) for photo, code in new.items()]
        action = self._store.apply(changes, classes, digest)
        self._classes += classes
        self._codes[list(new)] = list(new.values())
        self.last_change = time.monotonic()
        return self.versions.next(), action

    def undo(self) -> tuple[int, list[int]]:
        """Undo the last action; returns (version, photos). Raises LookupError if there is none."""
        with self._lock:
            if not self._store.last_standing():
                raise LookupError("there is nothing to undo.")
            photos = []
            for name, code in self._store.undo():
                if name in self._numbers:
                    photos.append(self._numbers[name])
                    self._codes[photos[-1]] = code
            self.last_change = time.monotonic()
            return self.versions.next(), photos

    def add_classes(self, names: Iterable[str]) -> int:
        """Add classes, where they are not there; returns the version. Raises ValueError for bad names."""
        with self._lock:
            new = [name for name in dict.fromkeys(map(checked_name, names)) if name not in self._classes]
            self._check_room(new)
            return self._note({}, new)[0]

    def add_class(self, name: str) -> int:
        """Add a class; returns the version. Raises ValueError for a bad name, or one that is there."""
        with self._lock:
            self._check_new(name := checked_name(name))
            self._check_room([name])
            return self._note({}, [name])[0]

    def rename(self, old: str, new: str) -> int:
        """Give a class another name; returns the version. Raises ValueError as add_class, and for an unknown one."""
        with self._lock:
            number = self._code_of(old)
            if (new := checked_name(new)) != old:
                self._check_new(new)
                self._store.rename(number, new)
                self._classes[number - 1] = new
                self.versions.next()
            return self.versions.value

    def _check_new(self, name: str) -> None:
        if name in self._classes:
            raise ValueError(f"there is a class {name!r} already.")

    def _check_room(self, new: Sequence[str]) -> None:
        if len(self._classes) + len(new) > MOST_CLASSES:
            raise ValueError(f"there can be at most {MOST_CLASSES:,} classes.")

    def take_in(self, labels: Mapping[int, str], digest: str | None = None) -> int:
        """Take in labels {photo: class}, with classes that are new, as one action; returns the version.

        digest: of the table, which `has_imported` knows then. Raises ValueError for bad names of classes.
        """
        with self._lock:
            named = [checked_name(name) for name in dict.fromkeys(labels.values())]
            new = [name for name in named if name not in self._classes]
            self._check_room(new)
            numbers = {name: number for number, name in enumerate([*self._classes, *new], 1)}
            return self._note({photo: numbers[name] for photo, name in labels.items()}, new, digest)[0]

    def has_imported(self, digest: str) -> bool:
        """Return whether a table was taken in."""
        with self._lock:
            return self._store.has_imported(digest)

    def labelled(self) -> list[tuple[str, str]]:
        """Return (name, class) of all photos that have one, in their order."""
        with self._lock:
            return [
                (self.names[i], self._classes[self._codes[i] - 1])
                for i in np.flatnonzero(self._codes > UNSURE).tolist()
            ]

    def close(self) -> None:
        """Close the store."""
        with self._lock:
            self._store.close()


def checked_name(name: object) -> str:
    """Return the name of a class without the spaces around it. Raises ValueError for what can be none."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError("the name of a class must be text, and not empty.")
    name = name.strip()
    if len(name) > MOST_LETTERS:
        raise ValueError(f"the name of a class must have at most {MOST_LETTERS} letters, got {len(name)}.")
    if any(unicodedata.category(letter) in _NO_LETTERS for letter in name):
        raise ValueError("the name of a class must be on one line, without control characters.")
    return name
