"""The shard format: what is in a shard file. The index is in index.py; docs/formats/shards.md tells of both."""

import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt

from loaders.hdf5 import check_heaps, stored_dataset
from loaders.text import printable

FORMAT = "image-shards"
VERSION = 1
WIDE = 2  # the version of sets of other numbers than uint8, which readers of version 1 would misread
DTYPES = ("uint8", "uint16", "int16", "uint32", "int32", "float32")  # of raw images
INDEX = "index.json"
REPORT = "report.json"
PLAN = "build.json"  # while a build is not finished
PART = re.compile(r"part-(\d+)-of-(\d+)")  # a folder in that of the set, until parts are joined
UNLABELLED = -1  # the label of an image that has none
NUMBERS = {"labels": "i", "crc32": "u", "source_crc32": "u", "offsets": "i"}  # tables of a shard and their kinds

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


def version_of(dtype: str) -> int:
    """The version of the format of a set of such images."""
    return VERSION if dtype == "uint8" else WIDE


def white_of(dtype: str, value_range: int | None) -> int:
    """The value that streams read as 1: of whole numbers the largest, unless a range is given; of floats 1 itself."""
    if dtype == "float32":
        return 1
    return value_range if value_range is not None and dtype != "uint8" else int(np.iinfo(dtype).max)


@dataclass(frozen=True)
class PixelSums:
    """Sums over pixels, per channel; those of uint8 are exact, and the order of the images does not matter."""

    count: int = 0
    total: tuple[float, ...] = ()
    squares: tuple[float, ...] = ()

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

    def mean_std(self, white: int) -> tuple[list[float], list[float]]:
        """Mean and standard deviation per channel, in units of white."""
        mean = [total / self.count for total in self.total]
        # count * squares - total² is exact in integers: no cancellation for nearly constant images
        variance = [
            max(0, self.count * squares - total * total) / self.count**2
            for total, squares in zip(self.total, self.squares, strict=True)
        ]
        return [m / white for m in mean], [v**0.5 / white for v in variance]


