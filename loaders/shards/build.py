"""Build a set of shards from a source. A build can be killed at any moment and run again to the same bytes."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from loaders.checks import require_callback, require_flags
from loaders.files import locked, make_folder
from loaders.shards.changes import AsBefore, as_before
from loaders.shards.encode import Options
from loaders.shards.format import REPORT, Layout
from loaders.shards.index import Index, read_index
from loaders.shards.job import Job, Progress, run
from loaders.shards.parts import PartOf, checked_part, folder_of, join, whole_of
from loaders.shards.pixels import found_pixels
from loaders.shards.plan import plan_of
from loaders.shards.ranges import Sampled, sampled_range
from loaders.sources.arrays import ArraySource, array_source
from loaders.sources.base import ImageSource, Source
from loaders.sources.class_folders import split_named
from loaders.sources.folder import ImageFolder
from loaders.sources.hugging_face import is_dataset
from loaders.sources.image_files import ImageFiles
from loaders.sources.open import open_source
from loaders.text import printable
from loaders.workers import available_cores

SHARD_BYTES = 256 * 2**20
QUALITY = 90

log = logging.getLogger(__name__)


def build_shards(
    source: Source | Any,
    folder: str | os.PathLike[str],
    *,
    size: int | None = None,
    layout: Layout = "packed",
    quality: int | None = None,
    shard_bytes: int = SHARD_BYTES,
    workers: int | None = None,
    strict: bool = False,
    value_range: int | None = None,
    stats_from: str | os.PathLike[str] | None = None,
    part: tuple[int, int] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Index:
    """Write every image of a source into shards and return the index of the set.

    An interrupted build is finished by the same call, with the same bytes as an uninterrupted one; a finished one
    returns at once. Images that cannot be decoded are listed with their reasons in report.json.

    Parameters
    ----------
    source : source, str, path or datasets.Dataset
        A source, or what open_source understands.
    folder : str or path
        Where the shards go; it is made if it is not there.
    size : int, optional
        In pixels. Packed: larger images are shrunk until their shorter side has this length and stored as JPEG of
        `quality` (as PNG if a side has more than 65,500 pixels); None keeps every JPEG and PNG file byte for byte. Raw:
        the side of the central square that is cut out; None keeps pixels as they are, with their channels and bits
        (uint8, uint16, int16, uint32, int32 or float32), those of TIFF and NumPy files too; images of another shape or
        type than the first are reported. Array sources are always raw and keep their size.
    layout : str
        "packed": encoded images of any size; "raw": pixels, all of one size.
    quality : int, optional
        Quality of the JPEGs that are written after a resize, 1 to 100; None: 90.
    shard_bytes : int
        Image bytes that a shard holds at most (one larger image still gets its own shard).
    workers : int, optional
        Processes that decode. None: one for each core; 1: none, everything happens in this process. With more, a
        script that calls this must do so under `if __name__ == "__main__":`.
    strict : bool
        Stop at the first image that cannot be decoded, instead of skipping and reporting it.
    value_range : int, optional
        The value that is white in 16-bit grey images, such as 4095 if they hold 12 bits; an image with larger values
        is reported like a damaged one. None: it is found in a sample of the source, rounded up to 8, 10, 12, 14 or 16
        bits, and noted in the index's settings as `range`.
    stats_from : str or path, optional
        Folder of the training set, whose mean and std a test set should carry, and its range, unless value_range is
        given; None: those of the source.
    part : (number, count), optional
        Build one of so many parts of the set, from 1, in a folder of its own inside of folder: for jobs side by side. A
        last call without part joins all of them, which moves their shards. What a part or the joined set holds does not
        depend on the order of the jobs; its shards are cut otherwise than those of one build.
    progress : callable, optional
        Called with a Progress now and then.

    Returns
    -------
    Index
        Of the set, or of the part; with part, of the set if all of it is there.

    Raises
    ------
    TypeError
        If source is neither a source nor a path.
    ValueError
        For bad arguments, a folder that holds another set or, with part, a build without parts, an image that cannot
        be decoded under strict, or no image at all.
    OSError
        If the target cannot be written, or holds a report.json of something else.
    RuntimeError
        If a worker process was killed.
    """
    require_flags("build_shards", strict=strict)
    require_callback("build_shards", "progress", progress)
    if isinstance(source, (str, os.PathLike)) or is_dataset(source):
        source = open_source(source)
    elif not isinstance(source, (ArraySource, ImageSource)):
        raise TypeError(
            f"build_shards: source must be a path or a source, got {type(source).__name__}; arrays go to write_shards"
        )
    _check(source, size, layout, quality, shard_bytes, workers, value_range)
    if isinstance(source, ImageFolder | ImageFiles) and Path(folder).resolve().is_relative_to(source.root.resolve()):
        raise ValueError(
            f"build_shards: shards must lie outside of the images' folder, which they would change, got "
            f"{printable(folder)}, in {printable(source.root)}"
        )
    if part is None:
        source = as_before(source, Path(folder))
    if isinstance(source, AsBefore):
        source.tell_left_out()
    shape: tuple[int, int, int] | None = None
    dtype, pixels, found = "uint8", None, Sampled(None)
    if isinstance(source, ArraySource):
        shape, dtype = source.shape, source.dtype
    elif layout == "raw" and size is None:
        shape, dtype = pixels = found_pixels(source)
    else:
        shape = (size, size, 3) if size is not None and layout == "raw" else None
        found = sampled_range(source) if value_range is None else found
    stats = _stats(stats_from, shape[2] if shape else 3)
    if value_range is not None and (dtype == "float32" or (pixels is not None and dtype == "uint8")):
        raise ValueError(
            f"build_shards: value_range (--range) is for 16 and 32 bits; the images are {dtype}, leave it out"
        )
    if value_range is None and stats is not None and (found.white is not None or dtype not in ("uint8", "float32")):
        value_range = stats.settings.get("range")
        found = Sampled(None) if value_range is not None else found
    value_range = found.white if value_range is None else value_range
    options = Options(size, layout == "raw", quality or QUALITY, value_range, pixels)
    settings: dict[str, Any] = {
        "layout": "packed" if shape is None else "raw",
        "size": size,
        "quality": options.quality if size is not None and shape is None else None,
        "shard_bytes": shard_bytes,
        "stats_from": stats.identity if stats else None,
        "range": options.value_range,
    }
    if dtype != "uint8":
        settings["dtype"] = dtype
    if pixels is not None:
        settings["pixels"] = list(pixels[0])
    target = Path(folder)
    if part is not None:
        some = checked_part(source, part)
        if (whole := whole_of(target, plan_of(source, settings))) is not None:
            return _counted(whole, target, strict)
        source, target = some, folder_of(target, part)
    job = Job(source, target, shape, options, workers or available_cores(), shard_bytes, strict, progress, dtype)
    make_folder(job.folder)
    with locked(job.folder):
        plan = plan_of(source, settings)
        if part is None:
            join(job.folder, plan, source)
        index = run(job, plan, stats, found.remarks)
    _warn_of_classes(source, index)
    return _counted(index, job.folder, strict)


def _counted(index: Index, folder: Path, strict: bool) -> Index:
    """Return an index. Raises ValueError if images were left out and strict does not allow it."""
    if strict and index.skipped:
        raise ValueError(
            f"build_shards: {index.skipped} images could not be decoded, see {folder / REPORT}; repair or remove "
            "them, or build without strict"
        )
    return index


def write_shards(
    data: tuple[Any, Any],
    folder: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    shard_bytes: int = SHARD_BYTES,
    stats_from: str | os.PathLike[str] | None = None,
    wide: bool = False,
) -> Index:
    """Write arrays as raw shards and return the index of the set.

    Parameters
    ----------
    data : (images, labels)
        Images (n, H, W, C) or (n, H, W) uint8; labels (n,) integers >= 0, -1 for an image without one. Images may be
        anything that slices like an array, such as np.memmap; they are read a block at a time.
    folder : str or path
        Where the shards go; it is made if it is not there.
    class_names : sequence of str, optional
        One for each label; None: "0", "1", …
    shard_bytes : int
        Image bytes that a shard holds at most.
    stats_from : str or path, optional
        Folder of the training set, whose mean and std a test set should carry; None: those of the images.
    wide : bool
        Whether images may also be uint16, int16, uint32, int32 or float32, which are stored as they are.

    Returns
    -------
    Index
        Of the set.

    Raises
    ------
    TypeError
        For other dtypes, masked arrays, or data that is no pair.
    ValueError
        For other shapes, labels without a name, or a folder that holds another set.
    OSError
        If the target cannot be written, or holds a report.json of something else.
    """
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise TypeError(f"write_shards: data must be (images, labels), got {type(data).__name__}")
    images, labels = data
    source = array_source(images, labels, class_names=class_names, wide=wide, caller="write_shards")
    return build_shards(source, folder, shard_bytes=shard_bytes, stats_from=stats_from)


def _check(
    source: Source,
    size: int | None,
    layout: str,
    quality: int | None,
    shard_bytes: int,
    workers: int | None,
    value_range: int | None,
) -> None:
    if layout not in ("packed", "raw"):
        raise ValueError(f'build_shards: layout must be "packed" or "raw", got {layout!r}')
    for name, value, least in [
        ("size", size, 1),
        ("quality", quality, 1),
        ("shard_bytes", shard_bytes, 1),
        ("workers", workers, 1),
        ("value_range", value_range, 255),
    ]:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise ValueError(f"build_shards: {name} must be an integer >= {least}, got {value!r}")
    if quality is not None and quality > 100:
        raise ValueError(f"build_shards: quality must be between 1 and 100, got {quality}")
    if isinstance(source, ArraySource):
        if size is not None:
            raise ValueError("build_shards: arrays keep their own size; leave size out, and resize in the stream")
        if value_range is not None and source.dtype == "uint8":
            raise ValueError(
                "build_shards: value_range (--range) is for files of images; arrays are uint8 already, leave it out"
            )
        if workers is not None and workers > 1:
            raise ValueError(f"build_shards: arrays need no decoding; leave workers out, got {workers}")
    if quality is not None and (size is None or layout == "raw"):
        raise ValueError(
            f"build_shards: quality is for JPEGs written after a resize, and nothing is resized into one here; give "
            f'size with layout "packed", or leave quality out (got {quality})'
        )


def _stats(folder: str | os.PathLike[str] | None, channels: int) -> Index | None:
    """The index of the set whose mean and std are taken."""
    if folder is None:
        return None
    index = read_index(folder)
    if len(index.mean) != channels:
        raise ValueError(f"build_shards: stats_from must have {channels} channels, got {len(index.mean)}")
    return index


def _warn_of_classes(source: Source, index: Index) -> None:
    """Log what is odd about how images are spread over the classes of files."""
    if not isinstance(source, ImageSource) or isinstance(source, PartOf):
        return
    counts = dict(zip(index.class_names, index.class_counts, strict=True))
    filled, bare = [name for name in counts if counts[name]], [name for name in counts if not counts[name]]
    if filled and bare:
        log.warning(
            "%d of %d classes have no image, and stay classes: %s",
            len(bare),
            len(counts),
            ", ".join(map(printable, bare[:5])) + ", …" * (len(bare) > 5),
        )
    if len(filled) == 1 and sum(index.class_counts) == index.records:
        hint = "which is called like a split; " if split_named(filled[0]) else ""
        log.warning(
            "all images are of one class, %s; %sif that is wrong, give the folder that holds the classes",
            printable(filled[0]),
            hint,
        )
