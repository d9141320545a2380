"""Folders and tars that are a level off are refused with the right path, and what only looks like that is not."""

import io
import json
import logging
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from loaders_helpers import crop, encoded, make_tar, make_tree, make_zip

import loaders
from loaders.sources.class_folders import split_named, splits_in

PICTURE = encoded(crop(0, 16, 16))


def fill(root: Path, *files: str) -> Path:
    """Images, or texts where the suffix says so, under root."""
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PICTURE if path.suffix.lower() in (".jpg", ".jpeg", "") else b"text")
    return root


def kaggle(root: Path) -> Path:
    """The tree that Kaggle's ImageNet unpacks to."""
    fill(root, "LOC_synset_mapping.txt", "LOC_val_solution.csv")
    for wnid in ("n01", "n02"):
        fill(root / "ILSVRC", f"Data/CLS-LOC/train/{wnid}/{wnid}_1.JPEG", f"Annotations/CLS-LOC/train/{wnid}/1.xml")
    for number in range(3):
        fill(root / "ILSVRC", f"Data/CLS-LOC/val/{number}.JPEG", f"Data/CLS-LOC/test/{number}.JPEG")
        fill(root / "ILSVRC", f"Annotations/CLS-LOC/val/{number}.xml")
    fill(root / "ILSVRC", "ImageSets/CLS-LOC/train_cls.txt")
    return root


@pytest.mark.parametrize("where", ["ILSVRC", "ILSVRC/Data", "ILSVRC/Data/CLS-LOC"])
def test_kaggles_tree_is_refused_on_every_level_in_between(tmp_path, where):
    root = kaggle(tmp_path / "imagenet")
    right = root / "ILSVRC" / "Data" / "CLS-LOC" / "train"
    with pytest.raises(ValueError, match=rf"holds splits, not classes.*give {right}, or rename") as caught:
        loaders.open_source(root / where)
    message = str(caught.value)
    assert not message.count("Annotations")
    assert loaders.open_source(right).class_names == ["n01", "n02"]
    # val and test are flat: they would be refused in turn, but the devkit tells the labels of val
    assert not any(f"{right.parent / split}" in message for split in ("val", "test"))
    assert "test and val without class folders" in message
    flat = loaders.open_source(right.parent / "val")  # without the devkit its images have no label
    assert (flat.class_names, {item.label for item in flat.items()}) == ([], {-1})
    fill(right.parent, "val/ILSVRC2012_val_00000001.JPEG")
    (root / "truth.txt").write_text("2\n")
    (root / "synsets.txt").write_text("n01\nn02\n")
    val = loaders.open_source(right.parent / "val", ground_truth=root / "truth.txt", synsets=root / "synsets.txt")
    assert [item.label for item in val.items() if item.name.startswith("ILSVRC")] == [1]


@pytest.mark.parametrize(
    ("files", "right"),
    [
        (["data/train/a/1.jpg", "data/val/a/1.jpg"], "data/train"),
        (["train/a/1.jpg", "train/b/1.jpg", "test/1.jpg"], "train"),
        (["training/a/1.jpg", "validation/a/1.jpg"], "training"),
        (["train2017/1.jpg", "val2017/1.jpg", "annotations/x.json"], "train2017"),
        (["train_images/1.jpg", "test_images/1.jpg", "unlabeled_images/1.jpg"], "train_images"),
        (["images/train/a/1.jpg", "images/val/a/2.jpg", "labels/train/1.txt", "labels/val/2.txt"], "images/train"),
        (["bottle/train/good/1.jpg", "bottle/test/bad/2.jpg", "cable/train/good/1.jpg"], "bottle/train"),
        (["train/a/1.jpg", "train/b/1.jpg", "devkit/readme.txt"], "train"),
        (["archive/cats/1.jpg", "archive/dogs/1.jpg"], "archive"),
        (["a/b/cats/1.jpg", "a/b/dogs/1.jpg"], "a/b"),
        (["images/cats/1.jpg", "images/dogs/1.jpg", "readme.txt"], "images"),
        (["archive/cats/1.jpg", "archive/dogs/1.jpg", "__MACOSX/archive/cats/._1.jpg"], "archive"),
        (["train/cats/1.jpg", "train/dogs/1.jpg"], "train"),
        (["tiny-imagenet-200/wnids.txt", "tiny-imagenet-200/train/n01/images/1.JPEG"], "tiny-imagenet-200"),
        (["data/cifar-10-batches-py/data_batch_1", "data/cifar-10-batches-py/test_batch"], "data/cifar-10-batches-py"),
        (["cifar-100-python/train", "cifar-100-python/meta", "cifar-100-python/test"], "cifar-100-python"),
        (["MNIST/raw/train-images-idx3-ubyte", "MNIST/raw/train-labels-idx1-ubyte"], "MNIST/raw"),
        (["fashion/t10k-images-idx3-ubyte.gz", "other/x.txt"], "fashion"),
    ],
)
def test_a_folder_that_is_a_level_off_is_refused_with_the_right_path(tmp_path, files, right):
    root = fill(tmp_path / "root", *files)
    with pytest.raises(ValueError, match=rf"ImageFolder: {root} .*give {root / right}( or |,|$|;)"):
        loaders.open_source(root)


