"""Build a set of shards from a source. A build can be killed at any moment and run again to the same bytes."""

import logging
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from loaders.files import locked, make_folder, write_text
from loaders.shards.changes import check_unchanged
from loaders.shards.encode import Options, array_records, encode_items
from loaders.shards.figures import Figures, labels_fault
from loaders.shards.format import INDEX, REPORT, VERSION, Layout, identity_of, read_table, shard_name
from loaders.shards.index import Index, ShardEntry, read_index
from loaders.shards.plan import PLAN, finished, start
from loaders.shards.ranges import found_range
from loaders.shards.write import Record, ShardWriter
from loaders.sources.arrays import ArraySource, array_source
from loaders.sources.base import ImageSource, Source, remarks_of
from loaders.sources.layout import split_named
from loaders.sources.open import open_source
from loaders.text import printable
from loaders.workers import available_cores, map_ordered

SHARD_BYTES = 256 * 2**20
QUALITY = 90
CHUNK = 16

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """Where a build is: images written and skipped so far, and the position in the source of its total."""

    written: int
    skipped: int
    position: int
    total: int
    unit: str


def build_shards(
    source: Source | str | os.PathLike[str],
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
    progress: Callable[[Progress], None] | None = None,
) -> Index:
    """Write every image of a source into shards and return the index of the set.

    source: a source, or a path that open_source understands.
    size: pixels. Packed: larger images are shrunk until their shorter side has this length and stored as JPEG of
    `quality` (None: 90); None keeps every JPEG and PNG file byte for byte. Raw: the central size × size crop,
    required. Array sources are always raw and keep their size.
    value_range: the value that is white in 16-bit grey images, such as 4095 if they hold 12 bits; None: found in a
    sample of the source, rounded up to 8, 10, 12, 14 or 16 bits, and noted in the index's settings as `range`. An
    image with larger values is reported like a damaged one.
    shard_bytes: image bytes a shard holds at most (one larger image still gets its own shard).
    workers: processes that decode; None: one for each core; 1: none, everything happens in this process. With
    more, a script that calls this must do so under `if __name__ == "__main__":`.
    strict: stop at the first image that cannot be decoded instead of skipping and reporting it.
    stats_from: folder of the training set, whose mean and std a test set should carry; None: those of the source.
    progress: called with a Progress now and then.

    An interrupted build is finished by the same call, with the same bytes as an uninterrupted one; a finished one
    returns at once. Images that cannot be decoded are listed with their reasons in report.json.
    Raises ValueError for bad arguments, a folder that holds another set, an image under strict, or no image at
    all; OSError if the target cannot be written; RuntimeError if a worker process was killed.
    """
    if isinstance(source, (str, os.PathLike)):
        source = open_source(source)
    elif not isinstance(source, (ArraySource, ImageSource)):
        raise TypeError(
            f"build_shards: source must be a path or a source, got {type(source).__name__}; arrays go to write_shards"
        )
    _check(source, size, layout, quality, shard_bytes, workers, value_range)
    if isinstance(source, ArraySource):
        shape: tuple[int, int, int] | None = source.shape
    else:
        shape = (size, size, 3) if size is not None and layout == "raw" else None
    found = found_range(source) if value_range is None and isinstance(source, ImageSource) else None
    value_range = found if value_range is None else value_range
    resized = size is not None and shape is None
    options = Options(size, layout == "raw", quality or QUALITY, value_range)
    job = _Job(source, Path(folder), shape, options, workers or available_cores())
    stats = read_index(stats_from) if stats_from is not None else None
    channels = shape[2] if shape else 3
    if stats and len(stats.mean) != channels:
        raise ValueError(f"build_shards: stats_from must have {channels} channels, got {len(stats.mean)}")
    plan = {
        "version": VERSION,
        "source": source.describe(),
        "class_names": list(source.class_names),
        "settings": {
            "layout": "packed" if shape is None else "raw",
            "size": size,
            "quality": options.quality if resized else None,
            "shard_bytes": shard_bytes,
            "stats_from": stats.identity if stats else None,
            "range": value_range,
        },
    }
    make_folder(job.folder)
    with locked(job.folder):
        index = finished(job.folder, plan)
        if index is None:
            start(job.folder, plan)
            for remark in remarks_of(source):
                log.warning("%s", remark)
            if found is not None:
                log.warning("16-bit images: %d is white, by a sample of them; value_range (--range) sets it", found)
            count = _write_shards(job, identity_of(plan), shard_bytes, strict, progress)
            index = _finish(job.folder, plan, count, shape, stats)
        else:
            _check_source(job, len(index.shards))
        if (job.folder / PLAN).exists():
            (job.folder / PLAN).unlink()
    filled = [name for name, count in zip(index.class_names, index.class_counts, strict=True) if count]
    if isinstance(source, ImageSource) and len(filled) == 1:
        hint = "which is called like a split; " if split_named(filled[0]) else ""
        log.warning(
            "all images are of one class, %s; %sif that is wrong, give the folder that holds the classes",
            printable(filled[0]),
            hint,
        )
    if strict and index.skipped:
        raise ValueError(
            f"build_shards: {index.skipped} images could not be decoded, see {job.folder / REPORT}; repair or remove "
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
) -> Index:
    """Write arrays as raw shards and return the index of the set.

    data: (images, labels): images (n, H, W, C) or (n, H, W) uint8, labels (n,) integers >= 0, -1 for an
    image without one. Images may be anything that slices like an array, such as np.memmap; they are read a block at a
    time.
    class_names: one for each label; None: "0", "1", … The rest is as in build_shards.

    Raises TypeError for other dtypes, ValueError for other shapes or labels without a name, OSError as build_shards.
    """
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise TypeError(f"write_shards: data must be (images, labels), got {type(data).__name__}")
    images, labels = data
    source = array_source(images, labels, class_names=class_names, caller="write_shards")
    return build_shards(source, folder, shard_bytes=shard_bytes, stats_from=stats_from)


