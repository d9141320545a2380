"""`hebbcore train`, `extract` and `evaluate` on folders of image files, flat or of class folders."""

import os
import re
import shutil
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from classify_helpers import darken, photos
from cli_helpers import POOL, call, config_text, fails, files_of, names
from PIL import Image

import hebbcore
import loaders
from hebbcore import checkpoint
from hebbcore.cli.photos import read_anew, read_photos, side_at
from hebbcore.cli.stages import Stages
from hebbcore.cli.tables import Table
from hebbcore.features import extract, storage
from hebbcore.files import locked_file

__all__ = ["call", "fails", "files_of", "photos"]
CONV = {"type": "conv", "units": 6, "kernel_size": 3}


def in_class_folders(photos, folder, files):
    """Copy photos into folders of their classes."""
    for file in files:
        Path(folder, photos[file]).mkdir(parents=True, exist_ok=True)
        shutil.copy(Path("photos", file), Path(folder, photos[file], file))


def test_features_of_a_flat_folder_have_names(photos, call):
    out, err = call("extract net.h5 photos f.h5 --device cpu")
    assert out == "f.h5: features of 60 images\n"
    assert "images: done" in err
    with h5py.File("f.h5") as file:
        assert file["names"].asstr()[:].tolist() == sorted(photos)
        assert (file["labels"][:] == -1).all()
        images = np.stack([np.array(Image.open(f"photos/{name}").convert("RGB")) for name in sorted(photos)])
        np.testing.assert_array_equal(file["features"], hebbcore.load("net.h5", device="cpu").transform(images))
    before = names(".")
    assert not [name for name in before if name.startswith(".")]
    call("extract net.h5 photos f.h5 --device cpu")
    assert names(".") == before


@pytest.mark.parametrize("as_shards", [False, True])
def test_what_is_told_of_a_table_is_told_once(photos, caplog, as_shards):
    files = sorted(photos)
    source = Path("photos")
    if as_shards:
        loaders.build_shards("photos", "shards", workers=1)
        source = Path("shards")
    Path("numbers.csv").write_text("".join(f"{file},{number - 1}\n" for number, file in enumerate(files[:3])))
    labels = Table(Path("numbers.csv"), source, None).labels(files, [])
    assert labels.classes == ("-1", "0", "1")
    assert caplog.text.count("the label -1 is a class of its own") == 1


def test_a_training_does_not_go_on_with_a_changed_photo_that_the_digest_does_not_show(photos, call, monkeypatch):
    monkeypatch.setattr("loaders.sources.walk.files_digest", lambda *_: "of their sizes")
    Path("run.toml").write_text(config_text(CONV, epochs=2).replace('"images.h5"', '"photos"'))
    changed = Path("photos", min(photos))
    darken(changed)
    call("train run.toml --out run")
    darken(changed)
    line = "train run.toml --out run --set training.epochs=3"
    assert "has changed since run/images/shard-00000.h5 was written" in call(line, 1)[1]
    shutil.rmtree("run/images")  # as the error advises
    assert "run holds another training: data.pixels.mean[0] is" in call(line, 1)[1]
    path = checkpoint.checkpoints(Path("run"))[-1]
    header, arrays = checkpoint.read("test", path)
    del header["data"]["pixels"]  # as earlier versions, which did not note them
    checkpoint.write(path, header, arrays)
    call(line)


@pytest.mark.parametrize("kind", ["hdf5", "npy"])
def test_a_changed_photo_that_the_digest_of_the_source_does_not_show_is_told(photos, call, monkeypatch, kind):
    """As one of the same size among more than a thousand, of which a sample is read."""
    monkeypatch.setattr("loaders.sources.walk.files_digest", lambda *_: "of their sizes")
    monkeypatch.setattr(extract, "_SAVE_SECONDS", 0)
    line, changed = f"extract net.h5 photos f --device cpu --format {kind}", Path("photos", min(photos))
    darken(changed)
    with monkeypatch.context() as patch:
        patch.setattr(storage.Growing, "finish", lambda self: sys.exit("stopped"))
        with pytest.raises(SystemExit, match="stopped"):
            call(line)
    darken(changed)
    assert "partial is of another extraction; finish that one, or remove it" in call(line, 1)[1]
    for path in Path().glob("*.partial"):
        path.unlink()
    call(line)
    call(line)
    darken(changed)
    assert "f exists and holds something else; remove it or name another file" in call(line, 1)[1]


