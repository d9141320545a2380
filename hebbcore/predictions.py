"""Which class a network whose last layer is supervised takes images for."""

from typing import Any

import numpy as np

from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.finite import first_not_finite, require_computable
from hebbcore.layers import WORKSPACE, Layer, Learner, Shape
from hebbcore.rules import as_rule


def predicted(scores: Array) -> Array:
    """Return the class (n,) of the largest score of each image, of equal ones the lowest.

    scores: (n, H, W, classes), whose means over the positions count, or (n, classes).
    """
    return _means(scores).argmax(axis=1)


def _means(scores: Array) -> Array:
    return scores.mean(axis=(1, 2)) if scores.ndim == 4 else scores


def sound_classes(function: str, scores: Array) -> Array:
    """Return what predicted does. Raises ValueError if the scores of an image are NaN or infinite."""
    means = _means(scores)
    row = first_not_finite(means)
    if row is not None:
        raise ValueError(
            f"{function}: the network's output for images[{row}] is NaN or infinite, which is no class; its weights "
            "may have diverged: train it with a lower learning_rate."
        )
    return predicted(means)


def judge(scores: Array, labels: Any) -> tuple[Array, int]:
    """Return how many images with a label, 0 or above, are taken for it (a 0-d array), and how many have one."""
    given = np.asarray(labels)
    right = predicted(scores) == devices.to_device(given, backend.device_of(scores))
    return right.sum(), int((given >= 0).sum())


class Predictor:
    """What a network with a supervised last layer does besides: it classifies by itself."""

    image_shape: Shape | None

    @property
    def layers(self) -> tuple[Layer, ...]:
        """See Network."""
        raise NotImplementedError

    def transform(self, images: Any, layer: str | None, *, mirror: bool, workspace: int | str) -> Array:
        """See Network."""
        raise NotImplementedError

    def check_images(self, function: str, images: Any) -> Array:
        """See Network."""
        raise NotImplementedError

    @property
    def predicts(self) -> bool:
        """Whether the last layer is supervised, so that predict says classes."""
        last = self.layers[-1] if self.layers else None
        return isinstance(last, Learner) and as_rule("Network", last.rule).supervised

    def predict(self, images: Any, *, mirror: bool = False, workspace: int | str = WORKSPACE) -> Array:
        """Return the class that the supervised last layer takes each image for.

        Parameters
        ----------
        images : Array
            See transform.
        mirror : bool
            See transform.
        workspace : int or str
            See transform.

        Returns
        -------
        Array
            (n,), int64: the unit of the largest output, for a convolution of the largest mean over its positions; of
            equal ones the lowest. In the library of the images.

        Raises
        ------
        ValueError, TypeError
            If the last layer does not learn by Supervised, for an image or an output with NaN or infinity, and as
            transform.
        """
        if not self.predicts:
            raise ValueError(
                "predict: the network's last layer is not supervised, so that it knows no classes; end it with "
                'Dense(classes, "supervised") and train it with labels, or give its features to a classifier.'
            )
        array = self.check_images("predict", images)
        require_computable("predict", "images", array)
        array = array.reshape(len(array), *(self.image_shape or ()))  # vectors were checked as 1 × 1 pixels
        return sound_classes("predict", self.transform(array, None, mirror=mirror, workspace=workspace))
