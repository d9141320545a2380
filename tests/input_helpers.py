"""Images and weights in every form, for the tests of what the public functions accept and refuse."""

import numpy as np
import pytest

from hebbcore import train_layer
from hebbcore.training.batches import is_array

IMAGES = np.random.default_rng(1).random((10, 6, 5, 3)).astype(np.float32)
WEIGHTS = np.random.default_rng(2).normal(size=(4, 3, 2, 3)).astype(np.float32)
DENSE_WEIGHTS = WEIGHTS.reshape(4, 18)


def train(data=IMAGES, units=4, kernel_size=(3, 2), **options):
    """Train a small layer in the order of the data."""
    batches = {"shuffle": False, "batch_size": 4} if is_array(data) else {}
    return train_layer(data, units, kernel_size, **{**batches, "device": "cpu", **options})


def batches_of(images, size=4):
    return [images[i : i + size] for i in range(0, len(images), size)]


def refused(error, parts, function, *arguments, **options):
    """Assert that a call raises, with a message that holds the parts."""
    with pytest.raises(error) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    for part in parts:
        assert part in message
    return message


# Accepted data


class OnlyArray:
    """Converts by __array__ and in no other way."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return self._array if dtype is None else self._array.astype(dtype)


class OnlyDLPack:
    """Converts by DLPack and in no other way."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


class Stream:
    """Batches that can be iterated again and again."""

    def __init__(self, batches):
        self._batches = batches
        self.epochs = 0

    def __iter__(self):
        self.epochs += 1
        yield from self._batches


def memory_mapped(images, folder):
    np.save(folder / "images.npy", images)
    mapped = np.load(folder / "images.npy", mmap_mode="r")
    assert not mapped.flags.writeable
    return mapped


def read_only(images, folder):
    copy = images.copy()
    copy.flags.writeable = False
    return copy


def torch_tensor(images, folder):
    return pytest.importorskip("torch").from_numpy(images.copy())


ARRAYS = {
    "fortran": lambda images, folder: np.asfortranarray(images),
    "every second of a larger array": lambda images, folder: np.repeat(images, 2, axis=0)[::2],
    "negative strides": lambda images, folder: np.ascontiguousarray(images[::-1, :, ::-1])[::-1, :, ::-1],
    "channels-first view": lambda images, folder: np.moveaxis(np.moveaxis(images, -1, 1).copy(), 1, -1),
    "big-endian": lambda images, folder: images.astype(images.dtype.newbyteorder(">")),
    "memory-mapped": memory_mapped,
    "read-only": read_only,
    "only __array__": lambda images, folder: OnlyArray(images),
    "only __array__, read-only": lambda images, folder: OnlyArray(read_only(images, folder)),
    "only DLPack": lambda images, folder: OnlyDLPack(images.copy()),
    "torch": torch_tensor,
}


# NaN and infinity


def spoiled(array, value=np.nan):
    copy = array.copy()
    copy[(2, *(-1,) * (array.ndim - 1))] = value
    return copy
