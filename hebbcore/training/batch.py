"""A batch of images, and the labels that come along."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hebbcore import checks
from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array

Labels = npt.NDArray[np.int64]  # (n,), below 0: none


@dataclass(frozen=True)
class Batch:
    """Images of a batch, or what layers made of them, and where layers learn from labels these.

    Attributes
    ----------
    images : Array
        (n, H, W, C) or (n, features).
    labels : numpy.ndarray or None
        (n,), int64; None: nobody asks for them.
    """

    images: Array
    labels: Labels | None = None

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> "Batch":
        """Return the first images of the batch, at most so many."""
        return self if count >= len(self) else Batch(self.images[:count], labels_at(self.labels, slice(count)))


def kept(function: str, batch: Batch) -> Batch:
    """Return a batch whose images nobody else writes to; its labels are its own already."""
    return Batch(backend.as_array(function, "data", batch.images).copy(), batch.labels)


def labels_at(labels: Labels | None, which: Any) -> Labels | None:
    """Return labels[which], if there are any."""
    return None if labels is None else labels[which]


def as_labels(function: str, labels: Any, images: int) -> Labels:
    """Return labels (n,), one for each image, as int64. Raises ValueError or TypeError for anything else."""
    array = devices.to_device(backend.as_array(function, "labels", labels), "cpu")
    if array.shape != (images,):
        problem = f"must be one for each of the {images} images, got shape {array.shape}."
        raise checks.wrong(ValueError, function, "labels", problem)
    if array.dtype.kind not in "iu":
        problem = f"must be integers, numbers of classes from 0, -1 for an image without one; got {array.dtype}."
        raise checks.wrong(TypeError, function, "labels", problem)
    found: Labels = array.astype(np.int64)
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:  # else they wrap to "none"
        raise checks.wrong(ValueError, function, "labels", f"must be below 2**63, got {int(array.max())}.")
    return found