@pytest.mark.parametrize(
    ("files", "classes"),
    [
        (["n01/images/1.jpg", "n01/n01_boxes.txt", "n02/images/2.jpg", "n02/n02_boxes.txt"], ["n01", "n02"]),
        (["birds/sparrow/1.jpg", "birds/robin/1.jpg", "fish/cod/1.jpg", "fish/eel/1.jpg"], ["birds", "fish"]),
        (["bus/1.jpg", "car/1.jpg", "train/1.jpg"], ["bus", "car", "train"]),
        (["bus/a/1.jpg", "bus/b/1.jpg", "train/a/1.jpg", "train/b/1.jpg"], ["bus", "train"]),
        (["valid/1.jpg", "invalid/1.jpg"], ["invalid", "valid"]),
        (["only/images/1.jpg"], ["only"]),
        (["only/1.jpg", "only/deep/1.jpg", "only/deeper/1.jpg"], ["only"]),
        (["a/1.jpg", ".ipynb_checkpoints/1.jpg", "@eaDir/1.jpg"], ["a"]),
    ],
)
def test_what_only_looks_a_level_off_is_built(tmp_path, files, classes):
    root = fill(tmp_path / "root", *files)
    index = loaders.build_shards(root, tmp_path / "shards", workers=1)
    assert list(index.class_names) == classes
    hidden = [name for name in files if name.startswith((".", "@"))]
    assert index.records == len([name for name in files if name.endswith("jpg")]) - len(hidden)
    assert index.records + index.skipped == len(files)


def test_one_class_and_labels_of_outer_folders_are_told(tmp_path, caplog):
    one = fill(tmp_path / "one", "train/1.jpg", "train/2.jpg")
    loaders.build_shards(one, tmp_path / "a", workers=1)
    assert "all images are of one class, train; which is called like a split" in caplog.text
    caplog.clear()
    nested = fill(tmp_path / "nested", *[f"{kind}/{name}/1.jpg" for kind in ("birds", "fish") for name in "abc"])
    loaders.build_shards(nested, tmp_path / "b", workers=1)
    assert "lie in 6 folders; their labels are the 2 outermost folders" in caplog.text
    caplog.clear()
    loaders.build_shards(make_tree(tmp_path / "tree"), tmp_path / "c", workers=1)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_empty_class_beside_one_with_images_is_told(tmp_path, caplog):
    root = fill(tmp_path / "root", "images/1.jpg", "annotations/1.xml")
    loaders.build_shards(root, tmp_path / "shards", workers=1)
    assert "all images are of one class, images" in caplog.text


def test_classes_whose_names_look_alike_are_refused(tmp_path):
    names = ["caf\u00e9/1.jpg", "cafe\u0301/2.jpg", "tea/3.jpg"]
    for path in (fill(tmp_path / "photos", *names), make_tar(tmp_path / "a.tar", dict.fromkeys(names, PICTURE))):
        with pytest.raises(ValueError, match=r"names look alike, 'cafe\\u0301' and 'caf\\xe9'; move the images"):
            loaders.open_source(path)


