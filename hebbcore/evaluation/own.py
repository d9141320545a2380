"""How often a network whose last layer is supervised is right by itself."""

from functools import partial
from typing import Any

import numpy as np

from hebbcore.engine import devices
from hebbcore.evaluation.batches import has_label
from hebbcore.features.choice import Features
from hebbcore.features.helpers import of_batches
from hebbcore.network import Network
from hebbcore.predictions import sound_classes
from hebbcore.streams import Stream


def own_accuracy(network: Network, test: Stream, mirror: bool = False, shifts: int = 0) -> tuple[float, int]:
    """Return the accuracy in percent of Network.predict on the images of a stream that have a label, and their number.

    Parameters
    ----------
    network : Network
        Its last layer is supervised.
    test : Stream
        Batches of (images, labels), which are numbers of the network's classes.
    mirror, shifts : bool, int
        Over which images the last layer's output is averaged, see Features.

    Returns
    -------
    float, int
        NaN and 0 if no image has a label.
    """
    own = Features.checked("evaluate", network, None, None, mirror, shifts)
    counts = [part for parts in of_batches(partial(_right, own), test) for part in parts]
    right, count = (sum(some) for some in zip(*counts, strict=True)) if counts else (0, 0)
    return (100 * right / count if count else float("nan")), count


def _right(own: Features, first: int, images: Any, labels: Any) -> tuple[int, int]:
    """Return how many images a network is right for, and how many have a label. own: its last layer's output."""
    known = has_label(np.asarray(labels))
    found = devices.to_device(sound_classes("evaluate", own.of(images)), "cpu")
    return int((found == labels)[known].sum()), int(known.sum())


def own_text(network: Network, test: Stream, mirror: bool = False, shifts: int = 0) -> str:
    """Return a sentence on the accuracy of a network's supervised last layer; see own_accuracy."""
    accuracy, count = own_accuracy(network, test, mirror, shifts)
    return (
        f"The network classifies by itself: its last layer, {network.names[-1]}, which learned from labels, is right "
        f"for {accuracy:.2f} % of the {count:,} labelled test images, whatever the labels of the readouts."
    )