def test_photos_that_changed_after_an_interrupt_are_read_anew(photos, call, fails, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("hebbcore.cli.extract.extract_features", lambda *args, **options: sys.exit("stopped"))
        with pytest.raises(SystemExit, match="stopped"):
            call("extract net.h5 photos f.h5 --device cpu")
    assert Path(".f.h5.images").is_dir()
    gone = max(photos)
    Path("photos", gone).unlink()
    with locked_file(Path(".f.h5.images"), "reading photos into"):
        assert "another process" in fails("extract net.h5 photos f.h5 --device cpu")
    assert Path(".f.h5.images").is_dir()
    call("extract net.h5 photos f.h5 --device cpu")
    with h5py.File("f.h5") as file:
        assert file["names"].asstr()[:].tolist() == sorted(photos)[:-1]
    assert not [name for name in names(".") if name.startswith(".")]


def test_nothing_is_written_among_the_photos(photos, call, fails):
    Path("run.toml").write_text(config_text(CONV, epochs=1).replace('"images.h5"', '"photos"'))
    for line in ("extract net.h5 photos photos/f.h5 --device cpu", "train run.toml --out photos/run"):
        assert "must lie outside of the images' folder, photos" in fails(line)
    assert names("photos") == sorted(photos)


def test_features_of_class_folders_have_labels(photos, call, fails):
    in_class_folders(photos, "tree", photos)
    call("extract net.h5 tree f.h5 --device cpu")
    with h5py.File("f.h5") as file:
        for name, label in zip(file["names"].asstr()[:], file["labels"][:], strict=True):
            assert name.split("/")[0] == ("none", "one", "two")[label]
    assert "tree is a folder of images, which is one split" in fails("extract net.h5 tree g.h5 --split test")


@pytest.mark.parametrize("crop", ["center", "random"])
def test_a_network_is_trained_on_photos(crop, photos, call):
    text = config_text(CONV, POOL, epochs=1).replace('"images.h5"', f'"photos"\nimage_size = 7\ncrop = "{crop}"')
    Path("run.toml").write_text(text)
    call("train run.toml --out run")
    assert hebbcore.load("run", device="cpu").image_shape == (7, 7, 3)
    assert loaders.read_index("run/images").image_shape == ((7, 7, 3) if crop == "center" else (8, 8, 3))
    _, err = call("train run.toml --out run --set training.epochs=2")
    assert "images: " not in err  # they are there
    out, _ = call("verify run")
    assert "run/images: sound" in out
    assert out.endswith(" damaged: 0\n")


def test_photos_are_not_read_for_a_run_of_another_configuration(photos, call, fails):
    Path("run.toml").write_text(config_text(CONV, epochs=1).replace('"images.h5"', '"photos"'))
    call("train run.toml --out run")
    shutil.rmtree("run/images")
    message = fails("train run.toml --out run --set network.layers.conv1.units=7")
    assert "run is a run of another configuration: network.layers[0].units is 7 here and 6 there" in message
    assert not Path("run/images").exists()


def test_features_are_judged_on_class_folders(photos, call, fails):
    files = sorted(photos)
    in_class_folders(photos, "train", files[:45])
    in_class_folders(photos, "test", files[45:])
    line = (
        "evaluate net.h5 --train train --test test --out report --labels 100 --queries 0 --device cpu --baselines none"
    )
    out, _ = call(line)
    assert "report/report.md" in out
    assert names("report/images") == ["test", "train"]
    assert loaders.read_index("report/images/train").records == 45
    assert "report/images/test: sound\nreport/images/train: sound\nfiles: 3" in call("verify report")[0]
    some = next(Path("train").glob("*/*.png"))
    some.unlink()
    assert fails(line) == (
        "report/images/train holds a set built differently (files 45 there and 44 here; gone: "
        f"{some.relative_to('train')}), so not of train as it is now; name another output, or remove that folder."
    )


def test_files_of_others_are_neither_removed_nor_replaced(photos, call, fails, files_of):
    in_class_folders(photos, "tree", photos)
    Path("run.toml").write_text(config_text(CONV, epochs=1).replace('"images.h5"', '"tree"\nimage_size = 8'))
    for file in ("mine/images/cat.png", "mine/images/sub/notes.txt"):  # a folder that a user calls so, too
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text("mine")
    before = files_of("mine")
    told = "mine/images holds files of others, such as cat.png, and images would be read into it: name another output"
    line = "sweep run.toml --out mine --seeds 2 --evaluate tree"
    for command in (line, "train run.toml --out mine", "classify tree --out mine --features net.h5 --device cpu"):
        assert told in fails(command)
    assert files_of("mine") == before
    shutil.copytree("mine/images", "kept")
    shutil.rmtree("mine")
    call(line)
    shutil.copytree("kept", "mine/images", dirs_exist_ok=True)  # beside what was read
    Path("tree/one", next(file for file in sorted(photos) if photos[file] == "one")).unlink()
    assert "set built differently" in call(line, 1)[1]
    assert Path("mine/images/sub/notes.txt").exists()
    shutil.rmtree("mine")
    loaders.build_shards(loaders.open_source("tree"), Path("mine/images"), size=7)  # which took hours, say
    before = files_of("mine")
    assert re.search("^mine/images holds a set built differently .*size 7 there and 8 here", fails(line))
    assert files_of("mine") == before
    for name, command in (
        ("report.html", "classify tree --features net.h5"),
        ("model/network.h5", "classify tree --features net.h5"),
        ("report.html", "evaluate net.h5 --train tree --test tree"),
        ("config.json", "train run.toml"),
        ("sweep.md", "sweep run.toml --seeds 2"),
    ):
        Path("other", name).parent.mkdir(parents=True)
        Path("other", name).write_text('{"mine": 1}')
        assert re.search(rf"\b{re.escape(name)}\b.* would be replaced", fails(f"{command} --out other"))
        assert list(files_of("other")) == [Path("other", name)]
        shutil.rmtree("other")
    Path("other").mkdir()
    Path("other/metrics.jsonl").write_text('{"step": 1, "loss": 2}\n')  # many programs call theirs so
    assert "line 1 is no record of a training" in call("train run.toml --out other", 1)[1]
    assert Path("other/metrics.jsonl").read_text() == '{"step": 1, "loss": 2}\n'


def read(folder="photos"):
    return read_photos(Path(folder), Path("shards"), size=8, split=None, without_labels=True, stages=Stages())


def refusal():
    with pytest.raises(ValueError, match="holds a set built ") as caught:
        read()
    return str(caught.value)


def test_files_that_are_no_photos_may_change(photos, capsys):
    Path("photos/notes.txt").write_text("is left out, and known")
    Path("photos/.DS_Store").write_text("1")
    read()
    before = Path("shards/index.json").read_bytes()
    Path("photos/notes.txt").unlink()
    Path("photos/.DS_Store").write_text("22")
    for name in ("Thumbs.db", "labels.csv"):
        Path("photos", name).touch()
    os.utime(Path("photos", min(photos)))
    capsys.readouterr()
    assert list(read().stream().names) == sorted(photos)
    told = (
        "images: those of before, though files have changed that are none: new: Thumbs.db, labels.csv; gone: notes.txt"
    )
    assert told in capsys.readouterr().err
    Path("photos").rename("pictures")
    read("pictures")
    Path("pictures").rename("photos")
    assert Path("shards/index.json").read_bytes() == before
    Path("photos/scan").write_bytes(Path("photos", min(photos)).read_bytes())  # an image by its content
    assert "new: Thumbs.db, labels.csv, scan; gone: notes.txt" in refusal()


def test_photos_that_are_new_gone_changed_or_mended_are_told(photos):
    first, second, *others = sorted(photos)
    whole = Path("photos", first).read_bytes()
    Path("photos", first).write_bytes(whole[:-40])
    assert len(read().left_out) == 1
    Path("photos/.DS_Store").touch()
    read()
    own = Path("photos", second).read_bytes()
    shutil.copy(Path("photos", others[0]), Path("photos", second))
    assert "(files 60 there and 61 here; new: .DS_Store)" in refusal()
    Path("photos", second).write_bytes(own)
    read()
    Path("photos", first).write_bytes(whole)
    assert "(files 60 there and 61 here; new: .DS_Store)" in refusal()
    for name in sorted(photos)[:5]:
        Path("photos", name).rename(f"photos/{name}.\x1b.png")
    told = f"; new: .DS_Store, {first}.\\x1b.png, {second}.\\x1b.png and 3 more; gone: {first}, {second}, "
    assert told in refusal()


def test_older_photos_of_the_same_names_in_another_folder_are_others(photos):
    shutil.copytree("photos", "other/photos")
    darken(Path("other/photos", min(photos)))
    time.sleep(0.02)  # longer than the clock of files takes to move on
    read()
    with pytest.raises(ValueError, match="from a source whose files have changed since"):
        read("other/photos")


def test_a_sweep_judges_photos_in_the_size_of_the_training(photos, call):
    Path("tree/none").mkdir(parents=True)
    Path("tree/one").mkdir()
    for number, file in enumerate(sorted(photos)[:12]):
        Image.open(f"photos/{file}").resize((80, 64)).save(f"tree/{('none', 'one')[number % 2]}/{file}")
    Path("run.toml").write_text(config_text(CONV, POOL, epochs=1).replace('"images.h5"', '"tree"\nimage_size = 60'))
    line = "sweep run.toml --out s --grid training.learning_rate=0.001,0.01 --evaluate"
    call(f"{line} tree")
    assert loaders.read_index("s/images").image_shape == (60, 60, 3)
    (learned_from,) = Path("s").glob("images-*")
    assert f"s/sweep.json: sound\ns/images: sound\n{learned_from}: sound\n" in call("verify s")[0]
    shutil.copytree("tree", "other")
    min(Path("other/one").iterdir()).unlink()
    call(f"{line} other")  # judged anew
    assert loaders.read_index("s/images").source["name"] == "other"
    Path("run.toml").write_text(config_text(CONV, POOL, epochs=1).replace('"images.h5"', '"tree"'))
    line = "sweep run.toml --out t --grid network.image_shape=[10,10,3],[16,16,3] --evaluate tree"
    call(line)
    assert [loaders.read_index(f"t/{place}").image_shape[0] for place in ("images", "images-10")] == [16, 10]
    assert "epochs done" not in call(line)[1]  # each run is compared with images of its own size
    np.save("arrays.npy", np.zeros((4, 52, 52, 3), np.uint8))
    assert [side_at(Path(path), "train") for path in ("tree", "s/images", "arrays.npy")] == [48, 60, 52]


@pytest.mark.parametrize(
    ("shape", "size", "said"),
    [
        ([8, 12, 3], "none", "squares, here of 8 pixels a side"),
        ([9, 9, 1], "none", "images of (9, 9, 3), but the network takes (9, 9, 1)"),
        ([8, 8, 3], "10", "Set network.image_shape=[10, 10, 3]"),
    ],
)
def test_photos_that_the_network_does_not_take_are_refused_before_they_are_read(shape, size, said, photos, fails):
    Path("run.toml").write_text(config_text(CONV, POOL, epochs=1).replace('"images.h5"', '"photos"'))
    line = f"train run.toml --out run --set data.image_size={size} --set network.image_shape={shape}".replace(", ", ",")
    assert said in fails(line)
    assert not Path("run/images").exists()


def test_a_network_that_takes_no_photos_is_told_before_they_are_read(photos, fails):
    hebbcore.save("wide.h5", hebbcore.Network([hebbcore.Conv(2, 3)], (8, 12, 3), device="cpu"))
    assert "but the network takes (8, 12, 3)" in fails("extract wide.h5 photos f.h5 --device cpu")
    assert not Path(".f.h5.images").exists()


EVALUATE = "evaluate net.h5 --train photos --test photos --out work --device cpu"
EXTRACT = "extract net.h5 photos work/f.h5 --device cpu"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{EVALUATE} --baselines x", "evaluate: baselines must be one of"),
        (f"{EVALUATE} --layers x", "evaluate: layer must be one of"),
        (f"{EVALUATE} --memory 4X", "evaluate: memory must be bytes or text"),
        (f"{EVALUATE} --shifts 20", "evaluate: shifts must be 0, or below the sides"),
        (f"{EVALUATE} --batch-size 0", "--batch-size must be at least 1, got 0"),
        (f"{EVALUATE} --image-size 0", "--image-size must be at least 1, got 0"),
        (f"{EVALUATE} --test gone", "gone does not exist"),
        (f"{EXTRACT} --layer x", "extract: layer must be one of"),
        (f"{EXTRACT} --pool 99", "extract: pool must be at most the sides"),
        (f"{EXTRACT} --batch-size 0", "--batch-size must be at least 1, got 0"),
        (
            "extract net.h5 photos other.h5 --layer conv1",
            "extract: other.h5 exists and holds something else; remove it",
        ),
        ("extract net.h5 photos net.h5", "extract: net.h5 exists and holds something else; remove it"),
        ("classify photos --out work --image-size 7", "photos must be squares of 8 pixels a side or more"),
        ("classify photos --out work --features grey.h5", "photos are read as RGB squares"),
    ],
)
def test_what_no_photo_makes_right_is_refused_before_they_are_read(photos, call, fails, monkeypatch, line, message):
    call("extract net.h5 photos other.h5 --device cpu")
    hebbcore.save("grey.h5", hebbcore.Network([hebbcore.Dense(3)], (16, 16, 1), device="cpu"))

    def read(*arguments, **options):
        raise AssertionError("the photos were read")

    monkeypatch.setattr(loaders, "build_shards", read)
    assert fails(line).startswith(message)


def test_a_removal_that_is_killed_leaves_the_mark_that_the_folder_may_be_removed(tmp_path, monkeypatch):
    folder = tmp_path / "images"

    def read():
        if list(folder.glob("*.h5")):
            raise ValueError("of other images")
        (folder / "shard-00000.h5").touch()
        (folder / "report.json").touch()
        return "read"

    def killed(path):
        raise KeyboardInterrupt

    assert read_anew(folder, read) == "read"
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            read_anew(folder, read)
    assert os.listdir(folder) == [".read-anew"]
    assert read_anew(folder, read) == "read"
