"""CIFAR archives in their official versions, of any images."""

import io
import pickle
import struct
from pathlib import Path

import numpy as np


def cifar_python(folder: Path, hundred: bool, arrays) -> Path:
    """The official python version of some images, protocol 2 with byte strings as Python 2 wrote it."""
    folder.mkdir(parents=True)
    images, labels = arrays
    parts = np.array_split(np.arange(len(labels)), 6)
    groups = {"train": np.concatenate(parts[:5]), "test": parts[5]}
    if not hundred:
        groups = {**{f"data_batch_{i + 1}": parts[i] for i in range(5)}, "test_batch": parts[5]}
    for name, rows in groups.items():
        key = b"fine_labels" if hundred else b"labels"
        pixels = np.ascontiguousarray(images[rows].transpose(0, 3, 1, 2).reshape(len(rows), -1))
        values = {b"data": pixels, key: labels[rows].tolist(), b"filenames": [b"%d.png" % row for row in rows]}
        (folder / name).write_bytes(old_pickle(values))
    meta = {(b"fine_label_names" if hundred else b"label_names"): [b"c%d" % i for i in range(5)]}
    (folder / ("meta" if hundred else "batches.meta")).write_bytes(old_pickle(meta))
    return folder


class Python2Pickler(pickle._Pickler):
    """Writes byte strings and names as Python 2 did, as its str."""

    def save_str(self, value):
        data = value if isinstance(value, bytes) else value.encode("latin-1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch = {**pickle._Pickler.dispatch, bytes: save_str, str: save_str}  # noqa: RUF012


def old_pickle(values) -> bytes:
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(values)
    return buffer.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def cifar_binary(folder: Path, hundred: bool, arrays) -> Path:
    folder.mkdir(parents=True)
    images, labels = arrays
    planes = images.transpose(0, 3, 1, 2).reshape(len(labels), -1)
    first = [np.full((len(labels), 1), 99, np.uint8)] if hundred else []
    rows = np.concatenate([*first, labels[:, None].astype(np.uint8), planes], axis=1)
    parts = np.array_split(rows, 6)
    if hundred:
        groups = {"train.bin": np.concatenate(parts[:5]), "test.bin": parts[5]}
    else:
        groups = {**{f"data_batch_{i + 1}.bin": parts[i] for i in range(5)}, "test_batch.bin": parts[5]}
    for name, part in groups.items():
        (folder / name).write_bytes(part.tobytes())
    names = "fine_label_names.txt" if hundred else "batches.meta.txt"
    (folder / names).write_text("".join(f"c{i}\n" for i in range(5)) + "\n")
    return folder
