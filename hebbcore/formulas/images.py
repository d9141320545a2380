"""Images as users have them, and the maps that formulas take and give."""

from collections.abc import Sequence
from typing import Any

from hebbcore import checks
from hebbcore.engine.patches import Geometry
from hebbcore.engine.pixel_scale import require_bytes
from hebbcore.formulas import Formula
from hebbcore.formulas.operations import Operations, Value
from hebbcore.layers import HebbianLayer

CHANNELS = ("last", "first")


def require_channels(formula: Formula, channels: str) -> None:
    """Raise ValueError unless images, which a formula takes, can have their channels there."""
    checks.choice(formula.function, "channels", channels, CHANNELS)
    if channels == "first" and len(formula.input_shape) == 1:
        raise ValueError(f'{formula.function}: channels="first" has no effect: the model takes vectors; leave it out.')


def require_images(
    formula: Formula, shape: Sequence[int], dtype: Any, whole_numbers: bool, floating: bool, channels: str
) -> None:
    """Check what a user gives the function or module of a formula: a formula for other images makes other numbers.

    shape, dtype: of the images. whole_numbers, floating: whether they are uint8, or floating. channels: see as_maps.
    Raises ValueError or TypeError.
    """
    sides: tuple[int | str, ...] = formula.input_shape  # type: ignore[assignment]
    if len(sides) == 3:
        names = ("height", "width", "channels")
        sides = tuple(name if side is None else side for side, name in zip(sides, names, strict=True))
        sides = sides if channels == "last" else (sides[2], *sides[:2])
    given = tuple(shape)[1:]
    fits = len(given) == len(sides) and all(isinstance(s, str) or s == g for s, g in zip(sides, given, strict=True))
    if not fits:
        problem = f"must be (n, {', '.join(map(str, sides))}), as the model was made for, got shape {tuple(shape)}."
        raise checks.wrong(ValueError, formula.function, "images", problem)
    model = formula.model
    if isinstance(model, HebbianLayer) and len(given) == 3:
        last = given if channels == "last" else (*given[1:], given[0])
        kernel = model.weights.shape[1:3]
        Geometry.of(formula.function, (0, *last), kernel, model.stride, model.padding, model.padding_mode)
    if not (whole_numbers or floating):
        problem = f"must be uint8 (read as 0…1) or floating, got {dtype}; convert them, and scale them as you mean it."
        raise checks.wrong(TypeError, formula.function, "images", problem)
    if whole_numbers:
        require_bytes(model.pixel_scale, formula.function, "images")


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