@dataclass(frozen=True)
class _Job:
    source: Source
    folder: Path
    shape: tuple[int, int, int] | None
    options: Options
    workers: int


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
        if value_range is not None:
            raise ValueError(
                "build_shards: value_range (--range) is for files of images; arrays are uint8 already, leave it out"
            )
        if workers is not None and workers > 1:
            raise ValueError(f"build_shards: arrays need no decoding; leave workers out, got {workers}")
    elif layout == "raw" and size is None:
        raise ValueError('build_shards: layout "raw" needs size, the side of the square crop in pixels')
    if quality is not None and (size is None or layout == "raw"):
        raise ValueError(
            f"build_shards: quality is of the JPEGs written after a resize, and nothing is resized into one here; give "
            f'size with layout "packed", or leave quality out (got {quality})'
        )


def _write_shards(
    job: _Job, identity: str, shard_bytes: int, strict: bool, progress: Callable[[Progress], None] | None
) -> int:
    """Write the shards that are not there yet, and return how many there are then."""
    written = skipped = number = item = 0
    while (path := job.folder / shard_name(number)).exists():
        table = read_table(path)
        if (table.identity, table.number) != (identity, number):
            raise ValueError(f"build_shards: {path} belongs to another set; choose another folder or delete it")
        if fault := labels_fault(table.labels, len(job.source.class_names)):
            raise ValueError(f"build_shards: {path} is damaged: {fault}; delete it and the later ones")
        written, skipped, item = written + len(table.labels), skipped + len(table.skipped), table.items[1]
        number += 1
    _check_source(job, number)
    if number:
        log.info("going on after %d shards: %d images written, %d skipped", number, written, skipped)
    writer = ShardWriter(job.folder, identity, job.shape, shard_bytes, number, item)
    with closing(_records(job, item)) as blocks:
        for records, position in blocks:
            for record in records:
                if strict and record.damaged:
                    raise ValueError(
                        f"build_shards: {printable(record.name)} cannot be decoded: {record.reason}; repair or "
                        "remove it, or build without strict to skip and report it"
                    )
                writer.add(record)
                written, skipped = written + (record.reason is None), skipped + (record.reason is not None)
            if progress:
                progress(Progress(written, skipped, position, job.source.total, job.source.unit))
    writer.flush()
    return writer.number


def _check_source(job: _Job, shards: int) -> None:
    """Raise ValueError if files of the source have changed since the first so many shards were written from them."""
    paths = [job.folder / shard_name(number) for number in range(shards)]
    if isinstance(job.source, ImageSource):
        check_unchanged(job.source, paths, map(read_table, paths))


def _records(job: _Job, start: int) -> Generator[tuple[list[Record], int], None, None]:
    """The source's records from item start on, in order, and the source's position after them."""
    if isinstance(job.source, ArraySource):
        yield from array_records(job.source, start)
    else:
        items = islice(job.source.items(), start, None)
        chunks = iter(lambda: list(islice(items, CHUNK)), [])
        yield from map_ordered(partial(encode_items, options=job.options), chunks, job.workers)


def _finish(
    folder: Path, plan: dict[str, Any], count: int, shape: tuple[int, int, int] | None, stats: Index | None
) -> Index:
    """Add up what the shards hold, and write the report and then the index, which makes the set complete."""
    figures = Figures(len(plan["class_names"]))
    entries: list[ShardEntry] = []
    for number in range(count):
        path = folder / shard_name(number)
        table = read_table(path)
        figures.add(table)
        entries.append(ShardEntry(path.name, len(table.labels), path.stat().st_size))
    write_text(folder / REPORT, figures.report())
    if not figures.records:
        name, reason = map(printable, figures.skipped[0]) if figures.skipped else ("", "")
        raise ValueError(
            f"build_shards: the source has no image that can be decoded ({len(figures.skipped)} skipped, see "
            f"{folder / REPORT})" + f"; the first, {name}: {reason}" * bool(figures.skipped)
        )
    mean, std = (stats.mean, stats.std) if stats else figures.mean_std()
    index = Index(
        identity=identity_of(plan),
        layout=plan["settings"]["layout"],
        image_shape=shape,
        records=figures.records,
        skipped=len(figures.skipped),
        class_names=tuple(plan["class_names"]),
        class_counts=figures.class_counts,
        mean=mean,
        std=std,
        source=plan["source"],
        settings=plan["settings"],
        shards=tuple(entries),
    )
    write_text(folder / INDEX, index.to_json())
    return read_index(folder)
