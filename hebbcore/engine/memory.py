"""Work memory that layers share: laid out anew for each use, so that it is as large as the largest use, not the sum."""

import math
from typing import Any

import numpy as np

from hebbcore.engine import backend
from hebbcore.engine.backend import Array

_ALIGNMENT = 512  # bytes; what CuPy's own arrays have


class Memory:
    """The work memory of one thread: parts of one block, and a few arrays beside it that only grow."""

    def __init__(self) -> None:
        self._block: Array | None = None
        self._parts: dict[str, Array] = {}
        self._grown: dict[str, Array] = {}
        self._views: dict[str, tuple[tuple[int, ...], np.dtype[Any], str, Array]] = {}  # the last of each name

    def lay_out(self, device: str, sizes: dict[str, int]) -> None:
        """Cut the block into parts of so many bytes; what the parts of before held is lost."""
        starts, end = {}, 0
        for name, size in sizes.items():
            starts[name] = end
            end += -(-size // _ALIGNMENT) * _ALIGNMENT
        self._parts = {}
        if not _holds(self._block, end, device):
            self._block = None  # before the larger one is made
            self._block = backend.module(device).empty(end, np.uint8)
        assert self._block is not None
        self._parts = {name: self._block[start : start + sizes[name]] for name, start in starts.items()}

    @property
    def layout(self) -> object:
        """What another layout is not identical to."""
        return self._parts

    def part(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return the beginning of a part as a C-contiguous array."""
        return self._parts[name][: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)

    def size(self, name: str) -> int:
        """Return the bytes of a part."""
        return int(self._parts[name].nbytes)

    def grown(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], device: str) -> Array:
        """Return a C-contiguous array of its own, which later layouts leave alone; it grows when it must."""
        last = self._views.get(name)
        if last is not None and last[:3] == (shape, dtype, device):
            return last[3]
        size = math.prod(shape) * dtype.itemsize
        if not _holds(self._grown.get(name), size, device):
            self._views.pop(name, None)
            self._grown.pop(name, None)
            self._grown[name] = backend.module(device).empty(size, np.uint8)
        view = self._grown[name][:size].view(dtype).reshape(shape)
        self._views[name] = shape, dtype, device, view
        return view

    def __reduce__(self) -> tuple[type["Memory"], tuple[()]]:
        return Memory, ()  # a copy or a pickle starts empty


def _holds(block: Array | None, size: int, device: str) -> bool:
    return block is not None and block.size >= size and backend.device_of(block) == device
