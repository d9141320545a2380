"""`hebbcore predict`: killed at many points it goes on to the same bytes; and what it leaves to go on from."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from classify_helpers import darken, digits, photos, rows_of, save_network, some_labels, write_labels
from cli_helpers import ENVIRONMENT, call, fails, files_of, names
from PIL import Image

import hebbcore
from hebbcore.cli import photos as reading
from hebbcore.cli import predict
from hebbcore.labelling import growing, load_model
from hebbcore.labelling.model import Model

__all__ = ["call", "fails", "files_of", "photos"]
LINE = "predict work new --out out/new.csv --device cpu"
KILLED = """
import os, signal, sys
from hebbcore.cli import main, photos
from hebbcore.labelling import growing
photos.BATCH, growing._SAVE_SECONDS, photos.SHARD_BYTES = 7, 0, 2000
calls = {name: getattr(os, name) for name in ("fsync", "replace")}
left = 0

def counted(name):
    def call(*arguments):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return calls[name](*arguments)
    return call

for name in calls:
    setattr(os, name, counted(name))
for left in range(1, 200, 4):  # a child each time, so that the modules are imported once
    child = os.fork()
    if not child:
        os._exit(main(sys.argv[1].split()))
    ended = os.waitpid(child, 0)[1]
    print(ended, *sorted(os.listdir("out")))
    if ended != signal.SIGKILL:
        break
