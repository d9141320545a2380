"""HDF5 files of unknown origin: what a dataset claims is compared with what the file holds before it is read."""

import math
import os

import h5py

MAX_CHUNK = 2**28
HEAP = b"GCOL\1\0\0\0"
MAX_RATIO = 1032  # of deflate, HDF5's usual compression


def stored_dataset(file: h5py.File, name: str, kinds: str, contiguous: bool = False) -> h5py.Dataset:
    """The dataset `name` ("a/b" for one of a group), if its numbers are stored in this very file.

    kinds: the dtype kinds it may have ("iu" integers, "S" text of a fixed length, "O" of any). contiguous: only in one
    piece. Raises ValueError, without the file's name, if it is missing, somewhere else, larger than what is stored, or
    of another kind. Reading all of it takes no more memory than the file has bytes, or, in compressed chunks, than
    they unpack to.
    """
    place = file["/"]
    for part in name.split("/"):
        if not isinstance(place, h5py.Group) or not has_link(place, part):
            raise ValueError(f"it has no {name}")
        if place.id.links.get_info(part.encode()).type != h5py.h5l.TYPE_HARD:
            raise ValueError(f"its {name} is a link; copy what it points to into the file")
        place = place[part]
    if not isinstance(place, h5py.Dataset) or place.shape is None:
        raise ValueError(f"its {name} must be a dataset")
    if place.dtype.kind not in kinds:
        raise ValueError(f"its {name} must not be of dtype {place.dtype}")
    if place.is_virtual or place.external:
        raise ValueError(f"its {name} is stored in other files; copy it into this one")
    claimed, size = place.size * place.dtype.itemsize, os.fstat(_descriptor(file)).st_size
    if place.chunks is None:
        position = place.id.get_offset()
        inside = position is None or position + claimed <= size
        if place.id.get_storage_size() < claimed or not inside:
            raise ValueError(f"its {name} claims {claimed} bytes that are not there")
    else:
        _check_chunks(place, name, claimed, size, contiguous)
    return place


def check_heaps(file: h5py.File, images: tuple[int, int]) -> None:
    """Raise ValueError if a heap of texts claims sizes that it cannot have: HDF5 (2.0) would read it for ever.

    images: start and stop of the bytes of the file that are left out, because they are many and no heap.
    """
    descriptor = _descriptor(file)
    for start, stop in ((0, images[0]), (images[1], os.fstat(descriptor).st_size)):
        data = os.pread(descriptor, max(0, stop - start), start)
        place = data.find(HEAP)
        while place >= 0:
            place = data.find(HEAP, place + _checked_heap(memoryview(data)[place:]))


def _checked_heap(data: memoryview) -> int:
    """The length of the heap that data starts with, whose objects fill it."""
    length = int.from_bytes(data[8:16], "little")
    place = 16
    while place + 16 <= length <= len(data):
        number = int.from_bytes(data[place : place + 2], "little")
        claimed = int.from_bytes(data[place + 8 : place + 16], "little")
        need = 16 + -(-claimed // 8) * 8 if number else claimed  # number 0 is the free rest, header and all
        place = place + need if need >= 16 else length + 1
    if not 16 <= place <= length <= len(data):
        raise ValueError("its heap of texts claims bytes that are not there")
    return length


def has_link(group: h5py.Group, name: str) -> bool:
    """Whether a group has an entry, without a look at what it leads to."""
    return bool(group.id.links.exists(name.encode()))


def _check_chunks(dataset: h5py.Dataset, name: str, claimed: int, size: int, contiguous: bool) -> None:
    if contiguous:
        raise ValueError(f"its {name} must be stored in one piece, not in chunks")
    chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize
    if chunk > MAX_CHUNK:
        raise ValueError(f"its {name} has chunks of {chunk} bytes, the most is {MAX_CHUNK}; store it in smaller ones")
    wanted = math.prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
    if claimed > MAX_RATIO * size + MAX_CHUNK or wanted > size or wanted != dataset.id.get_num_chunks():
        raise ValueError(f"its {name} claims {claimed} bytes of which some are not there; write the file again")


def _descriptor(file: h5py.File) -> int:
    return int(file.id.get_vfd_handle())
