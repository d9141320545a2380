"""Images in a zip archive, which is read where it lies."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from loaders.checks import require_flags
from loaders.doubtful import remarks_on_alike
from loaders.labels import read_labels
from loaders.shards.format import UNLABELLED
from loaders.sources.archive_splits import Tree
from loaders.sources.base import Item, name_key
from loaders.sources.class_folders import HIDDEN, ClassFolders, is_hidden, is_of_photos, split_named
from loaders.sources.content import ITEMS, Spread, archive_digest
from loaders.sources.kaggle import solved
from loaders.sources.repeated import Repeated
from loaders.sources.table_labels import TableLabels, folder_of_all, labels_digest
from loaders.sources.zip_members import ZipMember, loader, read_member, zip_members
from loaders.text import printable


def zip_splits(path: str | os.PathLike[str]) -> list[str]:
    """The names of the folders of a zip that stand for splits; none if it is one split."""
    return Tree(member.name for member in zip_members(path)).split_names(f"ZipImages: {printable(path)}")


class ZipImages:
    """A zip of images: in class folders, without, or Kaggle's ImageNet; nothing is unpacked.

    Labels follow the sorted names of the folders that hold images, as in ClassFolderTar. Images that lie in no folder,
    or in folders named after dates or by cameras, have no label. Where folders stand for splits, as train and val,
    only one of them is read. Kaggle's val has its labels from LOC_val_solution.csv in the archive. Of files of one name
    the last is read, as unpacking leaves it.

    Parameters
    ----------
    path : str or path
        The archive: stored or deflated, not encrypted, in one file.
    split : str, optional
        Which of several splits: "train" (None means this), "val" or "test".
    labels : str or path, optional
        A table of files and labels, as of ImageFiles; files are relative to the folder of all images, or to that of the
        split.
    classes : bool
        False: without a table no image has a label, whatever the folders are called.

    Raises
    ------
    ValueError
        If the archive is encrypted, damaged or cut short, holds no images, folders of splits in several places, two
        folders of one class's name, or not the split; or if the table is malformed or names files that are not there.
    """

    unit = "images"

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str | None = None,
        labels: str | os.PathLike[str] | None = None,
        classes: bool = True,
    ) -> None:
        require_flags("ZipImages", classes=classes)
        self.path, self.changed = str(path), os.stat(path).st_ctime
        self.remarks: list[str] = []
        self._where = f"ZipImages: {printable(path)}"
        self._repeated = Repeated()
        tree = Tree(self._repeated.noted(member.name for member in zip_members(path)))
        self.split, self._root = tree.chosen(self._where, split)
        self._folders: ClassFolders | None = None
        self._table: TableLabels | None = None
        self._images = ""  # folder to which the files of the table are relative
        self._solved = self._solutions(tree.solution) if labels is None and classes else {}
        self.class_names: list[str] = sorted(set(self._solved.values()), key=name_key)
        inside = {PurePosixPath(folder) for folder in tree.with_images if self._inside(f"{folder}/")}
        outermost = {folder.parts[0] for folder in map(self._below, inside) if folder.parts}
        if labels is not None and inside:
            self._images = folder_of_all(inside)
            names = [self._in_table(name) for name in self._names()]
            self._table = TableLabels(read_labels(labels), names, self._images or None)
            self.class_names, self.remarks = self._table.class_names, list(self._table.remarks)
        elif classes and not self._solved and not all(map(is_of_photos, outermost)):
            self._folders = ClassFolders(self._where, (self._below(name).as_posix() for name in self._names()))
            self.class_names = self._folders.class_names
            self.remarks += [*remarks_on_alike(self.class_names), *self._folders.remarks]
        elif not inside:
            raise ValueError(f"{self._where} holds no file that is called like an image{tree.hint}")
        elif classes and outermost:
            self.remarks.append(f"folders of {printable(path)} are named after dates or by cameras, and are no classes")
        self._numbers = {name: number for number, name in enumerate(self.class_names)}
        self._survey()

    def describe(self) -> dict[str, Any]:
        """Return what the index says about the source; see ImageSource."""
        found = {"kind": "zip of images", "name": os.path.basename(self.path), "bytes": os.path.getsize(self.path)}
        if self.split is not None:
            found["split"] = self.split
        if self._table is not None:
            found["labels"] = labels_digest(self.items())
        elif self._solved:
            found["labels"] = hashlib.sha256(repr(sorted(self._solved.items())).encode()).hexdigest()[:16]
        return {**found, "content": archive_digest(self.path)}

    def items(self) -> Iterator[Item]:
        """Return the files in the order of the archive's directory.

        Raises
        ------
        ValueError
            While iterating, if the directory is damaged.
        """
        position, replaced = 0, self._repeated.problems()
        for member in zip_members(self.path):
            if self._inside(member.name):
                position += 1
                label, problem = self._label_of(member)
                problem = replaced(member.name) or problem
                load = loader(self.path, member)
                yield Item(member.name, label, self.path, position=position, problem=problem, load=load)

    def _label_of(self, member: ZipMember) -> tuple[int, str | None]:
        """The label of a file, and why it is not read."""
        problem = member.problem
        if is_hidden(member.name):
            return 0, HIDDEN
        if self._table is not None:
            return self._table.label_of(self._in_table(member.name)), problem
        if self._folders is not None:
            label = self._folders.label_of(self._below(member.name).as_posix())
            return (0, problem or "outside the class folders") if label is None else (label, problem)
        wnid = self._solved.get(PurePosixPath(member.name).stem)
        return UNLABELLED if wnid is None else self._numbers[wnid], problem

    def _names(self) -> Iterator[str]:
        replaced = self._repeated.problems()
        for member in zip_members(self.path):
            if self._inside(member.name) and not replaced(member.name) and not is_hidden(member.name):
                yield member.name

    def _inside(self, name: str) -> bool:
        return name.startswith(self._root)

    def _below(self, name: "str | PurePosixPath") -> PurePosixPath:
        """A path of the archive, from the split's folder on."""
        return PurePosixPath(str(name)[len(self._root) :])

    def _in_table(self, name: str) -> str:
        """A path of the archive, from the folder of all images on."""
        return name.removeprefix(f"{self._images}/")

    def _solutions(self, table: str | None) -> dict[str, str]:
        """The wnid of each image's stem, if this is the val split of Kaggle's ImageNet."""
        if table is None or self.split is None or split_named(self.split) != "val":
            return {}
        member = next(member for member in zip_members(self.path) if member.name == table)
        return solved(read_member(self.path, member), f"{self.path}/{table}")

    def _survey(self) -> None:
        """Count the items, note some that are spread over the source, and how many have no label."""
        spread, missing = Spread[Item](ITEMS), 0
        self.total = 0
        for item in self.items():
            spread.add(item)
            self.total += 1
            missing += item.problem is None and item.label == UNLABELLED
        self.sample = list(spread)
        if missing:
            self.remarks.append(f"{missing} files of {printable(self.path)} have no label")
