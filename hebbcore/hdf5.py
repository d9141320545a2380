"""HDF5 files: written without HDF5 touching the disk, sealed by a digest, and read without trusting what they claim."""

import hashlib
import math
import os
import re
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

BLOCK = 512  # bytes before the HDF5, which leaves them to us
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SOFT_LINKS = 16  # followed on the way to one array

# Writing


class Plan:
    """Where the arrays of a new file lie: everything of it but their numbers.

    HDF5 ends the process, or the interpreter, if it cannot write. So it lays the file out in memory, and plain writes,
    whose errors are Python's, bring that and the numbers to the disk.

    Parameters
    ----------
    arrays : mapping of str to (shape, dtype)
        In the order in which they are to lie.
    attributes : mapping of str to str, optional
        Texts, 60,000 bytes in all.

    Attributes
    ----------
    offsets : dict of str to int or None
        Where each array begins, in bytes; None for an array without a number.
    size : int
        Of the file, in bytes.
    """

    def __init__(
        self, arrays: Mapping[str, tuple[tuple[int, ...], Any]], attributes: Mapping[str, str] | None = None
    ) -> None:
        self._pieces = _Pieces()
        with ThreadPoolExecutor(1) as thread:  # Ctrl-C would otherwise raise in the middle of HDF5
            self.offsets = thread.submit(self._lay_out, arrays, attributes or {}).result()
        self.size = self._pieces.size

    def _lay_out(
        self, arrays: Mapping[str, tuple[tuple[int, ...], Any]], attributes: Mapping[str, str]
    ) -> dict[str, int | None]:
        import h5py

        offsets = {}
        with h5py.File(self._pieces, "w", userblock_size=BLOCK, alignment_threshold=1, alignment_interval=8) as file:
            for name, (shape, dtype) in arrays.items():
                plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
                plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
                plan.set_obj_track_times(False)  # the same numbers make the same file
                kind, space = h5py.h5t.py_create(np.dtype(dtype), logical=True), h5py.h5s.create_simple(shape)
                array = h5py.h5d.create(file.id, None, kind, space, plan)
                file[name] = h5py.Dataset(array)
                offsets[name] = array.get_offset()
            for name, text in attributes.items():
                data = text.encode()
                # of a fixed length: in damaged tables of texts of any length HDF5 can look for ever
                file.attrs.create(name, data, dtype=h5py.string_dtype("utf-8", len(data)))
        return offsets

    def write(self, file: BinaryIO) -> None:
        """Write all but the numbers to an empty file."""
        file.truncate(self.size)
        for start, data in self._pieces.written:
            file.seek(start)
            file.write(data)


class _Pieces(RawIOBase):
    """A file that keeps in memory what is written to it, and takes no room for the rest."""

    def __init__(self) -> None:
        self.written: list[tuple[int, bytes]] = []
        self.size, self._at = 0, 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def truncate(self, size: int | None = None) -> int:
        self.size = self._at if size is None else size
        return self.size

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self.written.append((self._at, piece))
        self._at += len(piece)
        self.size = max(self.size, self._at)
        return len(piece)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        start, end = self._at, min(self._at + len(view), max(self.size, self._at))
        view[:] = bytes(len(view))
        for at, piece in self.written:
            first, last = max(at, start), min(at + len(piece), end)
            if first < last:
                view[first - start : last - start] = piece[first - at : last - at]
        self._at = end
        return end - start


def write_sealed(path: Path, what: str, version: int, arrays: Mapping[str, Any]) -> None:
    """Write arrays of NumPy to a new file, and seal it. Raises OSError if that cannot be done."""
    host = {name: np.asarray(array, order="C") for name, array in arrays.items()}  # the shape () stays
    plan = Plan({name: (array.shape, array.dtype) for name, array in host.items()})
    with path.open("w+b") as file:
        plan.write(file)
        for name, array in host.items():
            start = plan.offsets[name]
            if start is not None:
                file.seek(start)
                file.write(array.reshape(-1).view(np.uint8).data)
        file.seek(BLOCK)
        seal(file, what, version, hashlib.file_digest(file, new_digest).hexdigest())


def new_digest() -> Any:
    """Return what is to be fed with all that follows the first BLOCK bytes."""
    return hashlib.blake2b(digest_size=16)


def seal(file: BinaryIO, what: str, version: int, digest: str) -> None:
    """Write the line before the HDF5: what the file is, the version of its format, and the digest of all the rest."""
    file.seek(0)
    file.write(f"hebbcore {what} {version} {digest}\n".encode().ljust(BLOCK))


# Reading


def is_plain(path: Path) -> bool:
    """Return True for HDF5 that begins with the file, as others write it."""
    with path.open("rb") as raw:
        return raw.read(len(_SIGNATURE)) == _SIGNATURE


