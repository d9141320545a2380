"""One build: what it writes, what is there already, and the index that completes the set."""

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from loaders.files import write_text
from loaders.shards.changes import check_unchanged
from loaders.shards.encode import Options, array_records, encode_items
from loaders.shards.figures import Figures
from loaders.shards.format import INDEX, PLAN, REPORT, identity_of, labels_fault, read_table, shard_name, white_of
from loaders.shards.index import Index, ShardEntry, read_index
from loaders.shards.plan import Plan, finished, other_set, start
from loaders.shards.write import Record, ShardWriter
from loaders.sources.arrays import ArraySource
from loaders.sources.base import ImageSource, Source, remarks_of
from loaders.text import printable
from loaders.workers import map_ordered

CHUNK = 16  # items a worker process takes at a time

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a build is.

    Parameters
    ----------
    written : int
        Images written so far.
    skipped : int
        Items left out so far.
    position : int
        How far through the source the build is.
    total : int
        The position after the last item.
    unit : str
        What positions count: "images" or "B".
    """

    written: int
    skipped: int
    position: int
    total: int
    unit: str


@dataclass(frozen=True)
class Job:
    """What is built, where to and how; see build_shards. shape: (H, W, C) of raw images, None of packed ones."""

    source: Source
    folder: Path
    shape: tuple[int, int, int] | None
    options: Options
    workers: int
    shard_bytes: int
    strict: bool
    progress: Callable[[Progress], None] | None
    dtype: str = "uint8"


def run(job: Job, plan: Plan, stats: Index | None, remarks: Sequence[str]) -> Index:
    """Write what the folder does not hold yet. remarks: to tell before."""
    index = finished(job.folder, plan)
    if index is None:
        start(job.folder, plan)
        for remark in (*remarks_of(job.source), *remarks):
            log.warning("%s", remark)
        index = _finish(job, plan, _write_shards(job, identity_of(plan)), stats)
    else:
        _check_source(job, len(index.shards))
    if (job.folder / PLAN).exists():  # a finished set may lie where nothing can be written
        (job.folder / PLAN).unlink()
    return index


def _write_shards(job: Job, identity: str) -> int:
    """Write the shards that are not there yet, and return how many there are then."""
    written = skipped = number = item = 0
    while (path := job.folder / shard_name(number)).exists():
        table = read_table(path)
        if (table.identity, table.number) != (identity, number):
            raise other_set(f"{path} belongs to another set")
        if fault := labels_fault(table.labels, len(job.source.class_names)):
            raise ValueError(f"build_shards: {path} is damaged: {fault}; delete it and the later ones")
        written, skipped, item = written + len(table.labels), skipped + len(table.skipped), table.items[1]
        number += 1
    _check_source(job, number)
    if number:
        log.info("going on after %d shards: %d images written, %d skipped", number, written, skipped)
    writer = ShardWriter(job.folder, identity, job.shape, job.shard_bytes, number, item, job.dtype)
    with closing(_records(job, item)) as blocks:
        for records, position in blocks:
            for record in records:
                if job.strict and record.damaged:
                    raise ValueError(
                        f"build_shards: {printable(record.name)} cannot be decoded: {record.reason}; repair or "
                        "remove it, or build without strict to skip and report it"
                    )
                writer.add(record)
                written, skipped = written + (record.reason is None), skipped + (record.reason is not None)
            if job.progress:
                job.progress(Progress(written, skipped, position, job.source.total, job.source.unit))
    writer.flush()
    return writer.number


def _check_source(job: Job, shards: int) -> None:
    """Raise ValueError if files of the source have changed since the first so many shards were written from them."""
    paths = [job.folder / shard_name(number) for number in range(shards)]
    if isinstance(job.source, ImageSource):
        check_unchanged(job.source, paths, map(read_table, paths))


def _records(job: Job, start: int) -> Generator[tuple[list[Record], int], None, None]:
    """The source's records from item start on, in order, and the source's position after them."""
    if isinstance(job.source, ArraySource):
        yield from array_records(job.source, start)
    else:
        items = islice(job.source.items(), start, None)
        chunks = iter(lambda: list(islice(items, CHUNK)), [])
        yield from map_ordered(partial(encode_items, options=job.options), chunks, job.workers)


def _finish(job: Job, plan: Plan, count: int, stats: Index | None) -> Index:
    """Add up what the shards hold, and write the report and then the index, which makes the set complete."""
    figures = Figures(len(plan["class_names"]))
    entries: list[ShardEntry] = []
    for number in range(count):
        path = job.folder / shard_name(number)
        table = read_table(path)
        figures.add(table)
        entries.append(ShardEntry(path.name, len(table.labels), path.stat().st_size))
    write_text(job.folder / REPORT, figures.report())
    if not figures.records:
        name, reason = map(printable, figures.skipped[0]) if figures.skipped else ("", "")
        raise ValueError(
            f"build_shards: the source has no image that can be decoded ({len(figures.skipped)} skipped, see "
            f"{job.folder / REPORT})" + f"; the first, {name}: {reason}" * bool(figures.skipped)
        )
    mean, std = (stats.mean, stats.std) if stats else figures.mean_std(white_of(job.dtype, plan["settings"]["range"]))
    index = Index(
        identity=identity_of(plan),
        layout=plan["settings"]["layout"],
        image_shape=job.shape,
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
    write_text(job.folder / INDEX, index.to_json())
    return read_index(job.folder)
