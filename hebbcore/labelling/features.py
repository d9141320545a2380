"""Features of all images: a network that learns from them, or one that is there, and its output in a file."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hebbcore import checkpoint, hdf5
from hebbcore.dictionary import UNITS
from hebbcore.engine import devices
from hebbcore.features.choice import Features
from hebbcore.features.extract import extract_features, forget_other
from hebbcore.layers import Branches
from hebbcore.network import Network
from hebbcore.presets import preset
from hebbcore.training.diagnostics import Record
from hebbcore.training.network import fit

BATCH = 200  # images a step, as the dictionary is trained
_UNITS_AN_IMAGE = 8  # at most: units of a layer learn from patches that are more than they
_MOST, _MOST_OF_MANY = 25_000, 10_000  # features of an image: larger outputs are averaged over a grid
_FEW = 200_000  # images: 25,000 features of them are a file of 20 GB
_SHARE = 3  # times the features must fit into the free memory of a GPU, which also holds what is made of them
_MOST_IN_MEMORY = 2**31  # bytes of features; more stay in their file


def learned_network(
    shuffled: Any, run: Path, device: str, previous: bool, callback: Callable[[Record], None]
) -> Network:
    """Return the dictionary, learned from a stream of images in random order. A run that was interrupted goes on.

    So does one of an earlier version, with the layers that the preset had then. previous: as for fit.
    """
    units = [min(number, _UNITS_AN_IMAGE * shuffled.images) for number in UNITS]
    network = preset("dictionary", image_shape=shuffled.image_shape, units=units, device=device)
    if checkpoint.checkpoints(run):
        begun = checkpoint.load(run, device=device, previous=previous)
        if isinstance(begun, Network) and _ends(begun) == _ends(network):
            begun.training = network.training
            network = begun
    with warnings.catch_warnings():  # of few images some units stay unused, which harms nothing
        warnings.filterwarnings("ignore", "fit: .* won none of the .* patches")
        return fit(network, shuffled, run=run, previous=previous, callback=callback, log_seconds=2)


def _ends(network: Network) -> tuple[object, object]:
    """Return the shapes of what a network is given and of what it puts out."""
    return network.image_shape, network.shapes[-1]


def chosen(network: Network, images: int, mirror: bool) -> Features:
    """Return which features are taken: the last layer's output, over a grid of cells if it is large.

    images: how many the classifier learns from; their features lie in a file. mirror: see Features.
    """
    most = _MOST if images <= _FEW else _MOST_OF_MANY
    return Features.at_most("classify", network, network.names[-1], most, mirror)


def neighbour_features(features: Features) -> npt.NDArray[np.int64] | None:
    """Return the numbers of the features in which images that look alike are near; None: all.

    Where the network joins branches at its end, they are those of the branch of fewest layers. See
    docs/howto/few-labels.md for what deeper ones cost.
    """
    network = features.network
    if not isinstance(network.layers[-1], Branches) or features.layer != network.names[-1]:
        return None
    start, ends = network.graph.entries[-1], network.graph.reads[-1]  # the layers of branches follow one another
    shallow = int(np.diff((start, *ends)).argmin())
    borders = np.cumsum([0, *(network.shapes[end - 1][-1] for end in ends)])
    numbers = np.arange(features.size).reshape(-1, features.shape[-1])
    return numbers[:, borders[shallow] : borders[shallow + 1]].ravel()


def extracted(features: Features, stream: Any, path: Path, progress: Callable[[int], None]) -> Any:
    """Return the features (n, numbers) of a stream's images, in its order, extracted into a file unless they are there.

    An interrupted extraction goes on; what one of other images or other features left makes room. Raises ValueError and
    FileExistsError if the file is of other images or other features.
    """
    network, pool, mirror = features.network, features.grid, features.mirror
    forget_other(features, stream, path)
    extract_features(network, stream, path, layer=features.layer, pool=pool, mirror=mirror, progress=progress)
    with hdf5.reading(path, f"classify: {path} holds no features") as file:
        array = hdf5.member(file, "features")
        shape, dtype, offset = array.shape, array.dtype, int(array.id.get_offset())
    rows: Any = np.memmap(path, dtype, "r", offset, shape).reshape(shape[0], -1)
    return rows if rows.nbytes > _MOST_IN_MEMORY else np.array(rows)


def placed(features: Features, rows: Any) -> Any:
    """Return features of images where the classifier is to learn from them: on the GPU, if the network computes there.

    Where they would take more than a third of its free memory, they stay on the host.
    """
    fits = features.network.site.device == "cuda" and _SHARE * rows.nbytes <= devices.free_bytes()
    return devices.to_device(rows, "cuda") if fits else rows


def rows_of(features: Features, images: Any) -> Any:
    """Return the features (n, numbers) of images as `extracted` has them, on the CPU."""
    found = devices.to_device(features.of(images), "cpu")
    return found.reshape(len(found), -1)
