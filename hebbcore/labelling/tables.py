"""The CSV files: labels for all images, and which image to label next."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from hebbcore.files import write_bytes

PREDICTIONS = ("file", "label", "confidence", "second", "labelled")
NEW = ("file", "label", "confidence", "second")
NEXT = ("file", "label", "guess", "confidence")


def write_table(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows as CSV; see write_atomically.

    Parameters
    ----------
    path : Path
        The file.
    head : sequence of str
        Names of the columns.
    rows : iterable of sequences
        Texts and numbers; floats are probabilities and get four digits. Names of files that are no UTF-8 keep their
        bytes.
    """
    write_bytes(path, lines_of((head, *rows)))


def lines_of(rows: Iterable[Sequence[object]]) -> bytes:
    """Return rows as lines of CSV; see write_table."""
    lines = "".join(",".join(map(_cell, row)) + "\n" for row in rows)
    return lines.encode("utf-8", "surrogateescape")


def _cell(value: object) -> str:
    """Return a value as a cell; Python's csv quotes a lone carriage return only from 3.13 on."""
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    quoted = any(mark in text for mark in ',"\r\n') or text != text.strip()
    return '"' + text.replace('"', '""') + '"' if quoted else text