@pytest.mark.parametrize("top", ["", "./", "data/"])
def test_splits_in_a_tar_are_read_one_at_a_time(top, tmp_path, caplog):
    names = [f"{top}{name}" for name in ("train/cat/1.jpg", "train/dog/2.jpg", "test/3.jpg", "val/dog/4.jpg", "a.txt")]
    path = make_tar(tmp_path / "t.tar", dict.fromkeys(names, PICTURE))

    def read(split):
        source = loaders.open_source(path, split=split)
        assert {item.name for item in source.sample} == {item.name for item in source.items()}
        return [(item.name, item.label, item.problem) for item in source.items()], source.class_names

    assert read(None) == read("train") == ([(names[0], 0, None), (names[1], 1, None)], ["cat", "dog"])
    assert read("test") == ([(names[2], -1, None)], [])
    assert read("val") == ([(names[3], 0, None)], ["dog"])
    assert loaders.open_source(path).describe()["split"] == "train"
    inside = top.removeprefix("./")
    with pytest.raises(
        ValueError, match=rf"t\.tar holds the splits {inside}test, {inside}train, {inside}val, not extra"
    ):
        loaders.open_source(path, split="extra")
    for part, count in (("train", 2), ("test", 1)):
        source = loaders.open_source(path, split=part)
        assert loaders.build_shards(source, tmp_path / f"shards-{part}", workers=1).records == count
    assert "have no label" in caplog.text


def test_a_tar_without_splits_is_one_split(tmp_path):
    tar = make_tar(tmp_path / "t.tar", dict.fromkeys(["cat/1.jpg", "dog/1.jpg"], PICTURE))
    with pytest.raises(ValueError, match=r"t\.tar holds one split only; leave split out"):
        loaders.open_source(tar, split="test")
    files = {f"{thing}/{split}/good/1.jpg": PICTURE for thing in ("cable", "tile") for split in ("train", "test")}
    with pytest.raises(ValueError, match=r"holds splits in several folders \(cable, tile\)"):
        loaders.open_source(make_tar(tmp_path / "two.tar", files))
    tar = make_tar(tmp_path / "t.tar", dict.fromkeys(["a/images/1.jpg", "b/images/1.jpg"], PICTURE))
    with pytest.raises(ValueError, match="give the folder of classes if they have folders in them"):
        loaders.open_source(tar)


def test_of_files_of_one_name_in_a_tar_the_last_is_read(tmp_path):
    path = make_tar(tmp_path / "t.tar", {"./a/1.jpg": PICTURE[:-9], "./._1.jpg": b"", "b/1.jpg": PICTURE})
    for _ in range(2):
        make_tar(path, {"a/1.jpg": PICTURE}, "a")
    source = loaders.open_source(path)
    for _ in range(2):
        assert [item.name for item in source.items() if item.problem is None] == ["b/1.jpg", "a/1.jpg"]
    index = loaders.build_shards(source, tmp_path / "shards", workers=1, strict=False)
    assert (index.records, index.skipped, index.class_names) == (2, 3, ("a", "b"))
    reasons = [entry["reason"] for entry in json.loads((tmp_path / "shards" / "report.json").read_text())["skipped"]]
    assert reasons.count("a later file of the same name replaces it") == 2
    assert loaders.verify_shards(tmp_path / "shards") == []


