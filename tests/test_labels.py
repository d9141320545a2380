"""Tables of files and labels: what is read, what is refused, and which image a row means."""

import csv
import io
import unicodedata
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hebbcore import texts
from loaders.labels import match_labels, parse_labels, read_labels
from loaders.tables import matched
from loaders.text import tidy

ROWS = [("a.jpg", "cat"), ("sub/b c.jpg", "dog"), ("d.jpg", "")]


@pytest.fixture
def table(tmp_path):
    """Return a function that writes a table and returns its path."""

    def write(content, name="labels.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    "text",
    [
        "a.jpg,cat\nsub/b c.jpg,dog\nd.jpg,\n",
        "a.jpg,cat\nsub/b c.jpg,dog\nd.jpg",
        "file,label\na.jpg,cat\nsub/b c.jpg,dog\nd.jpg,\n",
        "File , LABEL\r\na.jpg, cat \r\nsub/b c.jpg,dog\r\nd.jpg\r\n",
        "\ufefffilename,class\na.jpg,cat\nsub/b c.jpg,dog\nd.jpg,\n",
        "\ufeffa.jpg,cat\nsub/b c.jpg,dog\nd.jpg,\n",
        "a.jpg\tcat\nsub/b c.jpg\tdog\nd.jpg\t\n",
        "a.jpg;cat\nsub/b c.jpg;dog\nd.jpg;\n",
        '"a.jpg","cat"\r"sub/b c.jpg","dog"\r"d.jpg",""\r',
        "\n  \na.jpg,cat,\n,,\nsub/b c.jpg,dog\n\nd.jpg,,,\n",
        "label,confidence,file,second choice\ncat,0.9,a.jpg,dog\ndog,0.8,sub/b c.jpg,cat\n,,d.jpg,\n",
    ],
)
def test_the_same_rows_however_they_are_written(table, text):
    assert read_labels(table(text)) == ROWS


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("line", "separator"), [("sep=;", ";"), ("SEP=,", ","), ('"sep=|"', "|"), ("sep=\t", "\t")])
def test_a_first_line_for_excel_says_the_separator(table, line, separator, end):
    text = end.join([line, f"file{separator}label", f'a.png{separator}"x, y; z"', ""])
    assert read_labels(table(text)) == [("a.png", "x, y; z")]
    assert read_labels(table(f"\ufeff{text}")) == [("a.png", "x, y; z")]
    with pytest.raises(ValueError, match="line 4: a label without a file, 'x'"):
        read_labels(table(f"{text}{separator}x{end}"))


@pytest.mark.parametrize(
    "header", ["id,file,label", "name,FileName,Class", "image_id,path,label", "file,class,label", "path,label,species"]
)
def test_of_several_columns_the_likeliest_counts(table, header):
    words = header.lower().split(",")
    cells = {"file": "a.jpg", "filename": "a.jpg", "path": "a.jpg", "label": "cat"}
    if "label" not in words:
        cells["class"] = "cat"
    row = ",".join(cells.get(word, "7") for word in words)
    assert read_labels(table(f"{header}\n{row}\n")) == [("a.jpg", "cat")]


@pytest.mark.parametrize("header", ["file,class,Species", "file,label,label", "label,file,target,Label"])
def test_two_columns_of_labels_are_refused(table, header):
    with pytest.raises(
        ValueError, match=r"labels\.csv has several columns that may be the labels, .*; name the one that"
    ):
        read_labels(table(f"{header}\n{header.lower().replace('file', 'a.jpg')}\n"))


def test_a_list_of_files_is_a_table_without_labels(table):
    assert read_labels(table("file\na.jpg\nb.jpg\n")) == [("a.jpg", ""), ("b.jpg", "")]
    assert read_labels(table("a.jpg\nb.jpg\n")) == [("a.jpg", ""), ("b.jpg", "")]
    assert read_labels(table("file,label\n")) == []


def test_quoted_fields_hold_anything(table):
    names = [
        "a,b.jpg",
        'say "hi".jpg',
        "two\nlines.jpg",
        "tab\there.jpg",
        "ünï 图.jpg",
        " spaces .jpg",
        "semi;colon.jpg",
    ]
    buffer = io.StringIO()
    csv.writer(buffer).writerows([(name, "x, y") for name in names])
    assert read_labels(table(buffer.getvalue())) == [(name, "x, y") for name in names]


