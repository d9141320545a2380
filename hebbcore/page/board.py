"""The board: which photos have which labels, in memory and on the disk, for many threads."""

import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from unicodedata import normalize

import numpy as np
import numpy.typing as npt

from hebbcore.page.store import NO_LABEL, UNSURE, Point, Store
from hebbcore.texts import plain, tidy

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

    Changes come one after the other, first on the disk and then in memory. Reading never waits for them: what a change
    makes takes the place of what was there in one step.

    names: of the photos 0, 1, … store: holds what was labelled before; accents in its names may be composed in another
    way, as on another system. Raises ValueError if two photos have one name, or if the store is about other photos.

    elsewhere: names of photos that have a label in the store, and are none of these.
    """

    def __init__(self, names: Sequence[str], store: Store, versions: Versions) -> None:
        self.names, self.versions = names, versions
        require_distinct(names)
        self._numbers = {name: number for number, name in enumerate(names)}
        self._store, self._changing = store, threading.Lock()
        codes = np.full(len(names), NO_LABEL, np.int64)
        found, strange = False, dict[str, int]()
        for name, code in store.standing():
            if (number := self._number_of(name)) is None:
                strange[name] = code
            else:
                found, codes[number] = True, code
        if strange and not found:
            raise ValueError(
                f"label: the labels are of other photos: {plain(next(iter(strange)))} is none of these, such as "
                f"{plain(names[0])}."
            )
        self.elsewhere = [name for name, code in strange.items() if code > UNSURE]
        self._codes, self._classes = _fixed(codes), _tidied(store)
        self._curve, self._can_undo = store.curve(), store.last_standing() > 0
        self.last_change = 0.0  # of labels, by time.monotonic

    def _number_of(self, name: str) -> int | None:
        """Return the photo that a name of the store means, None if there is none."""
        number = self._numbers.get(name)
        return self._composed.get(normalize("NFC", name)) if number is None else number

    @cached_property
    def _composed(self) -> dict[str, int]:
        return {normalize("NFC", name): number for name, number in self._numbers.items()}

    @property
    def classes(self) -> list[str]:
        """Names of the classes 1, 2, …"""
        return list(self._classes)

    def codes(self) -> Ints:
        """Return the label of each photo, read-only: the number of a class, UNSURE or NO_LABEL."""
        return self._codes

    def curve(self) -> list[Point]:
        """Return the estimates of accuracy."""
        return self._curve

    def add_point(self, point: Point) -> None:
        """Keep an estimate of accuracy."""
        with self._changing:
            self._store.add_point(point)
            self._curve = self._store.curve()

    def can_undo(self) -> bool:
        """Return whether an action can be undone."""
        return self._can_undo

    def give(self, photos: Iterable[int], label: str | None, unsure: bool = False) -> tuple[int, int]:
        """Give photos a label, or take it away, in one action; returns (version, number of the action).

        Raises ValueError for a class that there is not.
        """
        with self._changing:
            code = UNSURE if unsure else NO_LABEL if label is None else self._code_of(label)
            return self._note(dict.fromkeys(photos, code))

    def _code_of(self, name: str) -> int:
        for form in (name, tidy(name)):
            if form in self._classes:
                return self._classes.index(form) + 1
        raise ValueError(f"there is no class “{name}”; add it first.")

    def _note(
        self, codes: Mapping[int, int], classes: Sequence[str] = (), digest: str | None = None
    ) -> tuple[int, int]:
        before = {photo: int(self._codes[photo]) for photo in codes}
        new = {photo: code for photo, code in codes.items() if code != before[photo]}
        if not new and not classes and digest is None:
            return self.versions.value, self._store.last_action()
        changes = [(self.names[photo], before[photo], code) for photo, code in new.items()]
        action = self._store.apply(changes, classes, digest)
        self._classes = (*self._classes, *classes)  # first: labels may be of them
        return self._changed(new, self._can_undo or bool(new)), action

    def _changed(self, codes: Mapping[int, int], can_undo: bool) -> int:
        """Take over labels that are on the disk; returns the version."""
        after = self._codes.copy()
        after[list(codes)] = list(codes.values())
        self._codes, self._can_undo = _fixed(after), can_undo
        self.last_change = time.monotonic()
        return self.versions.next()

    def undo(self) -> tuple[int, list[int]]:
        """Undo the last action; returns (version, photos). Raises LookupError if there is none."""
        with self._changing:
            if not self._can_undo:
                raise LookupError("there is nothing to undo.")
            undone = ((self._number_of(name), code) for name, code in self._store.undo())
            back = {number: code for number, code in undone if number is not None}
            return self._changed(back, self._store.last_standing() > 0), list(back)

    def add_classes(self, names: Iterable[str]) -> int:
        """Add classes, where they are not there; returns the version. Raises ValueError for bad names."""
        with self._changing:
            new = [name for name in dict.fromkeys(map(checked_name, names)) if name not in self._classes]
            self._check_room(new)
            return self._note({}, new)[0]

    def add_class(self, name: str) -> int:
        """Add a class; returns the version. Raises ValueError for a bad name, or one that is there."""
        with self._changing:
            self._check_new(name := checked_name(name))
            self._check_room([name])
            return self._note({}, [name])[0]

    def rename(self, old: str, new: str) -> int:
        """Give a class another name; returns the version. Raises ValueError as add_class, and for an unknown one."""
        with self._changing:
            number = self._code_of(old)
            if (new := checked_name(new)) != old:
                self._check_new(new)
                self._store.rename(number, new)
                self._classes = (*self._classes[: number - 1], new, *self._classes[number:])
                self.versions.next()
            return self.versions.value

    def _check_new(self, name: str) -> None:
        if name in self._classes:
            raise ValueError(f"there is a class “{name}” already.")

    def _check_room(self, new: Sequence[str]) -> None:
        if len(self._classes) + len(new) > MOST_CLASSES:
            raise ValueError(f"there can be at most {MOST_CLASSES:,} classes.")

    def take_in(self, labels: Mapping[int, str], digest: str | None = None) -> tuple[int, list[int]]:
        """Take in labels {photo: class}, with classes that are new, as one action.

        Returns the version, and the photos that had another label or were unsure. digest: of the table, which
        `has_imported` knows then. Raises ValueError for bad names of classes.
        """
        with self._changing:
            named = {name: checked_name(name) for name in dict.fromkeys(labels.values())}
            new = [name for name in dict.fromkeys(named.values()) if name not in self._classes]
            self._check_room(new)
            numbers = {name: number for number, name in enumerate([*self._classes, *new], 1)}
            codes, before = {photo: numbers[named[name]] for photo, name in labels.items()}, self._codes
            replaced = [photo for photo, code in codes.items() if before[photo] not in (NO_LABEL, code)]
            return self._note(codes, new, digest)[0], replaced

    def has_imported(self, digest: str) -> bool:
        """Return whether a table was taken in."""
        with self._changing:
            return self._store.has_imported(digest)

    def labelled(self) -> list[tuple[str, str]]:
        """Return (name, class) of all photos that have one, in their order."""
        codes, classes = self._codes, self._classes
        return [(self.names[i], classes[codes[i] - 1]) for i in np.flatnonzero(codes > UNSURE).tolist()]

    def close(self) -> None:
        """Close the store."""
        with self._changing:
            self._store.close()


def require_distinct(names: Sequence[str]) -> None:
    """Raise ValueError if two photos have one name, by which labels find them."""
    if len(set(names)) < len(names):
        name, count = Counter(names).most_common(1)[0]
        raise ValueError(
            f"label: photos must have different names, and {count} are called {plain(name)}; give them others, such as "
            "in the data set filenames of an HDF5 file."
        )


def _fixed(codes: Ints) -> Ints:
    codes.flags.writeable = False
    return codes


def _tidied(store: Store) -> tuple[str, ...]:
    """Return the names of the classes; those of earlier versions are made tidy where no other is called so."""
    names = store.classes()
    for number, name in enumerate(names, 1):
        if (better := tidy(name)) and better not in names:
            store.rename(number, better)
            names[number - 1] = better
    return tuple(names)


def checked_name(name: object) -> str:
    """Return the name of a class, tidy: see hebbcore.texts.tidy. Raises ValueError for what can be none."""
    if not isinstance(name, str) or not (name := tidy(name.strip())):
        raise ValueError("the name of a class must be text, and not empty.")
    if len(name) > MOST_LETTERS:
        raise ValueError(f"the name of a class must have at most {MOST_LETTERS} letters, got {len(name)}.")
    if any(unicodedata.category(letter) in _NO_LETTERS for letter in name):
        raise ValueError("the name of a class must be on one line, without control characters.")
    return name
