"""Numba kernels whose compiled code is kept in a folder, where one can be written, and which work in any case.

Numba's own `cache=True` fails at the import if no folder can be written, at the first call if the disk is full, and at
every call if a file of the cache is damaged.
"""

import contextlib
import functools
import hashlib
import logging
import os
import stat
import tempfile
from pathlib import Path

from numba import njit
from numba.core import caching, sigutils

log = logging.getLogger(__name__)


def kernel(**options):
    """Return a decorator that compiles a function without the GIL; options: those of numba.njit.

    The code is kept where Numba keeps it: in NUMBA_CACHE_DIR, beside the source, or in the user's cache folder (XDG);
    else in a folder of the user's own among the temporary files, and that is logged.
    """

    def compile(function):
        dispatcher = njit(nogil=True, **options)(function)
        try:
            dispatcher._cache = _Cache(function)
        except RuntimeError:  # what Numba raises if no folder is suitable
            _say("no folder to keep compiled kernels in: each process compiles its own; set NUMBA_CACHE_DIR to one")
        return dispatcher

    return compile


@functools.cache
def _say(text):  # once
    log.warning(text)


class _TemporaryLocator(caching._SourceFileBackedLocatorMixin, caching._CacheLocator):  # type: ignore[misc]
    """Keeps code in a folder among the temporary files that no other user can write, for it will be run."""

    def __init__(self, function, file):
        self._py_file, self._lineno = file, function.__code__.co_firstlineno
        own = _private_folder()
        _say(f"compiled kernels are kept in {own}; set NUMBA_CACHE_DIR to a folder that stays")
        self._path = str(own / self.get_suitable_cache_subpath(file))

    def get_cache_path(self):
        return self._path

    @classmethod
    def from_function(cls, function, file):
        return super().from_function(function, file) if _private_folder() is not None else None


def _private_folder():
    """Return the folder of this user among the temporary files, made if need be; None if it is not safe to use."""
    try:
        base = Path(tempfile.gettempdir())
        folder = base / f"hebbcore-{os.getuid()}"
        if base != Path.cwd():  # what Python takes if there is no folder for temporary files
            folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return folder if is_own else None


@functools.cache
def _digest():
    """Return a digest of all that kernels are compiled from."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _Implementation(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (*caching.CompileResultCacheImpl._locator_classes, _TemporaryLocator)


class _Cache(caching.FunctionCache):  # type: ignore[misc]
    """Numba's cache, from which nothing wrong is taken, and whose failures are logged."""

    _impl_class = _Implementation

    def __init__(self, function):
        super().__init__(function)
        # Numba's own stamp knows the file of the function alone, not those of what is inlined into it
        self._cache_file._source_stamp = (self._cache_file._source_stamp, _digest())

    def load_overload(self, sig, target_context):
        """Return the code kept for a signature, None if there is none."""
        try:
            found = super().load_overload(sig, target_context)
        except Exception as error:  # whatever a damaged file makes pickle, Numba or LLVM raise
            _say(f"compiled kernels in {self.cache_path} are damaged ({error}); they are compiled again")
            with contextlib.suppress(OSError):
                self.flush()
            return None
        # two processes that write at once can give a file of one signature the other's code
        return found if found is None or found.signature.args == sigutils.normalize_signature(sig)[0] else None

    def save_overload(self, sig, data):
        """Keep the code of a signature, if that is possible."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _say(f"compiled kernels cannot be kept in {self.cache_path} ({error}); each process compiles its own")
            self.disable()
