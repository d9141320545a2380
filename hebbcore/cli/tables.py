"""Labels of a table for the commands that give labels: which images they are of, and what must not be lost."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

import loaders
from hebbcore.cli.photos import is_photos
from hebbcore.labelling.done import is_as_written
from hebbcore.labelling.work import FOLLOWING, Labels
from hebbcore.texts import plain, tidy
from loaders.labels import parse_labels
from loaders.shards.format import UNLABELLED
from loaders.sources.detect import kind_of
from loaders.sources.table_labels import TableLabels, folder_of_all

_SHOWN = 5  # labels that a warning lists
_log = logging.getLogger("hebbcore")


def names_in_tables(names: Sequence[str], photos: Path) -> tuple[list[str], str | Path]:
    """Return what tables call images of these names, and where they lie: those of an archive in the folder of all."""
    if not photos.is_file() or not is_photos(photos):
        return list(names), photos
    inside = folder_of_all({PurePosixPath(name).parent for name in names})
    return [_below(inside, name) for name in names], inside or photos


def _below(folder: str, name: str) -> str:
    """Return a name as it is in a folder, if it lies there."""
    path = PurePosixPath(name)
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


class Table:
    """Labels of a table; looks at once whether it fits a folder or a zip of images.

    split: of a source of several. Raises FileNotFoundError and ValueError for a table that is none, or names files that
    are not there.
    """

    def __init__(self, path: Path, photos: Path, split: str | None) -> None:
        self._photos = photos
        self._of_files: dict[str, int] | None = None
        if is_photos(photos):
            kind = kind_of(photos)
            if kind is None and photos.is_dir():
                self._take(loaders.ImageFiles(photos, path))
            elif kind is not None and "labels" in kind.options:
                self._take(loaders.open_source(photos, split=split, labels=path))
        self._rows = loaders.read_labels(path) if self._of_files is None else []

    def _take(self, source: Any) -> None:
        self._of_files = {item.name: item.label for item in source.items()}
        self._classes = source.class_names

    def labels(self, names: Sequence[str], skipped: Sequence[tuple[str, str]]) -> Labels:
        """Return the labels of images. skipped: files that could not be read, and why; a label of one is told."""
        left_out = [name for name, _ in skipped]
        if self._of_files is None:
            names, root = names_in_tables(names, self._photos)
            left_out = [_below(str(root), name) for name in left_out]
            table = TableLabels(self._rows, [*names, *left_out], root)
            numbers, classes = {name: table.label_of(name) for name in [*names, *left_out]}, table.class_names
        else:
            numbers, classes = self._of_files, self._classes
        # images that were added since the table was read have none
        found = Labels.of(np.array([numbers.get(name, UNLABELLED) for name in names], np.int64), classes)
        unused = [(name, classes[numbers[name]]) for name in left_out if numbers.get(name, UNLABELLED) >= 0]
        # what a folder says of all its files, of .DS_Store too, is nobody's work that is lost
        unused = [(name, label) for name, label in unused if tidy(PurePosixPath(name).parts[0]) != label]
        if unused:
            _tell_unused(unused, found.classes)
        return replace(found, unused=tuple(unused))


def _tell_unused(unused: Sequence[tuple[str, str]], classes: Sequence[str]) -> None:
    """Warn of labels (file, label) of photos that could not be read. classes: of which others have a label."""
    listed = ", ".join(f"{plain(name)} ({plain(label)})" for name, label in unused[:_SHOWN])
    lost = [plain(label) for label in dict.fromkeys(label for _, label in unused) if label not in classes]
    _log.warning(
        "labels without effect, of photos that could not be read: %s%s%s", listed,
        f" and {len(unused) - _SHOWN} more" if len(unused) > _SHOWN else "",
        f"; no other photo is labelled {', '.join(lost[:_SHOWN])}{', …' * (len(lost) > _SHOWN)}" if lost else "",
    )  # fmt: skip


def require_taken_over(work: Path, names: Sequence[str], labels: Labels) -> None:
    """Raise ValueError if next.csv holds labels that --labels lacks; see only_in_next."""
    if lost := only_in_next(work, names, labels):
        raise ValueError(
            f"{FOLLOWING} in --out holds {len(lost)} labels that --labels lacks, such as that of {lost[0]}, and would "
            "be written anew without them: add its rows to the table of --labels, or remove it."
        )


def only_in_next(work: Path, names: Sequence[str], labels: Labels) -> list[str]:
    """Return the images that next.csv, which is about to be replaced, has labels for and the labels have not.

    work: the folder that it lies in. names: of all images. Raises ValueError if it was changed to what is no table.
    """
    following = work / FOLLOWING
    if not following.is_file() or is_as_written(work, FOLLOWING):
        return []
    known = {name for name, number in zip(names, labels.numbers.tolist(), strict=True) if number >= 0}
    try:
        rows = parse_labels(following.read_bytes(), FOLLOWING)
    except ValueError as error:
        raise ValueError(
            f"{FOLLOWING} in --out was changed, and would be written anew without the labels in it, which cannot be "
            f"read: {error}; mend it, or move it away."
        ) from None
    return [file for file, label in rows if label and file not in known]
