"""Features in other formats than HDF5: written from the HDF5 file of an extraction when that is done."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from hebbcore.features import numpy_files, parquet_file, zarr_group
from hebbcore.features.blocks import Block, Stored, blocks_of, digest_of
from hebbcore.features.storage import are_same, different_name, other_names
from hebbcore.files import cannot_write, sync
from hebbcore.texts import as_text

FORMATS = ("hdf5", "npy", "parquet", "zarr")
_MODULES: dict[str, ModuleType] = {"npy": numpy_files, "parquet": parquet_file, "zarr": zarr_group}


def require(function: str, form: str) -> None:
    """Raise ImportError, with advice, if the package of a format is not installed."""
    try:
        if form == "parquet":
            import pyarrow  # noqa: F401
        elif form == "zarr":
            import zarr  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{function}: the format {form} needs {error.name}; pip install 'hebbcore[{form}]' installs it."
        ) from None


def format_of(path: Path) -> str | None:
    """Return which of the formats other than HDF5 a file or folder seems to have; None: none of them."""
    if path.is_dir():
        return "npy" if (path / numpy_files.NOTE).is_file() else "zarr" if (path / zarr_group.NOTE).is_file() else None
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return "parquet" if file.read(4) == b"PAR1" else None


def finished(function: str, form: str, path: Path, settings: dict[str, Any], names: Sequence[str] | None) -> bool:
    """Return whether the features are there, as they were written; reads all of them.

    names: of the images; None: they have none, or they are not known. Raises FileExistsError if path holds something
    else, or features of the same images under other names; ValueError if it is damaged.
    """
    if not path.exists():
        return False
    different: list[str] = []
    try:
        same = format_of(path) == form and are_same(settings, (stored := _read(function, path)).settings)
        if same:
            blocks = partial(_compared, stored, names, different)
            _require_sound(function, path, replace(stored, blocks=blocks))
    except ValueError as error:
        raise ValueError(f"{error} Remove it, and the same call writes it anew.") from None
    if not same:
        raise FileExistsError(f"{function}: {path} exists and holds something else; remove it or name another file.")
    if different:
        raise other_names(function, path, different[0])
    return True


def _compared(stored: Stored, names: Sequence[str] | None, different: list[str]) -> Iterator[Block]:
    """Yield the blocks of features, and note in words the first image of each that should have another name."""
    first = 0
    for block in stored.blocks():
        if names is not None and block[2] is not None and (found := different_name(names, block[2], first)):
            different.append(found)
        first += len(block[1])
        yield block


def verify(function: str, path: Path) -> None:
    """Raise ValueError if features are damaged or none of hebbcore's. Reads all of them."""
    _require_sound(function, path, _read(function, path))


def _require_sound(function: str, path: Path, stored: Stored) -> None:
    try:
        sound = stored.is_sound()
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{function}: {path} is damaged ({error}).") from None
    if not sound:
        raise ValueError(f"{function}: {path} is damaged: its contents do not match its digest.")


def write(form: str, source: Path, path: Path, settings: dict[str, Any]) -> None:
    """Write the features of an HDF5 file in another format, under another name until all is there.

    Raises OSError if they cannot be written; nothing of them stays then.
    """
    import h5py

    temporary = path.with_name(f".{path.name}.partial")
    _remove(temporary)  # of a kill
    try:
        with h5py.File(source, "r") as file:
            arrays = {name: file.get(name) for name in ("features", "labels", "names")}
            classes = tuple(as_text(name) for name in file["classes"][:]) if "classes" in file else ()

            def blocks() -> Any:
                return blocks_of(settings, *arrays.values())

            _MODULES[form].write(
                Stored(settings, digest_of(settings, blocks(), classes), blocks, classes), arrays, temporary
            )
        for place in [*temporary.rglob("*"), temporary]:
            sync(place)
        os.replace(temporary, path)
        sync(path.parent)
    except BaseException as error:
        _remove(temporary)
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise


def _read(function: str, path: Path) -> Stored:
    form = format_of(path)
    refusal = f"{function}: {path} is damaged or holds no features of hebbcore"
    if form is None:
        raise ValueError(f"{refusal}.")
    require(function, form)
    try:
        found: Stored = _MODULES[form].read(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{refusal} ({error}).") from None
    return found


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
