"""Tables of labels for a server, read in a process of their own: Python answers nobody while it reads millions."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from loaders.labels import SHOWN, Finder, Row, labels_of, match_labels, rows_and_remarks
from loaders.workers import apart


class Matched(NamedTuple):
    """What a table says.

    labels: {position of an image: label}. unknown: how many rows name no image. some: files of the first of these.
    remarks: what a user should know of the labels.
    """

    labels: dict[int, str]
    unknown: int
    some: list[str]
    remarks: list[str]


def matched(data: bytes, names: Sequence[str], folder: str | os.PathLike[str] | None = None) -> Matched:
    """Return the labels that a table gives images; rows of files that are no images are counted and left out.

    data: of the file. names, folder: as for match_labels. Raises ValueError for what is no table, for one that names no
    image, and as match_labels.
    """
    return apart(_matched, (data, list(names), folder))


def _matched(task: tuple[bytes, list[str], str | os.PathLike[str] | None]) -> Matched:
    data, names, folder = task
    rows, remarks = rows_and_remarks(data, "the table")
    finder = Finder(names, folder)
    known, positions = list[Row](), list[int]()
    unknown = list[str]()
    for row in rows:
        if (position := finder.find(row[0])) is None:
            unknown.append(row[0])
        else:
            known.append(row)
            positions.append(position)
    if unknown and not known:  # the whole table is wrong, and the error says how
        match_labels(rows, names, folder)
    found = labels_of(known, positions, names)
    return Matched({place: label for place, label in found.items() if label}, len(unknown), unknown[:SHOWN], remarks)
