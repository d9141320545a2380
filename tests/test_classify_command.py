"""`hebbcore classify` and `hebbcore predict`: from photos and a few labels to labels for all, and for new photos."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from classify_helpers import CLASSES, digits, photos, right, rows_of, save_network, some_labels, write_labels
from cli_helpers import ENVIRONMENT, call, fails, files_of, names
from PIL import Image

import hebbcore
import loaders
from hebbcore import checkpoint
from hebbcore.classify import neighbours
from hebbcore.files import locked
from hebbcore.labelling import features, load_model, work

__all__ = ["call", "fails", "files_of", "photos"]
LINE = "classify photos --labels labels.csv --out work --device cpu"
SMALL = f"{LINE} --features net.h5"  # whose network need not be learned


def ended(*args, **options):
    raise ValueError("ended before features")


def test_a_network_that_an_earlier_version_began_goes_on(photos, call, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(hebbcore.dictionary, "wide_kernel", lambda side: 3)
        before.setattr(features, "extract_features", ended)
        assert "ended before features" in call(LINE, 1)[1]
    call(LINE)
    network = hebbcore.load("work/network", device="cpu")
    assert network["whiten5"].kernel_size == (3, 3)  # not 4
    assert right(rows_of(Path("work/predictions.csv")), photos) > 0.85


def test_a_damaged_checkpoint_of_the_own_network_and_the_one_before(photos, call, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(features, "extract_features", ended)
        call(LINE, 1)
    whole = checkpoint.digest_of(hebbcore.load("work/network", device="cpu"))
    latest = checkpoint.checkpoints(Path("work/network"))[-1]
    for command in (LINE, "label photos --out work --device cpu"):
        latest.write_bytes(latest.read_bytes()[:-9])
        assert "is used with previous=True (--previous)." in call(command, 1)[1]
        with monkeypatch.context() as patch:
            patch.setattr("hebbcore.cli.label._serve", lambda *given: None)
            call(f"{command} --previous")
        assert checkpoint.digest_of(hebbcore.load("work/network", device="cpu")) == whole


def test_labels_for_all_photos_and_for_new_ones(photos, call, tmp_path):
    out, err = call(LINE)
    assert out == "work: predictions.csv, next.csv, report.html and model/\n"
    assert "network: learning" in err
    assert "labels: done" in err
    assert names("work") == [
        "done.txt", "features.h5", "images", "model", "network", "next.csv", "predictions.csv", "report.html",
    ]  # fmt: skip
    rows = rows_of(Path("work/predictions.csv"))
    assert [row["file"] for row in rows] == sorted(photos)
    assert right(rows, photos) > 0.85
    own = {row["file"]: row["label"] for row in rows if row["labelled"] == "1"}
    assert own == some_labels(photos)
    assert all(1 / 3 <= float(row["confidence"]) <= 1 for row in rows if row["labelled"] == "0")
    assert all(row["second"] in set(CLASSES) - {row["label"]} for row in rows)

    shutil.move("work/model", "moved")  # all else is gone, as on another machine
    shutil.rmtree("work")
    truth = digits(tmp_path / "new", 60, 40)
    out, _ = call("predict moved new --out there/new.csv --device cpu")
    assert out == "there/new.csv: labels of 40 images\n"
    assert names("there") == [".new.csv.digest", "new.csv"]
    rows = rows_of(Path("there/new.csv"))
    assert [*rows[0]] == ["file", "label", "confidence", "second"]
    assert right(rows, truth) > 0.85
    model = hebbcore.load("moved", device="cpu")
    assert len(model.classifier.neighbour_features) < model.classifier.n_features_in_  # those of the wide branch
    images = np.stack([np.array(Image.open(f"new/{file}").convert("RGB")) for file in truth])
    assert model.predict(images) == [row["label"] for row in rows]
    assert model.predict(images / 255) == model.predict(images)
    with pytest.raises(ValueError, match="images must have the scale of what was learned from, uint8, got float32 up"):
        model.predict(images.astype(np.float32))
    shares = model.predict_proba(images)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(shares.max(axis=1), [float(row["confidence"]) for row in rows], atol=1e-4)


def test_next_names_photos_without_a_label_and_can_be_filled_in(photos, call):
    call(f"{SMALL} --suggestions 5")
    rows = rows_of(Path("work/next.csv"))
    assert len({row["file"] for row in rows}) == 5
    assert not {row["file"] for row in rows} & set(some_labels(photos))
    assert {row["label"] for row in rows} == {""}
    assert {row["guess"] for row in rows} <= set(CLASSES)
    text = Path("work/next.csv").read_text().replace(",,", ",two,")
    Path("labels.csv").write_text(Path("labels.csv").read_text())
    Path("more.csv").write_text(text + "\n".join(f"{file},{label},," for file, label in some_labels(photos).items()))
    call(SMALL.replace("labels.csv", "more.csv"))
    assert sum(row["labelled"] == "1" for row in rows_of(Path("work/predictions.csv"))) == 14


def test_rows_of_next_can_be_added_to_the_table(photos, call):
    call(f"{SMALL} --suggestions 5")
    with Path("labels.csv").open("a") as table:
        table.write(Path("work/next.csv").read_text().replace(",,", ",two,"))
    call(SMALL)
    assert sum(row["labelled"] == "1" for row in rows_of(Path("work/predictions.csv"))) == 14


def test_the_same_again_does_nothing_and_other_labels_only_relearn(photos, call, files_of):
    call(SMALL)
    before, times = files_of("work"), {path: path.stat().st_mtime_ns for path in Path("work").rglob("*.h5")}
    out, err = call(SMALL)
    assert "nothing to do" in out
    assert "labels: begun" not in err
    assert files_of("work") == before
    write_labels(Path("labels.csv"), some_labels(photos, 5))
    Path("work/model/classifier-mine.h5").touch()  # which a user may keep there
    out, err = call(SMALL)
    assert "labels: begun" in err
    assert "images: " not in err
    assert "features: " not in err
    assert {path for path, time in times.items() if path.exists() and path.stat().st_mtime_ns == time} == {
        Path("work/images/shard-00000.h5"), Path("work/features.h5"), Path("work/model/network.h5"),
    }  # fmt: skip
    assert sum(row["labelled"] == "1" for row in rows_of(Path("work/predictions.csv"))) == 15
    assert len(list(Path("work/model").glob("classifier-*.h5"))) == 2
    for name in ("report.html", "model/network.h5"):
        Path("work", name).unlink()
        call(SMALL)
        assert Path("work", name).exists()


def test_a_command_that_is_killed_while_it_learns_and_while_it_extracts_goes_on(photos, call):
    call(LINE.replace("--out work", "--out whole"))
    for seen in ("network/checkpoints", "features.h5"):
        killed = subprocess.Popen(
            [sys.executable, "-m", "hebbcore", *LINE.split()], env=ENVIRONMENT, stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + 60
        while not Path("work", seen).exists() and killed.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(killed.pid, signal.SIGKILL)
        killed.communicate()
        assert Path("work", seen).exists()
    call(LINE)
    for name in work.OUTPUTS:
        assert Path("work", name).read_bytes() == Path("whole", name).read_bytes(), name
    assert not list(Path("work").rglob("*.partial"))


def test_results_that_were_changed_stay_and_are_told_and_those_that_are_gone_come_anew(photos, call):
    call(SMALL)
    predictions = Path("work/predictions.csv")
    before = predictions.read_bytes()
    predictions.write_bytes(before + b"mine\n")
    out, _ = call(SMALL)
    assert "nothing to do, its results are of these images and labels; but predictions.csv changed since: rem" in out
    more = SMALL.replace("labels.csv", "more.csv")
    write_labels(Path("more.csv"), some_labels(photos, 5))
    assert "hebbcore: predictions.csv in --out was changed since it was written, and would be" in call(more, 1)[1]
    assert predictions.read_bytes() == before + b"mine\n"
    predictions.unlink()
    assert "nothing to do" not in call(SMALL)[0]
    assert predictions.read_bytes() == before


def test_results_that_are_half_written_are_written_anew(photos, call, monkeypatch):
    def broken(findings, stream):
        raise OSError("no room")

    call(SMALL)
    before = Path("work/predictions.csv").read_bytes()
    write_labels(Path("more.csv"), some_labels(photos, 6))
    with monkeypatch.context() as patch:
        patch.setattr(work, "page_of", broken)
        call(SMALL.replace("labels.csv", "more.csv"), 1)
    assert Path("work/predictions.csv").read_bytes() != before
    load_model("work")  # that of before
    call(SMALL)
    assert Path("work/predictions.csv").read_bytes() == before


def test_photos_that_cannot_be_read_are_named_and_left_out(photos, call):
    broken = next(iter(some_labels(photos)))  # which has a label
    Path("photos", broken).write_bytes(b"\x89PNG\r\n\x1a\nno more")
    Path("photos/notes.txt").write_text("no image")
    _, err = call(SMALL)
    told = [line for line in err.splitlines() if line.startswith("left out: ")]
    assert len(told) == 2
    assert broken in told[0]
    assert "notes.txt" in told[1]
    assert {row["file"] for row in rows_of(Path("work/predictions.csv"))} == set(photos) - {broken}
    shutil.copytree("photos", "new")
    _, err = call("predict work new --out new.csv --device cpu")
    assert broken in err
    assert len(rows_of(Path("new.csv"))) == 59


def test_folders_within_folders_are_no_classes_where_labels_are_given(photos, call):
    for file in photos:
        folder = Path("nested", file[2])
        folder.mkdir(parents=True, exist_ok=True)
        shutil.move(Path("photos", file), folder / file)
    write_labels(Path("labels.csv"), {f"{file[2]}/{file}": label for file, label in some_labels(photos).items()})
    call(SMALL.replace("photos", "nested"))
    rows = rows_of(Path("work/predictions.csv"))
    assert {row["file"] for row in rows} == {f"{file[2]}/{file}" for file in photos}
    assert {row["label"] for row in rows} <= set(CLASSES)


def test_class_folders_give_labels_and_photos_beside_them_have_none(photos, call):
    for file, label in some_labels(photos).items():
        Path("photos", label).mkdir(exist_ok=True)
        shutil.move(Path("photos", file), Path("photos", label, file))
    call("classify photos --out work --features net.h5 --device cpu")
    rows = rows_of(Path("work/predictions.csv"))
    assert {row["file"]: row["label"] for row in rows if row["labelled"] == "1"} == {
        f"{label}/{file}": label for file, label in some_labels(photos).items()
    }
    assert len(rows) == 60


@pytest.mark.parametrize("kind", ["shards", "file"])
def test_shards_and_files_of_arrays(kind, photos, call):
    images = np.stack([np.array(Image.open(f"photos/{file}").convert("RGB")) for file in photos])
    few = some_labels(photos)
    labels = np.array([CLASSES.index(few[file]) if file in few else -1 for file in photos])
    if kind == "shards":
        loaders.write_shards((images, labels), "source", class_names=CLASSES)
    else:
        with h5py.File("source", "w") as file:
            file["train/images"], file["train/labels"] = images, labels
    call("classify source --out work --features net.h5 --device cpu")
    rows = rows_of(Path("work/predictions.csv"))
    assert sum(row["labelled"] == "1" for row in rows) == 9
    assert len(rows) == 60
    assert Path("work/images").exists() == (kind == "file")
    if kind == "file":
        with h5py.File("source", "r+") as file:
            del file["train/labels"]
    assert "split" not in call("predict work source --out new.csv --device cpu")[1]
    assert [row["file"] for row in rows_of(Path("new.csv"))] == [row["file"] for row in rows]
    if kind == "file":
        with h5py.File("source", "r+") as file:
            file["test/images"] = images[:7]
            file["elsewhere"] = h5py.ExternalLink("none.h5", "/")
        _, err = call("predict work source --out two.csv --device cpu")
        assert "images: those of the split train; --split takes others: test\n" in err
        assert "split" not in call("predict work source --out test.csv --split test --device cpu")[1]
        assert (len(rows_of(Path("two.csv"))), len(rows_of(Path("test.csv")))) == (60, 7)
    write_labels(Path("labels.csv"), {row["file"]: "x" if i % 2 else "y" for i, row in enumerate(rows[:8])})
    call("classify source --labels labels.csv --out other --features net.h5 --device cpu")
    assert {row["label"] for row in rows_of(Path("other/predictions.csv"))} <= {"x", "y"}


def test_photos_of_all_sizes_get_the_usual_side_but_no_more_than_48(photos, call):
    for number, file in enumerate(photos):
        image = Image.open(f"photos/{file}")
        image.resize((60 + number, 90)).save(f"photos/{file}")
    call(f"{LINE} --image-size 12 --out small")
    assert loaders.read_index("small/images").image_shape == (12, 12, 3)
    save_network(Path("large.h5"), 48)
    call(f"{LINE} --features large.h5")
    assert loaders.read_index("work/images").image_shape == (48, 48, 3)


def test_wide_features_of_many_photos_are_averaged_over_a_grid_in_new_photos_too(photos, call, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(features, "_FEW", 50)
        patch.setattr(features, "_MOST_OF_MANY", 20)
        call(SMALL)
    with h5py.File("work/features.h5") as file:
        assert file["features"].shape == (60, 1, 1, 12)
    assert load_model("work").classifier.n_features_in_ == 12
    call("predict work photos --out new.csv --device cpu")
    pairs = zip(rows_of(Path("work/predictions.csv")), rows_of(Path("new.csv")), strict=True)
    guessed = [(old["label"], new["label"]) for old, new in pairs if old["labelled"] == "0"]
    assert sum(old == new for old, new in guessed) >= 50  # they round otherwise


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("classify nowhere --labels labels.csv --out work", "nowhere does not exist; give a folder of images"),
        (f"{SMALL} --suggestions 0", "--suggestions must be at least 1, got 0."),
        (f"{SMALL} --image-size 0", "--image-size must be at least 1, got 0."),
        (f"{SMALL} --image-size 9", "--image-size must be 8, as the network of --features takes, got 9."),
        (f"{LINE} --import mine.py", "--import is for the network of --features; give that, or leave it out."),
        (f"{SMALL} --split train", "--split is for sources of several splits"),
        (SMALL.replace("--out work", "--out photos/work"), "--out must lie outside of the images' folder"),
        (SMALL.replace("labels.csv", "none.csv"), "No such file or directory: none.csv"),
        (SMALL.replace("labels.csv", "net.h5"), "read_labels: "),
        ("predict photos photos --out new.csv", "predict: photos holds no model (model.json)"),
    ],
)
def test_wrong_arguments_are_told(line, message, photos, fails):
    assert message in fails(line)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "is empty; it must hold a row of file and label for each image, or the line file,label alone"),
        ("file,label\nghost.png,one\n", "ghost.png"),
    ],
)
def test_wrong_labels_are_told_before_the_long_work(table, message, photos, call):
    Path("labels.csv").write_text(table)
    _, err = call(LINE, 1)
    assert message in err
    assert not Path("work/network").exists()


def test_a_folder_is_for_one_command_at_a_time(photos, fails):
    Path("work").mkdir()
    with locked(Path("work"), "classifying into"):
        assert fails(SMALL) == "another process is classifying into work; wait for it or stop it."


def test_two_labelled_photos_are_enough(photos, call):
    for file in sorted(photos)[4:]:
        Path("photos", file).unlink()
    write_labels(Path("labels.csv"), {file: photos[file] for file in sorted(photos)[:2]})
    call(LINE)
    assert len(rows_of(Path("work/predictions.csv"))) == 4


def test_a_folder_of_other_work_is_refused(photos, call):
    call(SMALL)
    save_network(Path("other.h5"), 9)
    _, err = call(f"{LINE} --features other.h5", 1)
    assert "name another --out, or remove it" in err
    _, err = call(LINE, 1)  # before a dictionary is learned
    assert "hebbcore: work/features.h5 holds features of a network of --features: give that again. If work is" in err
    assert not Path("work/network").exists()
    _, err = call(f"{SMALL} --no-mirror", 1)
    assert "(mirror is False here and True there). If work is the work of other photos, of another network or" in err
    assert "name another --out, or remove it" in err
    Path("photos", max(photos)).unlink()
    _, err = call(SMALL, 1)
    assert "hebbcore: work/images holds a set built differently (files 60 there and 59 here" in err
    assert "choose another folder" not in err
    assert "name another --out, or remove it" in err


@pytest.mark.parametrize("damage", ["cut", "swapped", "gone", "version", "path", "classes", "no json"])
def test_a_damaged_model_is_refused(damage, photos, call, fails):
    call(SMALL)
    note, file = Path("work/model/model.json"), next(Path("work/model").glob("classifier-*.h5"))
    table = json.loads(note.read_text())
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "swapped":
        save_network(Path("work/model/network.h5"), 9)
    elif damage == "gone":
        file.unlink()
    elif damage == "no json":
        note.write_text("{")
    else:
        table |= {
            "version": {"format": 2}, "path": {"classifier": "../../classifier.h5"}, "classes": {"classes": ["one"]},
        }[damage]  # fmt: skip
        note.write_text(json.dumps(table))
    assert fails("predict work photos --out new.csv").startswith("predict: work/model")
    assert not Path("new.csv").exists()


def test_new_labels_are_not_written_among_the_photos(photos, call, fails):
    call(SMALL)
    assert "--out must lie outside of the images' folder" in fails("predict work photos --out photos/new.csv")
    assert "--out must be a CSV file, work is a folder" in fails("predict work photos --out work")


def test_other_images_than_the_model_takes_are_refused(photos, call):
    call(SMALL)
    with h5py.File("grey.h5", "w") as file:
        file["train/images"], file["train/labels"] = np.zeros((4, 9, 9), np.uint8), np.zeros(4, np.int64)
    _, err = call("predict work grey.h5 --out new.csv", 1)
    assert "images must be (8, 8, 3), as the model was made for, got (8, 8, 1)" in err


@pytest.mark.parametrize("line", [LINE, "label photos --classes a,b --out work --device cpu --no-browser"])
def test_a_missing_library_for_so_many_images_is_told_before_long_work(photos, call, monkeypatch, line):
    if line.startswith("label"):
        pytest.importorskip("starlette")
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(neighbours, "MOST_EXACT", len(photos) - 1)
    assert "python -m pip install faiss-cpu" in call(line, 1)[1].splitlines()[-1]
    assert not Path("work/network").exists()
