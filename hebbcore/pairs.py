"""What a batch of a stream is made of: images, and perhaps their labels."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from hebbcore.engine.backend import as_array, on_cuda
from hebbcore.engine.devices import to_device


def images_of(batch: Any) -> Any:
    """Return the images of a batch: itself, or the first of a pair (images, labels)."""
    return batch[0] if _is_pair(batch) else batch


def labels_in(batch: Any) -> Any:
    """Return the labels of a batch: the second of a pair (images, labels); None if it has none."""
    return batch[1] if _is_pair(batch) and len(batch) > 1 else None


def pairs_of(stream: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the pairs (images, labels) of a stream, from its position on; the labels are NumPy's.

    Raises
    ------
    TypeError
        If a batch is no pair, or its labels are no numbers.
    ValueError
        If a batch has no image, or another number of labels.
    """
    for batch in stream:
        images, labels = images_of(batch), labels_in(batch)
        problem = f"{type(stream).__name__}: each batch must be a pair (images, labels)"
        if labels is None:
            raise TypeError(
                f"{problem}, and labels -1 where there are none, got {type(batch).__name__} without labels."
            )
        images = as_array(type(stream).__name__, "images", images)
        if not isinstance(labels, np.ndarray):
            knows = on_cuda(labels) or hasattr(labels, "__dlpack__")
            labels = as_array(type(stream).__name__, "labels", labels) if knows else np.asarray(labels)
            labels = to_device(labels, "cpu")
        labels = labels.copy()  # the next ones may take their place
        if not len(images) or tuple(labels.shape) != (len(images),):
            raise ValueError(f"{problem} of an image at least, and a label each, got {len(images)} and {labels.shape}.")
        if labels.dtype.kind not in "biuf":
            raise TypeError(f"{problem}, and labels numbers of classes, got {labels.dtype}.")
        yield images, labels


def _is_pair(batch: Any) -> bool:
    """Return whether a batch is a tuple, or a list that cannot be images themselves, as of PyTorch's DataLoader.

    Such are an array (n, …) and n numbers, and (n, H, W, C) alone.
    """
    if not isinstance(batch, list):
        return isinstance(batch, tuple) and len(batch) > 0
    shapes = [tuple(getattr(each, "shape", ())) for each in batch[:2]]
    if len(shapes) == 1:
        return len(shapes[0]) == 4
    return len(shapes) == 2 and len(shapes[0]) > 1 and shapes[1] == shapes[0][:1]
