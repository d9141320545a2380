"""Whether a source is still what shards were written from, where its digest does not tell: files that were touched.

And what a build was begun from, where it has another name now, or files beside the images.
"""

import json
import logging
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations, islice
from pathlib import Path
from typing import Any

from loaders.images.formats import format_of, looks_like_an_image
from loaders.images.native import MAGIC
from loaders.shards.format import INDEX, PLAN, ShardTable, read_names, read_table
from loaders.sources.base import ImageSource, Item, Source, changed_at, remarks_of
from loaders.sources.content import Spread
from loaders.sources.folder import ImageFolder
from loaders.sources.image_files import ImageFiles
from loaders.sources.table_labels import labels_digest
from loaders.sources.tar import TarSource
from loaders.sources.walk import Listed
from loaders.sources.zip_images import ZipImages
from loaders.text import printable

FILES = 500  # at least, and twice as many at most, are read again
_GUESSES = 16  # which files beside the images have come, and which have changed
_SHOWN = 5  # of them

log = logging.getLogger(__name__)


def check_unchanged(source: ImageSource, shards: Iterable[Path], tables: Iterable[ShardTable]) -> None:
    """Compare source files that changed after the shard that holds them was written with the checksum taken then.

    All files of a copy have new times: a sample of so many is read. Sources that do not know their
    files' times (no attribute `changed`) and shards without checksums of the source are left alone.
    Raises ValueError that names the first file that differs.
    """
    paths = list(shards)
    latest = changed_at(source)
    if not paths or latest is None or latest <= min(path.stat().st_mtime for path in paths):
        return
    touched = Spread[tuple[Item, int, Path]](FILES)
    changed = lru_cache(1)(lambda file: os.stat(file).st_ctime)  # the items of an archive share it
    written = lru_cache(1)(lambda path: path.stat().st_mtime)
    for item, checksum, path in _read(source, paths, tables):
        if changed(item.path) > written(path):
            touched.add((item, checksum, path))
    for item, checksum, path in touched:
        if zlib.crc32(item.read()) != checksum:
            raise ValueError(
                f"build_shards: {printable(item.name)} has changed since {path} was written from it; choose another "
                f"folder, or delete {path.parent}"
            )


def _read(
    source: ImageSource, shards: Iterable[Path], tables: Iterable[ShardTable]
) -> Iterator[tuple[Item, int, Path]]:
    """Items of a source that are in shards, with the checksums that were taken of them, and the shards."""
    items, done = source.items(), 0
    for path, table in zip(shards, tables, strict=True):
        expected = _checksums(path, table)
        for item in islice(items, table.items[0] - done, table.items[1] - done):
            if item.name in expected:
                yield item, expected[item.name], path
        done = table.items[1]


def _checksums(path: Path, table: ShardTable) -> dict[str, int]:
    """By name; none if two items of the shard have one name, as they may in a tar."""
    names = read_names(path)
    different = {*names, *(name for name, _ in table.skipped)}
    if table.source_crc32 is None or len(different) < table.items[1] - table.items[0]:
        return {}
    return dict(zip(names, table.source_crc32.tolist(), strict=True))


@dataclass(frozen=True)
class AsBefore:
    """Images as a build has noted them: a source too, which differs from `now` in its name, or in what is no image.

    noted: what the build says of the source. left_out: names of files that came since.
    """

    now: ImageSource
    noted: dict[str, Any]
    left_out: frozenset[str] = frozenset()

    @property
    def class_names(self) -> Sequence[str]:
        return self.now.class_names

    @property
    def total(self) -> int:
        return self.now.total

    @property
    def unit(self) -> str:
        return self.now.unit

    @property
    def changed(self) -> float | None:
        return changed_at(self.now)

    @property
    def remarks(self) -> Sequence[str]:
        return remarks_of(self.now)

    def tell_left_out(self) -> None:
        """Log which files are left out."""
        if self.left_out:
            listed = ", ".join(map(printable, sorted(self.left_out)[:_SHOWN])) + ", …" * (len(self.left_out) > _SHOWN)
            log.warning("files that came since the build began, and are no images, are left out: %s", listed)

    @cached_property
    def sample(self) -> Sequence[Item] | None:
        if not self.left_out:
            return getattr(self.now, "sample", None)
        return [item for item in Listed(self.items()).sample if item.problem is None]

    def describe(self) -> dict[str, Any]:
        return self.noted

    def items(self) -> Iterator[Item]:
        return (item for item in self.now.items() if item.name not in self.left_out)


def as_before(source: Source, folder: Path) -> Source:
    """A source as the shards in a folder were made from it, or itself where it differs in more than this:

    - the folder or archive has another name,
    - or files that are no images have come into a folder since the build began, or have changed, such as those that
      systems leave behind where somebody looks.
    """
    index = folder / INDEX
    note = index if index.exists() else folder / PLAN
    if not isinstance(source, ImageFolder | ImageFiles | ZipImages | TarSource) or not note.exists():
        return source
    try:
        noted = dict(json.loads(note.read_text("utf-8"))["source"])
    except (ValueError, LookupError, TypeError, RecursionError):  # it is damaged, which will be said
        return source
    now = source.describe()
    if now == noted:
        return source
    if {**now, "name": noted.get("name")} == noted:
        return AsBefore(source, noted)
    if not isinstance(source, ImageFolder | ImageFiles):
        return source
    return next(_without_others(source, noted, folder), source)


def _without_others(source: ImageFolder | ImageFiles, noted: dict[str, Any], folder: Path) -> Iterator[AsBefore]:
    """A folder of images as the build in another folder has noted it, without files that came since and are no images.

    If one of them is not new but has changed, the digest does not tell that of the images, and checksums do.
    """
    written = [path for path in (folder / PLAN, *folder.glob("shard-*.h5")) if path.exists()]
    begun = min((path.stat().st_mtime for path in written), default=math.inf)
    late = [item for item in source.items() if _changed_at(item) > begun]
    others = [item for item in late if _is_no_image(item)]
    images_are_old = bool(others) and len(others) == len(late)
    count = source.total - files if isinstance(files := noted.get("files"), int) else -1
    for some in islice(combinations(others, count), _GUESSES) if count >= 0 else ():
        before = AsBefore(source, noted, frozenset(item.name for item in some))
        found = {**source.describe(), **Listed(before.items()).describe(), "name": noted.get("name")}
        if "labels" in found:
            found["labels"] = labels_digest(before.items())
        is_but_for_content = images_are_old and {**found, "content": noted.get("content")} == noted
        if found == noted or (is_but_for_content and _are_in(folder, before)):
            yield before


def _are_in(folder: Path, source: ImageSource) -> bool:
    """Whether the first shards of a folder hold images of a source, by the checksums of a sample."""
    paths = sorted(folder.glob("shard-*.h5"))
    sample = Spread[tuple[Item, int]](FILES)
    for item, checksum, _ in _read(source, paths, map(read_table, paths)):
        sample.add((item, checksum))
    return any(sample) and all(zlib.crc32(item.read()) == checksum for item, checksum in sample)


def _changed_at(item: Item) -> float:
    try:
        return os.stat(item.path).st_ctime
    except OSError:  # a broken link, or gone meanwhile
        return 0.0


def _is_no_image(item: Item) -> bool:
    """Whether a build only reports a file."""
    if item.problem is not None:
        return True
    try:
        head = b"" if looks_like_an_image(item.name) else item.head()
    except (OSError, ValueError):
        return False
    return not looks_like_an_image(item.name) and format_of(head) is None and not head.startswith(MAGIC)
