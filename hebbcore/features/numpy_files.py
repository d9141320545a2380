"""Features as a folder of NumPy's files, to be mapped into memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore.features.blocks import Block, Stored, blocks_of, rows_of_block
from hebbcore.files import parse_json, write_text

NOTE = "features.json"
_NAMES = ("features", "labels", "names")


def write(stored: Stored, arrays: dict[str, Any], folder: Path) -> None:
    """Write features, labels and names. arrays: of these names, with shape and dtype, which slice like NumPy's."""
    folder.mkdir()
    step = rows_of_block(stored.settings)
    for name in _NAMES:
        array = arrays.get(name)
        if array is None:
            continue
        dtype = np.dtype(f"S{array.dtype.itemsize}") if name == "names" else array.dtype.newbyteorder("<")
        with (folder / f"{name}.npy").open("wb") as file:  # not through a map: a full disk ends the process
            about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": array.shape}
            np.lib.format.write_array_header_1_0(file, about)
            for first in range(0, len(array), step):
                file.write(np.ascontiguousarray(array[first : first + step], dtype).tobytes())
    note = {"settings": stored.settings, "digest": stored.digest, "classes": list(stored.classes)}
    write_text(folder / NOTE, json.dumps(note, indent=1) + "\n")


def read(folder: Path) -> Stored:
    """Return what a folder holds. Raises ValueError and others if it is damaged."""
    note: Any = parse_json((folder / NOTE).read_bytes())
    files = {name: folder / f"{name}.npy" for name in _NAMES}
    arrays = {name: np.load(path, mmap_mode="r", allow_pickle=False) for name, path in files.items() if path.exists()}
    settings = dict(note["settings"])

    def blocks() -> Iterator[Block]:
        return blocks_of(settings, arrays["features"], arrays["labels"], arrays.get("names"))

    return Stored(settings, str(note["digest"]), blocks, tuple(note.get("classes", ())))
