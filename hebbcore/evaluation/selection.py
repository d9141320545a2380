"""What settings are chosen by: accuracy on held-out training images, so that no test image decides anything."""

import numpy as np

from hebbcore.engine import devices
from hebbcore.evaluation.ridge.readout import RidgeReadout
from hebbcore.evaluation.sources import OneSource, Source
from hebbcore.evaluation.splits import drawn, rows_of
from hebbcore.evaluation.survey import labels_of
from hebbcore.network import Network
from hebbcore.streams import Stream

_SHARE = 0.2  # of the images of each class that are held out
_ARRAYS = 2**30  # bytes of features that are kept; more are made batch by batch


def held_out_accuracy(network: Network, stream: Stream, layer: str | None = None) -> float:
    """Return the accuracy of a ridge readout on a fifth of the images of each class, fitted to the others.

    The same images are held out whatever the network. The only one of a class never is: nothing could be learned of it.

    Parameters
    ----------
    network : Network
        Computes the features.
    stream : Stream
        Unshuffled (images, labels); a negative label is none.
    layer : str, optional
        Its output is averaged over a grid so that an image has no more features than most_features says; None: the
        last layer.

    Returns
    -------
    float
        Percent.

    Raises
    ------
    ValueError
        For too few images of the classes, and for an unknown layer.
    """
    labels = labels_of("sweep", "the images", stream)
    fitted, held = labels >= 0, np.zeros(len(labels), bool)
    _, codes, counts = np.unique(labels[fitted], return_inverse=True, return_counts=True)
    rows = np.flatnonzero(fitted)[counts[codes] > 1]
    count, classes = rows_of(_SHARE, len(rows)), int((counts > 1).sum())
    if classes < 2 or count < classes:
        raise ValueError(
            f"sweep: a fifth of {len(rows)} labelled images is held out, of classes with two or more, which must be at "
            f"least one of each of two or more classes, got {count} of {classes}; give more labelled images."
        )
    held[rows[drawn(labels[rows], count, 0, "stratified")]] = True
    fitted &= ~held
    source = Source.of("features", network, network.names[-1] if layer is None else layer)
    model, batches = RidgeReadout(), OneSource(source, stream, fitted)
    if int(fitted.sum()) * source.row_bytes <= _ARRAYS:
        parts = [(devices.to_device(features, "cpu"), names) for features, names in batches]
        model.fit(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    else:
        model.fit_stream(batches)
    right = sum(int((model.predict(features) == names).sum()) for features, names in OneSource(source, stream, held))
    return 100 * right / count
