"""ImageNet's training images as one tar for each class: the folder that ILSVRC2012_img_train.tar unpacks to."""

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from loaders.shards.format import UNLABELLED
from loaders.sources.base import Item, name_key
from loaders.sources.content import ITEMS, archives_digest
from loaders.sources.tar import Member, first_members, tar_members
from loaders.sources.walk import hidden, listing

CLASS_TAR = re.compile(r"n\d{8}\.tar")


def has_class_tars(names: Collection[str]) -> bool:
    """Whether a folder with files of these names holds the tars of two or more of ImageNet's classes."""
    return sum(CLASS_TAR.fullmatch(name) is not None for name in names) > 1


class ImageNetClassTars:
    """A folder of n01440764.tar and so on, each with the images of a class. Labels follow the sorted names (wnids).

    The tars are read where they lie. What else lies in the folder is reported and not read.

    Parameters
    ----------
    folder : str or path
        The folder.

    Raises
    ------
    ValueError
        If a tar is compressed, damaged or cut short: here for the first of its images, otherwise while iterating.
    """

    unit = "B"

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        entries = [entry for entry in listing(self.folder) if not entry.name.startswith(".")]
        tars = [entry for entry in entries if CLASS_TAR.fullmatch(entry.name) and entry.is_file()]
        self._tars = {entry.path: entry.name.removesuffix(".tar") for entry in tars}
        self._others = [(entry.name, entry.path) for entry in entries if entry.path not in self._tars]
        self.class_names = sorted(self._tars.values(), key=name_key)
        found = [os.stat(path) for path in self._tars]
        self.total = sum(stat.st_size for stat in found)
        self.changed = max((stat.st_ctime for stat in found), default=0.0)

    def describe(self) -> dict[str, Any]:
        """Return what the index says about the source; see ImageSource."""
        described = {"kind": "ImageNet class tars", "name": self.folder.resolve().name, "files": len(self._tars)}
        return {**described, "bytes": self.total, "content": archives_digest(list(self._tars))}

    @property
    def sample(self) -> list[Item]:
        """Items spread over the source: the first of some tars."""
        some = list(enumerate(self._tars))[:: -(-len(self._tars) // ITEMS) or 1]
        return [self._item(path, label, 0, member) for label, path in some for member in first_members(path, 1)]

    def items(self) -> Iterator[Item]:
        """Return the images, tar after tar.

        Raises
        ------
        ValueError
            While iterating, if a tar is damaged or cut short.
        """
        for name, path in self._others:
            yield Item(name, UNLABELLED, path, problem="not the tar of a class")
        start = 0
        for label, path in enumerate(self._tars):
            size = os.path.getsize(path)
            with open(path, "rb") as file:
                for member in tar_members(file, 0, size):
                    yield self._item(path, label, start, member)
            start += size

    def _item(self, path: str, label: int, start: int, member: Member) -> Item:
        """start: bytes of the tars before. Their order is that of the classes."""
        end = member.offset + member.size
        problem = hidden(member.name) or (None if member.plain else "a link or not a file")
        name = f"{self._tars[path]}/{member.name}"
        return Item(name, label, path, member.offset, member.size, start + end, problem)
