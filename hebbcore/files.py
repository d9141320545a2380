"""Writing files so that a kill or a full disk leaves either the old file or the new one."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let write fill a temporary file beside path, sync it, and rename it to path.

    On failure the temporary file is removed; an OSError names path.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        write(temporary)
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            reason = os.strerror(error.errno) if error.errno else error  # HDF5's own words are about its insides
            raise OSError(error.errno or 0, f"cannot write: {reason}", str(path)) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text to a file, atomically."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, "utf-8")

    write_atomically(path, write)


def remove_partial(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder; no other may be writing there."""
    for path in folder.glob(".*.partial"):
        path.unlink()


def sync(path: Path) -> None:
    """fsync a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder for one process; the lock goes with it. Raises BlockingIOError if another holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, folder, what)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked_file(path: Path, what: str) -> Iterator[None]:
    """Hold a file, which need not exist yet, for one process; others of its folder stay free.

    The lock is a hidden file beside it, and removed at the end; one that a kill has left holds nothing.
    Raises BlockingIOError if another process holds the file.
    """
    lock = path.with_name(f".{path.name}.lock")
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor, path, what)
            if not os.fstat(descriptor).st_nlink:  # its holder removed it after it was opened here
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, path: Path, what: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(f"another process is {what} {path}; wait for it or stop it.") from None
