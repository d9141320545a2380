"""Stacks: many images of one shape in one TIFF or NumPy file, with any number of channels, of 8, 16 or 32 bits."""

import math
import os
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from loaders.images.native import MAGIC, MAX_BYTES, import_tifffile
from loaders.shards.format import UNLABELLED, Ints
from loaders.sources.arrays import ArraySource, array_source
from loaders.text import printable

TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
LABELS = "_labels.npy"  # beside the stack, after the stem of its name

Shape = tuple[int, int, int, int, int]


def is_stack(path: Path) -> bool:
    """Whether a file begins as TIFF or NumPy's files do."""
    with open(path, "rb") as file:
        head = file.read(6)
    return head == MAGIC or head[:4] in TIFFS


def open_stack(path: str | os.PathLike[str]) -> ArraySource:
    """Images of a TIFF or of a NumPy file, as they are; they are read as they are needed.

    A NumPy file holds images (n, H, W) or (n, H, W, C). In a TIFF the axes S and C are channels, and those before the
    image are counted as images, and so are series, as of a file that was written image by image. Labels are in
    `<stem>_labels.npy` beside it, (n,) whole numbers, if that is there. TIFF needs tifffile (extra `tiff`).

    Parameters
    ----------
    path : str or path
        The file. A compressed TIFF is read page by page.

    Returns
    -------
    ArraySource
        Images (n, H, W, C) uint8, uint16, int16, uint32, int32 or float32.

    Raises
    ------
    ImportError
        If tifffile is needed and not installed.
    TypeError
        If the images are of other numbers, such as float64.
    ValueError
        If the file is damaged, or does not hold images in this order, or the labels are not as many.
    """
    path, shown = Path(path), printable(path)
    with open(path, "rb") as file:
        is_npy = file.read(len(MAGIC)) == MAGIC
    try:
        images = _mapped(path) if is_npy else _tiff(path)
    except (OSError, ImportError):
        raise
    except Exception as error:  # tifffile meets damage with all kinds of exceptions
        raise ValueError(f"open_stack: {shown} cannot be read as a stack of images: {printable(error)}") from error
    channels, *sides = images.shape[1:] if len(images.shape) == 4 else (0, 0, 0)
    if 0 < channels <= 64 and sides[0] == sides[1] > 32 and channels != sides[0]:
        raise ValueError(
            f"open_stack: {shown} holds {images.shape}, which looks like channels first; save "
            "np.moveaxis(images, 1, -1)"
        )
    beside = path.with_name(path.stem + LABELS)
    labels: Ints = np.full(images.shape[0], UNLABELLED)
    if beside.is_file():
        labels = _mapped(beside)
    return array_source(
        images,
        labels,
        description={"kind": "stack", "name": path.name},
        wide=True,
        caller=f"open_stack: {shown}",
    )


def _mapped(path: Path) -> Any:
    """A NumPy file, mapped into memory."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{printable(path)} is damaged or cut short: {printable(error)}") from error


def _tiff(path: Path) -> Any:
    """What slices like an array (n, H, W, C) of a TIFF's images."""
    with ExitStack() as opened:
        file = opened.enter_context(import_tifffile().TiffFile(path, _multifile=False))
        images = _images_of(file, path)
        if isinstance(images, _Pages):
            weakref.finalize(images, opened.pop_all().close)
    return images


def _images_of(file: Any, path: Path) -> Any:
    every = list(file.series)  # tifffile's writer begins one at each call
    found = [_shape_of(series) for series in every]
    kinds = {f"{shape[1:]} {series.dtype}": None for shape, series in zip(found, every, strict=True)}
    if len(kinds) > 1:
        raise ValueError(
            f"it holds images of several kinds, (C, H, W, S) {' and '.join(list(kinds)[:2])}; save those of one kind "
            "in a file of their own"
        )
    series, full = every[0], (sum(shape[0] for shape in found), *found[0][1:])
    if len(every) > 1:
        return _Pages([page for series in every for page in series.pages], series.dtype, full)
    channels = full[1]
    if series.dataoffset is not None:
        size = path.stat().st_size
        if series.dataoffset + math.prod(full) * series.dtype.itemsize > size:
            raise ValueError(f"it claims {full} of {series.dtype}, more than its {size} bytes")
        dtype = np.dtype(file.byteorder + series.dtype.char)
        stored: Any = np.memmap(path, dtype, "r", series.dataoffset, full)
        return stored[:, 0] if channels == 1 else stored[..., 0].transpose(0, 2, 3, 1)
    return _Pages(series.pages, series.dtype, full)


def _shape_of(series: Any) -> Shape:
    """(count, channels, H, W, samples) of the images of a series; channels lie in planes, samples in pixels."""
    shape, axes = series.shape, series.axes
    before, after = axes.split("YX") if axes.count("YX") == 1 else ("", "?")
    if "C" in before[:-1] or "S" in before[:-1] or after not in ("", "S", "C"):
        raise ValueError(f"its axes are {axes}, but channels must be next to YX, as in TCYX or TYXS")
    count = math.prod(shape[: len(before) - before.endswith(("C", "S"))])
    channels = shape[len(before) - 1] if before.endswith(("C", "S")) else 1
    height, width = shape[len(before) : len(before) + 2]
    samples = shape[-1] if after else 1
    if channels > 1 and samples > 1:
        raise ValueError(f"its axes are {axes}, with channels before and after the image")
    return count, channels, height, width, samples


class _Pages:
    """Images of a TIFF that are read page by page, as when they are compressed. The file stays open."""

    def __init__(self, pages: Sequence[Any], dtype: np.dtype[Any], full: Shape) -> None:
        count, channels, height, width, samples = full
        self.shape, self.dtype = (count, height, width, channels * samples), dtype
        if math.prod(self.shape[1:]) * self.dtype.itemsize > MAX_BYTES:
            raise ValueError(f"an image of it claims {self.shape[1:]} of {self.dtype}, more than {MAX_BYTES} bytes")
        self._pages = pages
        self._each = len(self._pages) // max(1, count)
        if self._each * count != len(self._pages) or self._each not in (1, channels):
            raise ValueError(f"its {len(self._pages)} pages are not those of {count} images")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return np.stack([self._image(number) for number in range(*key.indices(len(self)))])
        return self._image(int(key))

    def _image(self, number: int) -> Any:
        try:
            parts = [self._pages[self._each * number + at].asarray() for at in range(self._each)]
        except Exception as error:  # as above
            raise ValueError(f"image {number} of a TIFF cannot be read: {printable(error)}") from error
        image = np.stack(parts, -1) if self._each > 1 else parts[0]
        if image.shape == (self.shape[3], *self.shape[1:3]) and image.shape != self.shape[1:]:
            image = np.moveaxis(image, 0, -1)
        return image.reshape(self.shape[1:])