def test_rows_of_next_csv_are_added_to_a_table_as_they_are(table):
    following = "file,label,guess,confidence\nb.jpg,dog,cat,0.3605\nc.jpg,,dog,1.0000\n"
    assert read_labels(table(f"file,label\na.jpg,cat\n{following}")) == [
        ("a.jpg", "cat"),
        ("b.jpg", "dog"),
        ("c.jpg", ""),
    ]
    for row in ("a,b,c.jpg,cat", "b.jpg,dog,cat,0.36", "b.jpg,dog,cat,0.3605,1"):
        with pytest.raises(ValueError, match=r"line 2: \d fields instead of 2"):
            read_labels(table(f"file,label\n{row}\n"))


def test_a_tsv_is_separated_by_tabs_alone(table):
    assert read_labels(table("a,b.jpg\tcat\n", "labels.tsv")) == [("a,b.jpg", "cat")]
    assert read_labels(table("a,b.jpg\n", "labels.TSV")) == [("a,b.jpg", "")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \r\n", "is empty"),
        (b"a.jpg,cat\nb\xe9.jpg,dog\n", "line 2 of .*labels.csv is not UTF-8"),
        (b"file,label\na.jpg,cat\nb.jpg,ch\xe9vre\n", 'line 3: its label is not UTF-8 .*"CSV UTF-8"'),
        ("a.jpg,cat\n".encode("utf-16"), "line 1 of .* is not UTF-8"),
        ("a.jpg,cat\n".encode("utf-16-le"), "line 1 of .* holds a zero byte"),
        (b"a.jpg,cat\nb.jpg,\0\n", "line 2 of .* holds a zero byte"),
        (
            b"a.jpg,cat\nb,c.jpg,dog\nd.jpg,cat\n,dog\n",
            "2 of its rows are not: line 2: 3 fields instead of 2.*line 4: ",
        ),
        (b'a.jpg,cat\n"b.jpg,dog\nc.jpg,cat\n', "1 of its rows is not: line 2: unexpected end of data"),
        (b'a.jpg,cat\n"b"c.jpg,dog\nd.jpg,\n', "1 of its rows is not: line 2: ',' expected after '\"'"),
        (b'"a\nb.jpg",cat\nc,d,e\n', "line 3: 3 fields"),
        (b"a.jpg,cat\nb.jpg," + b"x" * 200_000 + b"\n", "line 2: field larger than field limit"),
        (b"x" * 1_000_000, "line 1: field larger than field limit"),
        (
            b"photo,kind,day\na.jpg,cat,1\n",
            "label .of more columns, a header calls these two so., but 2 of its",
        ),
        (b"a,b,c\n" * 9, "9 of its rows are not: .*line 5: [^;]*; [^;]*; …$"),
    ],
)
def test_what_is_no_table_is_refused_with_its_lines(table, content, message):
    with pytest.raises(ValueError, match=f"read_labels: .*{message}"):
        read_labels(table(content))


def test_a_table_of_hebbcore_may_name_files_that_are_not_utf8(table):
    assert read_labels(table(b"file,label\nb\xe9.jpg,dog\n")) == [("b\udce9.jpg", "dog")]


def test_a_table_without_end_is_not_read(table, monkeypatch):
    monkeypatch.setattr("loaders.labels.TABLE_BYTES", 10)
    with pytest.raises(ValueError, match="has more than 10 bytes"):
        read_labels(table("a.jpg,cat\nb.jpg,dog\n"))
    with pytest.raises(FileNotFoundError):
        read_labels("nowhere.csv")


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


@given(st.lists(st.tuples(TEXT.filter(str.strip), TEXT), max_size=8), st.sampled_from(",\t;"), st.booleans())
def test_what_the_csv_module_writes_is_read_back(tmp_path_factory, rows, separator, quote_all):
    buffer = io.StringIO()
    quoting = csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
    csv.writer(buffer, delimiter=separator, quoting=quoting).writerows([("file", "label"), *rows])
    path = tmp_path_factory.mktemp("table") / "labels.csv"
    path.write_text(buffer.getvalue(), encoding="utf-8", newline="")
    assert read_labels(path) == [(file, tidy(label)) for file, label in rows]


@given(st.one_of(st.binary(max_size=60), st.text('",\n\r\t; ab\ufeff', max_size=60).map(str.encode)))
def test_any_bytes_are_rows_or_a_value_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("table") / "labels.csv"
    path.write_bytes(content)
    with suppress(ValueError):
        assert all(file.strip() and label == tidy(label) for file, label in read_labels(path))


def test_labels_are_positions_in_the_sorted_classes():
    names = ["a.jpg", "d.jpg", "sub/b c.jpg", "x.jpg"]
    labels, classes = match_labels(ROWS, names)
    assert classes == ["cat", "dog"]
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, -1, 1, -1]
    assert match_labels([], names)[0].tolist() == [-1] * 4
    assert match_labels([], [])[1] == []


