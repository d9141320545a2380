"""ImageNet as Kaggle packs it, in the folder that it unpacks to; and its table of the labels of val."""

import hashlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from loaders.labels import parse_labels
from loaders.shards.format import UNLABELLED
from loaders.sources.base import Item, name_key
from loaders.sources.class_folders import is_class
from loaders.sources.walk import FileSource, Listed, hidden, listing, walk
from loaders.text import printable

SOLUTION = "LOC_val_solution.csv"
FOLDER = "ILSVRC/Data/CLS-LOC"
SPLITS = ("train", "val", "test")


def is_kaggle(names: Collection[str]) -> bool:
    """Whether a folder with files of these names is the outermost one of Kaggle's ImageNet."""
    return SOLUTION in names


def solved(table: bytes, where: str) -> dict[str, str]:
    """From the stem of an image's name to its wnid, of what LOC_val_solution.csv holds."""
    found = {PurePosixPath(file).stem: wnid for file, wnid in parse_labels(table, where) if wnid}
    if not found:
        raise ValueError(f"{printable(where)} must tell the wnid of each image, it tells none; get it again")
    return found


class KaggleImageNet(FileSource):
    """Kaggle's ImageNet: `ILSVRC/Data/CLS-LOC/train/<wnid>/*`, and `val/*` with LOC_val_solution.csv.

    Labels follow the sorted wnids, in both splits.

    Parameters
    ----------
    root : str or path
        The folder that holds LOC_val_solution.csv.
    split : str, optional
        "train" (None means this), "val", or "test", whose images have no label.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If the folder of the split is not there.
    ValueError
        If there is no such split, or LOC_val_solution.csv is damaged.
    """

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        self.split = split or "train"
        if self.split not in SPLITS:
            raise ValueError(f'KaggleImageNet: split must be "train", "val" or "test", got {split!r}')
        self.root = Path(root)
        table = self.root / SOLUTION
        self._solved = solved(table.read_bytes(), str(table)) if self.split == "val" else {}
        self._folder = self.root / FOLDER / self.split
        entries = listing(self._folder)
        folders = [entry.name for entry in entries if entry.is_dir() and is_class(entry.name)]
        self.class_names = folders if self.split == "train" else sorted(set(self._solved.values()), key=name_key)
        self._numbers = {name: number for number, name in enumerate(self.class_names)}
        self._listed = Listed(self.items())
        if not self._listed.count:
            raise ValueError(f"KaggleImageNet: {printable(self._folder)} has no files; unpack the archive again")

    def describe(self) -> dict[str, Any]:
        """Return what the index says about the source; see ImageSource."""
        found = {"kind": "Kaggle's ImageNet", "split": self.split, **self._listed.describe()}
        if self._solved:
            found["labels"] = hashlib.sha256(repr(sorted(self._solved.items())).encode()).hexdigest()[:16]
        return found

    def items(self) -> Iterator[Item]:
        """Return the files of the split in the order of their names."""
        for position, (name, path, problem) in enumerate(walk(self._folder, self.split), 1):
            label = UNLABELLED
            if self.split == "train":
                label = self._numbers.get(name.split("/")[1], 0)
                problem = problem or (None if name.count("/") > 1 else "outside the class folders")
            elif self.split == "val":
                wnid = self._solved.get(PurePosixPath(name).stem)
                label = 0 if wnid is None else self._numbers[wnid]
                problem = problem or (f"not in {SOLUTION}" if wnid is None else None)
            # hidden last: what was not read before keeps its reason, which is in the digest of sets
            yield Item(name, label, path, position=position, problem=problem or hidden(name))
