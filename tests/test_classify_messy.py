"""What `hebbcore classify` and `predict` say of photos and tables as people have them, where a word is due."""

import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from classify_helpers import photos, rows_of, some_labels, write_labels
from cli_helpers import call, fails
from PIL import Image

import hebbcore

__all__ = ["call", "fails", "photos"]
SMALL = "classify photos --labels labels.csv --out work --device cpu --features net.h5"


@pytest.mark.parametrize("source", ["folder", "zip", "shards"])
def test_labels_of_photos_that_cannot_be_read_are_told(photos, call, caplog, source):
    labels = some_labels(photos)
    first, second = list(labels)[:2]
    for file in (first, second):
        Path("photos", file).write_bytes(b"\x89PNG\r\n\x1a\nno more")
    Path("photos", labels[second]).mkdir()  # called like a label, it gives that to all that lies in it
    Path("photos", labels[second], ".DS_Store").write_bytes(b"none")
    write_labels(Path("labels.csv"), {**labels, first: "rare"})
    line = SMALL
    if source == "zip":
        shutil.make_archive("photos", "zip", "photos")
        line = SMALL.replace("photos", "photos.zip", 1)
    elif source == "shards":
        call("shards build photos shards")
        line = SMALL.replace("photos", "shards", 1)
    for _ in range(2):
        caplog.clear()
        call(line)
        page = Path("work/report.html").read_text().partition('id="left"')[2]
        assert re.search(rf"<li>[^<]+ \(2\): ({first}, {second}|{second}, {first})</li>", page)
        named = page.partition("Labels without effect, of such files (2): ")[2]
        assert sorted(named.partition(".</p>")[0].split(", ")) == [f"{first} (rare)", f"{second} (none)"]
        (told,) = [record.getMessage() for record in caplog.records if "without effect" in record.getMessage()]
        assert told.startswith("labels without effect, of photos that could not be read: ")
        assert f"{first} (rare)" in told
        assert f"{second} (none)" in told
        assert ".DS_Store" not in told
        assert told.endswith("; no other photo is labelled rare")
    assert len(rows_of(Path("work/predictions.csv"))) == 58
    caplog.clear()
    write_labels(Path("labels.csv"), {file: label for file, label in labels.items() if file not in (first, second)})
    call(line)
    assert "without effect" not in caplog.text + Path("work/report.html").read_text()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("{}.json", "not an image by its content"),
        (".{}.png", "hidden, or in a hidden folder"),
        (".thumbs/{}.png", "in a hidden folder"),
    ],
)
def test_damaged_photos_are_named_before_files_that_are_none(name, reason, photos, call):
    Path("photos/.thumbs").mkdir()
    for number in range(12):
        Path("photos", name.format(number)).write_text("{}")
    Path("photos/x.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    Path("labels.csv").write_text("file,label\n")  # none: the first page tells too
    told = [line for line in call(SMALL)[1].splitlines() if line.startswith("left out")]
    listed = re.findall("<li>([^<]+)</li>", Path("work/report.html").read_text())
    assert listed[0].endswith(" (1): x.png")
    assert listed[1].startswith(f"{reason} (12): {name.format(0)}, {name.format(1)}, ")
    assert told[0].startswith("left out: x.png ")
    assert told[-1] == "left out: 3 more files; work/images/report.json names them"


def test_equal_photos_with_different_labels_are_told_and_shown(photos, call):
    labels = some_labels(photos)
    one, two, *_ = (file for file, label in labels.items() if label == "one")
    for copy in ("copy.png", "same.png"):
        shutil.copy(Path("photos", one), Path("photos", copy))
    Image.open(Path("photos", two)).convert("RGB").save("photos/other.bmp")  # of the same pixels, in another file
    write_labels(Path("labels.csv"), {**labels, "copy.png": "two", "same.png": "one", "other.bmp": "two"})
    told = f"5 of the labelled images are equal to others with another label, such as {one} (one) and copy.png (two);"
    assert told in call(SMALL)[1]
    page = Path("work/report.html").read_text().partition('id="wrong"')[2].partition("</section>")[0]
    assert all(name in page for name in (one, two, "copy.png", "same.png", "other.bmp"))
    write_labels(Path("labels.csv"), {**labels, "copy.png": "one", "same.png": "one"})
    assert "another label" not in call(SMALL)[1]


def test_an_error_of_a_table_is_not_said_to_be_one_of_the_work(photos, fails):
    write_labels(Path("labels.csv"), {"none.png": "cat"})
    for out in ("w", "work", "photo", "labels"):
        assert "name another --out" not in fails(SMALL.replace("--out work", f"--out {out}"))


def test_labels_of_one_class_are_not_to_be_replaced_by_next(photos, call):
    write_labels(Path("labels.csv"), dict.fromkeys(list(photos)[:4], "one"))
    out, _ = call(SMALL)
    assert "column of work/next.csv, add its rows to the table of --labels" in out
    assert "Copy" not in out
    write_labels(Path("labels.csv"), {})
    assert "Copy other/next.csv to labels.csv" in call(SMALL.replace("--out work", "--out other"))[0]


def test_a_single_photo_is_refused_in_words(photos, call):
    for number, file in enumerate(photos):
        if number:
            Path("photos", file).unlink()
    for line in ("classify photos --out work", "label photos --out there --no-browser"):
        assert "photos must be two or more" in call(f"{line} --device cpu --features net.h5", 1)[1]


def test_predict_replaces_its_own_tables_alone(photos, call, fails):
    call(SMALL)
    before = Path("labels.csv").read_bytes()
    line = "predict work photos --device cpu --out"
    assert "labels.csv holds something else: name another, or remove it." in fails(f"{line} labels.csv")
    assert Path("labels.csv").read_bytes() == before
    Path("new.csv").touch()
    for _ in range(2):
        assert "labels of 60 images" in call(f"{line} new.csv")[0]


@pytest.mark.parametrize(("channels", "taken"), [(2, (98, 97, 2)), (3, (48, 48, 3)), (4, (98, 97, 4))])
def test_large_arrays_that_cannot_be_resized_are_taken_whole(tmp_path, monkeypatch, call, channels, taken):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (8, 98, 97, channels), np.uint8)
    with h5py.File("images.h5", "w") as file:
        file["train/images"], file["train/labels"] = images, np.arange(8) % 2
    network = hebbcore.Network([hebbcore.Conv(2, 8, stride=8), hebbcore.GridPool(2)], taken, device="cpu")
    hebbcore.save("net.h5", network)
    call("classify images.h5 --out work --device cpu --features net.h5")
    assert hebbcore.load("work", device="cpu").image_shape == taken
    call("predict work images.h5 --out new.csv --device cpu")
    assert len(rows_of(Path("new.csv"))) == 8
