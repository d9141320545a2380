"""Patches: the geometry of a convolution, im2col, and cutting a batch into chunks that fit a workspace.

Inside, images are (n, H, W, C) and a dense layer is a convolution of (n, 1, 1, D) images by 1×1 kernels.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend, devices, kernels, parallel, tuning
from hebbcore.engine.backend import Array
from hebbcore.engine.memory import Memory

Pair = tuple[int, int]

_LEAST_BYTES = 4  # of a patch's output: one unit, float32
PADDING_MODES = ("zeros", "reflect", "edge")


class Chunk(NamedTuple):
    """Part of a batch: images first…last-1, and of each the output rows top…bottom-1."""

    first: int
    last: int
    top: int
    bottom: int


@dataclass(frozen=True)
class Geometry:
    """Sizes of a convolution; build it with Geometry.of, which checks them.

    normalized: a rule learns from the patches divided by their norms (those of zeros stay). Outputs are made from the
    patches as they are.
    """

    size: Pair  # height, width of an image
    channels: int
    kernel: Pair
    stride: Pair
    padding: Pair
    padding_mode: str
    normalized: bool = False

    @classmethod
    def of(
        cls, function: str, shape: tuple[int, ...], kernel_size: Any, stride: Any, padding: Any, padding_mode: str
    ) -> "Geometry":
        """Return the geometry for images of shape (n, H, W, C). Raises ValueError or TypeError for impossible sizes."""
        _, height, width, channels = shape
        kernel = checks.pair(function, "kernel_size", kernel_size, 1)
        steps = checks.pair(function, "stride", stride, 1)
        pad = checks.pair(function, "padding", padding, 0)
        checks.choice(function, "padding_mode", padding_mode, PADDING_MODES)
        padded = (height + 2 * pad[0], width + 2 * pad[1])
        if kernel[0] > padded[0] or kernel[1] > padded[1]:
            raise ValueError(
                f"{function}: kernel_size {kernel[0]}×{kernel[1]} is larger than the padded image "
                f"{padded[0]}×{padded[1]}; use a smaller kernel or more padding."
            )
        if padding_mode == "reflect" and (pad[0] >= height or pad[1] >= width):
            raise ValueError(
                f"{function}: reflect padding must be smaller than the image ({height}×{width}), got {pad[0]}×{pad[1]}."
            )
        geometry = cls((height, width), channels, kernel, steps, pad, padding_mode)
        what = f"with padding {pad[0]}×{pad[1]} the {geometry.positions:,} patches of an image have outputs of"
        advice = "use less padding, a larger stride or smaller images"
        devices.require_room(function, "cpu", _LEAST_BYTES * geometry.positions, what, advice)
        return geometry

    @functools.cached_property
    def output(self) -> Pair:
        """Height and width of the output."""
        return (
            (self.size[0] + 2 * self.padding[0] - self.kernel[0]) // self.stride[0] + 1,
            (self.size[1] + 2 * self.padding[1] - self.kernel[1]) // self.stride[1] + 1,
        )

    @functools.cached_property
    def positions(self) -> int:
        """Patches of one image."""
        return self.output[0] * self.output[1]

    @functools.cached_property
    def patch_size(self) -> int:
        """Numbers in a patch."""
        return self.kernel[0] * self.kernel[1] * self.channels

    @functools.cached_property
    def is_reshape(self) -> bool:
        """True if the patch matrix is the images themselves, reshaped."""
        return self.padding == (0, 0) and (
            self.kernel == self.size or (self.kernel == (1, 1) and self.stride == (1, 1))
        )

    def is_of_pixels(self, channels: int) -> bool:
        """Return whether each pixel is a patch, of so many channels."""
        return self.channels == channels and self.kernel == self.stride == (1, 1) and self.padding == (0, 0)

    @property
    def of_patches(self) -> "Geometry":
        """The geometry of patches that stand alone: images, each of which has itself as its one patch."""
        return replace(self, size=self.kernel, stride=(1, 1), padding=(0, 0))

    def rows(self, chunk: Chunk) -> int:
        """Patches of a chunk."""
        return (chunk.last - chunk.first) * (chunk.bottom - chunk.top) * self.output[1]

    def source_rows(self, output_rows: int) -> int:
        """Rows of the padded image that so many output rows need."""
        return (output_rows - 1) * self.stride[0] + self.kernel[0]

    def chunks(self, n: int, most_rows: int, start: int = 0) -> Iterator[Chunk]:
        """Cut n images, those from start on, into chunks of at most max(most_rows, one output row) patches.

        A chunk holds whole images if an image fits, else a band of one image. Sizes are even: no small last chunk.
        """
        oh, ow = self.output
        if self.positions <= most_rows:
            for first, last in parallel.cuts(n, -(-n // (most_rows // self.positions))):
                yield Chunk(start + first, start + last, 0, oh)
        else:
            bands = parallel.cuts(oh, -(-oh // max(1, most_rows // ow)))
            for i in range(start, start + n):
                for top, bottom in bands:
                    yield Chunk(i, i + 1, top, bottom)


class PatchReader:
    """Makes the patch matrix of a chunk in a thread's memory, whose layout must have the parts that `sizes` names."""

    def __init__(self, geometry: Geometry, dtype: Any, memory: Memory) -> None:
        self.geometry, self.dtype, self.memory = geometry, np.dtype(dtype), memory

    def sizes(self, images: Array, chunks: list[Chunk], device: str, copy: bool = False) -> dict[str, int]:
        """Return the bytes of the parts that read needs for these chunks of images, on a device.

        copy: also where the patches could be a view of the images.
        """
        g, item = self.geometry, self.dtype.itemsize
        patches = max(map(g.rows, chunks)) * g.patch_size * item
        if g.is_reshape:
            return {"patches": patches} if copy or images.dtype != self.dtype or not images.flags.c_contiguous else {}
        sizes = {"patches": patches}
        if g.padding != (0, 0) or images.dtype != self.dtype or device == "cuda":
            lines = max((c.last - c.first) * g.source_rows(c.bottom - c.top) for c in chunks)
            sizes["padded"] = lines * (g.size[1] + 2 * g.padding[1]) * g.channels * item
        return sizes

    def read(self, images: Array, chunk: Chunk, out: Array | None = None) -> Array:
        """Return the chunk's patches (rows, D), in out if given; without out perhaps a view of the images."""
        g = self.geometry
        part = images[chunk.first : chunk.last]
        rows = g.rows(chunk)
        if g.is_reshape:
            if g.kernel == (1, 1):
                part = part[:, chunk.top : chunk.bottom]
            if out is None and part.dtype == self.dtype and part.flags.c_contiguous:
                return part.reshape(rows, g.patch_size)
            out = self.memory.part("patches", (rows, g.patch_size), self.dtype) if out is None else out
            convert(part, out.reshape(part.shape))
            return out
        out = self.memory.part("patches", (rows, g.patch_size), self.dtype) if out is None else out
        kernels.for_array(images).gather(self._padded(part, chunk.top, chunk.bottom), g.kernel, g.stride, out)
        return out

    def _padded(self, part: Array, top: int, bottom: int) -> Array:
        """Return the padded image rows that output rows top…bottom-1 need, in the reader's dtype."""
        g = self.geometry
        (height, width), (ph, pw) = g.size, g.padding
        start = top * g.stride[0] - ph  # in rows of the image; negative: in the padding
        count = g.source_rows(bottom - top)
        if g.padding == (0, 0):
            band = part[:, start : start + count]
            if part.dtype == self.dtype and (not backend.on_cuda(part) or band.flags.c_contiguous):
                return band
        padded = self.memory.part("padded", (len(part), count, width + 2 * pw, g.channels), self.dtype)
        inside = padded[:, :, pw : pw + width]
        if g.padding_mode == "zeros" and (ph or pw):
            padded[...] = 0
        low, high = max(0, start), min(height, start + count)
        if low < high:  # else the band lies in the padding
            convert(part[:, low:high], inside[:, low - start : high - start])
        if g.padding_mode != "zeros":
            rows = _inside(np.arange(start, start + count), height, g.padding_mode)
            for target, source in enumerate(rows.tolist()):
                if source != start + target:
                    convert(part[:, source], inside[:, target])
            border = np.concatenate([np.arange(-pw, 0), np.arange(width, width + pw)])
            for j, source in zip(border.tolist(), _inside(border, width, g.padding_mode).tolist(), strict=True):
                padded[:, :, pw + j] = inside[:, :, source]
        return padded


