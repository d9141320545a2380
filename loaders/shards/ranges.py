"""The range of 16-bit images: which value of them is white."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from loaders.images.decode import highest_value
from loaders.images.formats import format_of
from loaders.images.wide import FULL
from loaders.sources.base import ImageSource, Item, sample_of

IMAGES = 64
BITS = (8, 10, 12, 14, 16)


class Sampled(NamedTuple):
    """What a sample says of images of 16 bits: which value is white, None if there are none, and what to tell."""

    white: int | None
    remarks: tuple[str, ...] = ()


def found_range(source: ImageSource) -> int | None:
    """The range of a source's 16-bit grey images, from the largest value in a sample of them; None if it has none."""
    return sampled_range(source).white


def sampled_range(source: ImageSource) -> Sampled:
    """Return the range as found_range does, with what to tell.

    An image of 32 bits beyond those of 16 counts only where no image has 16: those would be black beside it. One that
    would be black itself is told.
    """
    values = list(_values(sample_of(source, IMAGES)))
    highest = max((value for value, _ in values if value <= FULL), default=0) or max(values, default=(0, False))[0]
    if not highest:
        return Sampled(None)
    white = next((2**bits - 1 for bits in BITS if highest < 2**bits), highest)
    told = f"16-bit images: {white} is white, by a sample of them; value_range (shards build --range) sets it"
    black = [value for value, is_of_32 in values if is_of_32 and 0 < value <= white >> 8]
    if not black or all(is_of_32 for value, is_of_32 in values if value):
        return Sampled(white, (told,))
    return Sampled(
        white,
        (
            told,
            f"{len(black)} images of 32 bits in a sample have values up to {max(black)}, and become black beside those "
            "of 16 bits; convert them to 8 bits if 255 is white in them",
        ),
    )


def _values(items: Iterable[Item]) -> Iterator[tuple[int, bool]]:
    """Yield what highest_value tells of images."""
    for item in items:
        if item.problem is None:
            try:
                head = item.head()
                # a PNG says how many bits it has, and whether it is grey, before anything else
                if format_of(head) in ("TIFF", "PPM") or (format_of(head) == "PNG" and head[24:26] == b"\x10\0"):
                    yield highest_value(item.read())
            except MemoryError:
                raise
            except Exception:  # decoders meet damage with all kinds of exceptions; the build will report it
                continue