@pytest.mark.parametrize(
    "file",
    [
        "sub/b c.jpg",
        "./sub/b c.jpg",
        "sub//b c.jpg",
        "x/../sub/b c.jpg",
        "sub\\b c.jpg",
        ".\\sub\\b c.jpg",
        " sub/b c.jpg ",
        "photos/sub/b c.jpg",
        "./photos/sub/b c.jpg",
        "{folder}/sub/b c.jpg",
        "{folder}/../photos/sub/b c.jpg",
        "{link}/sub/b c.jpg",
    ],
)
def test_ways_to_name_a_file(tmp_path, file):
    folder, link = tmp_path / "photos", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    given_folder = link if "{link}" in file else folder
    assert match_labels([(f"{folder}/a.jpg", "cat")], ["a.jpg", "sub/b c.jpg"], given_folder)[0].tolist() == [0, -1]
    row = (file.format(folder=folder, link=link), "cat")
    assert match_labels([row], ["a.jpg", "sub/b c.jpg"], given_folder)[0].tolist() == [-1, 0]


def test_a_name_is_taken_literally_first():
    names = ["a\\b.jpg", "a/b.jpg", " a/b.jpg", "photos/a/b.jpg"]
    rows = [(name, str(number)) for number, name in enumerate(names)]
    assert match_labels(rows, names, "/x/photos")[0].tolist() == [0, 1, 2, 3]


def test_unknown_files_are_listed_with_what_is_alike(tmp_path):
    names = ["a.jpg", "sub/B.jpg"]
    rows = [("A.JPG", "x"), ("b.jpg", "x"), ("a", "x"), *[(f"{i}.jpg", "x") for i in range(4)], ("a.jpg", "x")]
    with pytest.raises(ValueError, match="match_labels: 7 of 8 rows name a file") as caught:
        match_labels(rows, names, tmp_path)
    message = str(caught.value)
    assert (
        "'A.JPG' (is it 'a.jpg'?), 'b.jpg' (is it 'sub/B.jpg'?), 'a' (is it 'a.jpg'?), '0.jpg', '1.jpg', …" in message
    )
    assert "header" not in message
    # a header was found, or there is none
    with pytest.raises(ValueError, match=r"such as 'a\.jpg'; delete the rows of files that are gone$"):
        match_labels([("gone.jpg", "x"), ("a.jpg", "x")], names, tmp_path)
    with pytest.raises(ValueError, match=r"relative to the folder, such as 'a\.jpg'$"):  # of another folder, as a whole
        match_labels([("gone.jpg", "x"), ("b.png", "x")], names, tmp_path)
    with pytest.raises(ValueError, match="if the first row is a header, call its columns file and label"):
        match_labels([("photo", "kind"), ("a.jpg", "x")], names, tmp_path)
    for outside in ("../a.jpg", "/etc/a.jpg", f"{tmp_path}x/a.jpg", f"{tmp_path}/../a.jpg", "C:\\a.jpg", ""):
        with pytest.raises(ValueError, match="1 of 1 rows name a file that is not among"):
            match_labels([(outside, "x")], names, tmp_path)
    with pytest.raises(ValueError, match=r"\\x1b"):
        match_labels([("\x1b[31m", "x")], names)


@pytest.mark.parametrize(
    ("files", "names", "told"),
    [
        (["my shot.png"], ["my\u202fshot.png"], r"'my shot\.png' \(is it 'my\\\\u202fshot\.png'\?\)"),
        (["\u200ba.jpg"], ["a.jpg"], r"\(is it 'a\.jpg'\?\)"),
        (["x.jpg"], [".DS_Store", "sub/._a.jpg", "a.jpg"], r"such as 'a\.jpg'$"),
        (["x.jpg"], [".DS_Store"], "relative to the folder$"),
        (["K\udce4tz.png"], ["K\u00e4tz.png"], r'; the table is not all UTF-8 \(spreadsheets call it "CSV UTF-8"\)$'),
        (
            ["file|label", "a.jpg|cat"],
            ["a.jpg"],
            r"; if \| separates the columns, begin the table with the line sep=\|$",
        ),
        (["a.jpg;x"], ["a.jpg"], "begin the table with the line sep=;$"),
        (["x|y", "a.jpg"], ["a.jpg"], "call its columns file and label$"),
    ],
)
def test_unknown_files_say_what_may_be_wrong(files, names, told):
    with pytest.raises(ValueError, match=told):
        match_labels([(file, "x") for file in files], names)


