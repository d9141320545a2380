"""`hebbcore extract`: features of images into a file."""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hebbcore.checks import printable
from hebbcore.cli import together
from hebbcore.cli.networks import learned_range, load_network, network_stream
from hebbcore.cli.options import (
    add_batches,
    add_image_size,
    add_import,
    add_mirror,
    add_network,
    add_previous,
    add_shifts,
)
from hebbcore.cli.photos import all_splits, is_photos, read_anew, require_apart, splits_at
from hebbcore.features.extract import asked, extract_features
from hebbcore.features.formats import FORMATS
from hebbcore.features.helpers import helped
from hebbcore.features.storage import DTYPES
from hebbcore.files import locked_file, make_folder
from hebbcore.network import Network
from hebbcore.streams import Stream

UNLABELLED = -1  # what stands for the labels of images that have none


def add_extract(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `extract` command to a command line."""
    extract = commands.add_parser(
        "extract",
        description="Write a layer's output for each image to an HDF5 file, or in another format, in the order of the "
        "images: features, and labels, which are -1 for images without one. An interrupted extraction goes on when the "
        "same command is run again.",
    )
    add_network(extract)
    extract.add_argument(
        "images", type=Path, help="folder of shards or of images, archive of images, or HDF5 file with SPLIT/images"
    )
    extract.add_argument("out", type=Path, help="HDF5 file to write, or what --format says")
    extract.add_argument("--layer", help="layer whose output is written, such as bn3 (default: the last)")
    extract.add_argument("--split", help="split of an HDF5 file (default: test), or of images (default: train)")
    add_image_size(extract)
    extract.add_argument("--pool", type=int, metavar="CELLS", help="average the output over a grid of CELLS × CELLS")
    add_mirror(extract)
    add_shifts(extract)
    extract.add_argument("--dtype", choices=DTYPES, default="float32", help="type of the features (default: float32)")
    extract.add_argument(
        "--format", choices=FORMATS, default="hdf5",
        help="hdf5; npy, a folder of files to map into memory; parquet or zarr (extras of these names; default: hdf5)",
    )  # fmt: skip
    add_batches(extract, 64)
    add_previous(extract)
    add_import(extract)
    extract.set_defaults(run=_extract)


def _extract(options: argparse.Namespace) -> int:
    with helped("extract", together.group(), together.given(options)) as leads:
        if leads:
            _extract_all(options)
    return 0


def _extract_all(options: argparse.Namespace) -> None:
    network = load_network(options.network, options.imports, options.previous, options.device)
    is_set = options.images.is_dir() or is_photos(options.images)
    if is_set and options.split is not None and not splits_at(options.images):
        what = "images" if is_photos(options.images) else "shards"
        where = "a folder" if options.images.is_dir() else "an archive"
        raise ValueError(f"--split is for HDF5 files; {options.images} is {where} of {what}, which is one split.")
    if is_photos(options.images):
        asked("extract", network, options.out, **_wanted(options))  # before photos are read, which may take long
        path, count = _of_photos(options, network)
    else:
        path, count = _extracted(options, network, _stream(options, network))
    is_one = is_set or options.split is not None or len(all_splits(options.images)) < 2
    print(printable(f"{path}: features of {count} images{'' if is_one else ' of the split test'}"))


def _wanted(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("layer", "dtype", "pool", "mirror", "shifts", "format")}


def _of_photos(options: argparse.Namespace, network: Network) -> tuple[Path, int]:
    """Extract features of image files, which are read into a folder until the features are there."""
    folder = options.out.with_name(f".{options.out.name}.images")
    require_apart(options.images, folder)
    make_folder(folder.parent)
    with locked_file(folder, "reading photos into"):
        stream = read_anew(folder, lambda: _stream(options, network, folder))
        done = _extracted(options, network, stream)
        shutil.rmtree(folder, ignore_errors=True)
    return done


def _stream(options: argparse.Namespace, network: Network, folder: Path | None = None) -> Stream:
    """Return the images. folder: where image files are read into."""
    split = options.split or "test"
    return network_stream(
        network, options.images, split, options.batch_size, options.image_size, UNLABELLED, images=folder,
        part=options.split, value_range=learned_range(network, options.network),
    )  # fmt: skip


def _extracted(options: argparse.Namespace, network: Network, stream: Stream) -> tuple[Path, int]:
    """Extract the features; returns their file and how many images they are of."""
    bar: Any = None

    def show(done: int) -> None:
        nonlocal bar
        if bar is None:  # what an interrupted extraction has left took no time
            shown = sys.stderr.isatty()
            bar = tqdm(total=stream.images, initial=done, unit="img", unit_scale=True, disable=not shown)
        bar.update(done - bar.n)

    try:
        path = extract_features(
            network, stream, options.out, **_wanted(options), progress=show,
        )  # fmt: skip
    finally:
        if bar is not None:
            bar.close()
    return path, stream.images