@dataclass(frozen=True)
class ShardTable:
    """What a shard says about its n records.

    starts: (n,) byte positions of the images in the file; lengths: (n,) bytes; labels: (n,); crc32: (n,).
    items: first and one past the last source item the shard covers, written or skipped.
    source_crc32: (n,) of the files images came from; None for arrays, and in a set of an earlier version.
    digest: SHA-256 of the tables and attributes; None in a set of an earlier version.
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
    source_crc32: npt.NDArray[np.uint32] | None
    digest: str | None
    dtype: str


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
            _check_heaps(file)
            found = file.attrs.get("format"), file.attrs.get("version")
            if found[0] == FORMAT and found[1] in (VERSION, WIDE):
                yield file
        except Exception as error:
            raise ValueError(f"{path} is damaged: {printable(error)}; build it again") from error
        if found[0] != FORMAT or found[1] not in (VERSION, WIDE):
            form, version = (printable(repr(value)) for value in found)
            raise ValueError(f"{path} must be {FORMAT!r} version {VERSION} or {WIDE}, got {form} version {version}")


def _check_heaps(file: h5py.File) -> None:
    try:
        images = stored_dataset(file, "images", "uif", contiguous=True)
    except ValueError:  # not a shard, or damaged: what is wrong will be said
        check_heaps(file, (0, 0))
        return
    start = images.id.get_offset() or 0
    check_heaps(file, (start, start + images.size * images.dtype.itemsize))


def read_table(path: Path) -> ShardTable:
    """Read and check a shard's tables; the images stay on disk.

    Raises FileNotFoundError, OSError or ValueError for a missing, truncated, foreign or inconsistent file, and for
    tables that do not have the digest that the shard carries.
    """
    with opened_shard(path) as file:
        images = stored_dataset(file, "images", "uif", contiguous=True)
        dtype = images.dtype.newbyteorder("=").name
        if dtype not in DTYPES or version_of(dtype) != file.attrs["version"] or images.dtype.byteorder == ">":
            raise ValueError(f"its images are {images.dtype}, which version {file.attrs['version']} has not")
        columns = {name: _column(file, name, kinds) for name, kinds in NUMBERS.items() if name in file}
        labels, crc32, skipped = columns["labels"], columns["crc32"], _column(file, "skipped", "S")
        source_crc32 = columns.get("source_crc32")
        position = images.id.get_offset()
        shape: tuple[int, int, int] | None = None
        if images.ndim == 4:
            height, width, channels = (int(n) for n in images.shape[1:])
            shape = (height, width, channels)
            if len(images) != len(labels):
                raise ValueError(f"its {len(images)} images and {len(labels)} labels do not fit together")
            offsets = np.arange(len(images) + 1, dtype=np.int64) * (height * width * channels * images.dtype.itemsize)
        else:
            offsets = columns["offsets"].astype(np.int64)
        digest = file.attrs.get("digest")
        if digest is not None and digest != table_digest(file.attrs, columns, images.shape):
            raise ValueError("its tables do not have the digest that it carries")
        number = int if dtype == "uint8" else float
        sums = PixelSums(
            int(file.attrs["pixel_count"]),
            tuple(number(n) for n in file.attrs["pixel_sum"]),
            tuple(number(n) for n in file.attrs["pixel_sum_squares"]),
        )
        table = ShardTable(
            identity=str(file.attrs["identity"]),
            number=int(file.attrs["number"]),
            items=(int(file.attrs["items"][0]), int(file.attrs["items"][1])),
            shape=shape,
            starts=offsets[:-1] + (position or 0),
            lengths=np.diff(offsets),
            labels=labels.astype(np.int64),
            crc32=crc32.astype(np.uint32),
            sums=sums,
            skipped=tuple((decode_name(name), decode_name(reason)) for name, reason in skipped),
            source_crc32=None if source_crc32 is None else source_crc32.astype(np.uint32),
            digest=digest,
            dtype=dtype,
        )
        consistent = (
            (position is not None or not images.size)
            and len(table.lengths) == len(labels) == len(crc32)
            and (source_crc32 is None or len(source_crc32) == len(labels))
            and offsets[0] == 0
            and offsets[-1] == images.size * images.dtype.itemsize
            and bool((table.lengths >= 0).all())
            and bool((table.lengths < 2**32).all())
            and 0 <= table.items[0] <= table.items[1] == table.items[0] + len(labels) + len(table.skipped)
        )
    if not consistent:
        raise ValueError(f"{path} is damaged: its offsets, labels and images do not fit together; build it again")
    return table


def _column(file: h5py.File, name: str, kinds: str) -> npt.NDArray[Any]:
    return np.asarray(stored_dataset(file, name, kinds, contiguous=True)[:])


def table_digest(attributes: Mapping[str, Any], tables: Mapping[str, npt.NDArray[Any]], images: tuple[int, ...]) -> str:
    """SHA-256 of a shard's attributes, its tables of numbers and the shape of its images.

    The texts have a checksum of their own among the attributes, and each image has one in the tables.
    """
    values = {name: value for name, value in attributes.items() if name != "digest"}
    values |= {name: table for name, table in tables.items() if name in NUMBERS}
    digest = hashlib.sha256(repr(tuple(map(int, images))).encode())
    for name, value in sorted(values.items()):
        array = np.array(value.encode() if isinstance(value, str) else value)
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def labels_fault(labels: Ints, classes: int) -> str | None:
    """Why labels cannot be those of a set with so many classes."""
    if len(labels) and not (labels.min() >= UNLABELLED and labels.max() < classes):
        return f"it has a label outside 0…{classes - 1} (or {UNLABELLED}, none)"
    return None


def read_names(path: Path) -> list[str]:
    """The source name of every record, in order; UTF-8, with bytes that are not UTF-8 surrogate-escaped.

    Raises ValueError if the names or the list of skipped items do not have their checksum.
    """
    return [decode_name(name) for name in read_encoded_names(path)]


def read_encoded_names(path: Path) -> npt.NDArray[np.bytes_]:
    """The same as they are stored, which takes less memory."""
    with opened_shard(path) as file:
        names = _column(file, "names", "S")
        if file.attrs["names_crc32"] != names_crc(names, _column(file, "skipped", "S")):
            raise ValueError("its table of names does not have the stored checksum")
        return names


def names_crc(names: npt.NDArray[np.bytes_], skipped: npt.NDArray[np.bytes_]) -> int:
    """CRC-32 of the two tables of text, as stored."""
    return zlib.crc32(skipped.tobytes(), zlib.crc32(names.tobytes()))


def encode_names(names: list[str]) -> npt.NDArray[np.bytes_]:
    return np.array([name.encode("utf-8", "surrogateescape") for name in names] or np.empty(0, "S1"), dtype=np.bytes_)


def decode_name(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
