"""Folders of images without classes, with a table of labels, or with both; and the names that go all the way."""

import json
import os
import shutil
import sys

import h5py
import numpy as np
import pytest
from cli_helpers import config_text
from loaders_helpers import built, contents, crop, encoded, make_tar, make_tree, make_zip, report_of

import hebbcore
import loaders
from hebbcore.cli import main
from hebbcore.features.extract import extract_features
from loaders.sources.class_folders import is_of_photos

ODD = [
    "ünï 图.png",
    "comma, and space.jpg",
    'say "hi".jpg',
    "two\nlines.jpg",
    "back\\slash.jpg",
    "UPPER.JPG",
    "upper.jpg",
]


def photos(root, *names):
    """Small JPEG and PNG files, each another picture."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(crop(number, 20, 30), "PNG" if path.suffix == ".png" else "JPEG"))
    return root


def table(path, *rows):
    path.write_text("".join(f"{file},{label}\n" for file, label in rows), encoding="utf-8")
    return path


def labels_of(folder):
    """{name: label's text, None without one} of a set of shards."""
    stream = loaders.ShardStream(folder, image_size=16)
    texts = {-1: None, **dict(enumerate(stream.class_names))}
    return {name: texts[label] for name, label in zip(stream.names, stream.labels.tolist(), strict=True)}


def test_a_folder_is_called_like_a_label_however_its_accents_are_composed(tmp_path):
    root = photos(tmp_path / "photos", "cafe\u0301/a.jpg", "b.jpg")
    source = loaders.ImageFiles(root, table(tmp_path / "labels.csv", ("b.jpg", "caf\u00e9")))
    assert source.class_names == ["caf\u00e9"]
    assert [item.label for item in source.items()] == [0, 0]


@pytest.fixture
def nested(tmp_path):
    return photos(tmp_path / "photos", "a.jpg", "2019/b.png", "2019/may/c.jpg", "2020/d.jpg")


def test_a_nested_folder_without_labels(nested, tmp_path):
    source = loaders.ImageFiles(nested)
    assert isinstance(source, loaders.ImageSource)
    index = built(source, tmp_path / "shards")
    assert (index.class_names, index.class_counts, index.records) == ((), (), 4)
    assert labels_of(tmp_path / "shards") == dict.fromkeys(["2019/b.png", "2019/may/c.jpg", "2020/d.jpg", "a.jpg"])
    assert built(loaders.ImageFiles(nested), tmp_path / "shards") == index
    assert loaders.verify_shards(tmp_path / "shards") == []


@pytest.mark.parametrize("name", ["new", "cat/new", ".hidden"])
def test_shards_are_not_built_among_the_images(name, tmp_path):
    root = photos(tmp_path / "photos", "cat/a.png", "dog/b.png")
    for source in (root, loaders.ImageFiles(root)):
        with pytest.raises(ValueError, match=r"shards must lie outside of the images' folder.*got "):
            loaders.build_shards(source, root / name, workers=1)
    assert not (root / name).exists()


def test_folders_named_after_dates_or_by_cameras_are_no_classes(nested, tmp_path, caplog):
    index = built(nested, tmp_path / "shards")
    assert (index.class_names, index.records) == ((), 4)
    assert "folders of" in caplog.text
    assert "are named after dates or by cameras, and are no classes" in caplog.text
    photos(nested, "cats/e.jpg")  # one other, and all are classes: the user has thought of something
    assert loaders.open_source(nested).class_names == ["2019", "2020", "cats"]


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        *[(name, True) for name in ("2019", "1987", "2019-05", "2019_05_13", "20190513", "2019-05-13 Anna, 2 years")],
        *[(name, True) for name in ("2019 Italy", "201905", "DCIM", "Camera", "Camera Roll", "100CANON", "101_PANA")],
        *[(name, False) for name in ("0", "9", "1", "12", "1812", "2119", "20191301", "20195", "2019a")],
        *[(name, False) for name in ("001.ak47", "n01440764", "cat", "100", "100canon", "012CANON", "", "cat 2019")],
    ],
)
def test_names_of_folders_that_tell_no_class(name, is_one):
    assert is_of_photos(name) == is_one


