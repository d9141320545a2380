"""Which folders of an archive stand for splits, and which of them is read."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from loaders.images.formats import looks_like_an_image
from loaders.sources.class_folders import is_hidden, split_named, splits_in
from loaders.sources.kaggle import SOLUTION
from loaders.text import printable


class Tree:
    """The folders of an archive.

    with_images: those that hold files that are called like images. solution: Kaggle's table of labels, if it is there.
    hint: what else the archive may be, for an error that it holds no images.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.with_images: set[str] = set()
        self.solution: str | None = None
        arrays = False
        for name in names:
            folder, _, file = name.rpartition("/")
            arrays |= file.endswith(".npy")
            if file == SOLUTION:
                self.solution = name
            elif looks_like_an_image(file) and not is_hidden(name):
                self.with_images.add(folder)
        self.hint = "; if it is a file of NumPy arrays (npz), save the images as npy" if arrays else ""

    def splits(self, where: str) -> list[str]:
        """The folders that stand for splits; none if the archive has no such folders."""
        inside: dict[PurePosixPath, set[str]] = {}
        for folder in map(PurePosixPath, self.with_images):
            for inner, outer in zip([folder, *folder.parents], folder.parents, strict=False):
                inside.setdefault(outer, set()).add(inner.name)
        holders = {folder: found for folder, names in inside.items() if (found := splits_in(names))}
        if len(holders) > 1:
            listed = ", ".join(printable(folder) for folder in sorted(holders))
            raise ValueError(f"{where} holds splits in several folders ({listed}); pack each by itself, or unpack it")
        return [(folder / name).as_posix() for folder, names in holders.items() for name in names]

    def split_names(self, where: str) -> list[str]:
        """What the splits are called: "train", "val", "test" or "unlabelled"; none if the archive is one split."""
        return [split_named(PurePosixPath(folder).name) or "" for folder in self.splits(where)]

    def chosen(self, where: str, split: str | None) -> tuple[str | None, str]:
        """The split that is read, None meaning train, and how names in it begin; (None, "") if there is one only.

        where: how errors begin. Raises ValueError if there is no such split.
        """
        folders = self.splits(where)
        if not folders:
            if split is not None:
                raise ValueError(f"{where} holds one split only; leave split out")
            return None, ""
        wanted = split or "train"
        for folder in folders:
            name = PurePosixPath(folder).name
            if wanted in (name, split_named(name)):
                return name, f"{folder}/"
        listed = ", ".join(map(printable, folders))
        raise ValueError(f"{where} holds the splits {listed}, not {wanted}; choose one (--split)")
