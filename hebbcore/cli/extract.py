"""`hebbcore extract`: features of images into an HDF5 file."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from hebbcore import checkpoint
from hebbcore.checks import printable
from hebbcore.cli.options import add_import
from hebbcore.cli.sources import labelled_stream
from hebbcore.features.extract import extract_features
from hebbcore.features.storage import DTYPES
from hebbcore.network import Network
from hebbcore.runs.imports import import_modules
from hebbcore.streams import Stream

UNLABELLED = -1  # what stands for the labels of images that have none


def load_network(path: Path, imports: Sequence[str], previous: bool = False, device: str = "auto") -> Network:
    """Return the network of a run or a file. Raises ValueError if the file holds a layer alone.

    imports: modules that its rules and layers need, imported first.
    """
    if previous and path.is_file():
        raise ValueError(f"--previous is for the folder of a run; {path} is a file, which has none before it.")
    import_modules(imports)
    network = checkpoint.load(path, previous=previous, device=device)
    if not isinstance(network, Network):
        raise ValueError(f"{path} holds a single layer, not a network.")
    return network


def add_extract(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `extract` command to a command line."""
    extract = commands.add_parser(
        "extract",
        description="Write a layer's output for each image to an HDF5 file (features; labels, -1 where there are "
        "none), in the order of the images. An interrupted extraction goes on when the same command is run again.",
    )
    extract.add_argument("network", type=Path, metavar="run", help="folder of a run, or a file of hebbcore.save")
    extract.add_argument("images", type=Path, help="folder of shards, or HDF5 file with SPLIT/images")
    extract.add_argument("out", type=Path, help="HDF5 file to write")
    extract.add_argument("--layer", help="such as bn3 (default: the last)")
    extract.add_argument("--split", help="of an HDF5 file (default: test)")
    extract.add_argument(
        "--image-size", type=int, help="cut this many central pixels (default: what the network takes)"
    )
    extract.add_argument("--pool", type=int, metavar="CELLS", help="average over a grid of CELLS × CELLS")
    extract.add_argument("--mirror", action="store_true", help="average over each image and its mirror image")
    extract.add_argument("--dtype", choices=DTYPES, default="float32", help="of the features (default: float32)")
    extract.add_argument("--batch-size", type=int, default=64, help="images at a time (default: 64)")
    extract.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    extract.add_argument("--previous", action="store_true", help="take the checkpoint before a damaged one")
    add_import(extract)
    extract.set_defaults(run=_extract)


def network_stream(
    network: Network, path: Path, split: str, batch_size: int, image_size: int | None, unlabelled: int | None = None
) -> Stream:
    """Return labelled images of the size that the network takes, unless a size is given; see labelled_stream."""
    assert network.image_shape is not None
    if image_size is None and path.is_dir() and len(network.image_shape) == 3:
        height, width = network.image_shape[:2]
        image_size = height if height == width else None
    return labelled_stream(path, split, batch_size, image_size, unlabelled)


def _extract(options: argparse.Namespace) -> int:
    network = load_network(options.network, options.imports, options.previous, options.device)
    if options.images.is_dir() and options.split is not None:
        raise ValueError(f"--split is for HDF5 files; {options.images} is a folder of shards, which is one split.")
    split = options.split or "test"
    stream = network_stream(network, options.images, split, options.batch_size, options.image_size, UNLABELLED)
    with tqdm(total=stream.images, unit="img", unit_scale=True, disable=not sys.stderr.isatty()) as bar:

        def show(done: int) -> None:
            bar.update(done - bar.n)

        path = extract_features(
            network, stream, options.out, layer=options.layer, dtype=options.dtype, pool=options.pool,
            mirror=options.mirror, progress=show,
        )  # fmt: skip
    print(printable(f"{path}: features of {stream.images} images"))
    return 0
