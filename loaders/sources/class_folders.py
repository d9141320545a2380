"""Which folders are classes, by their names and those of their files, and which stand for splits."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from loaders.images.formats import looks_like_an_image
from loaders.sources.base import name_key
from loaders.text import printable, tidy

SPLITS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("unlabeled", "unlabelled", "extra"), "unlabelled"),
}
FILLERS = {"images", "image", "img", "imgs", "set", "data", "dataset", "split", "jpg", "jpeg", "png", "ilsvrc"}

HIDDEN = "hidden, or in a hidden folder"  # why a file is not read

DATE = re.compile(
    r"(19|20)\d\d(?:[-_. ]?(0[1-9]|1[0-2])(?:[-_. ]?(0[1-9]|[12]\d|3[01]))?)?(?![0-9])(?:[-_. ,].*)?", re.DOTALL
)
CAMERA = re.compile(r"DCIM|Camera(?: Roll)?|[1-9]\d\d(?=\d*[A-Z_])[A-Z0-9_]{5}")  # 100CANON: as cameras number them


def split_named(name: str) -> str | None:
    """The split that a folder's name stands for: "train", "val", "test" or "unlabelled", as in train2017; else None."""
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    found = {SPLITS[word] for word in words if word in SPLITS}
    return found.pop() if len(found) == 1 and all(word in SPLITS or word in FILLERS for word in words) else None


def splits_in(names: Iterable[str]) -> list[str]:
    """The names that stand for splits, if they stand for two or more of them; "train" may be a class of vehicles."""
    named = {name: split_named(name) for name in names}
    splits = sorted(name for name, split in named.items() if split)
    return splits if len({named[name] for name in splits}) > 1 else []


def is_class(folder: str) -> bool:
    """Whether a folder of this name can be a class: not what systems and programs leave behind."""
    return not folder.startswith((".", "__MACOSX", "@eaDir"))


def is_hidden(name: str) -> bool:
    """Whether a file, "folder/…/file", or a folder around it is what systems and programs leave behind."""
    return not all(part in (".", "..") or is_class(part) for part in name.split("/"))


def is_of_photos(folder: str) -> bool:
    """Whether a folder is named after a date, as 2019, 2019-05 or 20190513 Italy, or by a camera: it tells no class."""
    return bool(DATE.fullmatch(folder) or CAMERA.fullmatch(folder))


def check_distinct(where: str, names: Iterable[str]) -> None:
    """Raise ValueError if two names of classes differ only in what nobody sees, as in the form of an accent."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(tidy(name), name)
        if other != name:
            raise ValueError(
                f"{where} must have one folder for each class, but two whose names look alike, {other!a} and "
                f"{name!a}; move the images of one into the other, or call it something else"
            )


class ClassFolders:
    """Which folders of an archive are classes: those that hold files directly.

    A folder that holds other folders is a class only if it holds a file that is called like an image.

    where: how errors begin. names: all files of the archive, as "folder/folder/file". remarks: what a user should know.
    Raises ValueError if there are no class folders, two of one name or of names that look alike, or splits where
    classes should be.
    """

    def __init__(self, where: str, names: Iterable[str]) -> None:
        folders: dict[PurePosixPath, bool] = {}  # and whether something in it is called like an image
        for name in names:
            folder = PurePosixPath(name).parent
            folders[folder] = folders.get(folder, False) or looks_like_an_image(name)
        inside: dict[PurePosixPath, set[str]] = {}
        for folder in folders:
            for inner, outer in zip([folder, *folder.parents], folder.parents, strict=False):
                inside.setdefault(outer, set()).add(inner.name)
        classes = {folder for folder, images in folders.items() if folder.name and (images or folder not in inside)}
        self.class_names = sorted({folder.name for folder in classes}, key=name_key)
        labels = {name: label for label, name in enumerate(self.class_names)}
        self._labels = {folder: labels[folder.name] for folder in classes}
        self._check(where, inside)
        self.remarks: list[str] = []
        around = sorted({folder.parent.as_posix() for folder in classes}, key=name_key)
        if len(around) > 1:
            listed = ", ".join(map(printable, around[:5])) + ", …" * (len(around) > 5)
            self.remarks.append(f"the classes are the innermost folders with images, here in several others: {listed}")

    def label_of(self, name: str) -> int | None:
        """The label of a file; None if it lies outside the class folders."""
        return self._labels.get(PurePosixPath(name).parent)

    def _check(self, where: str, inside: dict[PurePosixPath, set[str]]) -> None:
        if not self.class_names:
            raise ValueError(f"{where} must hold one folder for each class, it has none")
        check_distinct(where, self.class_names)
        if len(self.class_names) < len(self._labels):
            raise ValueError(
                f"{where} has two folders of one class's name; pack each split by itself, or unpack it and give the "
                "folder of classes if they have folders in them"
            )
        for folder, names in inside.items():
            if splits := splits_in(names):
                listed = ", ".join(printable(folder / split) for split in splits)
                raise ValueError(
                    f"{where} holds splits, not classes ({listed}); pack each split by itself, or unpack it and give "
                    "the folder of one"
                )
