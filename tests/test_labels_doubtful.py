"""Labels of tables that are classes of their own, and may be meant otherwise."""

import pytest

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