def test_repeated_rows(caplog):
    names = ["a.jpg", "b.jpg"]
    labels, _ = match_labels([("a.jpg", "x"), ("./a.jpg", "x"), ("a.jpg", ""), ("b.jpg", ""), ("b.jpg", "y")], names)
    assert labels.tolist() == [0, 1]
    assert "3 of 5 rows of labels name a file that another row names already" in caplog.text
    with pytest.raises(ValueError, match=r"these have two: \./a\.jpg \(x and y\)"):
        match_labels([("a.jpg", "x"), ("./a.jpg", "y")], names)
    with pytest.raises(ValueError, match=r"several images are called a\.jpg"):
        match_labels([("a.jpg", "x")], ["a.jpg", "a.jpg", "b.jpg"])
    assert match_labels([("b.jpg", "x")], ["a.jpg", "a.jpg", "b.jpg"])[0].tolist() == [-1, -1, 0]


def test_accents_may_be_composed_in_another_way():
    composed, decomposed = (unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD"))
    assert match_labels([(composed, "x")], [composed])[0].tolist() == [0]
    assert match_labels([(composed, "x")], [decomposed])[0].tolist() == [0]
    assert match_labels([(composed, "x"), (decomposed, "y")], [decomposed, composed])[0].tolist() == [1, 0]


LOOKS = [
    (
        "caf\u00e9",
        ["cafe\u0301", " caf\u00e9 ", "caf\u200b\u00e9", "\ufeffcaf\u00e9", "ca\u00adf\u00e9", "cafe\u200d\u0301"],
    ),
    (
        "big cat",
        [
            "big  cat",
            "big\u00a0cat",
            "big\u3000cat",
            "big \u2060cat",
            "\u202ebig cat\u202c",
            "big cat\u200c",
            "big\tcat",
        ],
    ),
    (
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ["\u0645\u06cc\u200c\u200c\u062e\u0648\u0627\u0647\u0645"],
    ),  # shows
    ("\U0001f469\u200d\U0001f52c", ["\U0001f469\u200d\U0001f52c\u200d"]),
]


@pytest.mark.parametrize(("name", "alike"), LOOKS)
def test_labels_that_look_alike_are_one_class(name, alike):
    assert parse_labels("\n".join(["a,x", *(f"b.jpg,{other}" for other in alike)]).encode(), "t")[1:] == [
        ("b.jpg", name) for _ in alike
    ]
    assert tidy(name) == name


def test_a_line_end_in_a_label_is_a_space(table):
    text = 'a.jpg,"big\r\ncat"\nb.jpg,"big\n cat"\nc.jpg,"big\u2028cat\n"\nd.jpg,big cat\n'
    assert {label for _, label in read_labels(table(text))} == {"big cat"}


@given(
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.text("a e\n\t\u0301\u200b\u200c\u200d\u0645\u65e5\u00e9\u00a0\u3000\u0323")
)
def test_both_packages_tidy_names_in_one_way_and_once(text):
    assert tidy(tidy(text)) == tidy(text) == texts.tidy(text)


def test_tables_are_matched_in_a_process_of_their_own():
    names = ["a.jpg", "b.jpg", "sub/c.jpg"]
    data = b"file,label\nx.jpg,dog\n./a.jpg,cat\nphotos/sub/c.jpg,dog\nb.jpg,\ny.jpg,dog\n"
    assert matched(data, names, "photos") == ({0: "cat", 2: "dog"}, 2, ["x.jpg", "y.jpg"], [])
    with pytest.raises(ValueError, match="2 of 2 rows name a file that is not among"):
        matched(b"x.jpg,dog\ny.jpg,cat\n", names, "photos")
    with pytest.raises(ValueError, match="must have one label"):
        matched(b"a.jpg,dog\nx.jpg,cat\n./a.jpg,cat\n", names, "photos")
    with pytest.raises(ValueError, match="not UTF-8"):
        matched(b"a.jpg,\xff\n", names)


NAMES = st.lists(st.text("ab./\\ é", min_size=1, max_size=6), min_size=1, max_size=6, unique=True)


@given(NAMES, st.data())
def test_names_find_themselves_and_others_are_unknown(names, data):
    rows = data.draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(["", "x", "y"])), max_size=6))
    texts = {name: {label for file, label in rows if file == name and label} for name in names}
    if any(len(found) > 1 for found in texts.values()):
        with pytest.raises(ValueError, match="must have one label"):
            match_labels(rows, names, "photos")
    else:
        labels, classes = match_labels(rows, names, "photos")
        assert [{classes[label]} if label >= 0 else set() for label in labels] == list(texts.values())
        assert classes == sorted(set().union(*texts.values()))
    with pytest.raises(ValueError, match="1 of 1 rows name"):
        match_labels([("c", "x")], names, "photos")
