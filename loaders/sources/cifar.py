"""CIFAR-10 and CIFAR-100: python or binary version, packed or unpacked."""

import io
import os
import pickle
import pickletools
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np

from loaders.shards.format import Bytes, decode_name
from loaders.sources.arrays import ArraySource, array_source
from loaders.sources.tar import first_members, first_names, tar_files
from loaders.sources.unpack import GZIP
from loaders.text import printable

PIXELS = 3 * 32 * 32
CLASSES = 100
FIRST = 4  # files of a compressed archive that are looked at
BATCHES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
META = ("batches.meta", "meta", "batches.meta.txt", "fine_label_names.txt")
FILES = frozenset(
    [*META, "train", "test", "train.bin", "test.bin"]
    + [name + suffix for names in BATCHES.values() for name in names for suffix in ("", ".bin")]
)


def is_cifar(names: Collection[str]) -> bool:
    """Whether these file names of one folder are those of a CIFAR version."""
    return bool({"data_batch_1", "data_batch_1.bin", "train.bin"} & set(names)) or {"train", "meta"} <= set(names)


def is_cifar_archive(path: Path) -> bool:
    """Whether a file is a tar, compressed by gzip or not, that begins like a CIFAR version."""
    with open(path, "rb") as file:
        packed = file.read(2) == GZIP
    try:
        if packed:
            return any(name in FILES for name in first_names(path, FIRST))
        return is_cifar([PurePosixPath(member.name).name for member in first_members(path, 10)])
    except ValueError:
        return False


def open_cifar(path: str | os.PathLike[str], split: str = "train") -> ArraySource:
    """CIFAR-10 or CIFAR-100 (fine labels) from the official tar.gz or the folder it unpacks to.

    Parameters
    ----------
    path : str or path
        The tar, compressed by gzip or not, or the folder, of the python or the binary version.
    split : str
        "train" or "test".

    Returns
    -------
    ArraySource
        Images (n, 32, 32, 3) uint8.

    Raises
    ------
    FileNotFoundError
        If a file of the split is missing.
    ValueError
        If a file is damaged or contains anything but arrays, numbers and names.
    """
    _check_split("open_cifar", split, ("train", "test"))
    folder, shown = Path(path), printable(path)
    files = _unpacked(folder) if folder.is_dir() else _packed(folder)
    binary = any(name.endswith(".bin") for name in files)
    hundred = not any(name.startswith("data_batch") for name in files)
    suffix = ".bin" if binary else ""
    wanted = [name + suffix for name in ([split] if hundred else BATCHES[split])]
    missing = [name for name in wanted if name not in files]
    if missing:
        raise FileNotFoundError(f"open_cifar: {shown} lacks {', '.join(missing)}; get the archive again")
    read = (_binary100 if hundred else _binary10) if binary else _python_batch
    parts = [read(files[name](), f"{shown}: {name}") for name in wanted]
    images = np.concatenate([part[0] for part in parts]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = np.concatenate([part[1] for part in parts])
    names = [name for part in parts for name in part[2]]
    return array_source(
        np.ascontiguousarray(images),
        labels,
        class_names=_class_names(files, hundred, binary, shown),
        description={"kind": "CIFAR-100" if hundred else "CIFAR-10", "split": split},
        names=names or None,
        caller=f"open_cifar: {shown}",
    )


def _check_split(caller: str, split: str, allowed: tuple[str, ...]) -> None:
    if split not in allowed:
        raise ValueError(f"{caller}: split must be one of {', '.join(allowed)}, got {split!r}")


def _unpacked(folder: Path) -> dict[str, Callable[[], bytes]]:
    return {entry.name: entry.read_bytes for entry in folder.iterdir() if entry.name in FILES}


def _packed(path: Path) -> dict[str, Callable[[], bytes]]:
    return {name: io.BytesIO(data).getvalue for name, data in tar_files("open_cifar", path, FILES).items()}


class _ArraysOnly(pickle.Unpickler):
    """Loads what the python version is made of, uint8 arrays and plain values, and refuses everything else.

    An array takes its size from the bytes that come for it, not from what it is called with.
    """

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return lambda *_: np.empty(0, np.uint8)
        if (module, name) == ("numpy", "ndarray"):
            return None  # an argument of _reconstruct
        if (module, name) == ("numpy", "dtype"):
            return _byte
        raise pickle.UnpicklingError(f"it would load {module}.{name}, which no CIFAR file needs")


def _byte(code: str | bytes, *_: object) -> np.dtype[Any]:
    if code not in ("u1", b"u1"):
        raise pickle.UnpicklingError("its arrays must be of unsigned bytes")
    return np.dtype("u1", copy=True)


def _unpickle(data: bytes, where: str) -> dict[bytes, Any]:
    try:
        _check_pickle(data)
        values = _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:
        raise ValueError(f"open_cifar: {where} is not one of CIFAR's own files: {printable(error)}") from error
    if not isinstance(values, dict):
        raise ValueError(f"open_cifar: {where} must hold a dict, got {type(values).__name__}")
    return values


def _check_pickle(data: bytes) -> None:
    """Raise ValueError if a pickle claims more bytes than it has, or numbers a value higher than it has operations."""
    for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= cast(int, argument) <= count:
            raise ValueError(f"it numbers a value {argument} after {count} operations")


Part = tuple[Bytes, Any, list[str]]


def _python_batch(data: bytes, where: str) -> Part:
    values = _unpickle(data, where)
    labels = values.get(b"labels", values.get(b"fine_labels"))
    pixels = values.get(b"data")
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or not isinstance(labels, list):
        raise ValueError(f"open_cifar: {where} must hold uint8 data and a list of labels; it is damaged")
    if pixels.shape != (len(labels), PIXELS) or not labels:
        raise ValueError(
            f"open_cifar: {where} must hold {len(labels)} rows of {PIXELS} bytes, got {pixels.shape}; it is damaged"
        )
    if not all(type(label) is int and 0 <= label < CLASSES for label in labels):
        raise ValueError(f"open_cifar: {where} must hold labels from 0 to {CLASSES - 1}; it is damaged")
    return pixels, np.array(labels, np.int64), _texts(values.get(b"filenames", []), where)


def _texts(values: Any, where: str) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, bytes) for value in values):
        raise ValueError(f"open_cifar: {where} must hold lists of names; it is damaged")
    return [decode_name(value) for value in values]


def _binary10(data: bytes, where: str, label_bytes: int = 1) -> Part:
    record = label_bytes + PIXELS
    if not data or len(data) % record:
        raise ValueError(f"open_cifar: {where} must be a multiple of {record} bytes, got {len(data)}; it is damaged")
    rows = np.frombuffer(data, np.uint8).reshape(-1, record)
    return rows[:, label_bytes:], rows[:, label_bytes - 1].astype(np.int64), []


def _binary100(data: bytes, where: str) -> Part:
    return _binary10(data, where, label_bytes=2)  # the coarse label, then the fine one


def _class_names(files: dict[str, Callable[[], bytes]], hundred: bool, binary: bool, path: str) -> list[str] | None:
    if binary:
        name = "fine_label_names.txt" if hundred else "batches.meta.txt"
        return files[name]().decode("utf-8", "surrogateescape").split() if name in files else None
    name, key = ("meta", b"fine_label_names") if hundred else ("batches.meta", b"label_names")
    return _texts(_unpickle(files[name](), f"{path}: {name}").get(key), f"{path}: {name}") if name in files else None
