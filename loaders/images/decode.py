"""Decode, turn upright, convert to RGB, cut and resize: encoded bytes in, RGB images out."""

import io
import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from loaders.images.formats import format_of
from loaders.images.transforms import Box, Frame
from loaders.images.wide import (
    FULL,
    check_colour,
    check_planes,
    has_32_bits,
    has_wide_colour,
    narrow_transparency,
    narrowed,
    says_its_range,
)

MAX_PIXELS = 100_000_000  # the largest ImageNet photograph has 62 million; an RGB copy of this takes 300 MB

_SUBFILE = 254  # tag of TIFF: its lowest bit marks a page that shows another one in fewer pixels
_PNG = b"\x89PNG\r\n\x1a\n"  # how such files begin
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data: bytes | memoryview, frame: Frame | None = None, value_range: int | None = FULL) -> Image.Image:
    """Decode one encoded image to upright RGB.

    data: a JPEG, PNG, BMP, GIF, WebP, TIFF, PPM, JPEG 2000 or AVIF file. Transparent parts are shown on white, and of
    an animation the first image. A TIFF of several pages is refused, but for thumbnails.
    frame: from the upright width and height, the box to cut and the (width, height) to resize it to, or None to
    keep the image whole. A JPEG that shrinks by 2 or more is decoded at a reduced size.
    value_range: the value that is white in 16-bit grey; None: unknown, which does where 14 bits do not suffice.

    Raises ValueError with the reason if the image cannot be decoded, or has values beyond its range.
    """
    try:
        image = open_image(data)
        if image.format == "TIFF":
            _require_one_page(image)
        turn = _UPRIGHT.get(_orientation(image.info.get("exif") or _late_exif(data)))
        sideways = turn is not None and _swaps_sides(turn)
        width, height = image.size[::-1] if sideways else image.size
        plan = frame(width, height) if frame else None
        if plan is not None and isinstance(image, JpegImageFile):
            box, target = plan
            shrink = min((box[2] - box[0]) / target[0], (box[3] - box[1]) / target[1])
            if shrink >= 2:
                image.draft(None, (math.ceil(image.width / shrink), math.ceil(image.height / shrink)))
        rgb = _to_rgb(image, value_range)
        if turn is not None:
            rgb = rgb.transpose(turn)
        return rgb if plan is None else resize_box(rgb, plan[0], plan[1], rgb.width / width, rgb.height / height)
    except MemoryError:
        raise
    except UnidentifiedImageError as error:  # its own message has an address in memory, different each time
        what = "not an image, or damaged at its start"
        if format_of(bytes(data[:32])) == "TIFF":
            what = "a TIFF of other pixels than photos have, or damaged; shards build --raw keeps such pixels"
        raise ValueError(f"cannot identify the format: {what}") from error
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from error


def resize_box(
    image: Image.Image, box: Box, target: tuple[int, int], scale_x: float = 1.0, scale_y: float = 1.0
) -> Image.Image:
    """Cut box and resize it to target (width, height) with an antialiased bilinear filter.

    box is in pixels of an image that was 1 / scale as large as this one.
    """
    left, upper = max(0.0, box[0] * scale_x), max(0.0, box[1] * scale_y)
    right, lower = min(float(image.width), box[2] * scale_x), min(float(image.height), box[3] * scale_y)
    if (left, upper, right, lower) == (0, 0, *target) and image.size == target:
        return image
    return image.resize(target, Image.Resampling.BILINEAR, (left, upper, right, lower), reducing_gap=3.0)


def encode_jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def encode_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def is_jpeg_or_png(data: bytes) -> bool:
    return data.startswith((b"\xff\xd8\xff", b"\x89PNG"))


def open_image(data: bytes | memoryview) -> Image.Image:
    """The image's header. JPEG and PNG are opened by their own class, the common case at half the cost."""
    if not len(data):
        raise ValueError("the file is empty")
    form, stream = format_of(bytes(data[:32])), io.BytesIO(data)
    image: Image.Image
    if form is None:
        raise ValueError("cannot identify the format: not an image, or damaged at its start")
    if form == "JPEG":
        image = _Jpeg(stream)
    elif form == "PNG":
        image = PngImageFile(stream)
    else:
        try:
            image = Image.open(stream, formats=[form])
        except KeyError as error:
            raise ValueError(f"Pillow as it is installed cannot read {form} files; convert them to PNG") from error
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels are more than the {MAX_PIXELS} allowed")
    return image


