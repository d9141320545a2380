"""ImageNet and Tiny ImageNet as they are published, written to shards and read back."""

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from loaders_helpers import built, make_tar, names_of, picture, read_all, report_of, shared_file

import loaders
from loaders.images.decode import decode


def class_tars(folder: Path) -> dict[str, bytes]:
    """The class tars of a small ILSVRC2012_img_train.tar, neither sorted nor without duplicates."""
    result = {}
    for number, wnid in enumerate(["n03", "n01", "n02"]):
        files = {f"{wnid}_{i}.JPEG": picture(10 * number + i) for i in range(3)}
        if wnid == "n01":
            files = {}
        result[f"{wnid}.tar"] = make_tar(folder / "class.tar", files).read_bytes()
    return result


def test_imagenet_train_is_read_out_of_its_tar_of_tars(tmp_path):
    tar = make_tar(tmp_path / "ILSVRC2012_img_train.tar", {**class_tars(tmp_path), "readme.txt": b"hello"})
    index = built(tar, tmp_path / "shards")
    assert index.class_names == ("n01", "n02", "n03")
    assert index.class_counts == (0, 3, 3)
    assert names_of(tmp_path / "shards") == [f"{c}/{c}_{i}.JPEG" for c in ("n03", "n02") for i in range(3)]
    images, labels = read_all(tmp_path / "shards")
    assert labels == [2, 2, 2, 1, 1, 1]
    np.testing.assert_array_equal(images[4], decode(picture(21)))
    assert report_of(tmp_path / "shards")["skipped"] == [{"path": "readme.txt", "reason": "not the tar of a class"}]


def test_hidden_photos_are_not_read_from_imagenet(tmp_path):
    inner = {"./n00000001_1.JPEG": picture(1), "._n00000001_1.JPEG": picture(2), "@eaDir/n00000001_1.JPEG": picture(3)}
    tar = make_tar(tmp_path / "n00000001.tar", inner).read_bytes()
    make_tar(tmp_path / "train.tar", {"n00000001.tar": tar, "._n00000001.tar": b"of a Mac"})
    (tmp_path / "tars").mkdir()
    for name in ("n00000001.tar", "n00000002.tar"):
        (tmp_path / "tars" / name).write_bytes(tar)
    root = tmp_path / "tiny-imagenet-200"
    for folder in (root / "val" / "images", root / "train" / "n01" / "images"):
        folder.mkdir(parents=True)
        for name in ("1.JPEG", ".1.JPEG"):
            (folder / name).write_bytes(picture(1))
    (root / "wnids.txt").write_text("n01\n")
    (root / "val" / "val_annotations.txt").write_text("1.JPEG\tn01\n.1.JPEG\tn01\n")
    sources = {name: loaders.open_source(tmp_path / name) for name in ("train.tar", "tars", "tiny-imagenet-200")}
    sources["val"] = loaders.open_source(root, split="val")
    for source, left_out in zip(sources.values(), (3, 4, 1, 1), strict=True):
        reasons = [item.problem for item in source.items()]
        assert reasons.count("hidden, or in a hidden folder") == left_out
        assert reasons.count(None) == len(source.class_names) == len(reasons) - left_out


def test_a_damaged_or_cut_tar_is_an_error_not_fewer_images(tmp_path):
    whole = make_tar(tmp_path / "train.tar", class_tars(tmp_path)).read_bytes()
    source = loaders.ImageNetTrain(tmp_path / "train.tar")
    items = list(source.items())
    for cut in (items[2].offset - 512, items[4].offset + 100, len(whole) - 10240, 700):
        (tmp_path / "cut.tar").write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"cut\.tar"):
            list(loaders.ImageNetTrain(tmp_path / "cut.tar").items())
    for header in (items[1].offset - 512, items[3].offset - 512):
        flipped = bytearray(whole)
        flipped[header + 3] ^= 1
        (tmp_path / "flipped.tar").write_bytes(flipped)
        with pytest.raises(ValueError, match="damaged header"):
            list(loaders.ImageNetTrain(tmp_path / "flipped.tar").items())


