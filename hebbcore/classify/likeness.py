"""How like images of few features are to some of them: many numbers, by which a ridge parts what no plane parts."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.spread import spread_rows

FEW = 64  # features up to which images are told apart by their likeness
_LANDMARKS = 1000  # images at most that all are compared with

Floats = npt.NDArray[Any]


class Likeness(NamedTuple):
    """exp(−‖x − l‖² / (2 d)) for each landmark l, of standardised features, d of which vary; NumPy arrays.

    The mean of ‖x − y‖² over pairs of images is 2 d. feature_mean, feature_scale: (f,), as mean and scale of a Space.
    landmarks: (m, f), standardised, float32.
    """

    feature_mean: Floats
    feature_scale: Floats
    landmarks: Floats

    @classmethod
    def of(cls, features: Array, mean: Floats, scale: Floats) -> "Likeness":
        """Return the likeness to some of the images of features (n, f), evenly spread."""
        chosen = spread_rows(len(features), min(len(features), _LANDMARKS))
        landmarks = devices.to_device(features[backend.namespace(features[:0]).asarray(chosen)], "cpu")
        return cls(mean, scale, standardised(landmarks, mean, scale))

    @property
    def sharpness(self) -> float:
        """1 / (2 d)."""
        return 0.5 / max(1, int((self.feature_scale > 0).sum()))

    def __call__(self, features: Array) -> Array:
        """Return (n, m), float32, for features (n, f), on their device."""
        xp = backend.namespace(features)
        rows = standardised(features, self.feature_mean, self.feature_scale)
        landmarks = xp.asarray(self.landmarks)
        squares = (rows**2).sum(axis=1)[:, None] + (landmarks**2).sum(axis=1) - 2 * (rows @ landmarks.T)
        return xp.exp(xp.maximum(squares, 0) * np.float32(-self.sharpness))


class Likened:
    """The likeness of features (n, f), made when rows of it are read."""

    def __init__(self, features: Array, likeness: Likeness) -> None:
        self._features, self._likeness = features, likeness
        self.shape = (len(features), len(likeness.landmarks))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Array:
        return self._likeness(self._features[rows])


def standardised(block: Array, mean: Floats, scale: Floats) -> Array:
    """Return features (n, d) less their mean, times the scale, float32, row by row in memory."""
    xp = backend.namespace(block)
    return ((block - xp.asarray(mean)) * xp.asarray(scale)).astype(np.float32, order="C")
