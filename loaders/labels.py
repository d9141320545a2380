"""Labels in a table: a CSV or TSV of files and labels, and which image each row means."""

import csv
import io
import logging
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from unicodedata import normalize

import numpy as np
import numpy.typing as npt

from loaders.doubtful import remarks_on
from loaders.shards.format import UNLABELLED
from loaders.text import printable, tidy

# What columns may be called; of several columns of files the word that comes first here counts
FILES = ("file", "filename", "file_name", "filepath", "path", "image", "img", "photo", "image_id", "name", "id")
LABELS = ("label", "labels", "class", "class_name", "category", "target", "species", "tag")
TABLE_BYTES = 2**28
SOLUTION = ["imageid", "predictionstring"]  # header of the labels of Kaggle's ImageNet
SAID = re.compile(r'"?sep=([^\w\s"]|\t)"?(?=\r|\n|\Z)', re.IGNORECASE)  # the first line of tables for Excel
OWN = b"file,label"  # how tables begin that hebbcore writes
NEXT = ["file", "label", "guess", "confidence"]  # header of those that name what to label next
PREDICTED = ["file", "label", "confidence", "second", "labelled"]  # of those of guesses; labelled: 1 is no guess
SAVED = 'spreadsheets call it "CSV UTF-8"'  # what to do about another encoding
SHOWN = 5  # lines or files that a message lists

log = logging.getLogger(__name__)

Row = tuple[str, str]


def read_labels(path: str | os.PathLike[str]) -> list[Row]:
    """Read a table of files and labels: CSV, TSV or separated by semicolons, as spreadsheets write them.

    Fields may be quoted, and quoted fields may hold separators and line ends. The first row is a header if it names a
    column of files (such as "file" or "path") and one of labels (such as "label" or "class"); then columns may come in
    any order, and others are ignored: of files and numbers ("id") the files count, and beside "label" no other label.
    Without a header each row is file, label; a row without a label is an image
    that has none yet. Rows of next.csv, which hebbcore writes, may be added to a table of file and label as they are.
    Empty rows do not count. Labels that look alike are the same: they lose the spaces around them
    and what nobody sees, such as zero-width characters, and accents are composed in one way. LOC_val_solution.csv of
    Kaggle's ImageNet is such a table too.

    Parameters
    ----------
    path : str or path
        The file, in UTF-8, with or without a byte order mark. In a .tsv the tab separates; otherwise the first row
        tells. A line before it may say so, such as "sep=;", which Excel reads too. Where it begins with "file,label",
        as hebbcore writes it, names of files may be of any bytes.

    Returns
    -------
    list of (str, str)
        File and label of each row in order; the label is "" where there is none.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is empty, has more than 256 MiB or is not UTF-8, for a header of several columns that may be the
        labels, and for malformed lines, which are named with their numbers.
    """
    with open(path, "rb") as file:
        return parse_labels(file.read(TABLE_BYTES + 1), str(path))


def parse_labels(data: bytes, path: str) -> list[Row]:
    """Return what read_labels does, of a file's bytes. path: what messages call it; its ending counts."""
    found, remarks = rows_and_remarks(data, path)
    for remark in remarks:
        log.warning("%s: %s", printable(path), remark)
    return found


def rows_and_remarks(data: bytes, path: str) -> tuple[list[Row], list[str]]:
    """Return what parse_labels does, and what a user should know of the labels."""
    rows = _Rows(*_separated(_text(data, path), path))
    found: list[Row] = []
    known: dict[str, str] = {}  # labels as they are written, and tidy
    columns, width, is_solution, is_predicted, guesses, called = (0, 1), 2, False, False, 0, ""
    for count, (line, fields) in enumerate(rows):
        if count == 0 and (header := _header(fields, path)):
            columns, width = header, len(fields)
            is_solution = [field.strip().lower() for field in fields] == SOLUTION
            is_predicted = fields in (PREDICTED, PREDICTED[:-1])
        elif fields == NEXT:
            continue
        elif any(field.strip() for field in fields[width:]) and not _is_of_next(fields, columns):
            rows.faults.append(
                (line, f"{len(fields)} fields instead of {width}; a field with the separator in it must be quoted")
            )
            if count == 0:  # it may be a header
                called = " (of more columns, a header calls these two so)"
        else:
            file, label = (fields[column] if 0 <= column < len(fields) else "" for column in columns)
            if not _is_unicode(label):
                rows.faults.append((line, f"its label is not UTF-8 ({SAVED})"))
            elif file.strip() and is_solution:  # the first box's class, of an image without its suffix
                found.append((f"{file.strip()}.JPEG", label.split()[0] if label.strip() else ""))
            elif file.strip():
                if label not in known:
                    known[label] = tidy(label.strip())
                found.append((file, known[label]))
                guesses += is_predicted and bool(known[label]) and fields[len(PREDICTED) - 1 :] != ["1"]
            else:
                rows.faults.append((line, f"a label without a file, {printable(label.strip())!r}"))
    if rows.faults:
        listed = "; ".join(f"line {line}: {reason}" for line, reason in rows.faults[:SHOWN])
        raise ValueError(
            f"read_labels: {printable(path)} must be a table of file and label{called}, but {len(rows.faults)} of "
            f"its rows {'is' if len(rows.faults) == 1 else 'are'} not: {listed}{'; …' * (len(rows.faults) > SHOWN)}"
        )
    remarks = remarks_on(known.values())
    if guesses:
        remarks.insert(0, f"{guesses} of its {len(found)} labels are guesses of hebbcore, and count as right")
    return found, remarks


