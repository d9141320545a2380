"""Images in a tree of class folders."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loaders.doubtful import remarks_on_alike
from loaders.images.formats import looks_like_an_image
from loaders.shards.format import UNLABELLED
from loaders.sources.base import Item
from loaders.sources.class_folders import check_distinct, is_class
from loaders.sources.layout import VALIDATION, check_level
from loaders.sources.walk import Entry, FileSource, Listed, hidden, listing, walk
from loaders.text import printable


def class_folders(root: Path) -> list[str]:
    """The names of the folders in a folder that can be classes, sorted."""
    return [entry.name for entry in listing(root) if entry.is_dir() and is_class(entry.name)]


class ImageFolder(FileSource):
    """`root/<class>/…/<image>`: labels follow the sorted names of the class folders, empty ones included.

    Files beside the class folders that are called like images are images without a label. Links to files and folders
    are followed, except where a folder would contain itself. Files that are no images, hidden ones, and those in hidden
    folders are reported and not read.

    Parameters
    ----------
    root : str or path
        The folder that holds the class folders.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If root is no folder.
    ValueError
        If it has no class folders, two whose names look alike, or is recognisably a level too high (see
        loaders.sources.layout).
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self.class_names = class_folders(self.root)
        if not self.class_names:
            raise ValueError(
                f"ImageFolder: {printable(self.root)} must have one folder for each class, it has no folders; "
                f"ImageFiles takes images without; {VALIDATION}"
            )
        check_level(self.root, self.class_names)
        check_distinct(f"ImageFolder: {printable(self.root)}", self.class_names)
        self._listed = Listed(self.items())
        folders = self._listed.folders - {""}
        self.remarks = remarks_on_alike(self.class_names)
        if beside := sum(self._is_image(entry) for entry in listing(self.root)):
            self.remarks.append(f"{beside} images beside the class folders of {printable(self.root)} have no label")
        if len(folders) >= 2 * len(self.class_names) > 2:
            self.remarks.append(
                f"the images of {printable(self.root)} lie in {len(folders)} folders; their labels are the "
                f"{len(self.class_names)} outermost folders"
            )

    def describe(self) -> dict[str, Any]:
        """Return what the index says about the source; see ImageSource."""
        return {"kind": "image folder", "name": self.root.resolve().name, **self._listed.describe()}

    def items(self) -> Iterator[Item]:
        """Return the files, class after class, in the order of their names."""
        labels = {name: label for label, name in enumerate(self.class_names)}
        for position, (name, path, problem) in enumerate(self._files(), 1):
            outermost, inside, _ = name.partition("/")
            label = labels.get(outermost, 0) if inside else UNLABELLED
            yield Item(name, label, path, position=position, problem=problem)

    def _files(self) -> Iterator[tuple[str, str, str | None]]:
        """(name, path, problem) of every file, in order."""
        for name in self.class_names:
            for file, path, problem in walk(self.root / name, name):
                yield file, path, problem or hidden(file)
        for entry in listing(self.root):
            if not entry.is_dir():
                yield entry.name, entry.path, None if self._is_image(entry) else "outside the class folders"
            elif not is_class(entry.name):
                for name, path, _ in walk(Path(entry.path), entry.name):
                    yield name, path, "in a hidden folder, which is no class"

    @staticmethod
    def _is_image(entry: Entry) -> bool:
        """Whether a file beside the class folders is taken."""
        return entry.is_file() and is_class(entry.name) and looks_like_an_image(entry.name)
