"""What part of an image is taken and how large it gets: the transforms of streams, and of builds."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.checks import require_flags

Floats = npt.NDArray[np.float64]
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels
Frame = Callable[[int, int], tuple[Box, tuple[int, int]] | None]  # from width and height to a box and its new size


@dataclass(frozen=True)
class ShortestSide:
    """Shrink so that the shorter side has `size` pixels; a smaller image is left alone."""

    size: int

    def __post_init__(self) -> None:
        _check_size("ShortestSide", self.size)

    def frame(self, width: int, height: int) -> tuple[Box, tuple[int, int]] | None:
        """Return the whole image and the size that it gets; None if it is small enough."""
        short = min(width, height)
        if short <= self.size:
            return None
        scaled = round(width * self.size / short), round(height * self.size / short)
        return (0, 0, width, height), scaled


@dataclass(frozen=True)
class CenterCrop:
    """Resize the shorter side, then cut the central size × size pixels.

    Parameters
    ----------
    size : int
        Pixels of a side of the result.
    resize : int, optional
        Pixels that the shorter side gets before the cut, at least `size`; None: `size`.
    flip : bool
        Mirror every second image, at random, left to right.

    Raises
    ------
    ValueError
        If size or resize is no integer of at least 1, resize is smaller, or flip is neither true nor false.
    """

    size: int
    resize: int | None = None
    flip: bool = False

    draws = 1

    def __post_init__(self) -> None:
        _check_size("CenterCrop", self.size)
        require_flags("CenterCrop", flip=self.flip)
        if self.resize is not None:
            _check_size("CenterCrop", self.resize, "resize")
            if self.resize < self.size:
                raise ValueError(f"CenterCrop: resize must be at least size ({self.size}), got {self.resize}")

    def box(self, width: int, height: int, uniforms: Floats) -> Box:
        """Return which part of an image is cut.

        Parameters
        ----------
        width, height : int
            Pixels of the image.
        uniforms : array (draws,)
            Random numbers in [0, 1).

        Returns
        -------
        (left, top, right, bottom) : float
            In pixels of the image.
        """
        side = min(width, height) * self.size / (self.resize or self.size)
        left, top = (width - side) / 2, (height - side) / 2
        return left, top, left + side, top + side


@dataclass(frozen=True)
class RandomResizedCrop:
    """Cut a random part of the image and resize it to size × size.

    The part's area is uniform, and the logarithm of its width / height too; after ten draws that do not fit, it is the
    largest central part whose ratio is allowed.

    Parameters
    ----------
    size : int
        Pixels of a side of the result.
    scale : (float, float)
        Smallest and largest part of the image's area, 0 < smallest <= largest <= 1.
    ratio : (float, float)
        Smallest and largest width / height.
    flip : bool
        Mirror every second image, at random, left to right.

    Raises
    ------
    ValueError
        If size, scale or ratio are outside these bounds.

    References
    ----------
    Szegedy et al. 2015, "Going deeper with convolutions" (Inception).
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True

    attempts = 10
    draws = 1 + 2 * attempts + 2

    def __post_init__(self) -> None:
        _check_size("RandomResizedCrop", self.size)
        require_flags("RandomResizedCrop", flip=self.flip)
        if not _is_range(self.scale) or self.scale[1] > 1:
            raise ValueError(
                "RandomResizedCrop: scale must be (smallest, largest) with 0 < smallest <= largest <= 1, got "
                f"{self.scale!r}"
            )
        if not _is_range(self.ratio):
            raise ValueError(
                f"RandomResizedCrop: ratio must be (smallest, largest) with 0 < smallest <= largest, got {self.ratio!r}"
            )

    def box(self, width: int, height: int, uniforms: Floats) -> Box:
        """Return which part of an image is cut.

        Parameters
        ----------
        width, height : int
            Pixels of the image.
        uniforms : array (draws,)
            Random numbers in [0, 1).

        Returns
        -------
        (left, top, right, bottom) : float
            In pixels of the image.
        """
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for attempt in range(self.attempts):
            u, v = uniforms[1 + 2 * attempt : 3 + 2 * attempt]
            area = width * height * (self.scale[0] + u * (self.scale[1] - self.scale[0]))
            ratio = math.exp(low + v * (high - low))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                left = math.floor(uniforms[-2] * (width - w + 1))
                top = math.floor(uniforms[-1] * (height - h + 1))
                return left, top, left + w, top + h
        # no attempt fitted: the largest central part whose ratio is allowed
        w, h = min(width, round(height * self.ratio[1])), min(height, round(width / self.ratio[0]))
        left, top = (width - w) // 2, (height - h) // 2
        return left, top, left + w, top + h


Transform = CenterCrop | RandomResizedCrop


def draws_at_random(transform: Transform | None) -> bool:
    """Whether a seed and the epoch decide what a transform makes of an image."""
    return transform is not None and (transform.flip or isinstance(transform, RandomResizedCrop))


def _is_range(values: Any) -> bool:
    """Whether it is two finite numbers above 0, of which the first is not the larger."""
    try:
        low, high = values
        return bool(0 < low <= high < math.inf)
    except (TypeError, ValueError):
        return False


def _check_size(name: str, size: int, argument: str = "size") -> None:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"{name}: {argument} must be an integer of at least 1 pixel, got {size!r}")


def cropped(transform: Transform, uniforms: Floats) -> Frame:
    """The frame that a stream's transform gives for one record's random numbers."""
    return lambda width, height: (transform.box(width, height, uniforms), (transform.size, transform.size))


def uniforms(seed: int, epoch: int, records: npt.NDArray[np.int64], draws: int) -> Floats:
    """(n, draws) uniform numbers in [0, 1) that depend on seed, epoch and record only, not on who asks when.

    SplitMix64 (Steele et al. 2014), read at position record * draws + k of the stream of (seed, epoch).
    """
    start = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0]
    position = records.astype(np.uint64)[:, None] * np.uint64(draws) + np.arange(1, draws + 1, dtype=np.uint64)
    z = start + position * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.asarray((z >> np.uint64(11)) * 2.0**-53, dtype=np.float64)
