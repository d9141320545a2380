"""Compare every byte of a set of shards with its checksums, and its index and report with its shards."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.checks import require_callback
from loaders.shards.figures import Figures
from loaders.shards.format import INDEX, REPORT, ShardTable, read_names, record_crc
from loaders.shards.index import Index, read_index
from loaders.shards.read import checked_table
from loaders.text import printable

_MAY_REPEAT = ("Parquet", "WebDataset", "datasets.Dataset")  # kinds of sources that may hold an image twice


@dataclass(frozen=True)
class Damage:
    """What is wrong with one record, or with a file as a whole.

    Parameters
    ----------
    shard : str
        Name of the file.
    record : int, optional
        The record's number in the file; None: the whole file is meant.
    name : str, optional
        Where the record came from, if that can be read.
    reason : str
        What is wrong.
    """

    shard: str
    record: int | None
    name: str | None
    reason: str


def verify_shards(folder: str | os.PathLike[str], progress: Callable[[int, int], None] | None = None) -> list[Damage]:
    """Read a whole set and return what is damaged, missing or foreign.

    Sets of earlier versions carry no digests (Index.digest is None): damage to their index is found only where it
    contradicts the shards. Images of files that come twice, under the same name, are told too.

    Parameters
    ----------
    folder : str or path
        A folder written by build_shards or write_shards.
    progress : callable, optional
        Called with the number of records looked at so far, and of all records.

    Returns
    -------
    list of Damage
        Empty if all is well.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder has no readable index.
    """
    require_callback("verify_shards", "progress", progress)
    index = read_index(folder)
    figures, records = Figures(len(index.class_names)), _Records()
    found: list[Damage] = []
    done = 0
    for number, shard in enumerate(index.shards):
        found += _damages(Path(folder), index, number, figures, records)
        done += shard.records
        if progress:
            progress(done, index.records)
    if figures.records == index.records:
        found += _contradictions(Path(folder), index, figures)
    if index.source.get("kind") not in _MAY_REPEAT:
        found += records.repeated(Path(folder), index)
    return found


class _Records:
    """Finds records that come twice by the name and the checksum of each, of which a digest of 8 bytes is held."""

    def __init__(self) -> None:
        self._digests: list[bytes] = []
        self._shards: list[npt.NDArray[np.int64]] = []

    def add(self, number: int, names: list[str], table: ShardTable) -> None:
        """Take the records of a shard, unless their source may hold the same twice, as arrays may."""
        if table.source_crc32 is None or len(names) != len(table.crc32):
            return
        pairs = zip(names, table.crc32.tolist(), strict=True)
        keys = (name.encode("utf-8", "surrogateescape") + crc.to_bytes(4, "little") for name, crc in pairs)
        self._digests.append(b"".join(hashlib.blake2b(key, digest_size=8).digest() for key in keys))
        self._shards.append(np.full(len(names), number))

    def repeated(self, folder: Path, index: Index) -> Iterator[Damage]:
        """Yield the shards that hold what came before, each with the first of these records."""
        digests = np.frombuffer(b"".join(self._digests), np.int64)
        again = np.ones(len(digests), bool)
        again[np.unique(digests, return_index=True)[1]] = False
        shards = np.concatenate([np.zeros(0, np.int64), *self._shards])
        for number in np.unique(shards[again]).tolist():
            file, records = index.shards[number].file, np.flatnonzero(again[shards == number])
            reason = f"{len(records)} of its images came before in this set; build it again, in another folder"
            yield Damage(file, None, None, f"{reason}: {printable(read_names(folder / file)[records[0]])}, …")


def _damages(folder: Path, index: Index, number: int, figures: Figures, records: _Records) -> Iterator[Damage]:
    file = index.shards[number].file
    try:
        table = checked_table(folder, index, number)
    except (OSError, ValueError) as error:
        yield Damage(file, None, None, str(error))
        return
    figures.add(table)
    names: list[str] | None = None
    try:
        names = read_names(folder / file)
        records.add(number, names, table)
    except (OSError, ValueError, KeyError) as error:
        yield Damage(file, None, None, str(error))
    with open(folder / file, "rb") as stream:
        for record, (start, length) in enumerate(zip(table.starts.tolist(), table.lengths.tolist(), strict=True)):
            stream.seek(start)
            crc = record_crc(stream.read(length), int(table.labels[record]))
            if crc != table.crc32[record]:
                name = names[record] if names else None
                yield Damage(file, record, name, f"its CRC-32 must be {table.crc32[record]:08x}, got {crc:08x}")


def _contradictions(folder: Path, index: Index, figures: Figures) -> Iterator[Damage]:
    """Where index and report say something else than all the shards do."""
    wanted: dict[str, tuple[Any, Any]] = {
        "skipped": (index.skipped, len(figures.skipped)),
        "class_counts": (index.class_counts, figures.class_counts),
    }
    if index.settings.get("stats_from") is None:
        mean, std = figures.mean_std(index.white)
        for name, stored, found in [("mean", index.mean, mean), ("std", index.std, std)]:
            same = all(math.isclose(*pair, rel_tol=1e-12) for pair in zip(stored, found, strict=True))
            wanted[name] = (stored, stored if same else found)
    for name, (stored, found) in wanted.items():
        if stored != found:
            yield Damage(INDEX, None, None, f"its {name} must be {printable(found)}, got {printable(stored)}")
    try:
        same = json.loads((folder / REPORT).read_text(encoding="utf-8")) == json.loads(figures.report())
    except (ValueError, RecursionError):
        same = False
    except FileNotFoundError:
        yield Damage(REPORT, None, None, "it is missing; build the set again")
        return
    if not same:
        yield Damage(REPORT, None, None, "it does not list what the shards say was skipped")
