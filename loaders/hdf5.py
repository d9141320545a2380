"""HDF5 files of unknown origin: what a dataset claims is compared with what the file holds before it is read."""

import math
import os
from collections import deque

import h5py

MAX_CHUNK = 2**28
HEAP = b"GCOL\1\0\0\0"
MAX_RATIO = 1032  # of deflate, HDF5's usual compression
FREE = 2**28  # bytes that what is read at once may unpack to whatever it takes on the disk,
FACTOR = 100  # and how many times that: far more than photographs are compressed to


def find(file: h5py.File, name: str, soft_links: int = 0) -> h5py.Group | h5py.Dataset | None:
    """What `name` ("a/b" for one of a group) leads to in this very file; None if there is nothing.

    soft_links: how many of them are followed on the way. Raises ValueError for one more, and for one out of the file.
    """
    found, rest = file["/"], deque(name.split("/"))
    while rest:
        part = rest.popleft()
        if part in ("", "."):
            continue
        link = found.get(part, getlink=True) if isinstance(found, h5py.Group) else None
        if link is None:
            return None
        if isinstance(link, h5py.SoftLink) and soft_links:
            soft_links -= 1
            rest.extendleft(reversed(link.path.split("/")))
            found = file["/"] if link.path.startswith("/") else found
        elif isinstance(link, h5py.HardLink):
            found = found[part]
        else:
            raise ValueError(f"its {name} is a link; copy what it points to into the file")
    return found


def stored_dataset(file: h5py.File, name: str, kinds: str, contiguous: bool = False) -> h5py.Dataset:
    """The dataset `name`, if its numbers are stored in this very file.

    kinds: the dtype kinds it may have ("iu" integers, "S" text of a fixed length, "O" of any). contiguous: only in one
    piece. Raises ValueError, without the file's name, if it is missing, somewhere else, larger than what is stored, or
    of another kind. Reading all of it takes no more memory than the file has bytes, or, in compressed chunks, than
    they unpack to.
    """
    dataset = find(file, name)
    if dataset is None:
        raise ValueError(f"it has no {name}")
    _check_kind(dataset, name, kinds)
    claimed, size = dataset.size * dataset.dtype.itemsize, os.fstat(_descriptor(file)).st_size
    if dataset.chunks is None:
        position = dataset.id.get_offset()
        inside = position is None or position + claimed <= size
        if dataset.id.get_storage_size() < claimed or not inside:
            raise ValueError(f"its {name} claims {claimed} bytes that are not there")
    else:
        _check_chunks(dataset, name, claimed, size, contiguous)
    return dataset


def check_unpacked(dataset: h5py.Dataset, name: str, kinds: str) -> None:
    """Raise ValueError unless a dataset, read at once, takes no more memory than its bytes on the disk allow.

    It must be written to its end: HDF5 reads as zeros what a program has made room for and, killed, never written.
    """
    _check_kind(dataset, name, kinds)
    claimed, chunk = (math.prod(shape) * dataset.dtype.itemsize for shape in (dataset.shape, dataset.chunks or ()))
    stored = min(dataset.id.get_storage_size(), os.fstat(_descriptor(dataset.file)).st_size)
    if max(claimed, chunk) > max(FREE, FACTOR * stored):
        raise ValueError(
            f"its {name} claims {claimed} bytes, but takes {stored} on the disk; if that is right, store it without "
            "compression (h5repack -f NONE)"
        )
    written = dataset.id.get_storage_size() >= claimed if dataset.chunks is None else _has_all_chunks(dataset)
    if not written:
        raise ValueError(f"its {name} is not written to its end, and the rest would be zeros; write the file again")


def _check_kind(dataset: h5py.Group | h5py.Dataset, name: str, kinds: str) -> None:
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise ValueError(f"its {name} must be a dataset")
    if dataset.dtype.kind not in kinds:
        if "S" not in kinds and h5py.check_string_dtype(dataset.dtype) is not None:
            raise ValueError(f"its {name} must be numbers, got texts")
        raise ValueError(f"its {name} must not be of dtype {dataset.dtype}")
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"its {name} is stored in other files; copy it into this one")


def check_heaps(file: h5py.File, images: tuple[int, int]) -> None:
    """Raise ValueError if a heap of texts claims sizes that it cannot have: HDF5 (2.0) would read it for ever.

    images: start and stop of the bytes of the file that are left out, because they are many and no heap.
    """
    descriptor = _descriptor(file)
    for start, stop in ((0, images[0]), (images[1], os.fstat(descriptor).st_size)):
        data = os.pread(descriptor, max(0, stop - start), start)
        at = data.find(HEAP)
        while at >= 0:
            at = data.find(HEAP, at + _checked_heap(memoryview(data)[at:]))


def _checked_heap(data: memoryview) -> int:
    """The length of the heap that data starts with, whose objects fill it."""
    length = int.from_bytes(data[8:16], "little")
    at = 16
    while at + 16 <= length <= len(data):
        number = int.from_bytes(data[at : at + 2], "little")
        claimed = int.from_bytes(data[at + 8 : at + 16], "little")
        need = 16 + -(-claimed // 8) * 8 if number else claimed  # number 0 is the free rest, header and all
        at = at + need if need >= 16 else length + 1
    if not 16 <= at <= length <= len(data):
        raise ValueError("its heap of texts claims bytes that are not there")
    return length


def _check_chunks(dataset: h5py.Dataset, name: str, claimed: int, size: int, contiguous: bool) -> None:
    if contiguous:
        raise ValueError(f"its {name} must be stored in one piece, not in chunks")
    chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize
    if chunk > MAX_CHUNK:
        raise ValueError(f"its {name} has chunks of {chunk} bytes, the most is {MAX_CHUNK}; store it in smaller ones")
    if claimed > MAX_RATIO * size + MAX_CHUNK or not _has_all_chunks(dataset):
        raise ValueError(f"its {name} claims {claimed} bytes of which some are not there; write the file again")


def _has_all_chunks(dataset: h5py.Dataset) -> bool:
    wanted = math.prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
    size = os.fstat(_descriptor(dataset.file)).st_size
    return bool(wanted <= size and wanted == dataset.id.get_num_chunks())


def _descriptor(file: h5py.File) -> int:
    return int(file.id.get_vfd_handle())