"""


@pytest.fixture
def new(photos, call, monkeypatch, tmp_path):
    """A work, and 40 new photos in six batches, each of which is saved; returns the table of all."""
    monkeypatch.setattr(reading, "BATCH", 7)
    monkeypatch.setattr(reading, "SHARD_BYTES", 2000)
    monkeypatch.setattr(growing, "_SAVE_SECONDS", 0)
    call("classify photos --labels labels.csv --out work --device cpu --features net.h5")
    digits(tmp_path / "new", 60, 40)
    call(LINE.replace("out/new.csv", "whole.csv"))
    return Path("whole.csv").read_bytes()


def killed_after_batches(count, call, monkeypatch):
    """Run the command until so many batches have their labels; then it ends as by a full disk."""
    predict_proba, left = Model.predict_proba, [count]

    def some(self, images):
        left[0] -= 1
        if left[0] < 0:
            raise OSError("killed")
        return predict_proba(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(Model, "predict_proba", some)
        call(LINE, 1)


def batches_of(call, monkeypatch):
    """Run the command to its end; returns how many batches it gave labels."""
    counted, predict_proba = [], Model.predict_proba
    with monkeypatch.context() as patch:
        patch.setattr(Model, "predict_proba", lambda self, images: counted.append(1) or predict_proba(self, images))
        call(LINE)
    return len(counted)


def test_killed_at_many_points_it_ends_in_the_same_bytes(new):
    """Each time it is killed some writes later than the last time, in whatever it does then."""
    done = subprocess.run([sys.executable, "-c", KILLED, LINE], env=ENVIRONMENT, capture_output=True, text=True)
    *killed, last = [line.split() for line in done.stdout.splitlines() if line[:2] in ("9 ", "0 ")]
    assert last == ["0", ".new.csv.digest", "new.csv"], (done.stdout, done.stderr)
    assert len(killed) > 4
    assert all(ended == "9" and "new.csv" not in files for ended, *files in killed)
    assert Path("out/new.csv").read_bytes() == new


def test_labels_that_are_there_are_not_found_again(new, call, monkeypatch):
    killed_after_batches(4, call, monkeypatch)
    with Path("out/.new.csv.parts/rows.csv").open("ab") as file:
        file.write(b"half a li")  # of rows that the note does not count yet
    assert batches_of(call, monkeypatch) == 2
    assert Path("out/new.csv").read_bytes() == new
    assert names("out") == [".new.csv.digest", "new.csv"]


@pytest.mark.parametrize("change", ["model", "photos", "content", "unseen", "rows", "note", "size"])
def test_what_has_changed_is_begun_anew(change, new, photos, call, monkeypatch):
    path = "new/" + min(os.listdir("new"))
    if change == "unseen":  # as among more than a thousand, of which a sample is read
        monkeypatch.setattr("loaders.sources.walk.files_digest", lambda *_: "of their sizes")
        darken(path)
    killed_after_batches(4, call, monkeypatch)
    parts = Path("out/.new.csv.parts")
    if change == "model":
        write_labels(Path("labels.csv"), some_labels(photos, 5))
        call("classify photos --labels labels.csv --out work --device cpu --features net.h5")
    elif change == "size":
        shutil.rmtree("work")
        save_network(Path("net.h5"), 9)
        call("classify photos --labels labels.csv --out work --device cpu --features net.h5")
    elif change == "photos":
        shutil.copy(path, "new/another.png")
    elif change == "content":
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    elif change == "unseen":
        darken(path)
    elif change == "rows":
        text = (parts / "rows.csv").read_bytes()
        (parts / "rows.csv").write_bytes(text.replace(b"one", b"two"))
    else:
        (parts / "progress.json").write_text('{"bytes": -1}')
    assert batches_of(call, monkeypatch) == 6
    assert (Path("out/new.csv").read_bytes() == new) == (change in ("rows", "note"))
    call(LINE.replace("out/new.csv", "whole.csv"))
    assert Path("out/new.csv").read_bytes() == Path("whole.csv").read_bytes()


def test_a_model_that_is_replaced_while_it_is_read_is_not_mixed_with_the_new_one(new, photos, call, monkeypatch):
    read = predict.read_model

    def replaced(*given):
        model = read(*given)
        write_labels(Path("labels.csv"), some_labels(photos, 5))
        call("classify photos --labels labels.csv --out work --device cpu --features net.h5")
        return model

    with monkeypatch.context() as patch:
        patch.setattr(predict, "read_model", replaced)
        killed_after_batches(4, call, monkeypatch)
    call(LINE)
    call(LINE.replace("out/new.csv", "whole.csv"))
    assert Path("out/new.csv").read_bytes() == Path("whole.csv").read_bytes() != new


def test_a_copied_model_of_read_only_files_works_elsewhere(new, call, monkeypatch, tmp_path, files_of):
    """As on another machine: another folder, another current directory, and nothing can be written to the model."""
    elsewhere = tmp_path / "else" / "where"
    shutil.copytree("work/model", elsewhere / "m")
    shutil.copytree("new", elsewhere / "photos")
    shutil.rmtree("work")
    for path in (elsewhere / "m").iterdir():
        path.chmod(0o444)
    (elsewhere / "m").chmod(0o555)
    before = files_of(elsewhere / "m")
    monkeypatch.chdir(elsewhere)
    call("predict m photos --out new.csv --device cpu")
    assert Path("new.csv").read_bytes() == new
    monkeypatch.chdir("/")
    model = load_model(elsewhere / "m", device="cpu")
    images = np.stack([np.array(Image.open(path).convert("RGB")) for path in sorted((elsewhere / "photos").iterdir())])
    assert model.predict(images) == [row["label"] for row in rows_of(elsewhere / "new.csv")]
    assert hebbcore.load(elsewhere / "m" / "network.h5", device="cpu").image_shape == model.image_shape
    assert files_of(elsewhere / "m") == before
    (elsewhere / "m").chmod(0o755)


def test_a_table_that_was_changed_is_not_replaced(new, call, fails, files_of, monkeypatch):
    call(LINE)
    shutil.copy("new/" + min(os.listdir("new")), "new/another.png")
    table, corrected = Path("out/new.csv"), new.replace(b",one,", b",two,", 1)

    def refused(before):
        assert "--out out/new.csv was changed since predict wrote it" in fails(LINE)
        assert files_of("out") == before

    table.write_bytes(corrected)
    refused(files_of("out"))
    table.write_bytes(new)  # it is as it was written
    predict_proba = Model.predict_proba
    with monkeypatch.context() as patch:  # changed while labels are found
        patch.setattr(Model, "predict_proba", lambda *given: table.write_bytes(corrected) and predict_proba(*given))
        assert "was changed since" in call(LINE, 1)[1]
    assert table.read_bytes() == corrected
    table.write_bytes(new)
    with monkeypatch.context() as patch:  # killed before it is written: what is there is no changed one
        patch.setattr(predict, "write_bytes", lambda *_: 1 / 0)
        call(LINE, 1)
    assert table.read_bytes() == new
    call(LINE)
    assert b"another.png" in table.read_bytes()
    table.write_bytes(corrected)
    Path("out/.new.csv.digest").unlink()  # as of earlier versions
    call(LINE)
    assert b"another.png" in table.read_bytes()


def test_the_table_does_not_replace_a_file_of_the_work(new, fails, files_of):
    before = files_of("work")
    for model, out in (
        ("work", "work/predictions.csv"), ("work", "work/labels.sqlite"), ("work/model", "work/next.csv"),
        ("work", "work/model/model.json"), ("work", "work/../work/features.h5"),
    ):  # fmt: skip
        message = fails(f"predict {model} new --out {out} --device cpu")
        assert f"--out must not be a file of the model or of its work, got {out}" in message
    assert files_of("work") == before
