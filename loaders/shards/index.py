"""index.json: what a finished set holds, with a digest of itself."""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from loaders.shards.format import DTYPES, FORMAT, INDEX, VERSION, WIDE, Layout, shard_name, version_of, white_of
from loaders.text import printable


@dataclass(frozen=True)
class ShardEntry:
    """One line of the index: a shard's file name, number of records and size of the file in bytes."""

    file: str
    records: int
    bytes: int


@dataclass(frozen=True)
class Index:
    """index.json: the whole set at a glance. It is written last, so a folder with an index is complete.

    Parameters
    ----------
    identity : str
        A digest of everything that decides the bytes of the set.
    layout : str
        "packed" or "raw".
    image_shape : (H, W, C), optional
        Height, width and channels of raw images; None for packed ones.
    records : int
        Images written.
    skipped : int
        Items of the source left out.
    class_names : tuple of str
        Names of the labels 0, 1, …
    class_counts : tuple of int
        Labelled images of each class; records less their sum have no label.
    mean : tuple of float
        Mean per channel in units of 255, of this set or of the training set it was built with.
    std : tuple of float
        Standard deviation per channel in units of 255, of the same set.
    source : dict
        What the set was built from.
    settings : dict
        How it was built.
    shards : tuple of ShardEntry
        Name, number of records and bytes of each file.
    digest : str, optional
        Digest of all the rest; None for a set of an earlier version, whose index has none.
    """

    identity: str
    layout: Layout
    image_shape: tuple[int, int, int] | None
    records: int
    skipped: int
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: dict[str, Any]
    settings: dict[str, Any]
    shards: tuple[ShardEntry, ...]
    digest: str | None = None

    @property
    def dtype(self) -> str:
        """The numbers of raw images: "uint8", unless the settings say otherwise."""
        dtype: str = self.settings.get("dtype", "uint8")
        return dtype

    @property
    def white(self) -> int:
        """The value that streams read as 1."""
        return white_of(self.dtype, self.settings.get("range"))

    @property
    def value_range(self) -> int | None:
        """The value of images of 16 or more bits that is white; None: they had 8 bits, or are floats."""
        found: int | None = self.settings.get("range")
        return found if self.dtype in ("uint8", "float32") else self.white

    def to_json(self) -> str:
        """Return the text of index.json, with its digest."""
        values = {"format": FORMAT, "version": version_of(self.dtype), **asdict(self)}
        return json.dumps({**values, "digest": index_digest(values)}, indent=1) + "\n"


def index_digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of an index's values without the digest, as JSON with sorted keys and no spaces."""
    rest = {key: value for key, value in values.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_index(folder: str | os.PathLike[str]) -> Index:
    """Read the index of a set of shards.

    Parameters
    ----------
    folder : str or path
        A folder written by build_shards or write_shards.

    Returns
    -------
    Index
        Of the set.

    Raises
    ------
    FileNotFoundError
        If the folder holds no finished set.
    ValueError
        If index.json is not one of ours, does not have its digest, or contradicts itself.
    """
    path = Path(folder) / INDEX
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"read_index: {path} does not exist; give a folder written by build_shards (hebbcore shards build), "
            "and if a build was interrupted run it again to finish it"
        ) from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"read_index: {path} is not JSON ({reason}); it is damaged, build the set again") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ValueError(f'read_index: {path} must have "format": "{FORMAT}"; it belongs to something else')
    if values.get("version") not in (VERSION, WIDE):
        found = printable(repr(values.get("version")))
        raise ValueError(f"read_index: {path} must have version {VERSION} or {WIDE}, got {found}")
    if "digest" in values and values["digest"] != index_digest(values):
        raise ValueError(
            f"read_index: {path} does not have the digest it carries; it is damaged: delete it and run the same build "
            "again, which keeps the shards"
        )
    try:
        index = _index(values)
        fault = _fault(index)
    except (LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"read_index: {path} lacks or garbles {printable(error)}; it is damaged, build the set again"
        ) from error
    if not fault and version_of(index.dtype) != values["version"]:
        fault = "version and dtype"
    if fault:
        raise ValueError(f"read_index: {path} garbles {fault}; it is damaged, build the set again")
    return index


def _index(values: dict[str, Any]) -> Index:
    values = {field.name: values[field.name] for field in fields(Index) if field.name != "digest" or "digest" in values}
    values["shards"] = tuple(ShardEntry(**entry) for entry in values["shards"])
    for name in ("class_names", "class_counts", "mean", "std"):
        values[name] = tuple(values[name])
    if values["image_shape"] is not None:
        values["image_shape"] = tuple(values["image_shape"])
    return Index(**values)


def _is_range(index: Index) -> bool:
    value = index.settings.get("range")
    return value is None or (type(value) is int and value > 0)


def _fault(index: Index) -> str | None:
    """What cannot be in an index, whoever wrote it; None if all can."""
    entries = index.shards
    counts = [
        index.records,
        index.skipped,
        *index.class_counts,
        *(n for shard in entries for n in (shard.records, shard.bytes)),
    ]
    shape, figures = index.image_shape, (*index.mean, *index.std)
    right = {
        "identity": isinstance(index.identity, str),
        "layout": index.layout in ("packed", "raw") and (index.layout == "raw") == (shape is not None),
        "image_shape": shape is None or (len(shape) == 3 and all(type(n) is int and n > 0 for n in shape)),
        "its counts": all(type(count) is int and count >= 0 for count in counts),
        "class_names": all(isinstance(name, str) for name in index.class_names)
        and len(index.class_names) == len(index.class_counts),
        "mean and std": all(type(value) in (int, float) and math.isfinite(value) for value in figures)
        and len(index.mean) == len(index.std) == (3 if shape is None else shape[2]),
        "source and settings": isinstance(index.source, dict) and isinstance(index.settings, dict),
        "dtype": not isinstance(index.settings, dict)
        or (index.dtype == "uint8" or (index.dtype in DTYPES and shape is not None and _is_range(index))),
        "shards": [shard.file for shard in entries] == [shard_name(number) for number in range(len(entries))],
        "digest": index.digest is None or isinstance(index.digest, str),
    }
    wrong = [name for name, fine in right.items() if not fine]
    if wrong:
        return wrong[0]
    if not index.records or index.records != sum(shard.records for shard in entries):
        return f"records: its shards have {sum(shard.records for shard in entries)} of {index.records}"
    return None