def patches_at(images: Array, g: Geometry, places: Array, dtype: np.dtype[Any]) -> Array:
    """Return the patches (m, D) at some places of a batch (n, H, W, C); places: numbers of im2col's rows, on the host.

    They are gathered one by one, without the batch's patch matrix, as a rule learns from them (g.normalized).
    """
    xp, (oh, ow) = backend.namespace(images), g.output
    out = xp.empty((len(places), g.kernel[0] * g.kernel[1], g.channels), dtype)
    lines, inside = [], np.ones((len(places), *g.kernel), bool)
    for axis, starts in enumerate((places // ow % oh, places % ow)):
        line = (starts * g.stride[axis] - g.padding[axis])[:, None] + np.arange(g.kernel[axis])
        size = g.size[axis]
        if g.padding_mode != "zeros":
            line = _inside(line, size, g.padding_mode)
        within = (line >= 0) & (line < size)
        inside &= within[:, :, None] if axis == 0 else within[:, None, :]
        lines.append(np.clip(line, 0, size - 1))
    pixels = (places[:, None, None] // (oh * ow) * g.size[0] + lines[0][:, :, None]) * g.size[1] + lines[1][:, None, :]
    device = backend.device_of(images)
    where = devices.to_device(pixels.reshape(out.shape[:2]), device)
    convert(images.reshape(-1, g.channels)[where], out)
    if not inside.all():
        out *= devices.to_device(inside.reshape(*out.shape[:2], 1).astype(dtype), device)
    rows = out.reshape(len(places), g.patch_size)
    if g.normalized:
        norms = xp.empty(len(rows), dtype)
        kernels.for_array(rows).norms(rows, norms)
        rows /= norms[:, None]
    return rows


def _inside(places: Any, size: int, padding_mode: str) -> Any:
    """Return the rows (or columns) of an image of so many that stand at some places, also beyond it."""
    if padding_mode == "edge":
        return np.clip(places, 0, size - 1)
    return np.abs(np.where(places >= size, 2 * (size - 1) - places, places))


def convert(images: Array, out: Array) -> None:
    """out ← images, uint8 divided by 255."""
    if images.dtype == np.uint8:
        backend.namespace(out).divide(images, out.dtype.type(255), out=out)
    else:
        out[...] = images


def float_dtype(function: str, name: str, array: Array) -> np.dtype[Any]:
    """Return float64 for float64 images, float32 for float32, float16 and uint8; TypeError for others."""
    if array.dtype == np.float64:
        return np.dtype(np.float64)
    if array.dtype in (np.float32, np.float16, np.uint8):
        return np.dtype(np.float32)
    problem = (
        f"must be uint8 (read as 0…1), float16, float32 or float64, got {array.dtype}; convert them, and scale them as "
        "you mean it."
    )
    raise checks.wrong(TypeError, function, name, problem)


def as_images(function: str, name: str, value: Any) -> Array:
    """Return images (n, H, W, C), or vectors (n, D) as (n, 1, 1, D). Raises for other ranks, dtypes and empty data."""
    array = backend.as_array(function, name, value)
    if array.ndim not in (2, 4):
        hint = (
            " Stack images into one array; a single image is images[None], and images without channels are "
            "images[..., None]."
        )
        problem = (
            f"must be (n, height, width, channels) or (n, features), got shape {array.shape}.{hint * (array.ndim == 3)}"
        )
        raise checks.wrong(ValueError, function, name, problem)
    float_dtype(function, name, array)
    if array.size == 0:
        raise checks.wrong(ValueError, function, name, f"must not be empty, got shape {array.shape}.")
    return array.reshape(len(array), 1, 1, -1) if array.ndim == 2 else array


def im2col(images: Any, kernel_size: Any, stride: Any = 1, padding: Any = 0, padding_mode: str = "zeros") -> Array:
    """Return every patch of the images as a row.

    Parameters
    ----------
    images : array-like
        (n, H, W, C), uint8 (read as 0…1) or floating; NumPy, CuPy or convertible.
    kernel_size : int or (int, int)
        (height, width), in pixels.
    stride : int or (int, int)
        (height, width), in pixels.
    padding : int or (int, int)
        Above and below, left and right, in pixels.
    padding_mode : str
        "zeros", "reflect" or "edge"; without padding it has no effect.

    Returns
    -------
    Array
        (n · out height · out width, kernel height · kernel width · C) on the device of the images, float64 for float64
        images, else float32. Rows run over images, then output rows, then output columns.

    Raises
    ------
    ValueError, TypeError
        For wrong ranks, dtypes and sizes.
    """
    array = backend.as_array("im2col", "images", images)
    if array.ndim != 4:
        raise ValueError(f"im2col: images must be (n, height, width, channels), got shape {array.shape}.")
    checks.channels_last("im2col", "images", array.shape)
    array = as_images("im2col", "images", array)
    geometry = Geometry.of("im2col", array.shape, kernel_size, stride, padding, padding_mode)
    reader = PatchReader(geometry, float_dtype("im2col", "images", array), Memory())
    out = backend.namespace(array).empty((len(array) * geometry.positions, geometry.patch_size), reader.dtype)
    chunks = list(geometry.chunks(len(array), tuning.MEASURED.im2col_patches))
    device = backend.device_of(array)
    reader.memory.lay_out(device, reader.sizes(array, chunks, device) | {"patches": 0})  # they go straight to out
    done = 0
    for chunk in chunks:
        rows = geometry.rows(chunk)
        reader.read(array, chunk, out[done : done + rows])
        done += rows
    return out
