"""Features as a Zarr group (version 3 of its format) of arrays in chunks."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore.features.blocks import Block, Stored, blocks_of, rows_of_block
from hebbcore.files import parse_json

NOTE = "zarr.json"


def write(stored: Stored, arrays: dict[str, Any], folder: Path) -> None:
    """Write the arrays features, labels and names (if there are names), and settings and digest as attributes."""
    import zarr

    group = zarr.open_group(folder, mode="w", zarr_format=3)
    group.attrs.update({"settings": json.dumps(stored.settings), "digest": stored.digest})
    if stored.classes:
        group.attrs["classes"] = list(stored.classes)
    step = min(rows_of_block(stored.settings), stored.settings["images"])
    shape, dtype = arrays["features"].shape, arrays["features"].dtype
    features = group.create_array("features", shape=shape, chunks=(step, *shape[1:]), dtype=dtype)
    labels = group.create_array("labels", shape=shape[:1], chunks=(step,), dtype="int64")
    names = None
    if arrays.get("names") is not None:
        names = group.create_array("names", shape=shape[:1], chunks=(step,), dtype="string")
    first = 0
    for some, classes, called in stored.blocks():
        rows = slice(first, first + len(classes))
        features[rows], labels[rows] = some, classes
        if names is not None:
            names[rows] = np.array(called, object)
        first = rows.stop


def read(folder: Path) -> Stored:
    """Return what a group holds. Raises ValueError and others if it is damaged."""
    import zarr

    group: Any = zarr.open_group(folder, mode="r")
    settings: dict[str, Any] = dict(parse_json(str(group.attrs["settings"])))
    names = group.get("names")

    def blocks() -> Iterator[Block]:
        return blocks_of(settings, group["features"], group["labels"], names)

    return Stored(settings, str(group.attrs["digest"]), blocks, tuple(group.attrs.get("classes", ())))