def test_the_one_image_of_a_class_tar_without_an_end_is_kept(tmp_path):
    inner = make_tar(tmp_path / "class.tar", {"a.JPEG": picture(1)}).read_bytes()
    inner = inner[: 512 + -(-len(picture(1)) // 512) * 512]  # nothing after the image
    tar = make_tar(tmp_path / "train.tar", {"n01.tar": inner, "n02.tar": inner})
    assert [item.name for item in loaders.ImageNetTrain(tar).items()] == ["n01/a.JPEG", "n02/a.JPEG"]


def test_what_else_lies_in_a_tar_of_class_folders_is_reported(tmp_path):
    with tarfile.open(tmp_path / "twice.tar", "w") as tar:
        for number in (1, 2):
            entry = tarfile.TarInfo("./n01/same.jpg")
            entry.size = len(picture(number))
            tar.addfile(entry, io.BytesIO(picture(number)))
        link = tarfile.TarInfo("./n01/link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "same.jpg"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("./loose.jpg"))
    index = built(tmp_path / "twice.tar", tmp_path / "shards")
    assert (index.records, index.skipped) == (1, 3)
    images, _ = read_all(tmp_path / "shards")
    np.testing.assert_array_equal(images[0], decode(picture(2)))


def test_folders_of_one_class_that_are_no_splits_are_refused(tmp_path):
    make_tar(tmp_path / "both.tar", {"left/n01/a.jpg": picture(1), "right/n01/b.jpg": picture(2)})
    with pytest.raises(ValueError, match="two folders of one class"):
        loaders.open_source(tmp_path / "both.tar")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", ["text", "text of Windows", "mat"])
def test_imagenet_validation_takes_its_labels_from_the_devkit(tmp_path, kind, packed):
    wnids = ["n07", "n02", "n05"]  # the devkit's ids 1, 2, 3
    ids = [3, 1, 2, 2]
    files = {f"ILSVRC2012_val_{k:08d}.JPEG": picture(k) for k in (2, 1, 4, 3, 5)}
    files["list.JPEG"] = picture(9)
    make_tar(tmp_path / "val.tar", files)
    (tmp_path / "val").mkdir()
    for name, data in files.items():
        (tmp_path / "val" / name).write_bytes(data)
    path = tmp_path / ("val.tar" if packed else "val")
    form = {"encoding": "utf-8-sig", "newline": "\r\n"} if "Windows" in kind else {}
    (tmp_path / "truth.txt").write_text("".join(f"{number}\n" for number in ids), **form)
    if kind != "mat":
        synsets = tmp_path / "synsets.txt"
        synsets.write_text("".join(f"{wnid} some words\n" for wnid in wnids), **form)
    else:
        from scipy.io import savemat

        synsets = tmp_path / "meta.mat"
        fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
        rows = [(2, "n02", "b", 0), (1, "n07", "a", 0), (3, "n05", "c", 0), (4, "n00", "inner", 2)]
        savemat(synsets, {"synsets": np.array(rows, dtype=fields)})
    source = loaders.open_source(path, ground_truth=tmp_path / "truth.txt", synsets=synsets)
    index = built(source, tmp_path / "shards")
    assert index.class_names == ("n02", "n05", "n07")
    # images 2, 1, 4, 3 in the tar, 1, 2, 3, 4 in the folder
    assert read_all(tmp_path / "shards")[1] == ([2, 1, 0, 0] if packed else [1, 2, 0, 0])
    assert index.skipped == 2
    with pytest.raises(ValueError, match="ground_truth"):
        loaders.open_source(tmp_path / "val.tar")
    with pytest.raises(ValueError, match="go together"):
        loaders.open_source(tmp_path / "val.tar", synsets=synsets)
    with pytest.raises(ValueError, match="leave split out"):
        loaders.open_source(path, split="test", ground_truth=tmp_path / "truth.txt", synsets=synsets)


def test_wrong_ground_truth_is_refused(tmp_path):
    make_tar(tmp_path / "val.tar", {"ILSVRC2012_val_00000001.JPEG": picture(1)})
    synsets, truth = tmp_path / "synsets.txt", tmp_path / "truth.txt"
    for lines, ids, message in [
        (["n1", "n2"], "3\n", "line 1"),
        (["n1", "n2"], "n1\n", "line 1"),
        (["n1", "n1"], "1\n", "occurs twice"),
        ([f"n{i:04d}" for i in range(1000)], "1\n", "sorted"),
    ]:
        synsets.write_text("\n".join(lines))
        truth.write_text(ids)
        with pytest.raises(ValueError, match=message):
            loaders.ImageNetValidation(tmp_path / "val.tar", truth, synsets)


def test_tiny_imagenet_train_and_val(tmp_path):
    root = tmp_path / "tiny-imagenet-200"
    (root / "val" / "images").mkdir(parents=True)
    (root / "wnids.txt").write_text("n02\nn01\n")
    for number, wnid in enumerate(["n02", "n01"]):
        (root / "train" / wnid / "images").mkdir(parents=True)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("boxes")
        for i in range(2):
            (root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG").write_bytes(picture(2 * number + i))
    for i in range(3):
        (root / "val" / "images" / f"val_{i}.JPEG").write_bytes(picture(i))
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\n")
    train = built(root, tmp_path / "train")
    assert (train.class_names, train.class_counts, train.skipped) == (("n01", "n02"), (2, 2), 0)
    assert names_of(tmp_path / "train")[0] == "train/n01/images/n01_0.JPEG"
    val = built(loaders.open_source(root, split="val"), tmp_path / "val")
    assert read_all(tmp_path / "val")[1] == [1, 0]
    assert val.skipped == 1
    with pytest.raises(ValueError, match="split"):
        loaders.open_source(root, split="test")


def test_real_imagenet_images(tmp_path):
    tar = shared_file("imagenet_sample.tar")
    index = loaders.build_shards(tar, tmp_path / "shards", size=64, workers=2)
    assert (index.records, index.skipped, len(index.class_names)) == (220, 0, 220)
    assert {min(image.shape[:2]) for image in read_all(tmp_path / "shards")[0]} == {56, 64}  # one is that small


def test_odd_imagenet_images_are_written_or_reported(tmp_path):
    tar = shared_file("imagenet_oddities_synthetic.tar")
    for options in ({}, {"size": 64}, {"size": 64, "layout": "raw"}):
        index = built(tar, tmp_path / "shards", **options)
        assert (index.records, index.skipped) == (9, 2)
        for entry in report_of(tmp_path / "shards")["skipped"]:
            assert "truncated" in entry["path"] or "empty" in entry["path"]
        shutil.rmtree(tmp_path / "shards")


def test_a_folder_of_class_tars_is_read_as_the_tar_of_them(tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    (folder / "readme.txt").write_text("hello")
    tars = {name.replace("n0", "n0000000"): data for name, data in class_tars(tmp_path).items()}
    for name, data in tars.items():
        (folder / name).write_bytes(data)
    source = loaders.open_source(folder)
    assert isinstance(source, loaders.ImageNetClassTars)
    index = built(source, tmp_path / "shards", shard_bytes=3000)
    expected = built(make_tar(tmp_path / "all.tar", dict(sorted(tars.items()))), tmp_path / "expected")
    assert (index.class_names, index.class_counts) == (expected.class_names, (0, 3, 3))
    assert names_of(tmp_path / "shards") == names_of(tmp_path / "expected")
    for found, one in zip(read_all(tmp_path / "shards")[0], read_all(tmp_path / "expected")[0], strict=True):
        np.testing.assert_array_equal(found, one)
    assert report_of(tmp_path / "shards")["skipped"] == [{"path": "readme.txt", "reason": "not the tar of a class"}]
    with pytest.raises(ValueError, match=rf"level too high; give {folder}"):
        loaders.open_source(tmp_path)
    data = (folder / "n00000003.tar").read_bytes()
    (folder / "n00000003.tar").write_bytes(data[:700])
    with pytest.raises(ValueError, match="n00000003"):
        built(folder, tmp_path / "cut")
