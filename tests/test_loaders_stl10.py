"""STL-10's binary files, as they are published, made small."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from loaders_helpers import built, crop, make_tar, names_of, read_all

import loaders


def make_stl10(folder: Path, counts: dict[str, int]) -> dict[str, np.ndarray]:
    """Files of so many images; returns the images (n, 96, 96, 3)."""
    folder.mkdir()
    images = {}
    for start, (split, count) in enumerate(counts.items()):
        found = np.stack([np.asarray(crop(30 * start + number, 96, 96)) for number in range(count)])
        images[split] = found
        # as its readers undo it: X.reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)
        (folder / f"{split}_X.bin").write_bytes(np.ascontiguousarray(found.transpose(0, 3, 2, 1)).tobytes())
        if split != "unlabeled":
            (folder / f"{split}_y.bin").write_bytes(bytes(number % 10 + 1 for number in range(count)))
    (folder / "class_names.txt").write_text("airplane\nbird\ncar\ncat\ndeer\ndog\nhorse\nmonkey\nship\ntruck\n")
    (folder / "fold_indices.txt").write_text("0 2 4 \n11 1 \n")
    return images


@pytest.fixture
def stl10(tmp_path):
    return make_stl10(tmp_path / "stl10_binary", {"train": 12, "test": 3, "unlabeled": 5})


@pytest.mark.parametrize("split", [None, "train", "test", "unlabeled", "unlabelled"])
def test_splits_of_stl10(tmp_path, stl10, split):
    source = loaders.open_source(tmp_path / "stl10_binary", split=split)
    index = built(source, tmp_path / "shards", shard_bytes=4 * 96 * 96 * 3)
    name = {"unlabelled": "unlabeled", None: "train"}.get(split, split)
    images, labels = read_all(tmp_path / "shards")
    np.testing.assert_array_equal(np.stack(images), stl10[name])
    assert labels == ([-1] * 5 if name == "unlabeled" else [number % 10 for number in range(len(images))])
    assert (index.class_names[3], len(index.class_names)) == ("cat", 10)
    assert names_of(tmp_path / "shards")[2] == f"{name}/000002"
    assert loaders.verify_shards(tmp_path / "shards") == []


def test_folds_are_of_the_training_images(tmp_path, stl10):
    source = loaders.open_source(tmp_path / "stl10_binary", split="fold1")
    np.testing.assert_array_equal(source.images, stl10["train"][[11, 1]])
    assert source.labels.tolist() == [1, 1]
    assert source.names == ["train/000011", "train/000001"]
    with pytest.raises(ValueError, match="has 2 folds, no fold2"):
        loaders.open_source(tmp_path / "stl10_binary", split="fold2")
    for text in ("0 12", "x", "-1", "9999999999999"):
        (tmp_path / "stl10_binary" / "fold_indices.txt").write_text(text)
        with pytest.raises(ValueError, match="line 1 must be numbers of images below 12"):
            loaders.open_source(tmp_path / "stl10_binary", split="fold0")


def test_images_are_read_as_they_are_needed(tmp_path, stl10):
    source = loaders.open_source(tmp_path / "stl10_binary", split="unlabeled")
    assert isinstance(source.images, np.memmap)
    with pytest.raises(ValueError, match=rf"level too high; give {tmp_path}/stl10_binary"):
        loaders.open_source(tmp_path)


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("train_X.bin", bytes(100), "must hold images of 27648 bytes, got 100 bytes"),
        ("train_X.bin", b"", "must hold images of 27648 bytes, got 0 bytes"),
        ("train_y.bin", bytes(11), "must hold 12 labels, one for each image, got 11 bytes"),
        ("train_y.bin", bytes(12), "must hold labels from 1 to 10"),
        ("train_y.bin", bytes([11]) * 12, "must hold labels from 1 to 10"),
        ("class_names.txt", b"a b", "must name 10 classes, got 2"),
    ],
)
def test_damaged_files_are_refused(tmp_path, stl10, file, data, message):
    (tmp_path / "stl10_binary" / file).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        loaders.open_source(tmp_path / "stl10_binary")


def test_what_is_missing_is_told(tmp_path, stl10):
    folder = tmp_path / "stl10_binary"
    (folder / "test_y.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"test_y\.bin is missing"):
        loaders.open_source(folder, split="test")
    with pytest.raises(ValueError, match="split must be train, test, unlabeled or fold0 to fold9"):
        loaders.open_source(folder, split="val")
    (folder / "class_names.txt").unlink()
    assert loaders.open_source(folder).class_names[-1] == "truck"


def test_another_image_makes_another_set(tmp_path, stl10):
    built(tmp_path / "stl10_binary", tmp_path / "shards")
    data = bytearray((tmp_path / "stl10_binary" / "train_X.bin").read_bytes())
    data[12345] ^= 1
    (tmp_path / "stl10_binary" / "train_X.bin").write_bytes(data)
    with pytest.raises(ValueError, match=r"crc32 \d+ there and \d+ here"):
        built(tmp_path / "stl10_binary", tmp_path / "shards")


@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_the_archive_gives_what_its_folder_gives(tmp_path, stl10, mode, monkeypatch):
    packed = {f"stl10_binary/{path.name}": path.read_bytes() for path in sorted((tmp_path / "stl10_binary").iterdir())}
    path = make_tar(tmp_path / f"stl10_binary.tar{'.gz' * (mode == 'w:gz')}", packed, mode)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    copy, sizes = shutil.copyfileobj, []

    def seen(stream, out):  # what a kill would leave
        copy(stream, out)
        out.flush()
        sizes.append(sum(path.stat().st_size for path in (tmp_path / "temporary").rglob("*") if path.is_file()))

    monkeypatch.setattr(shutil, "copyfileobj", seen)
    for split in (None, "unlabeled", "fold1"):
        found, expected = (loaders.open_source(each, split=split) for each in (path, tmp_path / "stl10_binary"))
        assert found.describe() == expected.describe()
        np.testing.assert_array_equal(found.images, expected.images)
    assert not list((tmp_path / "temporary").iterdir())
    assert max(sizes) < 1000
    packed["stl10_binary/train_y.bin"] = bytes(11)
    make_tar(path, packed, mode)
    with pytest.raises(ValueError, match=rf"{path}/train_y\.bin must hold 12 labels"):
        loaders.open_source(path)
    path.write_bytes(path.read_bytes()[:-20000])
    with pytest.raises(ValueError, match=rf"{path} is not a whole tar archive"):
        loaders.open_source(path)
    del packed["stl10_binary/train_X.bin"]
    with pytest.raises(FileNotFoundError, match=rf"{path}/train_X\.bin is missing"):
        loaders.open_source(make_tar(path, packed, mode))
