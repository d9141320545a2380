"""Pictures of a stream's images, picked by their numbers, as data that a page holds itself."""

import base64
import io
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from hebbcore import streams
from hebbcore.pairs import images_of

if TYPE_CHECKING:
    from PIL import Image

_LARGEST = 96  # side of a picture, in pixels


def pictures_of(stream: Any, wanted: Iterable[int]) -> dict[int, str]:
    """Return {number: "data:image/…"} of some images of a stream that gives them in order; reads their batches alone.

    stream: of images (H, W, C), with batch_size; its position is left at the start. See picture_of for what is shown.
    """
    return {number: _as_data(image) for number, image in images_at(stream, wanted)}


def images_at(stream: Any, wanted: Iterable[int]) -> Iterator[tuple[int, Any]]:
    """Yield (number, image) of some images of a stream, in their order; see pictures_of for the stream."""
    by_batch: dict[int, list[int]] = {}
    for number in sorted(set(wanted)):
        by_batch.setdefault(number // stream.batch_size, []).append(number)
    start = streams.at(stream.state(), 0, 0)
    for batch, numbers in by_batch.items():
        stream.restore(streams.at(start, 0, batch))
        images = images_of(next(iter(stream)))
        yield from ((number, images[number % stream.batch_size]) for number in numbers)
    stream.restore(start)


def picture_of(image: Any) -> "Image.Image":
    """Return a picture of an image (H, W, C): grey of one or two channels, RGB of the first three of more.

    Numbers other than uint8 have no white that is known: they are shown from the smallest of the image to its largest.
    """
    from PIL import Image

    shown = image[:, :, :3] if image.shape[2] >= 3 else image[:, :, 0]
    if shown.dtype != np.uint8:
        above = shown.astype(np.float64) - shown.min()
        shown = (above * (255 / (above.max() or 1))).astype(np.uint8)
    return Image.fromarray(shown)


def _as_data(image: Any) -> str:
    """Return an image as an address that holds it: a PNG, or a JPEG of larger ones."""
    picture = picture_of(image)
    large = max(picture.size) > _LARGEST
    picture.thumbnail((_LARGEST, _LARGEST))
    file = io.BytesIO()
    picture.save(file, "JPEG" if large else "PNG")
    return f"data:image/{'jpeg' if large else 'png'};base64,{base64.b64encode(file.getvalue()).decode()}"
