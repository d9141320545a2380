"""From a source item to a record: read, decode, shrink, encode. Runs in worker processes."""

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from loaders.images.decode import check_png, decode, encode_jpeg, encode_png, is_jpeg_or_png
from loaders.images.formats import NOT_AN_IMAGE, format_of, looks_like_an_image
from loaders.images.native import MAGIC, native
from loaders.images.transforms import Box, CenterCrop, ShortestSide, cropped
from loaders.shards.format import PixelSums, record_crc
from loaders.shards.write import Record
from loaders.sources.arrays import ArraySource
from loaders.sources.base import Item

BLOCK_BYTES = 2**20
MAX_JPEG = 65500  # pixels of a side that libjpeg writes


@dataclass(frozen=True)
class Options:
    """How images are stored; see build_shards."""

    size: int | None
    raw: bool
    quality: int
    value_range: int | None = None
    pixels: tuple[tuple[int, int, int], str] | None = None  # shape and dtype of raw images that stay as they are


def encode_items(items: Sequence[Item], options: Options) -> tuple[list[Record], int]:
    """The records of some items, and the position of the last one."""
    return [encode_item(item, options) for item in items], items[-1].position


def encode_item(item: Item, options: Options) -> Record:
    """Never raises for what is wrong with one image; an unreadable disk or network is an OSError."""
    if item.problem is not None:
        return Record(item.name, item.label, reason=item.problem)
    try:
        meant = looks_like_an_image(item.name)
        head = b"" if meant else item.head()
        if not meant and format_of(head) is None and not (options.pixels and head.startswith(MAGIC)):
            return Record(item.name, item.label, reason=NOT_AN_IMAGE)
        source = item.read()
        check_png(source)
        if options.pixels is None:
            data, image = _store(source, options)
            sums = pixel_sums(image)
        else:
            data, sums = _keep(source, *options.pixels)
    except (ValueError, FileNotFoundError, PermissionError) as error:
        if isinstance(error, OSError) and item.in_archive:  # the archive itself is gone, not one image
            raise
        reason = getattr(error, "strerror", None) or str(error)
        return Record(item.name, item.label, reason=reason, damaged=True)
    crc = record_crc(data, item.label)
    return Record(item.name, item.label, data, crc, sums, source_crc32=zlib.crc32(source))


def _store(data: bytes, options: Options) -> tuple[bytes, Image.Image]:
    """The bytes to store and the pixels they show. Every image is decoded, so a damaged one is found now."""
    if options.raw:
        assert options.size is not None
        image = decode(data, cropped(CenterCrop(options.size), np.zeros(1)), options.value_range)
        return image.tobytes(), image
    shrunk = False

    def frame(width: int, height: int) -> tuple[Box, tuple[int, int]] | None:
        nonlocal shrunk
        plan = ShortestSide(options.size).frame(width, height) if options.size else None
        shrunk = plan is not None
        return plan

    image = decode(data, frame, options.value_range)
    if shrunk and max(image.size) <= MAX_JPEG:
        return encode_jpeg(image, options.quality), image
    if shrunk:
        return encode_png(image), image
    return data if is_jpeg_or_png(data) else encode_png(image), image


def _keep(data: bytes, shape: tuple[int, int, int], dtype: str) -> tuple[bytes, PixelSums]:
    """The pixels of an image as they are, if they are like those of the others."""
    image = native(data)
    if (image.shape, image.dtype.name) != (shape, dtype):
        raise ValueError(
            f"its pixels are {image.shape} {image.dtype}, those of the first image {shape} {dtype}; give size to bring "
            "images to one size in 8 bits, or build it apart"
        )
    return image.tobytes(), array_sums(image)


def array_sums(image: npt.NDArray[Any]) -> PixelSums:
    """The sums of an image (H, W, C): exact ones of uint8, otherwise by float64."""
    pixels: npt.NDArray[Any] = image.reshape(-1, image.shape[-1]).astype(_sum_type(image.dtype))
    return PixelSums(len(pixels), tuple(pixels.sum(axis=0).tolist()), tuple((pixels * pixels).sum(axis=0).tolist()))


def _sum_type(dtype: np.dtype[Any]) -> type:
    return np.int64 if dtype == np.uint8 else np.float64


def pixel_sums(image: Image.Image) -> PixelSums:
    histogram = np.array(image.histogram(), np.int64).reshape(-1, 256)
    level = np.arange(256)
    return PixelSums(
        image.width * image.height, tuple((histogram @ level).tolist()), tuple((histogram @ level**2).tolist())
    )


def array_records(source: ArraySource, start: int) -> Iterator[tuple[list[Record], int]]:
    """The records of an array source from image `start` on, a block at a time, with the position after it."""
    dtype = np.dtype(source.dtype).newbyteorder("<")
    record_bytes = math.prod(source.shape) * dtype.itemsize
    block = max(1, BLOCK_BYTES // record_bytes)
    channels = source.shape[2]
    for first in range(start, source.total, block):
        stop = min(first + block, source.total)
        pixels = np.ascontiguousarray(source.images[first:stop], dtype).reshape(stop - first, -1, channels)
        wide: npt.NDArray[Any] = pixels.astype(_sum_type(dtype))
        totals, squares = wide.sum(axis=1), (wide * wide).sum(axis=1)
        records = []
        for i, image in enumerate(pixels):
            data, label = image.tobytes(), int(source.labels[first + i])
            name = source.names[first + i] if source.names is not None else f"{first + i:07d}"
            sums = PixelSums(len(image), tuple(totals[i].tolist()), tuple(squares[i].tolist()))
            if dtype.kind == "f" and not np.isfinite(image).all():
                records.append(Record(name, label, reason="NaN or infinity among its pixels", damaged=True))
            else:
                records.append(Record(name, label, data, record_crc(data, label), sums))
        yield records, stop
