"""WebDataset: tars in which the files of a sample lie one after the other and have one key."""

import itertools
import os
import re
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from loaders.images.formats import looks_like_an_image
from loaders.shards.format import UNLABELLED
from loaders.sources.base import Item
from loaders.sources.class_folders import HIDDEN, is_hidden
from loaders.sources.content import ITEMS, Spread, archives_digest
from loaders.sources.sample_labels import SUFFIXES, SampleLabels
from loaders.sources.splits import files_of_split, files_with, remarks_on_splits, splits_of
from loaders.sources.tar import Member, first_members, tar_members
from loaders.text import printable

TAR = (".tar",)
BESIDE = (".json", ".txt", ".md", ".csv", ".idx")  # what may lie beside the tars
FIRST = 12  # members that tell what a tar is


def has_samples(names: Collection[str]) -> bool:
    """Whether a folder with files of these names holds numbered tars, and nothing else but texts about them."""
    seen = [name.lower() for name in names if not name.startswith(".")]
    tars = [name for name in seen if name.endswith(TAR)]
    numbered = all(re.search(r"\d\.tar$", name) and not re.fullmatch(r"n\d{8}\.tar", name) for name in tars)
    return bool(tars) and numbered and all(name.endswith(TAR + BESIDE) for name in seen)


def is_samples(path: Path) -> bool:
    """Whether a file is a tar that begins with an image and its label, beside each other and called alike."""
    try:
        first = first_members(path, FIRST)
    except ValueError:
        return False
    for sample in _samples(first):
        labels = {suffix for suffix in sample.files if suffix in SUFFIXES}
        # a text beside an image in a folder may just as well be in a folder of its class
        if sample.images and ("cls" in labels or (labels and "/" not in sample.key)):
            return True
    return False


def begins_with_samples(folder: Path) -> bool:
    """Whether the first tar of a folder begins so."""
    return is_samples(files_with(folder, TAR)[0])


def sample_splits(path: Path) -> list[str]:
    """The splits of a folder of tars, by their names; none if it is one."""
    return splits_of(files_with(path, TAR))


@dataclass(frozen=True)
class _Sample:
    """Files of one key. files: by what follows the first dot of their names, in small letters. hidden: not read."""

    key: str
    files: dict[str, Member]
    hidden: bool = False

    @property
    def images(self) -> list[Member]:
        return [member for member in self.files.values() if looks_like_an_image(member.name)]


class WebDataset:
    """Tars of samples: `<key>.jpg` (or .png, .webp …) with `<key>.cls`, `.json` or `.txt` beside it.

    The label is what .cls says, a number or a text, otherwise "label" (or "cls", "class") in .json, otherwise the text
    of .txt, unless nearly all texts differ, which makes them captions. Samples of one key that do not lie one after the
    other are two. Tars are read where they lie. Hidden files are reported and not read.

    Parameters
    ----------
    path : str or path
        An uncompressed tar, or a folder of them.
    split : str, optional
        Which of several splits that are words of the tars' names, as imagenet-train-0001.tar: "train" (None means
        this), "val" or "test".

    Raises
    ------
    ValueError
        If a tar is compressed, damaged or cut short, or no sample has an image.
    """

    unit = "B"

    def __init__(self, path: str | os.PathLike[str], split: str | None = None) -> None:
        self.path, where = Path(path), f"WebDataset: {printable(path)}"
        there = files_with(self.path, TAR)
        files, self.split = files_of_split(where, there, split)
        self.remarks = remarks_on_splits(there)
        self._files = [str(file) for file in files]
        found = [os.stat(file) for file in self._files]
        self.total = sum(stat.st_size for stat in found)
        self.changed = max((stat.st_ctime for stat in found), default=0.0)
        labels, spread = SampleLabels(where), Spread[Item](ITEMS)
        images = several = in_folders = 0
        for name, _, sample in self._walk():
            if sample.hidden:
                continue
            labels.add(name, sample.files)
            images += len(sample.images)
            several += len(sample.images) > 1
            in_folders += "/" in sample.key
            if sample.images:
                spread.add(_item(name, 0, sample.images[0]))
        if not images:
            raise ValueError(f"{where} has no sample with an image; give tars of <key>.jpg with <key>.cls beside it")
        self.sample = list(spread)
        self._labels, self._problems, self.class_names = labels.finished()
        if missing := int((self._labels < 0).sum()):
            self.remarks.append(
                f"{missing} of {len(self._labels)} samples of {printable(path)} have no label"
                + "; the folders in the tars are no classes here: unpack the tars into one folder, and give that"
                * (missing == len(self._labels) and bool(in_folders))
            )
        self.remarks += labels.remarks
        if several:
            self.remarks.append(
                f"{several} samples of {printable(path)} hold several images, and each counts; where some are masks or "
                "depths, pack the tars without them"
            )

    def describe(self) -> dict[str, Any]:
        """Return what the index says about the source; see ImageSource."""
        described = {"kind": "WebDataset", "name": self.path.resolve().name, "files": len(self._files)}
        if self.split is not None:
            described["split"] = self.split
        crc = zlib.crc32(np.ascontiguousarray(self._labels, "<i8").data)
        return {**described, "bytes": self.total, "crc32": crc, "content": archives_digest(self._files)}

    def items(self) -> Iterator[Item]:
        """Return the images in the tars' order, and what has none.

        Raises
        ------
        ValueError
            While iterating, if a tar is damaged or cut short.
        """
        numbers = itertools.count()
        for name, start, sample in self._walk():
            if sample.hidden:
                item = _item(name, UNLABELLED, sample.files[""])
                yield replace(item, position=start + item.position, problem=HIDDEN)
                continue
            number = next(numbers)
            label, problem = int(self._labels[number]), self._problems.get(number)
            for member in sample.images:
                item = _item(name, label, member)
                yield replace(item, position=start + item.position, problem=item.problem or problem)
            if not sample.images:
                last = list(sample.files.values())[-1]
                item = _item(name, label, last)
                yield replace(item, name=sample.key, position=start + item.position, problem="a sample without image")

    def _walk(self) -> Iterator[tuple[str, int, _Sample]]:
        """(tar, bytes of those before it, sample) of every sample, in order."""
        start = 0
        for name in self._files:
            size = os.path.getsize(name)
            with open(name, "rb") as file:
                for sample in _samples(tar_members(file, 0, size)):
                    yield name, start, sample
            start += size


def _item(name: str, label: int, member: Member) -> Item:
    problem = None if member.plain else "a link or not a file"
    end = member.offset + member.size
    return Item(member.name, label, name, member.offset, member.size, end, problem)


def _samples(members: "Iterator[Member] | list[Member]") -> Iterator[_Sample]:
    """The samples of a tar: what lies together and has one key, up to a file that the sample has already.

    A hidden file, such as a Mac puts before each, is a sample of its own, and parts no other.
    """
    key, files, aside = "", dict[str, Member](), list[_Sample]()
    for member in members:
        path = PurePosixPath(member.name)
        if path.name.startswith("__") and path.name.endswith("__"):
            continue  # about the tar
        if is_hidden(member.name):
            aside.append(_Sample(member.name, {"": member}, hidden=True))
            continue
        stem, _, suffix = path.name.partition(".")
        own, suffix = (path.parent / stem).as_posix(), suffix.lower()
        if files and (own != key or suffix in files):
            yield _Sample(key, files)
            yield from aside
            files, aside = {}, []
        key = own
        files[suffix] = member
    if files:
        yield _Sample(key, files)
    yield from aside
