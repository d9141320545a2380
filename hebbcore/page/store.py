"""labels.sqlite: every label that was given, by the name of its photo, with all that was before."""

import errno
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from hebbcore.files import cannot_write

APPLICATION = 0x48454242  # "HEBB", where SQLite has room for it
VERSION = 1  # of the format
LABELS = "labels.sqlite"  # in the folder of the work
NO_LABEL, UNSURE = -1, 0  # in the place of the number of a class, which are 1, 2, …
_DAMAGED = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_TABLES = """
CREATE TABLE classes (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE events (
    number INTEGER PRIMARY KEY, time TEXT NOT NULL, action INTEGER NOT NULL, image NOT NULL,
    before INTEGER NOT NULL, after INTEGER NOT NULL, undone_by INTEGER
);
CREATE INDEX standing ON events (action) WHERE undone_by IS NULL;
CREATE INDEX undone ON events (undone_by) WHERE undone_by IS NOT NULL;
CREATE TABLE imports (digest TEXT PRIMARY KEY, time TEXT NOT NULL);
CREATE TABLE curve (labels INTEGER PRIMARY KEY, value REAL NOT NULL, low REAL NOT NULL, high REAL NOT NULL);
"""

Change = tuple[str, int, int]  # image, before, after
Point = tuple[int, float, float, float]  # labels, value, low, high


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Raise what SQLite says of a file as OSError that names it and says what to do; as ValueError if it is damaged."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.ProgrammingError):  # such as of a file that is closed, which says nothing of it
            raise
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # Python's own, of no text, has none
        if code in _DAMAGED:
            raise ValueError(
                f"label: {path} is damaged or no file of labels ({error}); put a copy of it in its place, or move it "
                "away to begin without labels."
            ) from None
        full = OSError(errno.ENOSPC, str(error))
        raise cannot_write(path, full if code == sqlite3.SQLITE_FULL else OSError(str(error))) from None


class Store:
    """The file; each method is on the disk when it returns. One thread at a time.

    Raises ValueError if the file is none of hebbcore's, damaged or of another version; OSError if it cannot be read or
    written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with naming(path):
            self._base = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            with naming(path):
                self._open()
        except BaseException:
            self._base.close()
            raise

    def _open(self) -> None:
        # one file, whose journal is emptied and synced before a commit returns: no kill and no power cut loses it
        self._base.execute("PRAGMA journal_mode = TRUNCATE")
        self._base.execute("PRAGMA synchronous = FULL")
        if not self._one("SELECT count(*) FROM sqlite_schema"):
            with self._together():
                for statement in _TABLES.split(";\n"):
                    self._base.execute(statement)
                self._base.execute(f"PRAGMA application_id = {APPLICATION}")
                self._base.execute(f"PRAGMA user_version = {VERSION}")
        if self._one("PRAGMA application_id") != APPLICATION:
            raise ValueError(f"label: {self._path} is no file of labels; move it away.")
        if (version := self._one("PRAGMA user_version")) != VERSION:
            raise ValueError(f"label: {self._path} has version {version} of the format; this hebbcore reads {VERSION}.")

    def _one(self, query: str) -> int:
        (value,) = self._base.execute(query).fetchone()
        return int(value)

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Do all or nothing."""
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._base.execute("COMMIT")
        except BaseException:
            if self._base.in_transaction:
                self._base.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the file, without the empty journal beside it."""
        self._base.execute("PRAGMA journal_mode = DELETE")
        self._base.close()

    def classes(self) -> list[str]:
        """Return the names of the classes 1, 2, …"""
        return [name for (name,) in self._base.execute("SELECT name FROM classes ORDER BY number")]

    def standing(self) -> Iterator[tuple[str, int]]:
        """Yield (image, label) of all that was given and not undone, the oldest first: the last of an image counts."""
        query = "SELECT image, after FROM events WHERE undone_by IS NULL ORDER BY number"
        return ((_name(image), after) for image, after in self._base.execute(query))

    def curve(self) -> list[Point]:
        """Return the estimates of accuracy, by the number of labels."""
        return self._base.execute("SELECT labels, value, low, high FROM curve ORDER BY labels").fetchall()

    def add_point(self, point: Point) -> None:
        """Keep an estimate; one of as many labels is replaced."""
        self._base.execute("INSERT OR REPLACE INTO curve VALUES (?, ?, ?, ?)", point)

    def has_imported(self, digest: str) -> bool:
        """Return whether a table was imported."""
        return self._base.execute("SELECT 1 FROM imports WHERE digest = ?", (digest,)).fetchone() is not None

    def rename(self, number: int, name: str) -> None:
        """Give a class another name."""
        self._base.execute("UPDATE classes SET name = ? WHERE number = ?", (name, number))

    def apply(self, changes: Iterable[Change], classes: Sequence[str] = (), digest: str | None = None) -> int:
        """Add classes, and note the changes of one action; returns its number. digest: of the table it came from."""
        now, action = _now(), self.last_action() + 1
        with self._together():
            if classes:
                self._base.executemany("INSERT INTO classes (name) VALUES (?)", [(name,) for name in classes])
            self._base.executemany(
                "INSERT INTO events (time, action, image, before, after) VALUES (?, ?, ?, ?, ?)",
                ((now, action, _value(image), before, after) for image, before, after in changes),
            )
            if digest is not None:
                self._base.execute("INSERT OR REPLACE INTO imports VALUES (?, ?)", (digest, now))
        return action

    def last_action(self) -> int:
        """Return the number of the last action, undoing included; 0 before the first."""
        undoing = self._one("SELECT coalesce(max(undone_by), 0) FROM events WHERE undone_by IS NOT NULL")
        latest = "SELECT action FROM events WHERE number = (SELECT max(number) FROM events)"
        return max(undoing, self._one(f"SELECT coalesce(({latest}), 0)"))

    def last_standing(self) -> int:
        """Return the number of the last action that is not undone; 0 if there is none."""
        return self._one("SELECT coalesce(max(action), 0) FROM events WHERE undone_by IS NULL")

    def undo(self) -> list[tuple[str, int]]:
        """Undo the last action that is not undone; returns (image, label before) of each of its images."""
        action = self.last_standing()
        query = "SELECT image, before FROM events WHERE action = ? AND undone_by IS NULL"
        back = [(_name(image), before) for image, before in self._base.execute(query, (action,))]
        with self._together():
            marks = "UPDATE events SET undone_by = ? WHERE action = ? AND undone_by IS NULL"
            self._base.execute(marks, (self.last_action() + 1, action))
        return back


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _value(name: str) -> str | bytes:
    """Return a name as SQLite takes it: a text, or bytes if it is no UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name)
    return name


def _name(value: str | bytes) -> str:
    return value if isinstance(value, str) else os.fsdecode(value)


def check_store(path: Path) -> None:
    """Raise ValueError unless the file is sound. What a killed server left half done is taken back, as at a start."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True)) as base:
            (application,) = base.execute("PRAGMA application_id").fetchone()
            (found,) = base.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        raise ValueError(f"verify: {path} is damaged or cannot be read ({error}).") from None
    if found != "ok" or application != APPLICATION:
        raise ValueError(f"verify: {path} is damaged or no file of labels ({found}).")
