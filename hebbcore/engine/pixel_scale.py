"""On which scale the numbers of images are: uint8 is read as 0…1, other numbers as they are."""

import math
import warnings
from typing import Any, NamedTuple

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend
from hebbcore.engine.backend import Array

UNLIKE = 50.0  # by which the largest numbers of two sets of images differ only if one is of 0…255 and the other of 0…1


def largest_as_read(images: Array) -> float:
    """Return the largest magnitude in images as networks read them: uint8 is 0…1."""
    if images.dtype == np.uint8:
        return float(images.max()) / 255
    if images.dtype.kind != "f":  # whose minus may be no number of theirs
        return float(max(int(images.max()), -int(images.min())))
    return float(backend.largest_magnitude(images))


class PixelScale(NamedTuple):
    """The scale of images that something learned from, so that it is not given others without a word.

    Attributes
    ----------
    dtype : str
        The name of their dtype.
    large : bool
        Whether they hold more than images of 0…1 do: integers other than uint8, or floating numbers above 50.
    white : int or None
        Which value is white in the 16-bit images that they were read from; None: there were none, or it is not known.
    unit : bool or None
        Whether floating numbers are of 0…1; None: they are not floating, or it is not known, as of black images and
        others that hold 0 and 1 alone: those of 0…255 may begin so.
    """

    dtype: str
    large: bool
    white: int | None = None
    unit: bool | None = None

    @classmethod
    def of(cls, images: Array) -> "PixelScale":
        """Return the scale of images."""
        if images.dtype.kind != "f":
            return cls(images.dtype.name, images.dtype.kind in "iu" and images.dtype != np.uint8)
        largest = largest_as_read(images)
        unit: bool | None = largest <= 1 and bool(images.min() >= 0)
        if unit and not any(bool((piece % 1).any()) for piece in backend.pieces(images)):
            unit = None
        return cls(images.dtype.name, UNLIKE < largest < math.inf, unit=unit)

    def beside(self, other: "PixelScale") -> "PixelScale":
        """Return the scale of these images together with others that are learned from too."""
        if "float" not in self.dtype:
            return self
        known = {self.unit, other.unit} - {None}
        return self._replace(large=self.large or other.large, unit=all(known) if known else None)

    def after(self, function: str, images: Array, largest: float) -> "PixelScale":
        """Return the scale of these images together with a batch whose largest magnitude is known.

        Raises ValueError if one is uint8 and the other is not of 0…1. Warns as tell_unlike.
        """
        if images.dtype == np.uint8:
            require_bytes(self, function, "data")
        elif self.dtype == "uint8" and UNLIKE < largest < math.inf:
            raise _unlike(self, function, "data", images.dtype.name)
        if images.dtype.kind != "f" or (largest <= 1 and self.unit is not None and not self.large):
            return self
        batch = PixelScale.of(images) if largest <= 1 else PixelScale("", largest > UNLIKE, unit=False)
        self.tell_unlike(function, batch)
        return self.beside(batch)

    def tell_unlike(self, function: str, other: "PixelScale") -> None:
        """Warn if one of two sets that are learned from is of 0…1 and the other goes beyond 50.

        It is no error: images of 0…255 may be as dark.
        """
        if (self.unit and other.large) or (self.large and other.unit):
            warnings.warn(
                f"{function}: of the data some are floating numbers of 0…1 and others go up to 255 or so. All are read "
                "as they are, so that the former count as black; give one scale, unless they are as dark as that.",
                stacklevel=3,
            )

    @classmethod
    def from_table(cls, function: str, table: Any) -> "PixelScale | None":
        """Return what JSON made of a scale, None for None. Raises ValueError or TypeError for anything else."""
        if table is None:
            return None
        dtype, large, white, *unit = table
        if white is not None:
            checks.integer(function, "pixel_scale", white, 1)
        large, *unit = (checks.boolean(function, "pixel_scale", value) for value in (large, *unit))
        return cls(np.dtype(dtype).name, large, white, *unit)

    def table(self) -> list[Any]:
        """Return what from_table takes, as JSON types; as earlier versions wrote it, where they knew as much."""
        return list(self[:3]) if self.unit is None else list(self)


def require_scale(scale: PixelScale | None, function: str, name: str, images: Array) -> None:
    """Check that images are not of another scale than those learned from, where one of both is of 0…1.

    Parameters
    ----------
    scale : PixelScale or None
        Of what was learned from; None: not known.
    function, name : str
        Who asks, and how it calls the images, for the message.
    images : Array
        They are looked through only if they are not uint8 and those learned from were of 0…1.

    Raises
    ------
    ValueError
        If one is uint8, and the other holds more than images of 0…1 do; and if those learned from were floating numbers
        of 0…1, and these are beyond 50.
    """
    if scale is None:
        return
    if images.dtype == np.uint8:
        require_bytes(scale, function, name)
    elif (scale.dtype == "uint8" and PixelScale.of(images).large) or (
        scale.unit and UNLIKE < largest_as_read(images) < math.inf
    ):
        raise _unlike(scale, function, name, images.dtype.name)


def require_bytes(scale: PixelScale | None, function: str, name: str) -> None:
    """Raise ValueError if what was learned from holds more than images of 0…1 do, which uint8 is read as."""
    if scale is not None and scale.large:
        raise _unlike(scale, function, name, "uint8")


def _unlike(scale: PixelScale, function: str, name: str, dtype: str) -> Exception:
    here, there = (" up to 255 or so" * ("float" in which) for which in (dtype, scale.dtype))
    there = " of 0…1" if scale.unit else there
    problem = (
        f"must have the scale of what was learned from, {scale.dtype}{there}, got {dtype}{here}. uint8 is read as 0…1 "
        f"and other numbers as they are: give {scale.dtype}, or numbers of that scale."
    )
    return checks.wrong(ValueError, function, name, problem)
