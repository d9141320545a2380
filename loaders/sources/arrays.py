"""Arrays as a source: images that are decoded already."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.checks import require_flags
from loaders.shards.format import DTYPES, UNLABELLED, Ints
from loaders.sources.content import arrays_digest
from loaders.text import printable

MAX_CLASSES = 10**6


@dataclass(frozen=True)
class ArraySource:
    """Images that are arrays already; array_source makes one.

    Parameters
    ----------
    images : array (n, H, W, C) or (n, H, W), uint8, or others of loaders.shards.format.DTYPES
        Anything that slices like an array.
    labels : array (n,), int64
        Positions in class_names; -1: the image has no label.
    class_names : sequence of str
        Names of the labels 0, 1, …
    description : dict
        What the index says about the source, in JSON types.
    names : sequence of str, optional
        Where each image came from.
    """

    images: npt.NDArray[Any]
    labels: Ints
    class_names: Sequence[str]
    description: dict[str, Any]
    names: Sequence[str] | None = None

    unit = "images"

    @property
    def total(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def dtype(self) -> str:
        """The numbers of the images, such as "uint8"."""
        return self.images.dtype.name

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of an image."""
        height, width, channels = (*self.images.shape[1:], 1)[:3]
        return int(height), int(width), int(channels)

    def describe(self) -> dict[str, Any]:
        """Return what the index says about the source, in JSON types.

        It is the description, the shape, a checksum of the labels and of 64 images spread over the set, and the
        content: a digest of the names and images (blocks spread over them, if they have more than 1 GiB).
        """
        crc = zlib.crc32(np.ascontiguousarray(self.labels).data)
        for i in np.linspace(0, self.total - 1, min(self.total, 64)).astype(int):
            crc = zlib.crc32(np.ascontiguousarray(self.images[i]).data, crc)
        content = arrays_digest(self.images, self.names)
        return {**self.description, "shape": [self.total, *self.shape], "crc32": crc, "content": content}


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


def require_unmasked(caller: str, images: Any, labels: Any) -> None:
    """Raise TypeError for masked arrays of NumPy: what reads their numbers does not see the mask."""
    for name, values, remedy in (("images", images, 0), ("labels", labels, UNLABELLED)):
        if isinstance(values, np.ma.MaskedArray):
            raise TypeError(
                f"{caller}: {name} must not be masked; {name}.filled({remedy}) puts {remedy} where the mask is"
                f"{', which is no label' * (name == 'labels')}"
            )


def texts_of(caller: str, name: str, values: Any) -> Sequence[str]:
    """A sequence of texts, such as class_names; of an array or a column of pandas a list, in its order.

    Raises TypeError for a single text, for what has no order, and for numbers or other things among them.
    """
    in_order = getattr(values, "tolist", None)  # a column of pandas takes numbers for its own labels
    found = values if in_order is None else in_order()
    if isinstance(found, str | bytes) or not isinstance(found, Sequence):
        raise TypeError(f"{caller}: {name} must be a sequence of texts, such as a list, got {type(values).__name__}")
    for place, value in enumerate(found):
        if not isinstance(value, str):
            raise TypeError(
                f"{caller}: {name} must be texts, got {printable(repr(value))} at {place}; "
                f"list(map(str, {name})) makes them of numbers and paths"
            )
    return found


def array_source(
    images: Any,
    labels: Any,
    *,
    class_names: Sequence[str] | None = None,
    description: dict[str, Any] | None = None,
    names: Sequence[str] | None = None,
    wide: bool = False,
    caller: str = "array_source",
) -> ArraySource:
    """Check arrays and make them a source.

    Parameters
    ----------
    images : array (n, H, W, C) or (n, H, W), uint8
        At least one image; anything that slices like an array, such as np.memmap.
    labels : array (n,), integers
        Labels >= 0, or -1 for an image without one.
    class_names : sequence of str, optional
        One for each label; None: "0", "1", …
    description : dict, optional
        What the index says about the source, in JSON types; None: that it is arrays.
    names : sequence of str, optional
        Where each image came from; None: its number.
    wide : bool
        Whether images may also be uint16, int16, uint32, int32 or float32.
    caller : str
        The function that error messages name.

    Returns
    -------
    ArraySource

    Raises
    ------
    TypeError
        If images are not uint8 or labels are no integers, or either is masked, or names are no texts.
    ValueError
        If shapes do not fit, images look like channels first, or a label has no class name.
    """
    require_flags(caller, wide=wide)
    if not hasattr(images, "dtype"):
        images = np.asarray(images)
    require_unmasked(caller, images, labels)
    labels = np.asarray(labels)
    if wide and images.dtype.name not in DTYPES:
        raise TypeError(f"{caller}: images must be {', '.join(DTYPES)}, got {images.dtype}; convert them")
    if not wide and images.dtype != np.uint8:
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
    class_names = texts_of(caller, "class_names", class_names)
    names = None if names is None else texts_of(caller, "names", names)
    if labels.max() >= len(class_names):
        raise ValueError(f"{caller}: label {labels.max()} has no name among the {len(class_names)} class_names")
    if names is not None and len(names) != len(labels):
        raise ValueError(f"{caller}: names must be one for each of the {len(labels)} images, got {len(names)}")
    return ArraySource(images, labels.astype(np.int64), class_names, description or {"kind": "arrays"}, names)
