"""The CSV files: labels for all images, and which image to label next."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from hebbcore.files import write_bytes

PREDICTIONS = ("file", "label", "confidence", "second", "labelled")
NEW = ("file", "label", "confidence", "second")
NEXT = ("file", "label", "guess", "confidence")


def write_table(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows as CSV; see write_atomically and table_bytes."""
    write_bytes(path, table_bytes(head, rows))


def table_bytes(head: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Return rows as CSV.

    Parameters
    ----------
    head : sequence of str
        Names of the columns.
    rows : iterable of sequences
        Texts and numbers; floats are probabilities and get four digits. Names of files that are no UTF-8 keep their
        bytes.

    Returns
    -------
    bytes
        In UTF-8, with a line end after each row.
    """
    lines = [",".join(_cell(value) for value in row) for row in (head, *rows)]
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def _cell(value: object) -> str:
    """Return a value as a cell; Python's csv quotes a lone carriage return only from 3.13 on."""
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    quoted = any(mark in text for mark in ',"\r\n') or text != text.strip()
    return '"' + text.replace('"', '""') + '"' if quoted else text
