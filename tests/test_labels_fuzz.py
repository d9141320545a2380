"""Tables of labels as people and programs write them, at random: what is read is what was meant, or it is refused."""

import csv
import io
import os
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders.labels import FILES, LABELS, match_labels, read_labels
from loaders.text import tidy

LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
NAME = st.text(LETTERS, min_size=1, max_size=8).filter(str.strip)
WORD = st.text("abc é图", max_size=5)
ROWS = st.lists(st.tuples(NAME, st.text(LETTERS, max_size=6)), min_size=1, max_size=6)
PLAIN = st.lists(st.tuples(st.text("ab/é图", min_size=1, max_size=6), WORD), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


def written(folder, data, name="labels.csv"):
    """Write a table, and return its path."""
    (folder / name).write_bytes(data)
    return folder / name


def text_of(rows, separator, line_end, quote_all):
    buffer = io.StringIO()
    quoting = csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
    for row in rows:  # quoted where the csv module forgets to: a line end that is not its own, up to Python 3.12
        always = quote_all or any("\r" in cell or "\n" in cell for cell in row)
        csv.writer(
            buffer, delimiter=separator, lineterminator=line_end, quoting=csv.QUOTE_ALL if always else quoting
        ).writerow(row)
    return buffer.getvalue()


@given(ROWS, st.data())
def test_rows_come_back_however_the_table_is_written(folder, rows, data):
    """With a byte order mark or not, all ends of lines, separators, quotes, blank lines, columns in any order."""
    separator, line_end = data.draw(st.sampled_from(",;\t")), data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    columns = data.draw(st.permutations(["file", "label", *data.draw(st.sampled_from([[], ["guess"], ["x", "y"]]))]))
    words = {"file": sorted(FILES), "label": sorted(LABELS)}
    head = [data.draw(st.sampled_from(words[name])).upper() if name in words else name for name in columns]
    table = [{"file": file, "label": label} for file, label in rows]
    lines = [head, *([row.get(name, "more") for name in columns] for row in table)]
    text = text_of(lines, separator, line_end, data.draw(st.booleans()))
    text = (
        data.draw(st.sampled_from(["", line_end, f"  {line_end}"])) + text + data.draw(st.sampled_from(["", line_end]))
    )
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig"]))
    name = data.draw(
        st.sampled_from(["labels.csv", "labels.txt", "labels.tsv"] if separator == "\t" else ["labels.csv"])
    )
    assert read_labels(written(folder, text.encode(encoding), name)) == [(file, tidy(label)) for file, label in rows]


@given(PLAIN, st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_rows_come_back_without_a_header(folder, rows, separator, line_end, quote_all):
    path = written(folder, text_of(rows, separator, line_end, quote_all).encode())
    assert read_labels(path) == [(file, tidy(label)) for file, label in rows]


@given(
    PLAIN, st.sampled_from(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "cp437", "mac-roman"])
)
def test_other_encodings_are_refused_or_the_same(folder, rows, encoding):
    """Never read as other letters: those of the test are no UTF-8 in any of them.

    Tables that begin with "file,label" are hebbcore's own, whose names of files may be no UTF-8.
    """
    text = text_of([("file", "label"), *rows], ";", "\n", False)
    try:
        data = text.encode(encoding)
    except UnicodeEncodeError:
        return
    path = written(folder, data)
    if data.isascii() and b"\0" not in data:
        assert read_labels(path) == [(file, tidy(label)) for file, label in rows]
    else:
        with pytest.raises(ValueError, match=r"read_labels: line \d+ of .* (is not UTF-8|holds a zero byte)"):
            read_labels(path)


@given(ROWS, st.data())
def test_a_damaged_table_is_rows_or_a_value_error_that_names_it(folder, rows, data):
    whole = bytearray(text_of([("file", "label"), *rows], ",", "\n", False).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(whole)))
        piece = data.draw(st.sampled_from([b"\0", b'"', b",", b"\n", b"\r", b"\xff", b"\xef\xbb\xbf", b"x" * 200, b""]))
        whole[place : place + data.draw(st.integers(0, 3))] = piece
    path = written(folder, bytes(whole))
    fault = found = None
    try:
        found = read_labels(path)
    except ValueError as error:
        fault = str(error)
    if found is None:
        assert fault.startswith("read_labels: ")
        assert "labels.csv" in fault
    else:
        assert all(file.strip() and label == tidy(label) and "\0" not in file + label for file, label in found)


@settings(max_examples=10)
@given(st.integers(131_000, 131_100), st.booleans())
def test_fields_at_the_limit(folder, size, quoted):
    """The csv module takes 131,072 letters."""
    field = "x" * size
    path = written(folder, f"a.jpg,{chr(34) * quoted}{field}{chr(34) * quoted}\nb.jpg,y\n".encode())
    if size <= csv.field_size_limit():
        assert read_labels(path) == [("a.jpg", field), ("b.jpg", "y")]
    else:
        with pytest.raises(ValueError, match="line 1: field larger than field limit"):
            read_labels(path)


PART = st.text("ab é.", min_size=1, max_size=4).filter(lambda part: part == part.strip() and part.strip("."))
PATHS = st.lists(st.lists(PART, min_size=1, max_size=3).map("/".join), min_size=1, max_size=6, unique=True)
WAYS = {
    "as it is": lambda name, root: name,
    "dot": lambda name, root: f"./{name}",
    "up and down": lambda name, root: f"zz/../{name}",
    "twice": lambda name, root: name.replace("/", "//"),
    "Windows": lambda name, root: name.replace("/", "\\"),
    "spaces": lambda name, root: f" {name}\t",
    "absolute": lambda name, root: f"{root}/{name}",
    "beside": lambda name, root: f"{root}/../{PurePosixPath(root).name}/{name}",
}
OUTSIDE = ("../{0}", "/{0}", "{1}x/{0}", "{1}/../{0}", "zz/{0}", "{0}/zz", "C:\\{0}")


@given(PATHS, st.data())
def test_files_are_found_by_every_way_to_name_them(names, data):
    root = "/somewhere/zphotos"
    row = st.tuples(st.sampled_from(names), st.sampled_from(sorted(WAYS)), st.sampled_from(["", "x", "y"]))
    drawn = data.draw(st.lists(row, max_size=8))
    rows = [(WAYS[way](name, root), label) for name, way, label in drawn]
    meant = {name: {label for other, _, label in drawn if other == name and label} for name in names}
    if any(len(labels) > 1 for labels in meant.values()):
        with pytest.raises(ValueError, match="match_labels: a file must have one label, these have two"):
            match_labels(rows, names, root)
        return
    labels, classes = match_labels(rows, names, root)
    assert [{classes[label]} if label >= 0 else set() for label in labels] == [meant[name] for name in names]
    assert classes == sorted(set().union(*meant.values()), key=os.fsencode)


@given(PATHS, st.sampled_from(OUTSIDE), st.data())
def test_files_outside_are_unknown(names, way, data):
    name = data.draw(st.sampled_from(names))
    file = way.format(name, "/somewhere/zphotos")
    rows = [(file, "x"), (names[0], "y")]
    with pytest.raises(ValueError, match="match_labels: 1 of 2 rows name a file that is not among"):
        match_labels(rows, names, "/somewhere/zphotos")
