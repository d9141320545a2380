"""`hebbcore classify` before there are labels of two classes: which photos to label first, and how it goes on."""

import os
import shutil
from pathlib import Path

import pytest
from classify_helpers import photos, rows_of, some_labels, write_labels
from cli_helpers import call, fails, files_of, names
from PIL import Image
from test_classify_report import harmless

from hebbcore.cli.photos import read_photos
from hebbcore.cli.stages import Stages

__all__ = ["call", "fails", "files_of", "photos"]
ALONE = "classify photos --out work --device cpu --features net.h5"
SMALL = f"{ALONE} --labels labels.csv"


def test_photos_without_a_label_and_a_network_of_their_own(photos, call):
    out, err = call("classify photos --out work --device cpu --suggestions 6")
    assert "network: learning" in err
    assert "no image has a label yet" in out
    assert "run the same command with --labels labels.csv" in out
    assert names("work") == ["done.txt", "features.h5", "images", "network", "next.csv", "report.html"]
    rows = rows_of(Path("work/next.csv"))
    assert len({row["file"] for row in rows} & set(photos)) == 6
    assert {(row["label"], row["guess"], row["confidence"]) for row in rows} == {("", "", "")}
    out, _ = call("verify work")
    assert "work/network/checkpoints/" in out
    assert out.endswith(" damaged: 0\n")


@pytest.mark.parametrize("without_labels", [False, True])
def test_folders_that_are_taken_for_dates_are_said(tmp_path, caplog, without_labels):
    for year in ("1950", "1960"):  # which may well have been classes
        (tmp_path / "photos" / year).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / "photos" / year / "a.png")
    read_photos(
        tmp_path / "photos", tmp_path / "shards", size=None, split=None, without_labels=without_labels, stages=Stages()
    )
    assert ("are named after dates or by cameras, and are no classes" in caplog.text) != without_labels
    assert "have no label" not in caplog.text


def test_from_no_label_to_labels_for_all(photos, call, files_of):
    out, _ = call(f"{ALONE} --suggestions 9")
    page = harmless(Path("work/report.html").read_text("utf-8"))
    chosen = [row["file"] for row in rows_of(Path("work/next.csv"))]
    assert [file for file in chosen if file in page.text] == chosen
    assert len(page.sources) == 9
    before = files_of("work")
    again, err = call(f"{ALONE} --suggestions 9")
    assert again == out
    assert "labels: begun" not in err
    assert files_of("work") == before
    write_labels(Path("labels.csv"), {file: photos[file] for file in chosen})
    out, err = call(SMALL)
    assert out == "work: predictions.csv, next.csv, report.html and model/\n"
    assert "features: " not in err
    assert {row["file"] for row in rows_of(Path("work/predictions.csv")) if row["labelled"] == "1"} == set(chosen)


@pytest.mark.parametrize("text", ["file,label\n", "file,label\n{0},\n", "file,label\n{0},cat\n{1},cat\n"])
def test_a_table_with_less_than_two_classes(text, photos, call):
    Path("labels.csv").write_text(text.format(*sorted(photos)))
    out, _ = call(SMALL)
    labelled = sorted(photos)[:2] if "cat" in text else []
    assert ("2 have a label, cat, the only class" if labelled else "no image has a label yet") in out
    assert ("2 have a label, cat" in Path("work/report.html").read_text()) == bool(labelled)
    rows = rows_of(Path("work/next.csv"))
    assert len(rows) == 20
    assert not {row["file"] for row in rows} & set(labelled)
    assert not Path("work/predictions.csv").exists()
    assert not Path("work/model").exists()


def test_two_photos_without_a_label(photos, call):
    for file in sorted(photos)[2:]:
        Path("photos", file).unlink()
    call(ALONE)
    assert len(rows_of(Path("work/next.csv"))) == 2


def test_predictions_of_before_are_not_left_beside_no_labels(photos, call, files_of):
    call(SMALL)
    before = files_of("work")
    _, err = call(ALONE, 1)
    assert "work holds predictions from labels of before, and now no image has a label yet" in err
    assert files_of("work") == before


def test_labels_written_into_next_are_not_lost(photos, call, fails):
    call(SMALL)
    chosen = rows_of(Path("work/next.csv"))
    text = Path("work/next.csv").read_text().replace(",,", ",two,", 3)
    Path("work/next.csv").write_text(text)
    assert "--labels must lie outside of the work's folder" in fails(f"{ALONE} --labels work/next.csv")
    for table in (some_labels(photos, 4), some_labels(photos)):
        write_labels(Path("labels.csv"), table)
        _, err = call(SMALL, 1)
        assert f"3 labels that --labels lacks, such as that of {chosen[0]['file']}," in err
        assert Path("work/next.csv").read_text() == text
    Path("work/next.csv").write_text(text + ",two\n")
    assert "cannot be read: read_labels: next.csv must be a table" in (error := fails(SMALL))
    assert error.endswith("a label without a file, 'two'; mend it, or move it away.")  # not the whole work
    Path("work/next.csv").write_text(text)
    write_labels(Path("labels.csv"), some_labels(photos) | {row["file"]: "two" for row in chosen[:3]})
    call(SMALL)
    assert sum(row["labelled"] == "1" for row in rows_of(Path("work/predictions.csv"))) == 12


def test_where_folders_label_everything_that_is_told(photos, call):
    for file, label in photos.items():
        Path("photos", label).mkdir(exist_ok=True)
        shutil.move(Path("photos", file), Path("photos", label, file))
    _, err = call(ALONE)
    assert "labels: all images have one, that of their folder" in err


def test_names_that_are_no_utf8_do_not_stop_the_next_run(photos, call):
    for file in sorted(photos)[9:]:
        Path("photos", file).rename(Path("photos", os.fsdecode(file[:4].encode() + b"\xe9.png")))
    write_labels(Path("labels.csv"), {file: photos[file] for file in sorted(photos)[:4]})
    call(SMALL)
    write_labels(Path("labels.csv"), {file: photos[file] for file in sorted(photos)[:9]})
    call(SMALL)


def test_a_prior_that_changes_no_guess_is_told(photos, call, monkeypatch):
    line = "classify photos --labels labels.csv --features net.h5 --device cpu"
    told = "labels: --prior uniform changes no guess from more than 350 labels a class, only the estimate of their"
    assert told not in call(f"{line} --out few --prior uniform")[1]
    monkeypatch.setattr("hebbcore.classify.learn.REFIT_UNTIL", 1)
    monkeypatch.setattr("hebbcore.classify.learn.STACK_UNTIL", 1)
    assert told in call(f"{line} --out work --prior uniform")[1]
    assert told not in call(f"{line} --out other")[1]
    for file in ("predictions.csv", "next.csv"):
        assert Path("work", file).read_bytes() == Path("other", file).read_bytes()
