"""Images of 16 bits, which often hold 10, 12 or 14: what value of theirs is white."""

from typing import Any

import numpy as np
from PIL import Image

FULL = 65535  # white, in 16 bits
_BITS, _PLANES = 258, 284  # tags of TIFF: bits of each colour; 2: each has a plane of its own
_MEANING, _ZERO_IS_WHITE = 262, 0  # a tag of TIFF, and a value of it
_JPEG2000 = b"\xff\x4f\xff\x51"  # how what is coded begins, in the file or in a box of it
_AV1 = b"av1C"  # of the box that tells how an AVIF is coded
UNCLEAR = 2**14  # an image of 16 bits that stays below this may well hold fewer


def says_its_range(image: Image.Image) -> bool:
    """Whether Pillow has scaled the values to 16 bits already, from a range that the file states."""
    return image.format == "JPEG2000" or (stated_white(image) or FULL) < FULL


def stated_white(image: Image.Image) -> int | None:
    """The value that a PPM, not loaded yet, says is white, where Pillow scales its values; None for all others."""
    stated = next((tile[3] for tile in _tiles(image)), None) if image.format == "PPM" else None
    return stated[1] if isinstance(stated, tuple) and isinstance(stated[1], int) else None


def bits_of_jpeg2000(data: bytes) -> list[int]:
    """Bits of each colour by the header of a JPEG 2000 file, whose values Pillow scales to 8 or 16; [] of others."""
    at = data.find(_JPEG2000) + 40  # where the number of colours is, and 3 bytes for each
    if at < 40 or len(data) < at + 2:
        return []
    count = int.from_bytes(data[at : at + 2])
    return [(bits & 127) + 1 for bits in data[at + 2 : at + 2 + 3 * count : 3]]


def bits_of_avif(data: bytes) -> int:
    """Bits of each colour by the header of an AVIF file, which Pillow reads as 8."""
    at = data.find(_AV1) + 6  # where a bit says that they are more than 8, and another that they are 12
    coded = data[at] if 6 <= at < len(data) else 0
    return (12 if coded & 32 else 10) if coded & 64 else 8


def has_wide_colour(image: Image.Image) -> bool:
    """Whether an image that is not loaded yet is stored as 16 bits a colour."""
    wide = any(";16" in str(tile[3]) for tile in _tiles(image)) or (stated_white(image) or 0) > 255
    return wide and image.format != "JPEG"


def check_planes(image: Image.Image) -> None:
    """Raise ValueError for 16-bit colours that lie plane after plane in a TIFF: Pillow takes their bytes for values."""
    tags = getattr(image, "tag_v2", {})
    bits, apart = tags.get(_BITS, (8,)), tags.get(_PLANES, 1) == 2
    if apart and max(bits) > 8 and any(tile[0] == "raw" for tile in _tiles(image)):
        raise ValueError(
            "16-bit colour in a plane for each colour is not read from TIFF; save it with one plane for all"
        )


def has_32_bits(image: Image.Image) -> bool:
    """Whether an image is a TIFF of 32 bits a pixel."""
    return bool(max(getattr(image, "tag_v2", {}).get(_BITS, (8,))) > 16)


def _tiles(image: Image.Image) -> list[Any]:
    """How the pixels are stored, as long as they are not loaded."""
    return list(getattr(image, "tile", []))


def narrowed(image: Image.Image, value_range: int | None) -> Image.Image:
    """8-bit RGB of 16-bit grey, whose value_range becomes white, or black in a TIFF that says so.

    The transparent value that a PNG may name becomes white too.
    """
    wide = np.asarray(image).astype(np.int64)
    clear = wide == image.info.get("transparency", -1)
    lowest, highest = int(wide.min()), int(wide.max())
    if value_range is None and 0 < highest < UNCLEAR:
        raise ValueError(
            f"16-bit values up to {highest}, and no other image tells their range; give it, such as shards build "
            "--range 4095"
        )
    if lowest < 0 or highest > (value_range or FULL):
        raise ValueError(
            f"16-bit values from {lowest} to {highest}, but the range is 0 to {value_range or FULL}; give a larger one "
            "with shards build --range"
        )
    if getattr(image, "tag_v2", {}).get(_MEANING) == _ZERO_IS_WHITE:  # which Pillow heeds in 8 bits alone
        wide = (value_range or FULL) - wide
    grey = wide * 256 // ((value_range or FULL) + 1)
    grey[clear] = 255
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def narrow_transparency(image: Image.Image) -> None:
    """Let the colour that is transparent in a PNG of 16-bit colour have 8 bits, as Pillow's pixels have."""
    clear = image.info.get("transparency")
    if isinstance(clear, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in clear)


def check_colour(image: Image.Image, value_range: int | None) -> None:
    """Pillow keeps the upper 8 of 16 bits of colours: nearly nothing of a smaller range. Transparency tells nothing."""
    colours = (image.getchannel(band) for band in image.getbands() if band != "A")
    highest = max(int(colour.getextrema()[1]) for colour in colours)  # type: ignore[arg-type]
    if value_range not in (None, FULL) or (value_range is None and 0 < highest < UNCLEAR >> 8):
        raise ValueError(
            f"16-bit colour with values below {(highest + 1) << 8} is read as if 65535 were white; convert it to 8 "
            "bits, or give shards build --range 65535 if that is right"
        )
