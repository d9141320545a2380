"""Images as users have them, and the maps that formulas take and give."""

from hebbcore.formulas import Formula
from hebbcore.formulas.operations import Operations, Value

CHANNELS = ("last", "first")


def as_maps(ops: Operations, images: Value, formula: Formula, channels: str, whole_numbers: bool) -> Value:
    """Return images (n, height, width, channels), or first the channels, as floating maps; vectors stay vectors.

    whole_numbers: they are uint8, read as 0…1.
    """
    if len(formula.input_shape) == 3 and channels == "last":
        images = ops.transpose(images, (0, 3, 1, 2))
    return ops.floating(images) / 255.0 if whole_numbers else images


def as_images(ops: Operations, maps: Value, formula: Formula, channels: str) -> Value:
    """Return what a formula gives, its channels last or first."""
    return ops.transpose(maps, (0, 2, 3, 1)) if len(formula.shape) == 3 and channels == "last" else maps
