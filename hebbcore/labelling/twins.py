"""Equal images with different labels: at most one of these is right, whatever a classifier makes of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hebbcore.hdf5 import new_digest
from hebbcore.labelling.guesses import Ints
from hebbcore.labelling.pictures import images_at
from hebbcore.texts import plain


def unlike_twins(stream: Any, labels: Ints) -> list[list[int]]:
    """Return groups of labelled images whose pixels are equal and whose labels are not, in their order.

    stream: see images_at. labels: (n,); -1: none.
    """
    equal: dict[bytes, list[int]] = {}
    for number, image in images_at(stream, np.flatnonzero(labels >= 0).tolist()):
        digest = new_digest()
        digest.update(np.ascontiguousarray(image))
        equal.setdefault(digest.digest(), []).append(number)
    return [group for group in equal.values() if len(set(labels[group].tolist())) > 1]


def told(groups: Sequence[Sequence[int]], names: Sequence[str], labels: Ints, classes: Sequence[str]) -> str:
    """Return a line on such groups, of which there is one at least. names: (n,) of the images."""
    shown = " and ".join(f"{plain(names[i])} ({plain(classes[labels[i]])})" for i in _two(groups[0], labels))
    count = sum(map(len, groups))
    return f"{count:,} of the labelled images are equal to others with another label, such as {shown}; see the report"


def _two(group: Sequence[int], labels: Ints) -> tuple[int, int]:
    """Return two images of a group with different labels."""
    return group[0], next(number for number in group if labels[number] != labels[group[0]])
