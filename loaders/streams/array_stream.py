"""ArrayStream: batches of arrays, with the interface of a ShardStream."""

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.sources.arrays import require_channels_last, require_unmasked, texts_of

Array = npt.NDArray[Any]

_PIECE_BYTES = 1 << 24


class ArrayStream:
    """Batches of (images, labels) of arrays, in order; every `for` loop is the next epoch.

    len() is the number of batches of an epoch.

    Parameters
    ----------
    images : array (n, H, W, C)
        At least one image. Any array that gives slices will do, such as a dataset of h5py or Zarr: no more than a piece
        of it is read at a time.
    labels : array (n,), integers
        Below 0: the image has no label.
    batch_size : int
        Images of a batch; the last one may be smaller.
    names : sequence of str, optional
        Where each image came from, such as its file; None: it is not known.
    class_names : sequence of str, optional
        What the labels 0, 1, … mean; None: it is not known.

    Raises
    ------
    ValueError
        If the lengths differ, there are no images, they look like channels first, labels or batch_size are something
        else, or a label has no name among class_names.
    TypeError
        If images or labels are masked, images are no numbers, or names have no order.
    """

    def __init__(
        self,
        images: Array,
        labels: Array,
        batch_size: int = 64,
        names: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        if not isinstance(getattr(images, "dtype", None), np.dtype):
            images = np.asarray(images)
        require_unmasked("ArrayStream", images, labels)
        if not images.shape or images.dtype.kind not in "biuf":
            raise TypeError(
                "ArrayStream: images must be an array (n, H, W, C) of numbers, "
                f"got {tuple(images.shape)} {images.dtype}"
            )
        count = images.shape[0]  # Zarr's arrays have no len
        labels = np.asarray(labels)
        in_order = getattr(names, "tolist", None)  # a column of pandas takes numbers for its own labels
        names = names if in_order is None else in_order()
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ValueError(f"ArrayStream: labels must be (n,) integers, got {labels.shape} {labels.dtype}")
        if count != len(labels) or not count:
            raise ValueError(
                f"ArrayStream: images and labels must have one length above 0, got {count} and {len(labels)}"
            )
        if isinstance(names, str | bytes | Set | Mapping):
            raise TypeError(
                f"ArrayStream: names must be in the images' order, such as a list, got {type(names).__name__}"
            )
        if names is not None and len(names) != count:
            raise ValueError(f"ArrayStream: names must be one for each of the {count} images, got {len(names)}")
        class_names = None if class_names is None else texts_of("ArrayStream", "class_names", class_names)
        if class_names is not None and labels.max() >= len(class_names):
            raise ValueError(
                f"ArrayStream: label {labels.max()} has no name among the {len(class_names)} class_names; give one for "
                "each label"
            )
        require_channels_last("ArrayStream", images.shape)
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise ValueError(f"ArrayStream: batch_size must be an integer >= 1, got {batch_size!r}")
        self._images, self._labels, self.batch_size = images, labels, int(batch_size)
        self._names, self._class_names = names, class_names
        self._epoch, self._batch = 0, 0
        self._settings = {
            "shape": list(images.shape),
            "checksum": _checksum(images) ^ _checksum(labels),
            "batch_size": self.batch_size,
        }

    def __len__(self) -> int:
        return -(-self.images // self.batch_size)

    @property
    def images(self) -> int:
        """Number of images of an epoch."""
        return int(self._images.shape[0])

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W, C) of the images in a batch."""
        return self._images.shape[1:]

    @property
    def labels(self) -> Array:
        """Labels (n,) of an epoch."""
        return self._labels

    @property
    def names(self) -> Sequence[str] | None:
        """Where the images came from; None if it is not known."""
        return self._names

    @property
    def class_names(self) -> Sequence[str] | None:
        """What the labels 0, 1, … mean; None if it is not known."""
        return self._class_names

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        first, self._batch = self._batch, 0
        for start in range(first * self.batch_size, self.images, self.batch_size):
            yield self._images[start : start + self.batch_size], self._labels[start : start + self.batch_size]
        self._epoch += 1

    def state(self) -> dict[str, Any]:
        """Return where the next loop begins, in JSON types, and what tells these arrays from others."""
        return {**self._settings, "epoch": self._epoch, "batch": self._batch}

    def restore(self, state: dict[str, Any]) -> None:
        """Let the next loop begin where a state says.

        Parameters
        ----------
        state : dict
            What state() returned.

        Raises
        ------
        TypeError
            If it is not a state.
        ValueError
            If it belongs to other arrays, or its position is none of this stream's.
        """
        if not isinstance(state, dict):
            raise TypeError(f"ArrayStream.restore: state must be a dict from state(), got {type(state).__name__}")
        different = [key for key, value in self._settings.items() if state.get(key) != value]
        if different:
            raise ValueError(f"ArrayStream.restore: the state belongs to other arrays ({', '.join(different)} differ)")
        place: list[Any] = [state.get("epoch"), state.get("batch")]
        epoch, batch = place
        whole = all(isinstance(number, int | np.integer) for number in place)
        if not whole or epoch < 0 or not 0 <= batch <= len(self):
            raise ValueError(
                f"ArrayStream.restore: epoch and batch must be a position of these {len(self)} batches, got "
                f"{epoch!r} and {batch!r}"
            )
        self._epoch, self._batch = int(epoch), int(batch)


def _checksum(array: Array) -> int:
    """Return the CRC-32 of an array's bytes, of which a piece at a time is read."""
    found, step = 0, max(1, _PIECE_BYTES * array.shape[0] // max(1, math.prod(array.shape) * array.dtype.itemsize))
    for start in range(0, array.shape[0], step):
        found = zlib.crc32(np.ascontiguousarray(array[start : start + step]).data, found)
    return found
