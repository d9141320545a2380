"""Parts of a build, for jobs side by side: each is a set of its own, in a folder of its own, until all are joined."""

import operator
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from loaders.shards.changes import check_unchanged
from loaders.shards.format import INDEX, PART, PLAN, identity_of, read_table, shard_name
from loaders.shards.index import Index, read_index
from loaders.shards.move import MOVE, finish_move, move
from loaders.shards.plan import Plan, finished
from loaders.sources.base import ImageSource, Item, Source, changed_at, remarks_of

_SAMPLE = 1024  # items that stand for a source which offers no sample


@dataclass(frozen=True)
class PartOf:
    """The items of part `number` of `count` of a source, from 1: an ImageSource too. All else is the source's."""

    whole: ImageSource
    number: int
    count: int

    @cached_property
    def bounds(self) -> tuple[int, int]:
        """The first item, and the one after the last."""
        items = sum(1 for _ in self.whole.items())
        return items * (self.number - 1) // self.count, items * self.number // self.count

    @property
    def class_names(self) -> Sequence[str]:
        return self.whole.class_names

    @property
    def total(self) -> int:
        return self.whole.total

    @property
    def unit(self) -> str:
        return self.whole.unit

    @property
    def changed(self) -> float | None:
        return changed_at(self.whole)

    @property
    def remarks(self) -> Sequence[str]:
        return remarks_of(self.whole)

    @cached_property
    def sample(self) -> Sequence[Item]:
        """Items of the whole source, so that all parts find the same in it."""
        return getattr(self.whole, "sample", None) or list(islice(self.whole.items(), _SAMPLE))

    def describe(self) -> dict[str, Any]:
        return {**self.whole.describe(), "part": f"{self.number}/{self.count}"}

    def items(self) -> Iterator[Item]:
        return islice(self.whole.items(), *self.bounds)


def checked_part(source: Any, part: tuple[int, int]) -> PartOf:
    """Return a part of a source. Raises ValueError for parts that there are not, and for arrays."""
    try:
        number, count = map(operator.index, part)
    except (TypeError, ValueError):
        number, count = 0, 0
    if not 1 <= number <= count:
        raise ValueError(f"build_shards: part must be (number, count) with 1 <= number <= count, got {part!r}")
    if not isinstance(source, ImageSource):
        raise ValueError("build_shards: part is for images that are decoded; arrays are only copied, leave it out")
    return PartOf(source, number, count)


def folder_of(folder: Path, part: tuple[int, int]) -> Path:
    """Return where a part of the set in a folder lies until the parts are joined."""
    return folder / f"part-{part[0]}-of-{part[1]}"


def whole_of(folder: Path, plan: Plan) -> Index | None:
    """Return the index of the set that the parts in a folder would be joined to, if it is complete.

    Raises ValueError if the folder holds shards that are of no part, or of parts that are being joined: those of one
    more part would come twice.
    """
    if (index := finished(folder, plan)) is not None:
        return index
    if any((folder / name).exists() for name in (PLAN, MOVE, shard_name(0))):
        raise ValueError(
            f"build_shards: {folder} holds a build without parts that was interrupted, or parts that are being joined; "
            "the same call without part (--part) goes on with it. To build parts, choose another folder or delete it"
        )
    return None


def join(folder: Path, plan: Plan, source: Source) -> None:
    """Make the shards of all parts in a folder the first ones of the set that a plan means, if there are parts.

    A join that was interrupted goes on. The shards are moved, not copied. Raises ValueError if a part is missing, not
    complete, or of another set, if images have changed since, and if the folder holds other shards too.
    """
    finish_move(folder)
    moved = 0
    while (folder / shard_name(moved)).exists():
        moved += 1
    parts = sorted((int(found[1]), int(found[2]), path) for path, found in _found(folder))
    parts = [part for part in parts if not (moved and _was_emptied(part[2]))]
    if not parts:
        return
    assert isinstance(source, ImageSource)  # only they have parts
    count, there = parts[0][1], {number for number, _, _ in parts}
    if any(total != count for _, total, _ in parts):
        raise ValueError(f"build_shards: {folder} holds parts of different numbers; delete those of one of them")
    missing = sorted(set(range(1, count + 1)) - there) if not moved else list(range(parts[-1][0] + 1, count + 1))
    if missing:
        raise ValueError(f"build_shards: {folder} lacks part {_listed(missing)} of {count}; build it, then join")
    indices = [_checked(path, plan) for _, _, path in parts]
    for (number, _, path), index in zip(parts, indices, strict=True):
        left = [path / shard.file for shard in index.shards if (path / shard.file).exists()]
        check_unchanged(PartOf(source, number, count), left, map(read_table, left))
    end = read_table(folder / shard_name(moved - 1)).items[1] if moved else 0
    pairs = [(path, index) for (_, _, path), index in zip(parts, indices, strict=True)]
    _require_each_once(folder, end, [path / shard.file for path, index in pairs for shard in index.shards], source)
    for path, index in pairs:
        for shard in index.shards:
            if (path / shard.file).exists():  # else an interrupted join has moved it
                start, after = read_table(path / shard.file).items
                first, end = end, end + after - start
                attributes = {"items": np.array([first, end]), "number": moved, "identity": identity_of(plan)}
                move(folder, path / shard.file, folder / shard_name(moved), attributes)
                moved += 1
        _remove(path)


def _remove(path: Path) -> None:
    """Remove the folder of a part, its index last: without one it would be taken for a part that is not complete."""
    for place in path.iterdir():
        if place.is_dir():
            shutil.rmtree(place)
        elif place.name != INDEX:
            place.unlink()
    (path / INDEX).unlink()
    path.rmdir()


def _was_emptied(path: Path) -> bool:
    """Remove a folder that is empty, as a kill of a join may leave one; returns whether it was."""
    with suppress(OSError):
        path.rmdir()
    return not path.exists()


def _found(folder: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    for path in folder.glob("part-*"):
        found = PART.fullmatch(path.name)
        if found is not None and path.is_dir():
            yield path, found


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _checked(path: Path, plan: Plan) -> Index:
    """Return the index of a part. Raises ValueError if it is not complete, or of another set than the plan's."""
    if not (path / INDEX).exists():
        raise ValueError(f"build_shards: {path} is not complete; build this part to its end, then join")
    index = read_index(path)
    source = {key: value for key, value in index.source.items() if key != "part"}
    same = source == plan["source"] and index.settings == plan["settings"]
    if not same or list(index.class_names) != plan["class_names"]:
        raise ValueError(
            f"build_shards: {path} is a part of another set: its source or settings differ; build it again, or join "
            "with the arguments of the parts"
        )
    return index


def _require_each_once(folder: Path, moved: int, shards: Sequence[Path], source: ImageSource) -> None:
    """Raise ValueError unless shards of parts, those that are not moved yet, hold all items of a source from one on."""
    left = sum(end - start for start, end in (read_table(path).items for path in shards if path.exists()))
    if moved + left != sum(1 for _ in source.items()):
        raise ValueError(
            f"build_shards: {folder} holds shards that are of none of its parts, such as those of a build without "
            f"parts that was interrupted; delete the parts, or the {shard_name(0)} and so on beside them"
        )
