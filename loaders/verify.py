"""Compare every byte of a set of shards with its checksums."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from loaders.format import Index, read_index, read_names, record_crc
from loaders.read import checked_table


@dataclass(frozen=True)
class Damage:
    """What is wrong with one record, or with a shard as a whole (record and name None)."""

    shard: str
    record: int | None
    name: str | None
    reason: str


def verify_shards(folder: str | os.PathLike[str], progress: Callable[[int, int], None] | None = None) -> list[Damage]:
    """Read a whole set and return what is damaged, missing or foreign; an empty list means all is well.

    progress: called with the number of records looked at so far and of all records.
    Raises FileNotFoundError or ValueError if the folder has no readable index.
    """
    index = read_index(folder)
    found: list[Damage] = []
    done = 0
    for number, shard in enumerate(index.shards):
        found += _damages(Path(folder), index, number)
        done += shard.records
        if progress:
            progress(done, index.records)
    return found


def _damages(folder: Path, index: Index, number: int) -> Iterator[Damage]:
    file = index.shards[number].file
    try:
        table = checked_table(folder, index, number)
    except (OSError, ValueError) as error:
        yield Damage(file, None, None, str(error))
        return
    names: list[str] | None = None
    try:
        names = read_names(folder / file)
    except (OSError, ValueError, KeyError) as error:
        yield Damage(file, None, None, str(error))
    with open(folder / file, "rb") as stream:
        for record, (start, length) in enumerate(zip(table.starts.tolist(), table.lengths.tolist(), strict=True)):
            stream.seek(start)
            crc = record_crc(stream.read(length), int(table.labels[record]))
            if crc != table.crc32[record]:
                name = names[record] if names else None
                yield Damage(file, record, name, f"its CRC-32 must be {table.crc32[record]:08x}, got {crc:08x}")
