"""What a reader says of a file of unknown origin, measured, and small files to spoil."""

import gzip
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from loaders_helpers import make_arrays, make_tree

import loaders

MEMORY = 48 * 2**20  # bytes; every file here has less than 200 KB
ESCAPE = "\x1b[31mred\x1b[0m\x07\u202e"


def measured(read: Callable[[], object], name: str, allowed: tuple[type[Exception], ...] = ()) -> str | None:
    """What a reader says of a file, None if it reads it. Fails if it raises anything else than loaders' errors."""
    tracemalloc.reset_peak()
    before, began = tracemalloc.get_traced_memory()[0], time.monotonic()
    try:
        read()
        message = None
    except (OSError, ValueError, *allowed) as error:
        message = str(error)
        assert name in message, message
        for poor in ("recursion depth", "Maximum allowed dimension", "Invalid argument", "int()", "Unable to allocate"):
            assert poor not in message, message
        assert message.isprintable(), message
    assert tracemalloc.get_traced_memory()[1] - before < MEMORY
    assert time.monotonic() - began < 20
    return message


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


def drain(stream) -> None:
    for _ in stream:
        pass


def read_shards(path: Path) -> None:
    drain(loaders.ShardStream(path.parent, image_size=8, threads=1))


def read_tar(path: Path) -> None:
    for item in loaders.open_source(path).items():
        if item.problem is None:
            item.read()


def set_of(folder: Path, kind: str) -> Path:
    if kind == "raw":
        loaders.write_shards(make_arrays(12), folder / "set")
    else:
        tree = make_tree(folder / "tree", classes=2, images=3, height=24, width=24)
        loaders.build_shards(tree, folder / "set", workers=1)
    return folder / "set"


def idx_of(path: Path, array: np.ndarray, packed: bool) -> None:
    data = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if packed else data)
