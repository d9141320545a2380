"""What a file of features holds, some rows at a time, and the digest of all that."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hebbcore import hdf5
from hebbcore.texts import as_text

Block = tuple[Any, Any, Sequence[str] | None]  # features (n, …), labels (n,), names

_PIECE = 2**24  # bytes of features
_NAMES = 4096  # names, so that each may be as long as one can be


@dataclass(frozen=True)
class Stored:
    """Features on the disk: the settings of their extraction, the digest that lies with them, and what they are.

    classes: what the labels 0, 1, … mean, as far as that is known.
    """

    settings: dict[str, Any]
    digest: str
    blocks: Callable[[], Iterator[Block]]
    classes: Sequence[str] = ()

    def is_sound(self) -> bool:
        """Return whether they have their digest; reads all of them."""
        return digest_of(self.settings, self.blocks(), self.classes) == self.digest


def rows_of_block(settings: dict[str, Any]) -> int:
    """Return how many images are taken at a time."""
    row = math.prod(settings["shape"]) * np.dtype(settings["dtype"]).itemsize
    rows: int = _PIECE // max(1, row)
    return min(_NAMES, max(1, rows))


def blocks_of(settings: dict[str, Any], features: Any, labels: Any, names: Any) -> Iterator[Block]:
    """Yield what arrays hold, or what slices like them. names: of bytes or texts, or None."""
    count, step = settings["images"], rows_of_block(settings)
    for array in (features, labels, *([] if names is None else [names])):
        if array.shape[0] != count:
            raise ValueError(f"it holds {array.shape[0]} rows instead of {count}")
    for first in range(0, count, step):
        rows = slice(first, min(first + step, count))
        some = None if names is None else [as_text(name) for name in names[rows]]
        yield np.asarray(features[rows]), np.asarray(labels[rows]), some


def digest_of(settings: dict[str, Any], blocks: Iterator[Block], classes: Sequence[str]) -> str:
    """Return the digest of settings, blocks and names of classes, if there are any."""
    digest = hdf5.new_digest()
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for features, labels, names in blocks:
        digest.update(np.ascontiguousarray(features, features.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data)
        digest.update(np.ascontiguousarray(labels, "<i8").data)
        for name in names or ():
            digest.update(name.encode("utf-8", "backslashreplace") + b"\0")
    if classes:
        digest.update(json.dumps(list(classes)).encode())
    return str(digest.hexdigest())