def _is_of_next(fields: list[str], columns: tuple[int, int]) -> bool:
    """Whether a row was copied from a table that names what to label next: a guess follows, and how sure it is."""
    return columns == (0, 1) and len(fields) == len(NEXT) and re.fullmatch(r"[01]\.\d{4}", fields[3]) is not None


class _Rows:
    """(line number, fields) of the rows that are not blank; iterating collects what cannot be parsed in `faults`."""

    def __init__(self, text: str, separator: str) -> None:
        self._reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        self.faults: list[tuple[int, str]] = []

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        while True:
            line = self._reader.line_num + 1
            try:
                fields = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                self.faults.append((line, f"{error} (quotes inside a quoted field are doubled)"))
                continue
            if any(field.strip() for field in fields):
                yield line, fields


def _text(data: bytes, path: str) -> str:
    if len(data) > TABLE_BYTES:
        raise ValueError(f"read_labels: {printable(path)} has more than {TABLE_BYTES} bytes; is it a table of labels?")
    if not data.strip():
        raise ValueError(
            f"read_labels: {printable(path)} is empty; it must hold a row of file and label for each image, or "
            "the line file,label alone where there is no label yet"
        )
    try:
        text = data.decode("utf-8-sig", "surrogateescape" if data.startswith(OWN) else "strict")
    except UnicodeDecodeError as error:
        fault, place = "is not UTF-8", error.start
    else:
        if "\0" not in text:
            return text
        fault, place = "holds a zero byte", data.index(b"\0")
    line = data.count(b"\n", 0, place) + 1
    raise ValueError(
        f"read_labels: line {line} of {printable(path)} {fault}; the table must be text in UTF-8 ({SAVED})"
    )


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _separated(text: str, path: str) -> tuple[str, str]:
    """The text without a first line that says the separator, as Excel reads it, and the separator."""
    said = SAID.match(text)
    if said is None:
        return text, _separator(text, path)
    return text[said.end() :], said[1]  # the line's end stays, so that lines keep their numbers


def _separator(text: str, path: str) -> str:
    """The separator that makes at least two fields of the first row: a tab, a comma or a semicolon, in this order."""
    if path.lower().endswith(".tsv"):
        return "\t"
    for separator in "\t,;":
        rows = _Rows(text, separator)
        first = next((fields for _, fields in rows), [])
        if len(first) > 1 and not rows.faults:
            return separator
    return ","


def _header(fields: list[str], path: str) -> tuple[int, int] | None:
    """The columns of files and labels; None if the row is no header. Label column -1: there is none."""
    words = [field.strip().lower() for field in fields]
    if words == SOLUTION:
        return 0, 1
    files = [column for column, word in enumerate(words) if word in FILES]
    labels = [column for column, word in enumerate(words) if word in LABELS]
    if not files or (not labels and len(words) > 1):
        return None
    if words.count(LABELS[0]) == 1:
        labels = [words.index(LABELS[0])]
    elif len(labels) > 1:
        listed = ", ".join(printable(fields[column].strip()) for column in labels)
        raise ValueError(
            f"read_labels: {printable(path)} has several columns that may be the labels, {listed}; name the one that "
            f"counts {LABELS[0]}, and no other"
        )
    return min(files, key=lambda column: FILES.index(words[column])), labels[0] if labels else -1


