"""The network of a run, and the images that it takes, for the commands that use one."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import loaders
from hebbcore import checkpoint
from hebbcore.checks import printable
from hebbcore.cli.photos import as_shards, is_photos, range_of, tell_unlike
from hebbcore.cli.sources import labelled_stream
from hebbcore.labelling.work import IMAGES
from hebbcore.network import Network
from hebbcore.runs.config import read_config
from hebbcore.runs.imports import import_modules
from hebbcore.serialize import CONFIG
from hebbcore.streams import Stream
from hebbcore.training.header import RunHeader
from hebbcore.training.phases import phases_of
from loaders.sources.hdf5 import hdf5_class_names


def load_network(
    path: Path, imports: Sequence[str], previous: bool = False, device: str = "auto", *, finished: bool = True
) -> Network:
    """Return the network of a run or a file. Raises ValueError if the file holds a layer alone.

    imports: modules that its rules and layers need, imported first. finished: whether to warn of a run whose training
    is not.
    """
    if previous and path.is_file():
        raise ValueError(f"--previous is for the folder of a run; {path} is a file, and no other comes before it.")
    import_modules(imports)
    file = checkpoint.find("load", path, previous)
    network = checkpoint.load(file, device=device)
    if not isinstance(network, Network):
        raise ValueError(f"{path} holds a single layer, not a network.")
    left = what_is_left(file, network) if finished and path.is_dir() else None
    if left is not None:
        text = f"the training in {path} is not finished ({left}); the network is taken as it is"
        print(
            printable(f"hebbcore: warning: {text}. The command or call that began the training goes on with it."),
            file=sys.stderr,
        )
    return network


def what_is_left(file: Path, network: Network) -> str | None:
    """Return in words where the training of a checkpoint is; None if it is finished, or that is not known.

    network: of the checkpoint.
    """
    try:
        table = checkpoint.header_of("load", file)
    except FileNotFoundError:  # a training that goes on has removed it since it was loaded
        return None
    if "position" not in table:  # of hebbcore.save
        return None
    try:
        header = RunHeader.from_table(table)
    except (KeyError, TypeError, ValueError):  # of a later version, whose network can be read
        return None
    at, s = header.position, header.training
    phases = phases_of("load", network, s.mode, s.epochs, s.statistics_images, header.whitened, s.sample)
    if at.phase >= len(phases):
        return None
    phase = phases[at.phase]
    layers = "all layers" if phase.together else ", ".join(network.names[i] for i in phase.targets)
    return f"phase {at.phase + 1} of {len(phases)}, {layers}: {at.epoch} of {phase.epochs} epochs"


def learned_range(network: Network, path: Path) -> int | None:
    """Return which value of 16-bit images is white among those that a network has learned from; None: not known.

    path: of its run or file.
    """
    known = None if network.pixel_scale is None else network.pixel_scale.white
    return known or range_of(path / IMAGES)  # of runs of earlier versions, which say nothing


def learned_classes(run: Path) -> Sequence[str]:
    """Return the names of the classes that a run learned from; none if that is not known.

    Photos lie in the run. Other images are where its configuration says, if they are still there.
    """
    try:
        images = run / IMAGES if (run / IMAGES).is_dir() else Path(read_config(run / CONFIG).data.path)
        return loaders.read_index(images).class_names if images.is_dir() else hdf5_class_names(images) or ()
    except (OSError, TypeError, ValueError):  # it has none, or is of a training from Python, or they have moved
        return ()


def side_of(network: Network) -> int | None:
    """Return the side of the images that a network takes; None if they are not square."""
    shape = network.image_shape
    return shape[0] if shape is not None and len(shape) == 3 and shape[0] == shape[1] else None


def require_squares(network: Network, side: int, advice: str = "") -> None:
    """Raise ValueError if a network does not take photos, which are cut to squares of a side and are RGB.

    advice: the end of the message.
    """
    if network.image_shape not in (None, (side, side, 3)):
        raise ValueError(
            f"photos are read as RGB squares, here of {side} pixels a side: images of {(side, side, 3)}, but the "
            f"network takes {network.image_shape}.{advice}"
        )


def network_stream(
    network: Network,
    path: Path,
    split: str,
    batch_size: int,
    image_size: int | None,
    unlabelled: int | None = None,
    *,
    images: Path | None = None,
    part: str | None = None,
    value_range: int | None = None,
) -> Stream:
    """Return labelled images of the size that the network takes, unless a size is given; see labelled_stream.

    images: where images of files are read into; None: path is not of files. part: which of several splits of them.
    value_range: see read_photos.
    """
    if is_photos(path):  # which are read before anything else is looked at
        for name, value in (("--batch-size", batch_size), ("--image-size", image_size)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
    if image_size is None and (path.is_dir() or is_photos(path)):
        image_size = side_of(network)
    tell_unlike(path, value_range)
    if images is not None:
        path = as_shards(path, images, image_size, part, partial(require_squares, network), value_range)
    return labelled_stream(path, split, batch_size, image_size, unlabelled)
