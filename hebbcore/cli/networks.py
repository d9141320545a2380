"""The network of a run, and the images that it takes, for the commands that use one."""

from collections.abc import Sequence
from pathlib import Path

from hebbcore import checkpoint
from hebbcore.cli.sources import labelled_stream
from hebbcore.network import Network
from hebbcore.runs.imports import import_modules
from hebbcore.streams import Stream


def load_network(path: Path, imports: Sequence[str], previous: bool = False, device: str = "auto") -> Network:
    """Return the network of a run or a file. Raises ValueError if the file holds a layer alone.

    imports: modules that its rules and layers need, imported first.
    """
    if previous and path.is_file():
        raise ValueError(f"--previous is for the folder of a run; {path} is a file, and no other comes before it.")
    import_modules(imports)
    network = checkpoint.load(path, previous=previous, device=device)
    if not isinstance(network, Network):
        raise ValueError(f"{path} holds a single layer, not a network.")
    return network


def network_stream(
    network: Network, path: Path, split: str, batch_size: int, image_size: int | None, unlabelled: int | None = None
) -> Stream:
    """Return labelled images of the size that the network takes, unless a size is given; see labelled_stream."""
    assert network.image_shape is not None
    if image_size is None and path.is_dir() and len(network.image_shape) == 3:
        height, width = network.image_shape[:2]
        image_size = height if height == width else None
    return labelled_stream(path, split, batch_size, image_size, unlabelled)
