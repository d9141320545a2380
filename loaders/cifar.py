"""CIFAR-10 and CIFAR-100: python or binary version, packed or unpacked, and HDF5 files of arrays."""

import io
import os
import pickle
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np

from loaders.format import Bytes, decode_name
from loaders.sources import ArraySource, array_source

PIXELS = 3 * 32 * 32
BATCHES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
META = ("batches.meta", "meta", "batches.meta.txt", "fine_label_names.txt")
FILES = frozenset(
    [*META, "train", "test", "train.bin", "test.bin"]
    + [name + suffix for names in BATCHES.values() for name in names for suffix in ("", ".bin")]
)


def is_cifar(names: Sequence[str]) -> bool:
    """Whether these file names of one folder are those of a CIFAR version."""
    return bool({"data_batch_1", "data_batch_1.bin", "train.bin"} & set(names)) or {"train", "meta"} <= set(names)


def open_cifar(path: str | os.PathLike[str], split: str = "train") -> ArraySource:
    """CIFAR-10 or CIFAR-100 (fine labels) from the official tar.gz or the folder it unpacks to.

    split: "train" or "test". Raises FileNotFoundError if a file of the split is missing, ValueError if one is
    damaged or contains anything but arrays, numbers and names.
    """
    _check_split("open_cifar", split, ("train", "test"))
    folder = Path(path)
    files = _unpacked(folder) if folder.is_dir() else _packed(folder)
    binary = any(name.endswith(".bin") for name in files)
    hundred = not any(name.startswith("data_batch") for name in files)
    suffix = ".bin" if binary else ""
    wanted = [name + suffix for name in ([split] if hundred else BATCHES[split])]
    missing = [name for name in wanted if name not in files]
    if missing:
        raise FileNotFoundError(f"open_cifar: {path} lacks {', '.join(missing)}; get the archive again")
    read = (_binary100 if hundred else _binary10) if binary else _python_batch
    parts = [read(files[name](), f"{path}: {name}") for name in wanted]
    images = np.concatenate([part[0] for part in parts]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = np.concatenate([part[1] for part in parts])
    names = [name for part in parts for name in part[2]]
    return array_source(
        np.ascontiguousarray(images),
        labels,
        class_names=_class_names(files, hundred, binary),
        description={"kind": "CIFAR-100" if hundred else "CIFAR-10", "split": split},
        names=names or None,
        caller="open_cifar",
    )


def open_hdf5(path: str | os.PathLike[str], split: str = "train") -> ArraySource:
    """An HDF5 file with <split>/images (n, H, W, C) uint8 and <split>/labels (n,).

    Optional: <split>/filenames and a file attribute class_names. Raises ValueError if the split is not there.
    """
    with h5py.File(path, "r") as file:
        if split not in file or not {"images", "labels"} <= set(file[split]):
            raise ValueError(f"open_hdf5: {path} must hold {split}/images and {split}/labels, got {sorted(file)}")
        group = file[split]
        names = [decode_name(name) for name in group["filenames"][:]] if "filenames" in group else None
        class_names = [str(name) for name in file.attrs["class_names"]] if "class_names" in file.attrs else None
        images, labels = group["images"][:], group["labels"][:]
        description = {"kind": "HDF5 arrays", "name": os.path.basename(path), "split": split}
    return array_source(
        images, labels, class_names=class_names, description=description, names=names, caller="open_hdf5"
    )


def _check_split(caller: str, split: str, allowed: tuple[str, ...]) -> None:
    if split not in allowed:
        raise ValueError(f"{caller}: split must be one of {', '.join(allowed)}, got {split!r}")


def _unpacked(folder: Path) -> dict[str, Callable[[], bytes]]:
    return {entry.name: entry.read_bytes for entry in folder.iterdir() if entry.name in FILES}


def _packed(path: Path) -> dict[str, Callable[[], bytes]]:
    files: dict[str, Callable[[], bytes]] = {}
    try:
        with tarfile.open(path) as tar:
            for entry in tar:
                stream = tar.extractfile(entry) if entry.isreg() else None
                name = PurePosixPath(entry.name).name
                if stream is not None and name in FILES:
                    files[name] = io.BytesIO(stream.read()).getvalue
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"open_cifar: {path} is not a whole tar archive: {error}; get it again") from error
    return files


class _ArraysOnly(pickle.Unpickler):
    """Loads what the python version is made of, arrays and plain values, and refuses everything else."""

    _reconstruct = np.empty(0).__reduce__()[0]
    _allowed: dict[tuple[str, str], Any] = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it would load {module}.{name}, which no CIFAR file needs") from None


def _unpickle(data: bytes, where: str) -> dict[bytes, Any]:
    try:
        values = _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:
        raise ValueError(f"open_cifar: {where} is not one of CIFAR's own files: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"open_cifar: {where} must hold a dict, got {type(values).__name__}")
    return values


Part = tuple[Bytes, Any, list[str]]


def _python_batch(data: bytes, where: str) -> Part:
    values = _unpickle(data, where)
    labels = values.get(b"labels", values.get(b"fine_labels"))
    pixels = values.get(b"data")
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or not isinstance(labels, list):
        raise ValueError(f"open_cifar: {where} must hold uint8 data and a list of labels; it is damaged")
    if pixels.shape != (len(labels), PIXELS):
        raise ValueError(
            f"open_cifar: {where} must hold {len(labels)} rows of {PIXELS} bytes, got {pixels.shape}; it is damaged"
        )
    return pixels, np.array(labels, np.int64), [decode_name(name) for name in values.get(b"filenames", [])]


def _binary10(data: bytes, where: str, label_bytes: int = 1) -> Part:
    record = label_bytes + PIXELS
    if not data or len(data) % record:
        raise ValueError(f"open_cifar: {where} must be a multiple of {record} bytes, got {len(data)}; it is damaged")
    rows = np.frombuffer(data, np.uint8).reshape(-1, record)
    return rows[:, label_bytes:], rows[:, label_bytes - 1].astype(np.int64), []


def _binary100(data: bytes, where: str) -> Part:
    return _binary10(data, where, label_bytes=2)  # the coarse label, then the fine one


def _class_names(files: dict[str, Callable[[], bytes]], hundred: bool, binary: bool) -> list[str] | None:
    if binary:
        name = "fine_label_names.txt" if hundred else "batches.meta.txt"
        return files[name]().decode().split() if name in files else None
    name, key = ("meta", b"fine_label_names") if hundred else ("batches.meta", b"label_names")
    return [decode_name(label) for label in _unpickle(files[name](), name)[key]] if name in files else None