def seal_of(path: Path, what: str) -> tuple[int, str] | None:
    """Return the version and digest that a file says it has, None if it is not what is said."""
    with path.open("rb") as raw:
        block = raw.read(BLOCK)
    found = re.fullmatch(rf"hebbcore {what} (\d{{1,9}}) ([0-9a-f]+)\n *".encode(), block)
    return None if found is None or len(block) < BLOCK else (int(found[1]), found[2].decode())


def check(function: str, path: Path, what: str, version: int) -> None:
    """Raise ValueError unless a file is what was sealed.

    HDF5 must see no other: a changed byte can make it read other numbers, or never end.
    """
    found = seal_of(path, what)
    if found is None:
        raise ValueError(f"{function}: {path} is damaged or no {what} of hebbcore.")
    if found[0] != version:
        raise ValueError(f"{function}: {path} has version {found[0]} of the format; this hebbcore reads {version}.")
    with path.open("rb") as raw:
        raw.seek(BLOCK)
        if found[1] != hashlib.file_digest(raw, new_digest).hexdigest():
            raise ValueError(f"{function}: {path} is damaged: its contents do not match its digest.")


@contextmanager
def reading(path: Path, refusal: str, advice: str = "") -> Iterator[Any]:
    """Open a file to read.

    What HDF5 and the functions below find wrong is raised as ValueError("refusal (the reason)advice"). ValueErrors that
    begin with the path, or with "config:", are about something else and go through as they are.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, ValueError) and str(error).startswith((str(path), "config:")):
            raise
        raise ValueError(f"{refusal} ({error}){advice}") from None


def member(file: Any, name: str) -> Any:
    """Return what a name leads to in the file, None if there is nothing. Raises ValueError if it leads elsewhere."""
    import h5py

    node, rest, followed = file, deque(name.split("/")), 0
    while rest:
        part = rest.popleft()
        if part in ("", "."):
            continue
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            return None
        if isinstance(link, h5py.SoftLink) and followed < _SOFT_LINKS:
            followed += 1
            rest.extendleft(reversed(link.path.split("/")))
            node = file if link.path.startswith("/") else node
        elif isinstance(link, h5py.HardLink):
            node = node[part]
        else:
            raise ValueError(f"{name} is a link to another file, or to nowhere")
    return node


def attribute(file: Any, name: str) -> bytes:
    """Return an attribute of a file that a Plan laid out. Raises ValueError if it is no text of a fixed length."""
    import h5py

    found = h5py.h5a.open(file.id, name.encode())
    kind = found.get_type()
    size = found.get_storage_size()
    if not isinstance(kind, h5py.h5t.TypeStringID) or kind.is_variable_str() or found.shape != ():
        raise ValueError(f"its {name} is no text")
    if size > os.path.getsize(file.filename):
        raise ValueError(f"its {name} is said to take {size} bytes, more than the file has")
    return bytes(file.attrs[name])


def require_numbers(name: str, dataset: Any) -> None:
    """Raise ValueError unless a dataset holds numbers, in the file itself."""
    import h5py

    plan = dataset.id.get_create_plist()
    if dataset.dtype.kind not in "biufc":
        raise ValueError(f"{name} holds {dataset.dtype}, no numbers")
    if dataset.shape is None:
        raise ValueError(f"{name} is empty")
    if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
        raise ValueError(f"the numbers of {name} are in other files; copy them into this one")


def require_within(name: str, dataset: Any) -> int:
    """Return how many bytes a dataset takes. Raises ValueError unless they lie in the file as they are."""
    import h5py

    require_numbers(name, dataset)
    if dataset.id.get_create_plist().get_layout() != h5py.h5d.CONTIGUOUS:
        raise ValueError(f"{name} does not lie in one piece")
    size: int = math.prod(dataset.shape) * dataset.dtype.itemsize
    start = dataset.id.get_offset()
    if size and (start is None or start + size > os.path.getsize(dataset.file.filename)):
        raise ValueError(f"{name} is said to take {size} bytes, more than the file has")
    return size


def arrays_in(file: Any, name: str) -> dict[str, Any]:
    """Return the arrays of a group, and of its groups as "group/array".

    Raises ValueError for links, arrays that do not lie in the file as they are, and more than it has room for.
    """
    import h5py

    whole = os.path.getsize(file.filename)
    found: dict[str, Any] = {}
    taken = 0

    def take(group: Any, prefix: str, deeper: bool) -> None:
        nonlocal taken
        for key in group:
            full = f"{prefix}{key}"
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise ValueError(f"{full} is a link")
            item = group[key]
            if isinstance(item, h5py.Dataset):
                taken += 100 + require_within(full, item)  # with less than its description takes
                if taken > whole:
                    raise ValueError("its arrays are said to take more than the file has")
                found[full] = item[...]
            elif deeper and isinstance(item, h5py.Group):
                take(item, f"{full}/", False)
            else:
                raise ValueError(f"{full} is no array")

    group = member(file, name)
    if isinstance(group, h5py.Group):
        take(group, "", True)
    return found