def match_labels(
    rows: Sequence[Row], names: Sequence[str], folder: str | os.PathLike[str] | None = None
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Tell which image each row of a table means, and number the classes.

    A file is one of the names, or leads to one: with "./" or "x/../" in it, with "\\\\" for "/", with spaces around
    it, absolute in the folder, with the folder's own name in front, or with accents composed in another way (macOS).
    Upper and lower case differ.

    Parameters
    ----------
    rows : sequence of (str, str)
        Files and labels, as read_labels returns them; a label "" is none.
    names : sequence of str
        Names (n,) of the images, such as their paths relative to the folder.
    folder : str or path, optional
        Where the images lie; None: absolute paths are unknown.

    Returns
    -------
    labels : array (n,), int64
        Positions in classes; -1: the image has no label.
    classes : list of str
        The labels of the rows, sorted.

    Raises
    ------
    ValueError
        If rows name files that are not among the names, one file has two labels, or a row's name is that of several
        images.
    """
    finder = Finder(names, folder)
    positions = [finder.find(file) for file, _ in rows]
    unknown = [file for (file, _), position in zip(rows, positions, strict=True) if position is None]
    if unknown:
        raise ValueError(unknown_files(unknown, len(rows), rows[0][0], names, folder))
    found = labels_of(rows, [position for position in positions if position is not None], names)
    classes = sorted(set(found.values()) - {""}, key=os.fsencode)
    numbers = {"": UNLABELLED, **{label: number for number, label in enumerate(classes)}}
    labels = np.full(len(names), UNLABELLED, np.int64)
    for position, label in found.items():
        labels[position] = numbers[label]
    return labels, classes


def labels_of(rows: Sequence[Row], positions: Sequence[int], names: Sequence[str]) -> dict[int, str]:
    """Return {position of an image: label} of rows, of which each means the image at a position; see match_labels."""
    several = {name for name, count in Counter(names).items() if count > 1}
    found: dict[int, str] = {}
    different, ambiguous = list[str](), list[str]()
    repeated = 0
    for (file, label), position in zip(rows, positions, strict=True):
        if several and names[position] in several:
            ambiguous.append(file)
        before = found.get(position, "")
        if before and label and before != label:
            different.append(f"{printable(file)} ({printable(before)} and {printable(label)})")
        repeated += position in found
        found[position] = before or label
    if different:
        raise ValueError(f"match_labels: a file must have one label, these have two: {_listed(different)}")
    if ambiguous:
        raise ValueError(
            f"match_labels: rows must name one image each, but several images are called {_listed(ambiguous)}"
        )
    if repeated:
        log.warning("%d of %d rows of labels name a file that another row names already", repeated, len(rows))
    return found


class Finder:
    """Finds the image that a file of a table means; see match_labels."""

    def __init__(self, names: Sequence[str], folder: str | os.PathLike[str] | None = None) -> None:
        self._positions = {name: position for position, name in enumerate(names)}
        self._composed: dict[str, int] | None = None  # made when a row needs it
        self._is_composed = False
        self._above = () if folder is None else _names_of_folder(folder)

    def find(self, file: str) -> int | None:
        """Return the position of an image, None if no image is called so."""
        if file in self._positions:
            return self._positions[file]
        readings = list(_readings(file, self._above))
        for name in readings:
            if name in self._positions:
                return self._positions[name]
        if self._composed is None:
            self._composed = {normalize("NFC", name): place for name, place in self._positions.items()}
            self._is_composed = self._composed == self._positions
        if self._is_composed and file.isascii():  # nothing else to find, in large tables of other files
            return None
        composed = (normalize("NFC", name) for name in readings)
        return next((self._composed[name] for name in composed if name in self._composed), None)


def _names_of_folder(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """What may stand before the names of files in a folder."""
    root = os.path.abspath(folder)
    above = (root, os.path.realpath(root), os.path.basename(root), os.path.normpath(folder))
    return tuple(f"{name}/" for name in dict.fromkeys(above) if name)


def _readings(file: str, above: Sequence[str]) -> Iterator[str]:
    """The names that the file of a row may mean, the most literal first. above: what may stand before them."""
    yield file
    for text in dict.fromkeys((file, file.strip(), file.strip().replace("\\", "/"))):
        plain = posixpath.normpath(text)
        yield plain
        for folder in above:
            if plain.startswith(folder):
                yield plain[len(folder) :]


def unknown_files(
    files: list[str], rows: int, first: str, names: Sequence[str], folder: str | os.PathLike[str] | None
) -> str:
    """Return the message for files that no image is called."""
    where = "the images" if folder is None else f"the images of {printable(folder)}"
    alike: dict[str, str] = {}
    for name in names:
        base = _seen(posixpath.basename(name))
        alike.setdefault(base, name)
        alike.setdefault(posixpath.splitext(base)[0], name)
    listed = []
    for file in files[:SHOWN]:
        hint = alike.get(_seen(posixpath.basename(file.strip().replace("\\", "/"))))
        listed.append(repr(printable(file)) + (f" (is it {printable(hint)!r}?)" if hint is not None else ""))
    example = next((name for name in names if not posixpath.basename(name).startswith(".")), None)
    return (
        f"match_labels: {len(files)} of {rows} rows name a file that is not among {where}: {', '.join(listed)}"
        f"{', …' * (len(files) > SHOWN)}; names are relative to the folder"
        f"{'' if example is None else f', such as {printable(example)!r}'}{_advice(files, rows, first)}"
    )


def _seen(name: str) -> str:
    """A name as eyes have it, that takes no notice of its case."""
    return tidy(name).casefold()


def _advice(files: list[str], rows: int, first: str) -> str:
    """What may be wrong with a table that names unknown files. rows: how many it has. first: the file of the first."""
    if not all(map(_is_unicode, files)):
        return f"; the table is not all UTF-8 ({SAVED})"
    if files == [first] and rows > 1 and not posixpath.splitext(first.strip())[1]:
        return "; if the first row is a header, call its columns file and label"
    separator = next((mark for mark in ",;|" if mark in first), None)
    if len(files) == rows and separator is not None:
        return f"; if {separator} separates the columns, begin the table with the line sep={separator}"
    return "; delete the rows of files that are gone" if len(files) < rows else ""


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(map(printable, texts[:SHOWN])) + (f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else "")
