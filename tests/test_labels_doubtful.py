"""Labels of tables, and names of folders, that are classes of their own, and may be meant otherwise."""

import pytest
from loaders_helpers import make_tar, make_zip, picture

import loaders
from loaders.labels import parse_labels


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["0", "-1", "2"], "the label -1 is a class of its own; where it means that there is none,"),
        (["cat", "NaN", "null"], "the labels NaN and null are classes of their own; where they mean that there is"),
        (["cat", "NA", "None", "#N/A", "n/a"], "the labels #N/A, NA, None and n/a are classes of their own; where"),
        (["none", "na", "NAn", "other"], "the label NAn is a class of its own"),
        (["Cat", "cat", "dog", "CAT", "TRUE", "True"], "own: CAT, Cat and cat; TRUE and True; where they mean one,"),
        (["1", "1.0", "01", "1e0", "2"], "own: 01, 1, 1.0 and 1e0; where"),
        (["caf\u00e9", "CAFE\u0301", "\uff43at", "cat"], "own: CAF\u00c9 and caf\u00e9; cat and \uff43at; where"),
        (["12345678901234567890123456789", "12345678901234567890123456788"], None),
        (["1" + "0" * 400, "1e400", "1e9999999", "x"], "own: 1000"),
        (['"""cat"""', "cat"], 'the label "cat" is a class of its own, quotes included'),
        (["-1", "cat"], None),
        (["-1", "1.5"], None),
        (["0", "", "1"], None),
    ],
)
def test_labels_that_may_be_meant_otherwise_are_told(caplog, labels, told):
    parse_labels("".join(f"{number}.jpg,{label}\n" for number, label in enumerate(labels)).encode(), "labels.csv")
    assert told in caplog.text if told else not caplog.text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file,label,confidence,second,labelled\na.jpg,cat,0.9,dog,1\nb.jpg,dog,0.6,cat,0\n", "1 of its 2"),
        ("file,label,confidence,second\na.jpg,cat,0.9,dog\nb.jpg,dog,0.6,cat\n", "2 of its 2"),
        ("file,label,confidence,second,labelled\na.jpg,cat,0.9,dog,1\nb.jpg,dog,0.6,cat,1\n", None),
    ],
)
def test_guesses_are_told_that_come_back_as_labels(caplog, text, told):
    assert parse_labels(text.encode(), "labels.csv") == [("a.jpg", "cat"), ("b.jpg", "dog")]
    assert caplog.text.count("labels are guesses of hebbcore") == (told is not None)
    assert told is None or f"{told} labels are guesses" in caplog.text


def _folder(path, labels):
    for number, label in enumerate(labels):
        (path / label).mkdir(parents=True)
        (path / label / "a.jpg").write_bytes(picture(number))
    return path


def _zip(path, labels):
    return make_zip(path, {f"{label}/a.jpg": picture(number) for number, label in enumerate(labels)})


def _tar(path, labels):
    return make_tar(path, {f"{label}/a.jpg": picture(number) for number, label in enumerate(labels)})


def _webdataset(path, labels):
    samples = [{f"{at}.jpg": picture(at), f"{at}.cls": label.encode()} for at, label in enumerate(labels)]
    return make_tar(path, {name: data for sample in samples for name, data in sample.items()})


def _parquet(path, labels):
    arrow = pytest.importorskip("pyarrow")
    columns = {"image": [picture(number) for number in range(len(labels))], "label": labels}
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table(columns), path)
    return path


SOURCES = {"photos": _folder, "a.zip": _zip, "a.tar": _tar, "b.tar": _webdataset, "a.parquet": _parquet}


@pytest.mark.parametrize("name", SOURCES)
def test_classes_of_every_source_that_are_nearly_alike_are_told(tmp_path, caplog, name):
    source = loaders.open_source(SOURCES[name](tmp_path / name, ["cat", "\uff43at", "dog"]))
    loaders.build_shards(source, tmp_path / "shards", workers=1)
    assert "these labels are classes of their own: cat and \uff43at; where they mean one, write them" in caplog.text


@pytest.mark.parametrize("name", ["b.tar", "a.parquet"])
def test_texts_that_are_labels_of_samples_are_told_as_those_of_tables_are(tmp_path, name):
    source = loaders.open_source(SOURCES[name](tmp_path / name, ["cat", "NaN", "dog"]))
    assert any(remark.startswith("the label NaN is a class of its own") for remark in source.remarks)


def test_spaces_around_a_label_of_a_column_are_told(tmp_path):
    source = loaders.open_source(_parquet(tmp_path / "a.parquet", ["cat", "cat "]))
    assert any("of their own: cat and 'cat '; where" in remark for remark in source.remarks)
