"""The shard format: what is in a shard file and in the index. docs/shards.md is the same on one page."""

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt

FORMAT = "image-shards"
VERSION = 1
INDEX = "index.json"
REPORT = "report.json"
UNLABELLED = -1  # the label of an image that has none

Layout = Literal["packed", "raw"]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.h5"


def record_crc(image: Any, label: int) -> int:
    """CRC-32 of one record: the image's bytes, then the label as a little-endian int64."""
    return zlib.crc32(int(label).to_bytes(8, "little", signed=True), zlib.crc32(image))


def identity_of(plan: Mapping[str, Any]) -> str:
    """A short digest of everything that decides the bytes of a set; shards of two sets never mix."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class PixelSums:
    """Exact sums over pixels, per channel; the order in which images are added does not matter."""

    count: int = 0
    total: tuple[int, ...] = ()
    squares: tuple[int, ...] = ()

    def __add__(self, other: "PixelSums") -> "PixelSums":
        if not self.count:
            return other
        if not other.count:
            return self
        return PixelSums(
            self.count + other.count,
            tuple(a + b for a, b in zip(self.total, other.total, strict=True)),
            tuple(a + b for a, b in zip(self.squares, other.squares, strict=True)),
        )

    def mean_std(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation per channel, in units of 255."""
        mean = [total / self.count for total in self.total]
        # count * squares - total² is exact in integers: no cancellation for nearly constant images
        variance = [
            (self.count * squares - total * total) / self.count**2
            for total, squares in zip(self.total, self.squares, strict=True)
        ]
        return [m / 255 for m in mean], [v**0.5 / 255 for v in variance]


@dataclass(frozen=True)
class ShardEntry:
    """One line of the index: a shard's file name, number of records and size of the file in bytes."""

    file: str
    records: int
    bytes: int


@dataclass(frozen=True)
class Index:
    """index.json: the whole set at a glance. Written last, so a folder with an index is complete.

    class_counts: of labelled images; records less their sum have no label.
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

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}, indent=1) + "\n"


def read_index(folder: str | os.PathLike[str]) -> Index:
    """The index of a set of shards.

    Raises FileNotFoundError if folder holds no finished set, ValueError if index.json is not one of ours.
    """
    path = Path(folder) / INDEX
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"read_index: {path} does not exist; give a folder written by build_shards, "
            "and if a build was interrupted run it again to finish it"
        ) from None
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"read_index: {path} is not JSON ({error}); it is damaged, build the set again") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ValueError(f'read_index: {path} must have "format": "{FORMAT}"; it belongs to something else')
    if values.get("version") != VERSION:
        raise ValueError(f"read_index: {path} must have version {VERSION}, got {values.get('version')!r}")
    try:
        values = {field.name: values[field.name] for field in fields(Index)}
        values["shards"] = tuple(ShardEntry(**entry) for entry in values["shards"])
        for name in ("class_names", "class_counts", "mean", "std"):
            values[name] = tuple(values[name])
        if values["image_shape"] is not None:
            values["image_shape"] = tuple(values["image_shape"])
        return Index(**values)
    except (KeyError, TypeError) as error:
        raise ValueError(f"read_index: {path} lacks or garbles {error}; it is damaged, build the set again") from error


@dataclass(frozen=True)
class ShardTable:
    """What a shard says about its n records.

    starts: (n,) byte positions of the images in the file; lengths: (n,) bytes; labels: (n,); crc32: (n,).
    items: first and one past the last source item the shard covers, written or skipped.
    """

    identity: str
    number: int
    items: tuple[int, int]
    shape: tuple[int, int, int] | None
    starts: Ints
    lengths: Ints
    labels: Ints
    crc32: npt.NDArray[np.uint32]
    sums: PixelSums
    skipped: tuple[tuple[str, str], ...]


@contextmanager
def opened_shard(path: Path) -> Iterator[h5py.File]:
    """A shard open for reading.

    Raises FileNotFoundError, or OSError or ValueError that says what is wrong with the file, at once or while it is
    used: HDF5 meets damage in its own structures with all kinds of exceptions, none of which names the file.
    """
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing; restore it or build the set again") from None
    except OSError as error:
        raise OSError(f"{path} does not open as HDF5 (truncated, damaged or another file): {error}") from error
    with file:
        try:
            found = file.attrs.get("format"), file.attrs.get("version")
            if found == (FORMAT, VERSION):
                yield file
        except Exception as error:
            raise ValueError(f"{path} is damaged: {error}; build it again") from error
        if found != (FORMAT, VERSION):
            raise ValueError(f"{path} must be {FORMAT!r} version {VERSION}, got {found[0]!r} version {found[1]!r}")


def read_table(path: Path) -> ShardTable:
    """Read and check a shard's tables; the images stay on disk.

    Raises FileNotFoundError, OSError or ValueError for a missing, truncated, foreign or inconsistent file.
    """
    with opened_shard(path) as file:
        images = file["images"]
        labels = file["labels"][:].astype(np.int64)
        crc32 = file["crc32"][:].astype(np.uint32)
        position = images.id.get_offset()
        shape: tuple[int, int, int] | None = None
        if images.ndim == 4:
            height, width, channels = (int(n) for n in images.shape[1:])
            shape = (height, width, channels)
            offsets = np.arange(len(images) + 1, dtype=np.int64) * (height * width * channels)
        else:
            offsets = file["offsets"][:].astype(np.int64)
        sums = PixelSums(
            int(file.attrs["pixel_count"]),
            tuple(int(n) for n in file.attrs["pixel_sum"]),
            tuple(int(n) for n in file.attrs["pixel_sum_squares"]),
        )
        table = ShardTable(
            identity=str(file.attrs["identity"]),
            number=int(file.attrs["number"]),
            items=(int(file.attrs["items"][0]), int(file.attrs["items"][1])),
            shape=shape,
            starts=offsets[:-1] + (position or 0),
            lengths=np.diff(offsets),
            labels=labels,
            crc32=crc32,
            sums=sums,
            skipped=tuple((decode_name(name), decode_name(reason)) for name, reason in file["skipped"][:]),
        )
        size = images.size
    consistent = (
        (position is not None or not size)
        and len(table.lengths) == len(labels) == len(crc32)
        and offsets[0] == 0
        and offsets[-1] == size
        and bool((table.lengths >= 0).all())
    )
    if not consistent:
        raise ValueError(f"{path} is damaged: its offsets, labels and images do not fit together; build it again")
    return table


def read_names(path: Path) -> list[str]:
    """The source name of every record, in order; UTF-8, with bytes that are not UTF-8 surrogate-escaped.

    Raises ValueError if the names or the list of skipped items do not have their checksum.
    """
    with opened_shard(path) as file:
        names = file["names"][:]
        if file.attrs["names_crc32"] != names_crc(names, file["skipped"][:]):
            raise ValueError("its table of names does not have the stored checksum")
        return [decode_name(name) for name in names]


def names_crc(names: npt.NDArray[np.bytes_], skipped: npt.NDArray[np.bytes_]) -> int:
    """CRC-32 of the two tables of text, as stored."""
    return zlib.crc32(skipped.tobytes(), zlib.crc32(names.tobytes()))


def encode_names(names: list[str]) -> npt.NDArray[np.bytes_]:
    return np.array([name.encode("utf-8", "surrogateescape") for name in names] or np.empty(0, "S1"), dtype=np.bytes_)


def decode_name(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