def test_a_table_labels_some(nested, tmp_path, caplog, capsys):
    csv = table(nested / "labels.csv", ("a.jpg", "dog"), (f"{nested}/2019/may/c.jpg", "cat"), ("./2020/d.jpg", ""))
    assert main(["shards", "build", str(nested), str(tmp_path / "a"), "--labels", str(csv), "--workers", "2"]) == 0
    printed = capsys.readouterr()
    assert "4 images in 1 shards, 1 skipped, 2 without a label" in printed.out
    assert "2 of 4 files of" in caplog.text + printed.err
    assert labels_of(tmp_path / "a") == {
        "2019/b.png": None,
        "2019/may/c.jpg": "cat",
        "2020/d.jpg": None,
        "a.jpg": "dog",
    }
    assert report_of(tmp_path / "a")["skipped"] == [{"path": "labels.csv", "reason": "a table, not an image"}]
    one = built(loaders.open_source(nested, labels=csv), tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert one.class_counts == (1, 1)
    csv.write_text(csv.read_text().replace("dog", "wolf"))
    with pytest.raises(ValueError, match=r"holds a set built differently \(class names .*wolf"):
        built(loaders.open_source(nested, labels=csv), tmp_path / "b")
    arrays = loaders.array_source(np.zeros((2, 6, 6, 3), np.uint8), np.zeros(2, np.int64))
    with pytest.raises(ValueError, match=r"files \d+ there and not set here"):
        loaders.build_shards(arrays, tmp_path / "b")
    csv.write_text("not the table that is given\n")
    assert loaders.ImageFiles(nested).describe() == loaders.ImageFiles(nested).describe()


def test_the_set_without_labels_stays_the_same_when_the_table_beside_its_images_changes(nested):
    table(nested / "labels.csv", ("a.jpg", "dog"))
    before = loaders.ImageFiles(nested).describe()
    table(nested / "labels.csv", ("a.jpg", "cat"), ("2020/d.jpg", "dog"))
    assert loaders.ImageFiles(nested).describe() == before


def test_swapped_labels_are_another_set(nested, tmp_path):
    one = table(tmp_path / "1.csv", ("a.jpg", "dog"), ("2020/d.jpg", "cat"))
    other = table(tmp_path / "2.csv", ("a.jpg", "cat"), ("2020/d.jpg", "dog"))
    described = [loaders.ImageFiles(nested, path).describe() for path in (one, other)]
    assert {key for key in described[0] if described[0][key] != described[1][key]} == {"labels"}


def test_folders_called_like_labels_of_the_table_are_classes(tmp_path):
    root = photos(
        tmp_path / "set", "cat/1.jpg", "cat/deep/2.jpg", "cat/3.jpg", "dog/4.jpg", "rest/5.jpg", "6.jpg", "7.jpg"
    )
    csv = table(tmp_path / "labels.csv", ("6.jpg", "cat"), ("cat/3.jpg", "dog"), ("rest/5.jpg", ""), ("cat/1.jpg", ""))
    source = loaders.ImageFiles(root, csv)
    assert source.remarks == [
        "folders that are called like no label of the table give none: rest",
        "1 images lie in a folder named after another label than theirs in the table, which they have",
        f"2 of 7 files of {root} have no label",
    ]
    built(source, tmp_path / "shards")
    expected = {"cat/1.jpg": "cat", "cat/deep/2.jpg": "cat", "cat/3.jpg": "dog", "dog/4.jpg": "dog"}
    assert labels_of(tmp_path / "shards") == {**expected, "rest/5.jpg": None, "6.jpg": "cat", "7.jpg": None}


def test_classes_whose_images_are_all_damaged_or_missing_are_told_and_keep_their_number(tmp_path, caplog):
    root = photos(tmp_path / "photos", "a.png", "b.png", "c.png")
    (root / "b.png").write_bytes(b"no image")
    rows = ("a.png", "ant"), ("b.png", "bee"), ("c.png", "cat")
    index = built(loaders.ImageFiles(root, table(tmp_path / "labels.csv", *rows)), tmp_path / "shards")
    assert (index.class_names, index.class_counts) == (("ant", "bee", "cat"), (1, 0, 1))
    assert "1 of 3 classes have no image, and stay classes: bee" in caplog.text
    (photos(tmp_path / "folders", "ant/a.png", "cat/c.png") / "bee").mkdir()
    caplog.clear()
    assert built(loaders.ImageFolder(tmp_path / "folders"), tmp_path / "more").class_counts == (1, 0, 1)
    assert "1 of 3 classes have no image, and stay classes: bee" in caplog.text


def test_images_beside_class_folders_have_no_label(tmp_path, caplog):
    root = make_tree(tmp_path / "tree", classes=2, images=1)
    photos(root, "loose.jpg", ".hidden.jpg")
    (root / "notes.txt").write_text("text")
    index = built(root, tmp_path / "shards")
    expected = {"class_0/000.jpg": "class_0", "class_1/000.jpg": "class_1", "loose.jpg": None}
    assert labels_of(tmp_path / "shards") == expected
    assert (index.records, index.skipped, index.class_counts) == (3, 2, (1, 1))
    assert "1 images beside the class folders of" in caplog.text


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take no such names")
def test_odd_names_go_through_everything(tmp_path):
    """From the folder and a table to shards, a stream and a file of features, and back to the files."""
    root = photos(tmp_path / "photos", *ODD)
    raw = os.fsdecode(b"latin\xe9.jpg")
    (root / raw).write_bytes(encoded(crop(50, 20, 30)))
    rows = [(f'"{name.replace(chr(34), chr(34) * 2)}"', f"label {number % 2}") for number, name in enumerate(ODD)]
    index = built(loaders.ImageFiles(root, table(tmp_path / "labels.csv", *rows)), tmp_path / "shards")
    assert (index.records, index.class_names) == (8, ("label 0", "label 1"))
    expected = {**{name: f"label {number % 2}" for number, name in enumerate(ODD)}, raw: None}
    assert labels_of(tmp_path / "shards") == expected
    network = hebbcore.Network([hebbcore.Conv(4, 3)], (16, 16, 3), device="cpu")
    stream = loaders.ShardStream(tmp_path / "shards", image_size=16, batch_size=3)
    path = extract_features(network, stream, tmp_path / "features.h5")
    with h5py.File(path) as file:
        names = list(file["names"].asstr(errors="surrogateescape"))
        assert dict(zip(names, file["labels"], strict=True)) == {
            name: -1 if label is None else index.class_names.index(label) for name, label in expected.items()
        }
    assert names == list(stream.names)
    assert all((root / name).is_file() for name in names)


def test_unlabelled_photos_train_and_extract_and_evaluate_says_what_to_give(tmp_path, capsys):
    root = photos(tmp_path / "photos", *[f"{number}.jpg" for number in range(6)])
    assert main(["shards", "build", str(root), str(tmp_path / "shards"), "--raw", "--size", "16"]) == 0
    text = config_text({"type": "conv", "units": 4, "kernel_size": 3}, epochs=1)
    (tmp_path / "net.toml").write_text(text.replace("images.h5", str(tmp_path / "shards")))
    assert main(["train", str(tmp_path / "net.toml"), "--out", str(tmp_path / "run")]) == 0
    assert main(["extract", str(tmp_path / "run"), str(tmp_path / "shards"), str(tmp_path / "f.h5")]) == 0
    with h5py.File(tmp_path / "f.h5") as file:
        assert list(file["names"].asstr()) == [f"{number}.jpg" for number in range(6)]
        np.testing.assert_array_equal(file["labels"], [-1] * 6)
    shards = str(tmp_path / "shards")
    capsys.readouterr()
    assert (
        main(["evaluate", str(tmp_path / "run"), "--train", shards, "--test", shards, "--out", str(tmp_path / "r")])
        == 1
    )
    assert "no image of" in (message := capsys.readouterr().err)
    assert "shards build --labels" in message


def test_links_are_followed_but_a_row_names_the_link(tmp_path):
    outside = photos(tmp_path / "elsewhere", "x.jpg", "sub/y.jpg")
    root = photos(tmp_path / "photos", "a.jpg")
    (root / "link.jpg").symlink_to(outside / "x.jpg")
    (root / "folder").symlink_to(outside / "sub")
    (root / "broken.jpg").symlink_to(outside / "gone.jpg")
    (root / "self").symlink_to(root)
    csv = table(tmp_path / "labels.csv", ("link.jpg", "cat"), ("folder/y.jpg", "dog"))
    index = built(loaders.ImageFiles(root, csv), tmp_path / "shards")
    assert labels_of(tmp_path / "shards") == {"a.jpg": None, "folder/y.jpg": "dog", "link.jpg": "cat"}
    assert index.skipped == 2
    for name in ("../elsewhere/x.jpg", str(outside / "x.jpg"), "broken.jpg"):
        with pytest.raises(ValueError, match="1 of 1 rows name a file that is not among the images of"):
            loaders.ImageFiles(root, table(csv, (name, "cat")))


@pytest.mark.parametrize("classes", [False, True])
def test_links_to_themselves_are_left_out(classes, tmp_path):
    """The system does not even say whether they are files."""
    names = ("cat/a.jpg", "cat/b.jpg", "dog/c.jpg", "dog/d.jpg") if classes else ("a.jpg", "b.jpg")
    root = photos(tmp_path / "photos", *names)
    folder = root / "cat" if classes else root
    for one, other in (("1.jpg", "2.jpg"), ("2.jpg", "1.jpg"), ("3", "3")):
        (folder / one).symlink_to(folder / other)
    (root / "0").symlink_to("0")
    source = loaders.open_source(root)
    assert type(source) is (loaders.ImageFolder if classes else loaders.ImageFiles)
    index = built(source, tmp_path / "shards")
    assert index.records == len(names)
    if not classes:
        assert index.skipped == 4


def test_hidden_folders_empty_files_and_texts_are_reported(tmp_path):
    root = photos(tmp_path / "photos", "a.jpg", ".thumbs/a.jpg", "x/__MACOSX/b.jpg")
    (root / "empty.jpg").write_bytes(b"")
    (root / "notes.txt").write_text("text")
    index = built(loaders.ImageFiles(root), tmp_path / "shards")
    assert index.records == 1
    reasons = {skipped["path"]: skipped["reason"] for skipped in report_of(tmp_path / "shards")["skipped"]}
    assert reasons[".thumbs/a.jpg"] == reasons["x/__MACOSX/b.jpg"] == "in a hidden folder"
    assert set(reasons) == {".thumbs/a.jpg", "x/__MACOSX/b.jpg", "empty.jpg", "notes.txt"}


HIDDEN = "cat/.trashed-2.jpg", "cat/.thumbs/3.jpg", "dog/@eaDir/5.jpg", ".6.jpg", "__MACOSX/cat/._7.jpg"


@pytest.mark.parametrize("kind", ["ImageFolder", "ImageFiles", "ZipImages", "ClassFolderTar"])
@pytest.mark.parametrize("classes", [True, False])
def test_hidden_photos_are_read_from_no_source(kind, classes, tmp_path):
    """Tars took all of them, and folders those in the folders of classes."""
    if classes == (kind == "ImageFiles"):
        pytest.skip("its images have labels, or have none")
    root = photos(tmp_path / "photos", "cat/1.jpg", "dog/4.jpg", *HIDDEN)
    path, options = root, {}
    if kind in ("ZipImages", "ClassFolderTar"):
        pack, path, options = make_zip if kind == "ZipImages" else make_tar, tmp_path / "packed", {"classes": classes}
        pack(path, {name: (root / name).read_bytes() for name in (*HIDDEN, "cat/1.jpg", "dog/4.jpg")})
    source = getattr(loaders, kind)(path, **options)
    assert source.class_names == ["cat", "dog"] * classes
    assert {item.name for item in source.items() if item.problem is None} == {"cat/1.jpg", "dog/4.jpg"}
    assert {item.name for item in source.sample if item.problem is None} == {"cat/1.jpg", "dog/4.jpg"}
    assert built(source, tmp_path / "shards").skipped == len(HIDDEN)


def test_a_set_that_was_built_of_hidden_photos_too_is_still_of_its_folder(tmp_path, monkeypatch):
    root = photos(tmp_path / "photos", "cat/1.jpg", "cat/.2.jpg", "dog/4.jpg")
    names = "train/n01/1.jpg", "train/n01/.1.jpg", "train/.2.jpg", "val/.3.jpg"
    kaggle = photos(tmp_path / "kaggle", *(f"ILSVRC/Data/CLS-LOC/{name}" for name in names))
    (kaggle / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n1,n01 1 1 2 2\n")
    tiny = photos(tmp_path / "tiny", "train/n01/images/.1.jpg", "val/images/1.jpg", "val/images/.2.jpg")
    (tiny / "wnids.txt").write_text("n01\n")
    (tiny / "val" / "val_annotations.txt").write_text("1.jpg\tn01\n")
    sources = {"folder": loaders.ImageFolder, "image_files": loaders.ImageFiles}
    sources |= {"kaggle": loaders.KaggleImageNet, "tiny_imagenet": loaders.TinyImageNet}
    for module, kind in sources.items():
        path = {"kaggle": kaggle, "tiny_imagenet": tiny}.get(module, root)
        for options in ({"split": "train"}, {"split": "val"}) if path is not root else ({},):
            found = kind(path, **options).describe()
            with monkeypatch.context() as before:
                before.setattr(f"loaders.sources.{module}.hidden", lambda name: None)
                assert kind(path, **options).describe() == found


def test_escape_codes_in_names_and_labels_do_not_reach_the_terminal(tmp_path, capsys, caplog):
    escape = "\x1b[31mred\u202e"
    root = photos(tmp_path / escape, f"{escape}/1.jpg", f"x{escape}/2.jpg", f"{escape}.jpg")
    command = ["shards", "build", str(root), str(tmp_path / "shards"), "--workers", "1", "--labels"]
    assert main([*command, str(table(tmp_path / "1.csv", (f"{escape}.jpg", escape), (f"x{escape}/2.jpg", "y")))]) == 0
    assert main([*command, str(table(tmp_path / "2.csv", (f"{escape}.jpg", escape), (f"{escape}.jpg", "y")))]) == 1
    assert main([*command, str(table(tmp_path / "3.csv", (f"{escape}.png", escape)))]) == 1
    assert main([*command, str(table(tmp_path / "4.csv", (" ", escape)))]) == 1
    captured = capsys.readouterr()
    texts = (captured.out, captured.err, caplog.text)
    assert all("\x1b" not in text and "\u202e" not in text for text in texts)
    assert captured.err.count(r"\x1b[31mred") >= 3


def test_labels_belong_to_folders_of_images(nested, tmp_path):
    csv = table(tmp_path / "labels.csv", ("a.jpg", "cat"))
    tar = make_tar(tmp_path / "a.tar", {"a/1.jpg": encoded(crop(0))})
    with pytest.raises(
        ValueError, match=r"labels are for a folder or a zip of images; .* is of the kind a tar of class folders"
    ):
        loaders.open_source(tar, labels=csv)
    with pytest.raises(ValueError, match="leave split out"):
        loaders.open_source(nested, labels=csv, split="train")
    with pytest.raises(ValueError, match="give one of them"):
        loaders.open_source(nested, labels=csv, ground_truth="a", synsets="b")
    (nested / "wnids.txt").write_text("n1")
    with pytest.raises(ValueError, match="is of the kind Tiny ImageNet's folder"):
        loaders.open_source(nested, labels=csv)
    (nested / "wnids.txt").unlink()
    with pytest.raises(FileNotFoundError):
        loaders.open_source(nested, labels=tmp_path / "none.csv")
    with pytest.raises(NotADirectoryError, match="cannot list the folder"):
        loaders.ImageFiles(nested / "a.jpg")
    shutil.rmtree(nested)
    with pytest.raises(FileNotFoundError, match="cannot list the folder"):
        loaders.ImageFiles(nested)
    nested.mkdir()
    with pytest.raises(ValueError, match="it has no files"):
        loaders.open_source(nested, labels=csv)


def test_an_interrupted_build_with_labels_goes_on_to_the_same_bytes(nested, tmp_path):
    csv = table(tmp_path / "labels.csv", ("a.jpg", "cat"), ("2020/d.jpg", "dog"))
    built(loaders.ImageFiles(nested, csv), tmp_path / "whole", shard_bytes=1)
    shutil.copytree(tmp_path / "whole", tmp_path / "part")
    for name in ("index.json", "report.json", "shard-00002.h5", "shard-00003.h5"):
        (tmp_path / "part" / name).unlink()
    built(loaders.ImageFiles(nested, csv), tmp_path / "part", shard_bytes=1)
    assert contents(tmp_path / "part") == contents(tmp_path / "whole")
    assert json.loads((tmp_path / "part" / "index.json").read_text())["class_names"] == ["cat", "dog"]


@pytest.mark.parametrize("kind", ["fixed", "variable"])
def test_names_in_a_file_of_arrays_go_into_its_features(tmp_path, kind):
    names = ["ünï.png", "b c.png", "c.png"]
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["real/images"] = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
        file["real/filenames"] = [name.encode() for name in names] if kind == "fixed" else names
        file["test"] = h5py.SoftLink("/real")
    hebbcore.save(tmp_path / "net.h5", hebbcore.Network([hebbcore.Conv(4, 3)], (8, 8, 3), device="cpu"))
    command = ["extract", str(tmp_path / "net.h5"), str(tmp_path / "images.h5")]
    assert main([*command, str(tmp_path / "f.h5")]) == 0
    with h5py.File(tmp_path / "f.h5") as file:
        assert list(file["names"].asstr()) == names
        assert list(file["labels"]) == [-1] * 3
    with h5py.File(tmp_path / "images.h5", "a") as file:
        del file["real/filenames"]
        file["real/filenames"] = names[:2]
    assert main([*command, str(tmp_path / "g.h5")]) == 1