def test_what_other_things_lie_in_a_tar_does_not_tell_what_it_is(tmp_path):
    """As tar --label, --listed-incremental and --sparse write them."""
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for name, kind in (("photos of 2019", b"V"), ("./", b"D"), ("first", tarfile.SYMTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type = kind
            tar.addfile(entry)
        for name in ("./a/1.jpg", "./b/2.jpg"):
            entry = tarfile.TarInfo(name)
            entry.size = len(PICTURE)
            tar.addfile(entry, io.BytesIO(PICTURE))
        entry = tarfile.TarInfo("./b/3.jpg")
        entry.pax_headers = {"GNU.sparse.map": "0,9", "GNU.sparse.size": "300000", "GNU.sparse.name": "./b/3.jpg"}
        entry.size = 9
        tar.addfile(entry, io.BytesIO(bytes(9)))
    source = loaders.open_source(tmp_path / "t.tar")
    found = {item.name: item.label for item in source.items() if item.problem is None}
    assert (source.class_names, found) == (["a", "b"], {"./a/1.jpg": 0, "./b/2.jpg": 1})
    problems = {item.name: item.problem for item in source.items() if item.problem is not None}
    assert set(problems) == {"photos of 2019", "./", "first", "./b/3.jpg"}


def test_a_tar_that_goes_on_behind_its_end_is_refused(tmp_path):
    cat, dog = (make_tar(tmp_path / "t.tar", {f"{n}/{i}.jpg": PICTURE for i in (1, 2)}).read_bytes() for n in "ab")
    second = 512 + -(-len(PICTURE) // 512) * 512
    hole, wide = bytearray(cat), bytearray(cat[: 2 * second] + cat)  # zeros of a disk in place of a header,
    hole[second : second + 512] = bytes(512)
    wide[second : 2 * second] = bytes(second)  # and of a whole file
    told = r"has its end at byte \d+, but goes on at byte \d+: it is damaged, or several archives"
    for name, data, reason in (
        ("joined.tar", cat + dog, told),
        ("wide.tar", wide, told),
        ("hole.tar", hole, "has a damaged header"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=rf"{name} {reason}"):
            loaders.open_source(tmp_path / name)
    (tmp_path / "t.tar").write_bytes(cat + bytes(10240) + b"what was on the tape before" * 100)
    assert loaders.open_source(tmp_path / "t.tar").class_names == ["a"]


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_classes_of_an_archive_on_several_levels_are_told(tmp_path, make):
    files = dict.fromkeys(["set/a/1.jpg", "set/b/1.jpg"], PICTURE)
    assert loaders.open_source(make(tmp_path / "t", files)).remarks == []
    source = loaders.open_source(make(tmp_path / "t", {**files, "set/c.jpg": PICTURE}))
    assert source.class_names == ["a", "b", "set"]
    assert source.remarks == ["the classes are the innermost folders with images, here in several others: ., set"]


def test_a_text_beside_the_classes_of_a_tar_makes_no_class(tmp_path):
    files = {"set/readme.txt": b"text", "set/a/1.jpg": PICTURE, "set/b/1.jpg": PICTURE, "set/c/notes.txt": b"text"}
    source = loaders.open_source(make_tar(tmp_path / "t.tar", files))
    assert source.class_names == ["a", "b", "c"]
    index = loaders.build_shards(source, tmp_path / "shards", workers=1)
    assert (index.records, index.skipped) == (2, 2)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training_Set", "train"),
        ("train2017", "train"),
        ("ILSVRC2012_img_val", "val"),
        ("test-images", "test"),
        ("unlabeled", "unlabelled"),
        ("train_station", None),
        ("trainer", None),
        ("images", None),
        ("train_test", None),
        ("n01440764", None),
        ("", None),
    ],
)
def test_names_of_splits(name, split):
    assert split_named(name) == split


def test_two_names_of_one_split_are_no_splits():
    assert splits_in(["train1", "train2", "x"]) == []
    assert splits_in(["x", "val", "train"]) == ["train", "val"]


def test_a_large_tree_is_looked_at_but_not_walked_twice(tmp_path, monkeypatch):
    """The check looks at a bounded number of entries, however many files a class has."""
    tree = fill(tmp_path / "tree", *[f"{c}/{i}.jpg" for c in "ab" for i in range(40)])
    monkeypatch.setattr(loaders.sources.layout, "ENTRIES", 5)
    looked = []
    scandir = os.scandir

    def counting(folder):
        looked.append(folder)
        return scandir(folder)

    monkeypatch.setattr(loaders.sources.layout.os, "scandir", counting)
    loaders.sources.layout.check_level(tree, ["a", "b"])
    assert len(looked) < 30


def test_images_without_class_folders_have_no_label_which_is_told(tmp_path, caplog):
    fill(tmp_path / "flat", "1.jpg", "2.jpg")
    index = loaders.build_shards(tmp_path / "flat", tmp_path / "shards", workers=1)
    assert (index.records, index.class_names) == (2, ())
    assert "2 files of" in caplog.text
    assert "have no label; a table of file and label goes with labels (--labels)" in caplog.text
    with pytest.raises(ValueError, match=r"it has no folders; ImageFiles takes images without; .* a table of file"):
        loaders.ImageFolder(tmp_path / "flat")


def test_shards_are_no_images_and_unfinished_ones_are_told(tmp_path):
    source = fill(tmp_path / "images", "a/1.jpg", "b/2.jpg")
    loaders.build_shards(source, tmp_path / "done", workers=1)
    loaders.build_shards(source, tmp_path / "parts", workers=1, part=(1, 2))
    shutil.copytree(tmp_path / "done", tmp_path / "half")
    (tmp_path / "half" / "index.json").unlink()
    fill(tmp_path / "begun", "build.json", ".shard-00000.h5.partial")
    with pytest.raises(ValueError, match="done holds shards; give the images that they were built from"):
        loaders.open_source(tmp_path / "done")
    for name in ("parts", "half", "begun"):
        with pytest.raises(ValueError, match=rf"{name} holds shards, and their build is not finished: run the same bu"):
            loaders.open_source(tmp_path / name)
    fill(tmp_path / "class", "build.json", "part-1-of-2/a.jpg")  # what is only called so
    assert loaders.open_source(tmp_path / "class").class_names == ["part-1-of-2"]
