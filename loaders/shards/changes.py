"""Whether a source is still what shards were written from, where its digest does not tell: files that were touched."""

import os
import zlib
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from pathlib import Path

from loaders.shards.format import ShardTable, read_names
from loaders.sources.base import ImageSource, Item, changed_at
from loaders.sources.content import Spread
from loaders.text import printable

FILES = 500  # at least, and twice as many at most, are read again


def check_unchanged(source: ImageSource, shards: Iterable[Path], tables: Iterable[ShardTable]) -> None:
    """Compare source files that changed after the shard that holds them was written with the checksum taken then.

    A copy of a source has new times throughout: of so many files a sample is read. Sources that do not know their
    files' times (no attribute `changed`) and shards without checksums of the source are left alone.
    Raises ValueError that names the first file that differs.
    """
    paths = list(shards)
    latest = changed_at(source)
    if not paths or latest is None or latest <= min(path.stat().st_mtime for path in paths):
        return
    touched = Spread[tuple[Item, int, Path]](FILES)
    items, done = source.items(), 0
    for path, table in zip(paths, tables, strict=True):
        expected = _checksums(path, table)
        written = path.stat().st_mtime
        changed = lru_cache(1)(lambda file: os.stat(file).st_ctime)  # the items of an archive share it
        for item in islice(items, table.items[0] - done, table.items[1] - done):
            if item.name in expected and changed(item.path) > written:
                touched.add((item, expected[item.name], path))
        done = table.items[1]
    for item, checksum, path in touched:
        if zlib.crc32(item.read()) != checksum:
            raise ValueError(
                f"build_shards: {printable(item.name)} has changed since {path} was written from it; choose another "
                f"folder, or delete {path.parent}"
            )


def _checksums(path: Path, table: ShardTable) -> dict[str, int]:
    """By name; none if two items of the shard have one name, as they may in a tar."""
    names = read_names(path)
    different = {*names, *(name for name, _ in table.skipped)}
    if table.source_crc32 is None or len(different) < table.items[1] - table.items[0]:
        return {}
    return dict(zip(names, table.source_crc32.tolist(), strict=True))
