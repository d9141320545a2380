"""`hebbcore shards …`: build, verify, describe and download sets of shards from the command line."""

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from loaders.download import DATASETS, download_dataset
from loaders.shards.build import SHARD_BYTES, build_shards
from loaders.shards.format import REPORT
from loaders.shards.index import Index, read_index
from loaders.shards.job import Progress
from loaders.shards.ranges import found_range
from loaders.shards.verify import verify_shards
from loaders.sources import detect
from loaders.sources.base import ImageSource
from loaders.sources.open import open_source
from loaders.text import printable

NO_DIGEST = "none, as of all sets written by an earlier version"
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def add_shards(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `shards` command to a command line."""
    shards = commands.add_parser("shards", description="Build, verify, describe and download sets of shards.")
    actions = shards.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_build(actions)

    verify = actions.add_parser(
        "verify",
        help="compare every byte with its checksum; exit status 1 if any differs",
        description="Compare every byte of a set of shards with its checksum. The exit status is 1 if any differs.",
    )
    verify.add_argument("folder", help="where the shards are")
    verify.set_defaults(run=_verify)

    info = actions.add_parser(
        "info", help="say what a set of shards holds", description="Say what a set of shards holds."
    )
    info.add_argument("folder", help="where the shards are")
    info.set_defaults(run=_info)

    fetch = actions.add_parser(
        "download",
        help="fetch CIFAR or MNIST from their official addresses",
        description="Fetch CIFAR or MNIST from their official addresses. Run it again to go on after a stop.",
    )
    fetch.add_argument("name", choices=sorted(DATASETS), help="which data set")
    fetch.add_argument("folder", help="the files go to FOLDER/NAME")
    fetch.add_argument("--mirror", metavar="URL", help="another address that has the same files")
    fetch.set_defaults(run=_download)


def _add_build(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    build = actions.add_parser(
        "build",
        help="write a source of images as shards",
        description="Write a source of images as shards. An interrupted build goes on when it is run again.",
    )
    folders = ["a folder of images", "a folder of class folders"]
    kinds = ", ".join([*folders, *(kind.name for kind in detect.KINDS)])
    build.add_argument("source", help=f"where the images are: {kinds}")
    build.add_argument("folder", help="where the shards go")
    build.add_argument("--size", type=int, help="shrink images to this shorter side, in pixels (default: as they are)")
    build.add_argument(
        "--raw",
        action="store_true",
        help="store the central SIZE x SIZE pixels, not encoded; without --size all as they are",
    )
    build.add_argument(
        "--quality", type=int, help="quality of the JPEGs written after a resize, 1 to 100 (default: 90)"
    )
    build.add_argument(
        "--range", type=int, metavar="WHITE", help="value that is white in 16-bit images, such as 4095 (default: found)"
    )
    build.add_argument(
        "--shard-size",
        type=_bytes,
        default=SHARD_BYTES,
        metavar="BYTES",
        help="image bytes a shard holds at most, such as 256M (default)",
    )
    build.add_argument(
        "--split", help="train, test, val, unlabeled or fold0, for sources that hold several (default: train)"
    )
    build.add_argument(
        "--labels",
        metavar="FILE",
        help="CSV or TSV of file and label, for a folder or a zip of images (default: class folders)",
    )
    build.add_argument("--image-column", metavar="NAME", help="column of images in Parquet files (default: found)")
    build.add_argument("--label-column", metavar="NAME", help="column of labels in Parquet files (default: found)")
    build.add_argument("--ground-truth", metavar="FILE", help="class ids of ImageNet's validation images")
    build.add_argument("--synsets", metavar="FILE", help="what these ids mean: meta.mat, or one wnid a line")
    build.add_argument(
        "--stats-from",
        metavar="FOLDER",
        help="take mean and std, and the range of 16-bit images, from these shards (the training set)",
    )
    build.add_argument("--workers", type=int, help="decoding processes (default: one for each core)")
    build.add_argument(
        "--part",
        type=_part,
        metavar="K/N",
        help="build part K of N, for jobs side by side; a last call without --part joins them",
    )
    build.add_argument("--strict", action="store_true", help="stop at an image that cannot be decoded")
    build.set_defaults(run=_build)


def _part(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"must be K/N with 1 <= K <= N, such as 3/8, got {text!r}")
    return int(found[1]), int(found[2])


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+)\s*([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not found or not int(found[1]):
        raise argparse.ArgumentTypeError(f"must be a size such as 256M, got {text!r}")
    return int(found[1]) * UNITS[found[2].upper()]


def _build(options: argparse.Namespace) -> int:
    source = open_source(
        options.source,
        split=options.split,
        ground_truth=options.ground_truth,
        synsets=options.synsets,
        labels=options.labels,
        image_column=options.image_column,
        label_column=options.label_column,
    )
    with _build_bar() as progress:
        index = build_shards(
            source,
            options.folder,
            size=options.size,
            layout="raw" if options.raw else "packed",
            quality=options.quality,
            value_range=options.range,
            shard_bytes=options.shard_size,
            workers=options.workers,
            strict=options.strict,
            stats_from=options.stats_from,
            part=options.part,
            progress=progress,
        )
    became_8_bits = options.range is not None and index.dtype == "uint8"
    if became_8_bits and isinstance(source, ImageSource) and found_range(source) is None:
        print(f"--range {options.range}: no image of a sample of these has 16 bits, and it has no effect on others")
    unlabelled = index.records - sum(index.class_counts)
    print(
        f"{index.records} images in {len(index.shards)} shards, {index.skipped} skipped"
        + f", {unlabelled} without a label" * bool(unlabelled)
    )
    if index.skipped:
        print(f"skipped images and reasons: {Path(options.folder) / REPORT}")
    return 0


@contextmanager
def _build_bar() -> Iterator[Callable[[Progress], None]]:
    start, first = time.monotonic(), 0
    with tqdm(unit_scale=True, disable=None, file=sys.stderr) as bar:

        def show(progress: Progress) -> None:
            nonlocal first
            done = progress.written + progress.skipped
            if bar.total is None:  # what an earlier run did must not count for the rate
                bar.total, bar.unit, bar.initial = progress.total, progress.unit, progress.position
                bar.n, first = progress.position, done
            rate = (done - first) / max(time.monotonic() - start, 1e-9)
            bar.set_postfix_str(
                f"{progress.written} written, {progress.skipped} skipped, {rate:.0f} images/s", refresh=False
            )
            bar.update(progress.position - bar.n)

        yield show


def _verify(options: argparse.Namespace) -> int:
    index = read_index(options.folder)
    with tqdm(total=index.records, unit=" images", disable=None, file=sys.stderr) as bar:
        damages = verify_shards(options.folder, lambda done, total: bar.update(done - bar.n))
    for damage in damages:
        where = "" if damage.record is None else f" record {damage.record} ({printable(damage.name)})"
        print(f"{damage.shard}{where}: {damage.reason}")
    print(f"{index.records} images in {len(index.shards)} shards: {len(damages)} damaged")
    if not index.digest:
        print(f"digest: {NO_DIGEST}")
    return 1 if damages else 0


def _info(options: argparse.Namespace) -> int:
    for name, value in _facts(read_index(options.folder)):
        print(f"{name:13} {value}")
    return 0


def _facts(index: Index) -> list[tuple[str, Any]]:
    counts, unlabelled = index.class_counts, index.records - sum(index.class_counts)
    size = sum(shard.bytes for shard in index.shards)
    return [
        ("images", f"{index.records}, {index.skipped} skipped"),
        ("layout", f"{index.layout} {index.image_shape or ''}".strip()),
        ("shards", f"{len(index.shards)}, {size / 2**20:.1f} MiB"),
        ("classes", f"{len(counts)}, {min(counts, default=0)} to {max(counts, default=0)} images each"),
        *([("unlabelled", f"{unlabelled} images")] if unlabelled else []),
        ("mean", " ".join(f"{value:.4f}" for value in index.mean)),
        ("std", " ".join(f"{value:.4f}" for value in index.std)),
        ("source", _listed(index.source)),
        ("settings", _listed(index.settings)),
        ("identity", printable(index.identity)),
        ("digest", index.digest or NO_DIGEST),
    ]


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{printable(key)} {printable(value)}" for key, value in values.items() if value is not None)


def _download(options: argparse.Namespace) -> int:
    shown = ""
    with tqdm(unit="B", unit_scale=True, disable=None, file=sys.stderr) as bar:

        def show(file: str, done: int, total: int | None) -> None:
            nonlocal shown
            if file != shown:  # what an earlier run has left must not count for the rate
                shown, bar.initial = file, 0
                bar.set_description_str(file, refresh=False)
                bar.reset(total)
                bar.initial = bar.n = bar.last_print_n = done
            bar.update(done - bar.n)

        path = download_dataset(options.name, options.folder, mirror=options.mirror, progress=show)
    print(path)
    return 0
