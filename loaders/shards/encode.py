"""From a source item to a record: read, decode, shrink, encode. Runs in worker processes."""

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from loaders.images.decode import decode, encode_jpeg, encode_png, is_jpeg_or_png
from loaders.images.formats import NOT_AN_IMAGE, format_of, looks_like_an_image
from loaders.images.transforms import Box, CenterCrop, ShortestSide, cropped
from loaders.shards.format import PixelSums, record_crc
from loaders.shards.write import Record
from loaders.sources.arrays import ArraySource
from loaders.sources.base import Item

BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class Options:
    """How images are stored; see build_shards."""

    size: int | None
    raw: bool
    quality: int
    value_range: int | None = None


def encode_items(items: Sequence[Item], options: Options) -> tuple[list[Record], int]:
    """The records of some items, and the position of the last one."""
    return [encode_item(item, options) for item in items], items[-1].position


def encode_item(item: Item, options: Options) -> Record:
    """Never raises for what is wrong with one image; an unreadable disk or network is an OSError."""
    if item.problem is not None:
        return Record(item.name, item.label, reason=item.problem)
    try:
        meant = looks_like_an_image(item.name)
        if not meant and format_of(item.head()) is None:
            return Record(item.name, item.label, reason=NOT_AN_IMAGE)
        source = item.read()
        data, image = _store(source, options)
    except (ValueError, FileNotFoundError, PermissionError) as error:
        if isinstance(error, OSError) and item.in_archive:  # the archive itself is gone, not one image
            raise
        reason = getattr(error, "strerror", None) or str(error)
        return Record(item.name, item.label, reason=reason, damaged=True)
    crc = record_crc(data, item.label)
    return Record(item.name, item.label, data, crc, pixel_sums(image), source_crc32=zlib.crc32(source))


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
    if shrunk:
        return encode_jpeg(image, options.quality), image
    return data if is_jpeg_or_png(data) else encode_png(image), image


def pixel_sums(image: Image.Image) -> PixelSums:
    histogram = np.array(image.histogram(), np.int64).reshape(-1, 256)
    level = np.arange(256)
    return PixelSums(
        image.width * image.height, tuple((histogram @ level).tolist()), tuple((histogram @ level**2).tolist())
    )


def array_records(source: ArraySource, start: int) -> Iterator[tuple[list[Record], int]]:
    """The records of an array source from image `start` on, a block at a time, with the position after it."""
    record_bytes = math.prod(source.shape)
    block = max(1, BLOCK_BYTES // record_bytes)
    channels = source.shape[2]
    for first in range(start, source.total, block):
        stop = min(first + block, source.total)
        pixels = np.ascontiguousarray(source.images[first:stop]).reshape(stop - first, -1, channels)
        wide = pixels.astype(np.int64)
        totals, squares = wide.sum(axis=1), (wide * wide).sum(axis=1)
        records = []
        for i, image in enumerate(pixels):
            data, label = image.tobytes(), int(source.labels[first + i])
            sums = PixelSums(len(image), tuple(totals[i].tolist()), tuple(squares[i].tolist()))
            name = source.names[first + i] if source.names is not None else f"{first + i:07d}"
            records.append(Record(name, label, data, record_crc(data, label), sums))
        yield records, stop