def _require_one_page(image: Image.Image) -> None:
    """Raise ValueError if a TIFF has more pages than a photo and its thumbnails."""
    pages, size = getattr(image, "n_frames", 1), image.size
    for page in range(1, pages):
        image.seek(page)
        if not is_thumbnail(image.size, size, getattr(image, "tag_v2", {}).get(_SUBFILE, 0)):
            raise ValueError(
                f"a TIFF of {pages} pages, where one photo is expected; shards build --raw makes each a channel"
            )
    if pages > 1:
        image.seek(0)


def is_thumbnail(size: tuple[int, int], photo: tuple[int, int], kind: int) -> bool:
    """Whether a page of a TIFF shows its first one once more: it says so, or has half its sides at most."""
    return bool(kind & 1) or (2 * size[0] <= photo[0] and 2 * size[1] <= photo[1])


def highest_value(data: bytes) -> tuple[int, bool]:
    """The largest value of a grey image of 16 or more bits, 0 for every other one, and whether it has 32 bits.

    Images whose files say their range do not count.
    """
    image = open_image(data)
    if not image.mode.startswith("I") or says_its_range(image):
        return 0, False
    return int(np.asarray(image).max()), has_32_bits(image)


def check_png(data: bytes) -> None:
    """Raise ValueError if the pixels of a PNG do not have their checksum, which Pillow does not compare.

    Most damage to them unpacks to other pixels without an error.
    """
    for kind, content, checksum in _png_chunks(data):
        if kind == b"IDAT" and len(checksum) == 4:  # where the file ends before, the decoder says so
            expected, found = int.from_bytes(checksum), zlib.crc32(content, zlib.crc32(kind))
            if found != expected:
                raise ValueError(f"damaged: the CRC-32 of its pixels must be {expected:08x}, got {found:08x}")


def _png_chunks(data: bytes | memoryview) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """Kind, content and checksum of each chunk of a PNG; none of other files."""
    view, at = memoryview(data), len(_PNG)
    if view[:at] != _PNG:
        return
    while at + 8 <= len(view):
        size, kind = struct.unpack_from(">I4s", view, at)
        yield kind, view[at + 8 : at + 8 + size], view[at + 8 + size : at + 12 + size]
        at += 12 + size


def _late_exif(data: bytes | memoryview) -> bytes:
    """The EXIF block of a PNG, which may stand behind its pixels, where Pillow has not looked yet; b"" without one."""
    return next((bytes(content) for kind, content, _ in _png_chunks(data) if kind == b"eXIf"), b"")


def _orientation(exif: bytes) -> int:
    """The orientation in an EXIF block, 1 (upright) if it has none or is damaged.

    Pillow's own reader warns about damaged blocks, from whatever thread meets one.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    try:
        if order is None:
            return 1
        (first,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, first)
        for entry in range(first + 2, first + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if (tag, kind) == (0x0112, 3):
                return int(value)
    except struct.error:
        pass
    return 1


class _Jpeg(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Nobody asks for the resolution, and damaged EXIF would be warned about."""


def _swaps_sides(turn: Image.Transpose) -> bool:
    return turn in (
        Image.Transpose.TRANSPOSE,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
        Image.Transpose.ROTATE_270,
    )


def _to_rgb(image: Image.Image, value_range: int | None) -> Image.Image:
    if says_its_range(image):
        value_range = FULL
    check_planes(image)
    wide_colour = has_wide_colour(image)
    image.load()
    if image.mode == "F":
        raise ValueError(
            "floating-point pixels have no defined range; convert it to 8 bits, or keep them (shards build --raw)"
        )
    if image.mode.startswith("I"):  # 16-bit grey: Pillow would clip at 255 instead of scaling
        return narrowed(image, value_range)
    if wide_colour:
        check_colour(image, value_range)
        narrow_transparency(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        opaque = image.convert("RGBA")
        background = Image.new("RGBA", opaque.size, "white")
        background.alpha_composite(opaque)
        return background.convert("RGB")
    return image.convert("RGB")
