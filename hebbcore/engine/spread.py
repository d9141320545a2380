"""Which rows of a batch are looked at where not all are: evenly spread over its images, and over their positions."""

import math
from typing import Any

import numpy as np

_GOLDEN = (5**0.5 - 1) / 2  # multiples of it, without their whole parts, are the most evenly spread


def spread_step(rows: int, most: int, positions: int) -> int:
    """Return the distance from one row that is looked at to the next.

    It has no divisor in common with the positions: a step of 64, of maps with 32 columns, would see the first column
    alone, which is the padding, or the black border of a digit.

    Parameters
    ----------
    rows : int
        Patches of the batch, image by image.
    most : int
        Of how many at most.
    positions : int
        Patches of an image.

    Returns
    -------
    int
        The smallest such step, at least 1.
    """
    return coprime(max(1, -(-rows // most)), positions)


def spread_rows(rows: int, count: int) -> Any:
    """Return the numbers (count,) of just so many of a batch's rows, ascending, where they need not be a slice."""
    step = coprime(max(1, round(_GOLDEN * rows)), rows)
    return np.sort(np.arange(count) * step % rows)


def coprime(step: int, positions: int) -> int:
    """Return the smallest number from step on that has no divisor in common with the positions."""
    while math.gcd(step, positions) > 1:
        step += 1
    return step
