"""space.h5: what a classifier learned from photos without labels, so that the next start need not learn it again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore import hdf5
from hebbcore.files import write_atomically

KEPT = "space.h5"  # in the folder of the work
VERSION = 1  # of the format
SPACE, _FROM = "space", "made_from"


def write_kept(path: Path, made_from: str, arrays: Mapping[str, Any]) -> None:
    """Write arrays. made_from: digest of the features. Raises OSError if that cannot be done."""
    whole = {_FROM: np.frombuffer(made_from.encode(), np.uint8), **arrays}
    write_atomically(path, lambda temporary: hdf5.write_sealed(temporary, SPACE, VERSION, whole))


def read_kept(path: Path, made_from: str) -> dict[str, Any] | None:
    """Return the arrays; None if there are none, of other features, of another version, or damaged."""
    if not path.is_file():
        return None
    try:
        hdf5.check("label", path, SPACE, VERSION)
        with hdf5.reading(path, f"label: {path} holds no space") as file:
            arrays = hdf5.arrays_in(file, "/")
    except ValueError:  # it is only there to save time
        return None
    return arrays if arrays.pop(_FROM, np.zeros(0)).tobytes() == made_from.encode() else None
