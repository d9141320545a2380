"""The pixels of an image as they are, with any number of channels, of 8, 16 or 32 bits: of TIFF, NumPy's and others."""

import io
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.images.decode import MAX_PIXELS, is_thumbnail, open_image
from loaders.images.formats import format_of
from loaders.images.wide import FULL, bits_of_avif, bits_of_jpeg2000, has_wide_colour, stated_white
from loaders.shards.format import DTYPES

MAGIC = b"\x93NUMPY"
MAX_BYTES = 2**30
ITS_OWN = ("L", "LA", "RGB", "RGBA", "I", "I;16", "I;16B", "I;16L", "F")  # modes of Pillow that are pixels as stored

Pixels = npt.NDArray[Any]


def native(data: bytes) -> Pixels:
    """The pixels (H, W, C) of one encoded image, or of a NumPy file of (H, W) or (H, W, C), little-endian.

    In a TIFF of several pages each page is a channel. Raises ValueError with the reason if there are none such.
    """
    try:
        if data.startswith(MAGIC):
            image = npy_array(data)
        elif format_of(data[:32]) == "TIFF":
            image = tiff_image(data)
        else:
            image = _others(data)
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # decoders meet damage with all kinds of exceptions
        raise ValueError(str(error) or type(error).__name__) from error
    return checked(image[..., None] if image.ndim == 2 else image)


def checked(image: Pixels) -> Pixels:
    """An image in one piece and little-endian. Raises ValueError if it is none, or of other numbers."""
    if image.ndim != 3 or not image.size:
        raise ValueError(f"an image must be (H, W) or (H, W, C), got {image.shape}")
    if image.dtype.name not in DTYPES:
        raise ValueError(f"pixels must be {', '.join(DTYPES)}, got {image.dtype}")
    if image.dtype == np.float32 and not np.isfinite(image).all():
        raise ValueError("pixels must be numbers, got NaN or infinity")
    return np.ascontiguousarray(image, image.dtype.newbyteorder("<"))


def npy_array(data: bytes) -> Pixels:
    """The array of a NumPy file. Raises ValueError if the file ends before it does, or holds objects."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read(stream)
    count = math.prod(shape)
    if dtype.hasobject or count < 0 or count * dtype.itemsize > len(data) - stream.tell():
        raise ValueError(f"the file must hold {shape} of {dtype}, it is cut short or holds objects")
    array = np.frombuffer(data, dtype, count, stream.tell())
    return array.reshape(shape[::-1]).T if by_columns else array.reshape(shape)


def import_tifffile() -> Any:
    """tifffile. Raises ImportError with advice if it is not installed."""
    try:
        import tifffile
    except ImportError:
        raise ImportError("TIFF files as they are need tifffile; pip install 'hebbcore[tiff]' installs it") from None
    return tifffile


def tiff_image(data: bytes) -> Pixels:
    """The pixels (H, W) or (H, W, C) of a TIFF, which has one image in one or several channels."""
    with import_tifffile().TiffFile(io.BytesIO(data), _multifile=False) as file:
        every = _without_thumbnails(list(file.series))  # tifffile's writer begins one at each call
        first, size = every[0], sum(series.nbytes for series in every)
        if size > MAX_BYTES:
            raise ValueError(f"it has {size} bytes, more than the {MAX_BYTES} allowed")
        if any(page is None for series in every for page in series):
            raise ValueError("some of its pages are in other files, or not there")
        for other in every[1:]:
            if (other.shape, other.dtype) != (first.shape, first.dtype):
                raise ValueError(
                    f"its pages are of several kinds, {first.shape} {first.dtype} and {other.shape} {other.dtype}"
                )
        parts = [series.asarray() for series in every]
        array: Pixels = np.stack(parts) if len(parts) > 1 else parts[0][None]
        axes = f"Q{first.axes}"
    kept = [at for at, length in enumerate(array.shape) if length > 1 or axes[at] in "YX"]
    array, axes = array.reshape([array.shape[at] for at in kept]), "".join(axes[at] for at in kept)
    if len(axes) > 3 or not {"Y", "X"} <= set(axes):
        raise ValueError(
            f"it holds {array.shape} along the axes {axes}, not one image; give the file itself as a stack"
        )
    order = [at for at, axis in enumerate(axes) if axis not in "YX"]
    return array.transpose([axes.index("Y"), axes.index("X"), *order])


def _without_thumbnails(every: list[Any]) -> list[Any]:
    """The series of a TIFF, without those that show the first image once more."""
    pages = [series.keyframe for series in every]
    sizes = [(page.imagewidth, page.imagelength) for page in pages]
    again = [is_thumbnail(size, sizes[0], page.subfiletype) for size, page in zip(sizes, pages, strict=True)]
    return [every[0], *(series for series, shown in zip(every[1:], again[1:], strict=True) if not shown)]


def _others(data: bytes) -> Pixels:
    image = open_image(data)
    bits = bits_of_jpeg2000(data) if image.format == "JPEG2000" else []
    deepest = bits_of_avif(data) if image.format == "AVIF" else max([*bits, 16 if has_wide_colour(image) else 8])
    if deepest > 8 and not image.mode.startswith("I"):
        raise ValueError(f"{deepest}-bit colour is read as 8 bits from this format; save it as TIFF")
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels are more than the {MAX_PIXELS} allowed")
    if image.format == "PPM" and image.mode == "I":  # 16 bits, which Pillow scales to 65535, as 32
        white = stated_white(image) or FULL
        return np.rint(np.asarray(image) * (white / FULL)).astype(np.uint16)
    if image.format == "JPEG2000" and image.mode == "I;16":  # as above
        if bits[0] > 16:
            raise ValueError(f"{bits[0]} bits are read as 16 from this format; save it as TIFF")
        return np.asarray(image) >> (16 - bits[0])
    return np.asarray(image if image.mode in ITS_OWN else image.convert("RGB"))
