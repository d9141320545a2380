"""Networks and layers as safetensors files: a JSON header with names, shapes and offsets, then the numbers.

The arrays are named as in checkpoints, "layer/name"; what load needs besides them is the text "hebbcore" of the
header's metadata. The format is little-endian: eight bytes with the header's length, the header, the arrays.

The format's own library is not used: a file of hebbcore is written and read wherever NumPy is, with nothing more to
install. The tests read what is written here with that library, and the other way round.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore.files import parse_json, write_atomically

SUFFIX = ".safetensors"
KEY = "hebbcore"  # of the metadata
_TYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "U8": np.uint8,
    "BOOL": np.bool_,
}  # fmt: skip
_NAMES = {np.dtype(kind): name for name, kind in _TYPES.items()}
_MOST_HEADER = 100_000_000  # bytes, as the format's own library has it


def write(path: Path, header: str, arrays: dict[str, Any]) -> None:
    """Write a text and NumPy arrays to a file, atomically. Raises TypeError for numbers that the format lacks."""
    table: dict[str, Any] = {"__metadata__": {KEY: header}}
    first = 0
    for name, array in arrays.items():
        if array.dtype not in _NAMES:
            raise TypeError(f"save: {name} is {array.dtype}, which safetensors does not have; save it as an .h5 file.")
        table[name] = {
            "dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [first, first + array.nbytes]
        }  # fmt: skip
        first += array.nbytes
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 8)

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for array in arrays.values():
                file.write(np.ascontiguousarray(array).data)

    write_atomically(path, fill)


def read(function: str, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the header and the arrays of a file that `write` wrote, or another program with its metadata kept.

    Raises ValueError if it is damaged, or was not made from a file of hebbcore.
    """
    refusal = f"{function}: {path} is damaged or no network of hebbcore as safetensors"
    data = path.read_bytes()
    try:
        size = int.from_bytes(data[:8], "little")
        if len(data) < 8 or size > min(_MOST_HEADER, len(data) - 8):
            raise ValueError("its header is longer than the file")
        table = parse_json(data[8 : 8 + size])
        header = parse_json(table.pop("__metadata__")[KEY])
        if not isinstance(header, dict):
            raise ValueError("its metadata are no table")
        numbers = memoryview(data)[8 + size :]
        arrays = {name: _array(name, described, numbers) for name, described in table.items()}
        if sum(array.nbytes for array in arrays.values()) != len(numbers):
            raise ValueError("its arrays do not fill it")
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{refusal} ({type(error).__name__}: {error}).") from None
    return header, arrays


def _array(name: str, described: dict[str, Any], numbers: memoryview) -> Any:
    """Return the array that a header describes, as a copy."""
    dtype, shape, (first, last) = np.dtype(_TYPES[described["dtype"]]), described["shape"], described["data_offsets"]
    if not all(isinstance(side, int) and side >= 0 for side in (*shape, first, last)):
        raise ValueError(f"{name}: sides and offsets must be whole numbers")
    if not first <= last <= len(numbers) or last - first != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} does not lie in the file")
    return np.frombuffer(numbers[first:last], dtype.newbyteorder("<")).astype(dtype).reshape(shape)
