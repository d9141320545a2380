"""What a teacher says of the units that may learn from each image, and the gates of rules that listen to it.

Each gate runs kernels of hebbcore.engine.kernels.programs.teaching; their oracles are the functions of their names in
tests/oracles/kernels.py.
"""

from typing import Any, NamedTuple

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend, devices, kernels
from hebbcore.engine.backend import Array
from hebbcore.engine.competition import Gate, Norms, cells, column_sums, kwta_gate, sharpness_of


class Teacher(NamedTuple):
    """Which units may learn from which of some patches: T (n, K), the same for all patches of an image.

    Attributes
    ----------
    masks : Array
        (images, K), uint8: of each image these patches are of, 1 for units that may learn from it, else 0.
    first : int
        How many patches of the first image come before these.
    positions : int
        Patches of an image.
    """

    masks: Array
    first: int
    positions: int

    def mask(self, values: Array) -> Array:
        """Let T∘values take the place of values, in place.

        Parameters
        ----------
        values : Array
            (n, K), C-contiguous, of these patches.

        Returns
        -------
        Array
            (K,), the sums Σₙ T∘values, of the values' dtype; float64 if that is not floating.

        Raises
        ------
        ValueError
            For values of other units, or of more patches than these images have.
        """
        self.require(values)
        sums = cells(values)
        if values.dtype.kind != "f":  # of which bools and small integers hold no sum
            sums = sums.astype(np.float64)
        kernels.for_array(values).taught(values, *self, sums)
        return column_sums(sums)

    def require(self, values: Array) -> None:
        """Raise ValueError unless values are (n, K), of units and patches that the masks are for.

        Parameters
        ----------
        values : Array
            Scores, or what a rule makes of them.
        """
        images, units = self.masks.shape
        most = images * self.positions - self.first
        if values.ndim != 2 or values.shape[1] != units or len(values) > most:
            problem = f"values must be (n, {units}), n at most {most}, the patches of the masks, got {values.shape}."
            raise ValueError(f"Teacher: {problem}")

    def totals(self, like: Array) -> Array:
        """Return Σₙ T (K,): from how many of these patches each unit may learn.

        Parameters
        ----------
        like : Array
            (n, K), whose number of rows and dtype count.

        Returns
        -------
        Array
            (K,).
        """
        end = self.first + len(like)
        last = (end - 1) // self.positions
        totals = self.positions * self.masks[: last + 1].sum(axis=0, dtype=np.int64)
        totals -= self.first * self.masks[0].astype(np.int64)  # of images that these patches are but a part of
        totals -= ((last + 1) * self.positions - end) * self.masks[last].astype(np.int64)
        return totals.astype(like.dtype)


def taught_swta_gate(scores: Array, norms: Norms, temperature: float, power: bool, teacher: Teacher) -> Gate:
    """Return swta_gate among the units that may learn: Z = T∘e / Σ T∘e. In place.

    Equation: FastHebb (Lagani et al. 2022), soft-WTA with a teacher, as in its program. Kernels and oracles:
    taught_similarities and taught_swta.
    """
    teacher.require(scores)
    mass, decay = cells(scores, 2)
    sharpness = sharpness_of(temperature, scores)
    kernels.for_array(scores).taught_similarities(scores, norms.patches, norms.units, *teacher)
    kernels.for_array(scores).taught_swta(scores, sharpness, power, mass, decay)
    return Gate(scores, column_sums(decay), column_sums(mass))


def taught_kwta_gate(scores: Array, unit_norms: Array, k: int, teacher: Teacher) -> Gate:
    """Return kwta_gate among the units that may learn, who all win if they are fewer than k. In place.

    Equation: FastHebb (Lagani et al. 2022), k-WTA with a teacher, as in its program. Kernels and oracles:
    taught_cosines, kwta and taught.
    """
    teacher.require(scores)
    kernels.for_array(scores).taught_cosines(scores, unit_norms, *teacher)
    kwta_gate(scores, backend.namespace(scores).ones(len(unit_norms), scores.dtype), k)
    sums = teacher.mask(scores)
    return Gate(scores, sums, sums)


def as_masks(function: str, teacher: Any, images: int, units: int, device: str) -> Array:
    """Return a teacher as uint8 masks (images, units) on a device.

    Raises ValueError for anything but numbers 0 and 1 of this shape.
    """
    array = backend.as_array(function, "teacher", teacher)
    if array.shape != (images, units):
        problem = f"must be a mask (images, units) = ({images}, {units}), got shape {array.shape}."
        raise checks.wrong(ValueError, function, "teacher", problem)
    if not bool(((array == 0) | (array == 1)).all()):
        raise checks.wrong(ValueError, function, "teacher", "must hold 0 and 1 alone.")
    return devices.to_device(array, device).astype(np.uint8, order="C")
