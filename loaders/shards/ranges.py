"""The range of 16-bit images: which value of them is white."""

from collections.abc import Iterable

from loaders.images.decode import highest_value
from loaders.images.formats import format_of
from loaders.images.wide import FULL
from loaders.sources.base import ImageSource, Item, sample_of

IMAGES = 64
BITS = (8, 10, 12, 14, 16)


def found_range(source: ImageSource) -> int | None:
    """The range of a source's 16-bit grey images, from the largest value in a sample of them; None if it has none."""
    highest = _highest(sample_of(source, IMAGES))
    return next((2**bits - 1 for bits in BITS if highest < 2**bits), highest) if highest else None


def _highest(items: Iterable[Item]) -> int:
    """Return the largest value; one of 32 bits counts only where no image has 16: those would be black beside it."""
    highest, beyond = 0, 0
    for item in items:
        if item.problem is None:
            try:
                head = item.head()
                # a PNG says how many bits it has, and whether it is grey, before anything else
                if format_of(head) in ("TIFF", "PPM") or (format_of(head) == "PNG" and head[24:26] == b"\x10\0"):
                    value = highest_value(item.read())
                    highest, beyond = (max(highest, value), beyond) if value <= FULL else (highest, max(beyond, value))
            except (OSError, ValueError):  # the build will report it
                continue
    return highest or beyond
