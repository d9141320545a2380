"""What build_shards reads from: items of encoded images, or arrays."""

import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np

from loaders.shards.format import UNLABELLED, Bytes, Ints
from loaders.sources.content import arrays_digest
from loaders.text import printable

HEAD = 32  # bytes that tell what kind of file it is
MAX_FILE = 2**30
MAX_CLASSES = 10**6


@dataclass(frozen=True)
class Item:
    """One encoded image of a source, not yet read: size bytes at offset of the file path (size -1: to its end).

    position: how far through the source this item is, in the unit of the source's total.
    problem: why there is nothing to read (a text file, a broken link); such an item is only reported.
    """

    name: str
    label: int
    path: str
    offset: int = 0
    size: int = -1
    position: int = 0
    problem: str | None = None

    def head(self) -> bytes:
        """The first bytes, which tell images from other files."""
        return self._read(HEAD)

    def read(self) -> bytes:
        """All bytes. Raises ValueError if there are fewer than the size says, or more than any image has."""
        return self._read(None)

    def _read(self, most: int | None) -> bytes:
        with open(self.path, "rb") as file:
            there = max(0, os.fstat(file.fileno()).st_size - self.offset)
            if self.size > there:
                raise ValueError(f"{printable(self.path)} ends before the {self.size} bytes of this image")
            size = there if self.size < 0 else self.size
            if most is None and size > MAX_FILE:
                raise ValueError(f"the file has {size} bytes, more than the {MAX_FILE} an image may have")
            file.seek(self.offset)
            return file.read(size if most is None else min(size, most))


@runtime_checkable
class ImageSource(Protocol):
    """Encoded images, listed one after the other in an order that never changes."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the labels 0, 1, …"""

    @property
    def total(self) -> int:
        """The position after the last item."""

    @property
    def unit(self) -> str:
        """Of positions: "images" or "B"."""

    def describe(self) -> dict[str, Any]:
        """What the index says about the source; differs when the source's content does. JSON types only.

        Under the key "content" a digest of what the source holds, as far as that is quick to tell.
        """

    def items(self) -> Iterator[Item]: ...


def sample_of(source: ImageSource, count: int) -> Sequence[Item]:
    """At most `count` items of a source: spread over it if it has a `sample`, otherwise the first ones."""
    items = list(getattr(source, "sample", None) or islice(source.items(), count))
    return items[:: -(-len(items) // count)] if items else []


@dataclass(frozen=True)
class ArraySource:
    """Images that are arrays already: (n, H, W, C) uint8 images, (n,) labels as array_source's, optionally n names."""

    images: Bytes
    labels: Ints
    class_names: Sequence[str]
    description: dict[str, Any]
    names: Sequence[str] | None = None

    unit = "images"

    @property
    def total(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width, channels = (*self.images.shape[1:], 1)[:3]
        return int(height), int(width), int(channels)

    def describe(self) -> dict[str, Any]:
        """The description, the shape, a checksum of the labels and of 64 images spread over the set, and the content.

        The content is a digest of the names and of all images up to 1 GiB, of blocks spread over more.
        """
        crc = zlib.crc32(np.ascontiguousarray(self.labels).data)
        for i in np.linspace(0, self.total - 1, min(self.total, 64)).astype(int):
            crc = zlib.crc32(np.ascontiguousarray(self.images[i]).data, crc)
        content = arrays_digest(self.images, self.names)
        return {**self.description, "shape": [self.total, *self.shape], "crc32": crc, "content": content}


Source = ImageSource | ArraySource


def name_key(name: str) -> bytes:
    """Sort names by their bytes, whatever the locale, so that every machine gives the same labels."""
    return os.fsencode(name)


def require_channels_last(caller: str, shape: Sequence[int]) -> None:
    """Raise ValueError for images (n, H, W, C) that look like (n, C, H, W); the rule is that of hebbcore.checks."""
    if len(shape) != 4:
        return
    channels, height, width = shape[1:]
    low, high = sorted((height, width))
    alike = low == high if channels == 1 else high <= 4 * low
    if channels in (1, 3) and width not in (1, 3, 4) and low > 4 and alike:
        raise ValueError(
            f"{caller}: images {tuple(shape)} look like channels first, and must be (n, H, W, C): "
            f"np.moveaxis(images, 1, -1) turns them. Images that really are {channels} pixels high with {width} "
            "channels can be laid on their side: np.swapaxes(images, 1, 2)"
        )


def array_source(
    images: Any,
    labels: Any,
    *,
    class_names: Sequence[str] | None = None,
    description: dict[str, Any] | None = None,
    names: Sequence[str] | None = None,
    caller: str = "array_source",
) -> ArraySource:
    """Check arrays and make them a source.

    images: (n, H, W, C) or (n, H, W) uint8, n >= 1; anything that slices like an array, such as np.memmap.
    labels: (n,) integers >= 0, or UNLABELLED (-1) for an image without one. class_names: one for each label; None:
    "0", "1", …

    Raises TypeError for other dtypes, ValueError for other shapes, and for labels without a class name.
    """
    if not hasattr(images, "dtype"):
        images = np.asarray(images)
    labels = np.asarray(labels)
    if images.dtype != np.uint8:
        raise TypeError(f"{caller}: images must be uint8, got {images.dtype}; scale to 0…255 and use .astype('uint8')")
    if len(images.shape) not in (3, 4) or 0 in images.shape:
        raise ValueError(
            f"{caller}: images must be (n, H, W, C) or (n, H, W) without an empty axis, got {images.shape}"
        )
    require_channels_last(caller, images.shape)
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"{caller}: labels must be integers, got {labels.dtype}")
    if labels.shape != (images.shape[0],):
        raise ValueError(f"{caller}: labels must be ({images.shape[0]},) like the images, got {labels.shape}")
    if labels.min() < UNLABELLED:
        raise ValueError(f"{caller}: labels must be >= 0, or {UNLABELLED} for an image without one, got {labels.min()}")
    if class_names is None:
        if labels.max() >= MAX_CLASSES:
            raise ValueError(
                f"{caller}: labels must be below {MAX_CLASSES}, got {labels.max()}; number the classes 0, 1, …"
            )
        class_names = [str(label) for label in range(int(labels.max()) + 1)]
    if labels.max() >= len(class_names):
        raise ValueError(f"{caller}: label {labels.max()} has no name among the {len(class_names)} class_names")
    if names is not None and len(names) != len(labels):
        raise ValueError(f"{caller}: names must be one for each of the {len(labels)} images, got {len(names)}")
    return ArraySource(images, labels.astype(np.int64), class_names, description or {"kind": "arrays"}, names)
