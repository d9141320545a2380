"""Writing files so that a kill or a full disk leaves either the old file or the new one; and reading JSON and TOML.

loaders/files.py does the first in a few lines of its own, since neither package may import the other.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO

_log = logging.getLogger("hebbcore")

_CANNOT = {errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}  # which a file system says
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PATIENCE = 5.0  # seconds of waiting for another who writes a file, before that is said
_lent: ContextVar[tuple[int, int] | None] = ContextVar("_lent", default=None)  # the folder of a lock to go on under
_PIECE = 2**16  # bytes that are written at a time
_TURN = ".writing"  # ends the names of files that are held while others are written
_MOST_DIGITS = 40  # of an integer in JSON: above all that a count, a seed or a size can be


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let write fill a temporary file beside path, sync it, and rename it to path.

    Processes and threads that write the same file do so one after the other.

    Parameters
    ----------
    path : Path
        The file. What is there stays until the new file is complete.
    write : callable
        Gets the path of the temporary file.

    Raises
    ------
    OSError
        If it cannot be written; it names path, and says what to do where the disk is full. After this and any other
        error the temporary file is gone.
    """
    temporary = _partial_of(path)
    try:
        with _holding(_turn_of(path), path):
            try:
                write(temporary)
                sync(temporary)
                os.replace(temporary, path)
                sync(path.parent)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
    except OSError as error:
        raise cannot_write(path, error) from error


def forget(path: Path) -> None:
    """Remove a file, if it is there, and what a kill while it was written has left of it."""
    for each in (path, _partial_of(path), _turn_of(path)):
        each.unlink(missing_ok=True)


def _partial_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _turn_of(path: Path) -> Path:
    """Return the file that is held while path is written; its name is as long as that of the temporary file."""
    return path.with_name(f".{path.name}{_TURN}")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file; see write_atomically."""
    write_atomically(path, lambda temporary: temporary.write_bytes(data))


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8; see write_atomically."""
    write_bytes(path, text.encode())


def make_folder(folder: Path) -> None:
    """Make a folder, and those that it lies in, unless it is there. An error says which file is in its place."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        file = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        raise type(error)(
            f"{file} is a file, and {'a' if file == folder else 'the'} folder{'' if file == folder else f' {folder}'} "
            "is to be made there: name another folder, or move the file."
        ) from None


def append_line(path: Path, line: bytes) -> None:
    """Add a line to a file. An OSError names path, and leaves the file as it was."""
    try:
        with path.open("ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[file.write(rest) :]
            except BaseException:  # half a line would spoil the next one too
                file.truncate(size)
                raise
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> OSError:
    """Return an error that says that path cannot be written, why, and what to do."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _FULL:
        reason += "; what was there before is intact: make room, then run the same again"
    return OSError(error.errno or 0, f"cannot write: {reason}", str(path))


def parse_json(text: str | bytes) -> Any:
    """Return what JSON says. Raises ValueError for all that is none, nested too deeply, or has endless numbers."""
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_toml(text: str) -> dict[str, Any]:
    """Return what TOML says. Raises ValueError as parse_json."""
    import tomllib  # not before: `import hebbcore` needs none, and its regular expressions take a while

    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:
        raise ValueError("it holds an integer of too many digits") from None


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"it holds an integer of {len(digits)} digits")
    return int(digits)


def remove_partial(folder: Path) -> None:
    """Remove what killed processes have left of files that they wrote in a folder; who is writing there keeps his."""
    for turn in folder.glob(f".*{_TURN}"):
        path = turn.with_name(turn.name[1 : -len(_TURN)])
        with contextlib.suppress(OSError), _holding(turn, path, "writing"):
            _partial_of(path).unlink(missing_ok=True)


def sync(path: Path) -> None:
    """fsync a file or a folder; some file systems cannot do it for folders, and need not."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def reserve(file: BinaryIO, size: int) -> None:
    """Set so many bytes of the disk aside for a new file, before it is mapped into memory.

    To write to a map on a disk that is full kills the process; here it is an OSError.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    zeros = bytes(min(size, _PIECE))  # as on macOS
    for start in range(0, size, _PIECE):
        file.write(zeros[: size - start])
    file.flush()
    file.seek(0)


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder for one process; the lock goes with it. Raises BlockingIOError if another holds it.

    Where the file system cannot lock folders, such as NFS, a hidden file in it is held.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.ExitStack() as instead:
            if _lent.get() == _place_of(descriptor):
                _lent.set(None)  # once
            elif not _lock(descriptor, folder, what):
                instead.enter_context(_holding(folder / ".lock", folder, what))
            yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked_until_taken(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder as `locked` does; the first `locked` inside of it, in the same thread, goes on under this lock."""
    with locked(folder, what):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            token = _lent.set(_place_of(descriptor))
        finally:
            os.close(descriptor)
        try:
            yield
        finally:
            _lent.reset(token)


def _place_of(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def locked_file(path: Path, what: str) -> Iterator[None]:
    """Hold a file, which need not exist yet, for one process; others of its folder stay free.

    The lock is a hidden file beside it, and removed at the end; one that a kill has left holds nothing.

    Raises
    ------
    BlockingIOError
        If another process holds the file.
    """
    with _holding(_lock_of(path), path, what):
        yield


def forget_lock(path: Path) -> None:
    """Remove the lock of a file that a kill has left; one that a process holds stays."""
    if _lock_of(path).exists():
        with contextlib.suppress(OSError), locked_file(path, "writing"):
            pass


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


@contextlib.contextmanager
def _holding(lock: Path, path: Path, what: str | None = None) -> Iterator[None]:
    """Hold a file that stands for a path, and is made and removed. what: see _lock."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(descriptor, path, what):
                if what is not None:
                    _log.warning("%s lies where nothing can be locked: let no other process write there", path)
            elif not os.fstat(descriptor).st_nlink:  # its holder removed it after it was opened here
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, path: Path, what: str | None) -> bool:
    """Return whether the file system could lock a descriptor.

    what: what others do who hold it, for the BlockingIOError that is raised then; None: wait for them, and say so if
    that takes long.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # the latter on some network file systems
        if what is None:
            return _wait(descriptor, path)
        raise BlockingIOError(f"another process is {what} {path}; wait for it or stop it.") from None
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return False
    return True


def _wait(descriptor: int, path: Path) -> bool:
    """Wait for who holds a descriptor, perhaps stopped, and say so after a while. Returns False if that cannot be."""
    message = "another process or thread is writing %s, or was stopped while it did; waiting for it"
    word = threading.Timer(_PATIENCE, _log.warning, (message, path))
    word.daemon = True
    word.start()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except PermissionError:
        return False
    finally:
        word.cancel()
    return True
