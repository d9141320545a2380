"""done.txt of a work folder: what its results were made from, and their digests; not there while they are written."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from hebbcore.files import write_text
from hebbcore.hdf5 import new_digest

DONE = "done.txt"
_LINE = re.compile(r"([0-9a-f]{32}) {2}([\w.]+)")


def write_done(work: Path, made_from: str, names: Iterable[str]) -> None:
    """Say that results, files of these names, are complete. made_from: digest of all that decides them."""
    lines = [f"{digest_of_file(work / name)}  {name}\n" for name in names]
    write_text(work / DONE, f"{made_from}\n{''.join(lines)}")


def read_done(work: Path) -> tuple[str, dict[str, str]]:
    """Return made_from and {name: digest} of the results; earlier versions wrote no digests.

    Raises FileNotFoundError, and ValueError if the file is damaged.
    """
    first, *lines = (work / DONE).read_text("utf-8").splitlines() or [""]
    found = [_LINE.fullmatch(line) for line in lines]
    if not re.fullmatch("[0-9a-f]{32}", first) or None in found:
        raise ValueError(f"{work / DONE} is damaged; remove it, and run hebbcore classify again.")
    return first, {match[2]: match[1] for match in found if match is not None}


def digest_of_file(path: Path) -> str:
    """Return the digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, new_digest).hexdigest()


def changed_since(work: Path) -> list[str]:
    """Return the results that no longer hold what was written to them. Raises as read_done, and if one is gone."""
    return [name for name, digest in read_done(work)[1].items() if digest_of_file(work / name) != digest]


def require_as_written(work: Path, names: Iterable[str]) -> None:
    """Raise ValueError if a user has changed one of these results, which are about to be written anew."""
    try:
        digests = read_done(work)[1]
    except (FileNotFoundError, ValueError):  # it is not known what was written
        return
    for name in names:
        if name in digests and (work / name).is_file() and digest_of_file(work / name) != digests[name]:
            raise ValueError(
                f"{name} in --out was changed since it was written, and would be written anew: copy it, if you want to "
                "keep that, and remove it."
            )


def is_as_written(work: Path, name: str) -> bool:
    """Return whether a result is known to hold what was written to it."""
    try:
        return read_done(work)[1].get(name) == digest_of_file(work / name)
    except (FileNotFoundError, ValueError):
        return False
