"""What images that stay as they are have in common: the shape and the numbers of the first that can be read."""

from loaders.images.native import native
from loaders.sources.base import ImageSource
from loaders.text import printable


def found_pixels(source: ImageSource) -> tuple[tuple[int, int, int], str]:
    """(H, W, C) and dtype of a source's first image. Raises ValueError, with a reason, if it has none."""
    reason = "it has no file"
    for item in source.items():
        if item.problem is None:
            try:
                image = native(item.read())
            except (OSError, ValueError) as error:  # the build will report it
                reason = f"{printable(item.name)}: {printable(error)}"
                continue
            height, width, channels = image.shape
            return (height, width, channels), image.dtype.name
    raise ValueError(f"build_shards: the source has no image whose pixels can be kept as they are; the last, {reason}")
