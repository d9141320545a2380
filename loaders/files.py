"""Writing files so that a killed program or a full disk leaves either the old file or the new one.

hebbcore/files.py does the same in a few lines of its own, since neither package may import the other.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EACCES, EAGAIN, EBADF, EINVAL, EOPNOTSUPP
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError as error:
    raise ImportError(
        "loaders needs locks of files as Linux and macOS have them; on Windows install it in the Windows Subsystem for "
        "Linux (wsl --install)."
    ) from error

PARTIAL = ".partial"


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let write fill a temporary file beside path, sync it, and rename it to path.

    On failure the temporary file is removed and an OSError names path.
    """
    temporary = path.with_name(f".{path.name}{PARTIAL}")
    try:
        write(temporary)
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise


def cannot_write(path: Path, error: OSError) -> OSError:
    """The error that says that path cannot be written, and what to do."""
    return OSError(
        error.errno or 0,
        f"cannot write {path}: {error.strerror or error}; what was written before is intact, "
        "run the same command again to go on",
    )


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_bytes(text.encode()))


def sync(path: Path) -> None:
    """fsync a file or a folder; some file systems cannot do it for folders, and need not."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (EBADF, EINVAL, EOPNOTSUPP) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        number = error.errno or 0
        raise OSError(number, f"cannot create the folder {folder}: {error.strerror}; choose a writable one") from error


@contextmanager
def locked(folder: Path, wait: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold folder for one writer. The lock goes with the process, so a kill leaves nothing to clean.

    wait: called before this process waits for another that holds it; None: that is a BlockingIOError.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # some network file systems cannot lock a folder; one writer at a time is then up to the user
            if error.errno in (EAGAIN, EACCES):
                if wait is None:
                    raise BlockingIOError(
                        EAGAIN, f"another build is writing to {folder}; wait for it or stop it"
                    ) from None
                wait()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
