"""`hebbcore extract`: features of images into an HDF5 file."""

import argparse
import shutil
import sys
from pathlib import Path

from tqdm import tqdm

from hebbcore.checks import printable
from hebbcore.cli import together
from hebbcore.cli.networks import load_network, network_stream
from hebbcore.cli.options import (
    add_batches,
    add_image_size,
    add_import,
    add_mirror,
    add_network,
    add_previous,
    add_shifts,
)
from hebbcore.cli.photos import is_photos
from hebbcore.features.extract import extract_features
from hebbcore.features.helpers import helped
from hebbcore.features.storage import DTYPES

UNLABELLED = -1  # what stands for the labels of images that have none


def add_extract(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `extract` command to a command line."""
    extract = commands.add_parser(
        "extract",
        description="Write a layer's output for each image to an HDF5 file, in the order of the images: features, and "
        "labels, which are -1 for images without one. An interrupted extraction goes on when the same command is run "
        "again.",
    )
    add_network(extract)
    extract.add_argument("images", type=Path, help="folder of shards or of images, or HDF5 file with SPLIT/images")
    extract.add_argument("out", type=Path, help="HDF5 file to write")
    extract.add_argument("--layer", help="layer whose output is written, such as bn3 (default: the last)")
    extract.add_argument("--split", help="split of an HDF5 file (default: test)")
    add_image_size(extract)
    extract.add_argument("--pool", type=int, metavar="CELLS", help="average the output over a grid of CELLS × CELLS")
    add_mirror(extract)
    add_shifts(extract)
    extract.add_argument("--dtype", choices=DTYPES, default="float32", help="type of the features (default: float32)")
    add_batches(extract, 64)
    add_previous(extract)
    add_import(extract)
    extract.set_defaults(run=_extract)


def _extract(options: argparse.Namespace) -> int:
    with helped("extract", together.group()) as leads:
        if leads:
            _extract_all(options)
    return 0


def _extract_all(options: argparse.Namespace) -> None:
    network = load_network(options.network, options.imports, options.previous, options.device)
    if options.images.is_dir() and options.split is not None:
        what = "images" if is_photos(options.images) else "shards"
        raise ValueError(f"--split is for HDF5 files; {options.images} is a folder of {what}, which is one split.")
    split, read = options.split or "test", options.out.with_name(f".{options.out.name}.images")
    stream = network_stream(
        network, options.images, split, options.batch_size, options.image_size, UNLABELLED, images=read
    )
    with tqdm(total=stream.images, unit="img", unit_scale=True, disable=not sys.stderr.isatty()) as bar:

        def show(done: int) -> None:
            bar.update(done - bar.n)

        path = extract_features(
            network, stream, options.out, layer=options.layer, dtype=options.dtype, pool=options.pool,
            mirror=options.mirror, shifts=options.shifts, progress=show,
        )  # fmt: skip
    shutil.rmtree(read, ignore_errors=True)
    print(printable(f"{path}: features of {stream.images} images"))
