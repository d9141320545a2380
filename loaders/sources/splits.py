"""Files of which each belongs to a split by its name, as train-00000-of-00008.parquet or imagenet-val-000.tar."""

import re
from collections.abc import Sequence
from pathlib import Path

from loaders.sources.class_folders import SPLITS
from loaders.sources.walk import listing
from loaders.text import printable


def split_of_file(name: str) -> str | None:
    """The split that is a word of a file's name: "train", "val", "test" or "unlabelled"; None unless it is one."""
    found = {SPLITS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in SPLITS}
    return found.pop() if len(found) == 1 else None


def files_with(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """A file, or those of a folder that end so, in the order of their names; no hidden ones."""
    if not path.is_dir():
        return [path]
    return [
        Path(entry.path)
        for entry in listing(path)
        if entry.is_file() and entry.name.lower().endswith(suffixes) and not entry.name.startswith(".")
    ]


def splits_of(files: Sequence[Path]) -> list[str]:
    """The splits that files belong to; none if it is one, or none that a name tells."""
    found = sorted({split for file in files if (split := split_of_file(file.name))})
    return found if len(found) > 1 else []


def files_of_split(where: str, files: Sequence[Path], split: str | None) -> tuple[list[Path], str | None]:
    """The files of a split, None being "train" where there are several; and which split it is, if there are several.

    where: how errors begin. Raises ValueError if there is no such split.
    """
    splits = splits_of(files)
    if not splits:
        only = {split_of_file(file.name) for file in files}
        if split is not None and only != {split}:
            raise ValueError(f"{where} holds one split only; leave split out")
        return list(files), None
    wanted = split or "train"
    if wanted not in splits:
        listed = ", ".join(map(printable, splits))
        raise ValueError(f"{where} holds the splits {listed}, not {printable(wanted)}; choose one (--split)")
    return [file for file in files if split_of_file(file.name) == wanted], wanted


def remarks_on_splits(files: Sequence[Path]) -> list[str]:
    """What to tell of files that are left out, because others belong to splits and their names tell none."""
    others = [printable(file.name) for file in files if split_of_file(file.name) is None]
    if not others or not splits_of(files):
        return []
    listed = ", ".join(others[:5]) + ", …" * (len(others) > 5)
    return [f"{len(others)} files are of no split by their names, and are left out: {listed}"]
