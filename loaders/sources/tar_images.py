"""Images in a tar of class folders, which is read where it lies."""

import os
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from loaders.checks import require_flags
from loaders.doubtful import remarks_on_alike
from loaders.images.formats import looks_like_an_image
from loaders.shards.format import UNLABELLED
from loaders.sources.archive_splits import Tree
from loaders.sources.base import Item
from loaders.sources.class_folders import ClassFolders, is_hidden
from loaders.sources.content import ITEMS, Spread
from loaders.sources.repeated import Repeated
from loaders.sources.tar import Member, TarSource, first_members, tar_members
from loaders.text import printable


def tar_splits(path: str | os.PathLike[str]) -> list[str]:
    """The names of the folders of a tar that stand for splits; none if it is one split."""
    with open(path, "rb") as file:
        members = tar_members(file, 0, os.path.getsize(path))
        names = _some_of_each_folder(name for member in members if not is_hidden(name := _name(member)))
    return Tree(names).split_names(f"ClassFolderTar: {printable(path)}")


def open_tar(path: str | os.PathLike[str], split: str | None = None) -> "ClassFolderTar":
    """Return the images of a tar of class folders.

    Raises ValueError as ClassFolderTar, and for a tar that begins with an image in no folder.
    """
    if split is None and any("/" not in _name(first) for first in first_members(path, 1)):
        raise ValueError(
            f"open_source: {printable(path)} has images outside class folders; if it is ImageNet's validation set give "
            "ground_truth and synsets"
        )
    return ClassFolderTar(path, split=split)


class ClassFolderTar(TarSource):
    """A tar of `…/<class>/<image>`: labels follow the sorted names of the folders that hold files directly.

    A folder that holds other folders is a class only if it holds a file that is called like an image. Where folders
    stand for splits, as train and test, only one of them is read; images of one without class folders have no label.
    Hidden files, and those in hidden folders, are reported and not read. Of files of one name the last is read, as
    unpacking leaves it.

    Parameters
    ----------
    path : str or path
        The uncompressed tar. It is read where it lies, and nothing is unpacked.
    classes : bool
        False: no image has a label, whatever the folders are called.
    split : str, optional
        Which of several splits: "train" (None means this), "val" or "test".

    Raises
    ------
    ValueError
        If the tar is compressed, damaged or cut short, has no class folders, two folders of one class's name, folders
        of splits in several places, or not the split.
    """

    kind = "tar of class folders"

    def __init__(self, path: str | os.PathLike[str], classes: bool = True, split: str | None = None) -> None:
        require_flags("ClassFolderTar", classes=classes)
        super().__init__(path)
        self.remarks: list[str] = []
        self._root, self._folders, where = "", None, f"ClassFolderTar: {printable(path)}"
        self._sample, self._repeated = Spread[Member](ITEMS), Repeated()
        names = _some_of_each_folder(self._repeated.noted(self._noted()))
        self.split, self._root = Tree(names).chosen(where, split)
        if self.split is not None:  # the sample is of the split alone
            self._sample = Spread[Member](ITEMS)
            names = _some_of_each_folder(self._noted())
        inside = [self._below(name) for name in names]
        if self.split is not None and not any("/" in name for name in inside):
            self.remarks.append(f"the images of {printable(self._root)} in {printable(path)} have no label")
        elif classes:
            self._folders = ClassFolders(where, inside)
        self.class_names: list[str] = [] if self._folders is None else self._folders.class_names
        self.remarks += remarks_on_alike(self.class_names)
        self.remarks += [] if self._folders is None else self._folders.remarks

    def describe(self) -> dict[str, Any]:
        """Return what the index says about the source; see ImageSource."""
        found = super().describe()
        return found if self.split is None else {**found, "split": self.split}

    @property
    def sample(self) -> list[Item]:
        """Items spread over the source."""
        return [self.item(member.name, 0, member) for member in self._sample]

    def items(self) -> Iterator[Item]:
        """Return the images in the tar's order."""
        replaced = self._repeated.problems()
        for member in self._inside():
            label = UNLABELLED if self._folders is None else self._folders.label_of(self._below(_name(member)))
            problem = replaced(_name(member)) or ("outside the class folders" if label is None else None)
            yield self.item(member.name, label or 0, member, problem)

    def _inside(self) -> Iterator[Member]:
        """The members of the split."""
        return (member for member in self.members() if _name(member).startswith(self._root))

    def _noted(self) -> Iterator[str]:
        """The names of the members of the split that are not hidden, of which a sample is noted."""
        for member in self._inside():
            if not is_hidden(_name(member)):
                self._sample.add(member)
                yield _name(member)

    def _below(self, name: str) -> str:
        """A name, from the split's folder on."""
        return name[len(self._root) :]


def _name(member: Member) -> str:
    """The name of a member, without the ./ that tar writes for a folder's own path."""
    return PurePosixPath(member.name).as_posix()


def _some_of_each_folder(names: Iterable[str]) -> list[str]:
    """Some names of files of each folder, which tell all that matters of it: a tar may hold millions."""
    found: dict[tuple[str, bool], str] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        found.setdefault((folder, looks_like_an_image(file)), name)
    return list(found.values())
