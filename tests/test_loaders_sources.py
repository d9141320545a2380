"""Folders and arrays of every kind, written to shards and read back: the same images, labels and names."""

import gzip
import os
import struct
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from loaders_helpers import (
    built,
    contents,
    crop,
    encoded,
    make_arrays,
    make_tar,
    make_tree,
    names_of,
    picture,
    read_all,
    report_of,
)

import loaders


def test_a_folder_tree_keeps_its_files_byte_for_byte(tmp_path):
    tree = make_tree(tmp_path / "tree", classes=3, images=3)
    (tree / "class_1" / "deep").mkdir()
    (tree / "class_1" / "deep" / "x.PNG").write_bytes(encoded(crop(5), "PNG"))
    index = built(tree, tmp_path / "shards", shard_bytes=9000)
    assert index.class_names == ("class_0", "class_1", "class_2")
    assert index.class_counts == (3, 4, 3)
    assert len(index.shards) > 2
    assert names_of(tmp_path / "shards") == sorted(
        str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()
    )
    shards = loaders.shards.read.ShardSet(tmp_path / "shards")
    for record, name in enumerate(names_of(tmp_path / "shards")):
        assert bytes(shards.read(np.array([record]))[0]) == (tree / name).read_bytes()
        assert index.class_names[shards.labels[record]] == name.split("/")[0]


def test_mean_and_std_are_those_of_all_pixels(tmp_path):
    tree = make_tree(tmp_path / "tree")
    for layout, size in [("packed", None), ("raw", 32)]:
        index = built(tree, tmp_path / layout, size=size, layout=layout)
        images, _ = read_all(tmp_path / layout)
        pixels = np.concatenate([image.reshape(-1, 3) for image in images]) / 255
        np.testing.assert_allclose(index.mean, pixels.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(index.std, pixels.std(axis=0), rtol=1e-9)
    test_set = built(tree, tmp_path / "test", stats_from=tmp_path / "raw")
    assert (test_set.mean, test_set.std) == (index.mean, index.std)


def test_a_messy_tree_loses_nothing_silently(tmp_path):
    tree = make_tree(tmp_path / "tree", classes=2, images=2)
    (tree / "class_1b_empty").mkdir()
    (tree / "class_0" / "notes.txt").write_text("not an image")
    (tree / "class_0" / ".DS_Store").write_bytes(b"\0")
    (tree / "class_0" / "junk.jpg").write_bytes(b"junk")
    (tree / "class_0" / "empty.png").touch()
    (tree / "class_0" / "gone.jpg").symlink_to("nowhere.jpg")
    (tree / "class_0" / "link.jpg").symlink_to(tree / "class_1" / "000.jpg")
    (tree / "class_0" / "loop").symlink_to(tree / "class_0")
    (tree / "class_0" / "above").symlink_to(tree)  # which holds images of other classes
    (tree / "class_9").symlink_to(tree / "class_1")
    (tree / "LOC_synset_mapping.txt").write_text("beside the classes")
    os.mkfifo(tree / "class_0" / "pipe.jpg")
    bad_name = os.fsencode(tree / "class_1") + b"/\xff\xfe.jpg"
    Path(os.fsdecode(bad_name)).write_bytes(picture(3))
    index = built(tree, tmp_path / "shards")
    report = report_of(tmp_path / "shards")
    assert index.class_names == ("class_0", "class_1", "class_1b_empty", "class_9")
    assert index.class_counts == (3, 3, 0, 3)
    assert report["images_in"] == report["written"] + len(report["skipped"]) == 9 + 9
    reasons = {entry["path"]: entry["reason"] for entry in report["skipped"]}
    assert reasons["class_0/notes.txt"] == "not an image by its content"
    assert reasons["class_0/.DS_Store"] == "hidden, or in a hidden folder"
    assert "cannot identify" in reasons["class_0/junk.jpg"]
    assert "empty" in reasons["class_0/empty.png"]
    assert "broken link" in reasons["class_0/gone.jpg"]
    assert "broken link" in reasons["class_0/pipe.jpg"]
    assert "contains it" in reasons["class_0/loop"]
    assert "contains it" in reasons["class_0/above"]
    assert "outside" in reasons["LOC_synset_mapping.txt"]
    assert "class_1/\udcff\udcfe.jpg" in names_of(tmp_path / "shards")
    assert built(tree, tmp_path / "shards") == index


MAC = b"\0\5\x16\7" + bytes(100)  # what macOS notes of a file


def of_one(number):
    """The bytes of a tar with an image and what macOS packs before it."""
    with tempfile.TemporaryDirectory() as folder:
        files = {f"._{number}.jpg": MAC, f"{number}.jpg": picture(number)}
        return make_tar(Path(folder, "x.tar"), files).read_bytes()


@pytest.mark.parametrize(
    ("files", "kind", "classes"),
    [
        ({"cat/1.jpg": picture(1), "dog/2.jpg": picture(2)}, "tar of class folders", ["cat", "dog"]),
        ({"./cat/1.jpg": picture(1), "./dog/2.jpg": picture(2)}, "tar of class folders", ["cat", "dog"]),
        ({"1.jpg": picture(1), "1.cls": b"0", "2.jpg": picture(2), "2.cls": b"1"}, "WebDataset", ["0", "1"]),
        ({"n01.tar": of_one(1), "n02.tar": of_one(2)}, "ImageNet train tar", ["n01", "n02"]),
    ],
)
def test_hidden_files_of_macos_do_not_tell_what_a_tar_is(tmp_path, files, kind, classes):
    packed = {f"._{number}": MAC for number in range(20)}
    for name, data in files.items():
        path = Path(name)
        packed |= {str(path.with_name(f"._{path.name}")): MAC, name: data}
    source = loaders.open_source(make_tar(tmp_path / "x.tar", packed))
    assert (source.describe()["kind"], list(source.class_names)) == (kind, classes)
    index = built(source, tmp_path / "shards")
    assert (index.records, index.class_counts) == (2, (1, 1))


def test_folders_that_are_not_class_trees_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="open_source"):
        loaders.open_source(tmp_path / "missing")
    with pytest.raises(ValueError, match="must be a folder with images in it, it has no files"):
        loaders.open_source(tmp_path)
    with pytest.raises(ValueError, match="one folder for each class"):
        loaders.ImageFolder(tmp_path)
    for split in ("train", "val"):
        make_tree(tmp_path / "data" / split)
    with pytest.raises(ValueError, match="holds splits"):
        loaders.open_source(tmp_path / "data")
    with pytest.raises(ValueError, match="one split only"):
        loaders.open_source(tmp_path / "data" / "train", split="test")


def test_hdf5_arrays(tmp_path):
    images, labels = make_arrays(20)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["train/images"], file["train/labels"] = images, labels.astype(np.uint8)
        file["train/filenames"] = np.array([b"x%d" % i for i in range(20)])
        file.attrs["class_names"] = list("abcde")
    index = built(tmp_path / "a.h5", tmp_path / "shards")
    np.testing.assert_array_equal(read_all(tmp_path / "shards")[0], images)
    assert index.class_names == tuple("abcde")
    assert names_of(tmp_path / "shards")[7] == "x7"
    with pytest.raises(ValueError, match="test/images"):
        loaders.open_source(tmp_path / "a.h5", split="test")


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_mnist_idx_files(tmp_path, name, suffix):
    folder = tmp_path / name
    folder.mkdir()
    images, labels = make_arrays(30, 28, 28, 1)
    for split, rows in [("train", slice(0, 20)), ("t10k", slice(20, 30))]:
        for what, array in [("images-idx3", images[rows, ..., 0]), ("labels-idx1", labels[rows].astype(np.uint8))]:
            data = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
            (folder / f"{split}-{what}-ubyte{suffix}").write_bytes(gzip.compress(data) if suffix else data)
    index = built(folder, tmp_path / "train")
    assert index.image_shape == (28, 28, 1)
    np.testing.assert_array_equal(read_all(tmp_path / "train")[0], images[:20])
    test = built(loaders.open_source(folder, split="test"), tmp_path / "test", stats_from=tmp_path / "train")
    np.testing.assert_array_equal(read_all(tmp_path / "test")[1], labels[20:])
    assert test.mean == index.mean
    assert ("Sneaker" in index.class_names) == (name == "fashion-mnist")
    path = folder / f"train-images-idx3-ubyte{suffix}"
    for damaged in (path.read_bytes()[:-9], b"", b"\0\0\x0d\x03", b"\x1f\x8bjunk"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="train-images"):
            loaders.open_mnist(folder)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_arrays_from_python(tmp_path, channels):
    images, labels = make_arrays(33, channels=channels)
    index = loaders.write_shards((images, labels), tmp_path / "a", shard_bytes=1500)
    np.testing.assert_array_equal(read_all(tmp_path / "a")[0], images)
    assert read_all(tmp_path / "a")[1] == labels.tolist()
    assert index.image_shape == (8, 10, channels)
    assert all(shard.bytes < 1500 + 20_000 for shard in index.shards)


def test_grey_and_mapped_arrays(tmp_path):
    images, labels = make_arrays(9)
    grey = images[..., 0]
    loaders.write_shards((grey, labels), tmp_path / "grey", class_names=list("abcdef"))
    np.testing.assert_array_equal(read_all(tmp_path / "grey")[0], grey[..., None])
    mapped = np.memmap(tmp_path / "map.bin", np.uint8, "w+", shape=images.shape)
    mapped[:] = images
    loaders.write_shards((mapped, labels), tmp_path / "mapped")
    loaders.write_shards((images, labels), tmp_path / "plain")
    assert contents(tmp_path / "mapped") == contents(tmp_path / "plain")


@pytest.mark.parametrize(
    ("images", "labels", "error", "message"),
    [
        (np.zeros((2, 4, 4, 3)), [0, 1], TypeError, "uint8, got float64"),
        (np.zeros((2, 4), np.uint8), [0, 1], ValueError, r"\(n, H, W, C\)"),
        (np.zeros((0, 4, 4, 3), np.uint8), [], ValueError, "empty axis"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0.5, 1], TypeError, "integers"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0], ValueError, r"\(2,\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0, -2], ValueError, ">= 0"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, images, labels, error, message):
    with pytest.raises(error, match=f"write_shards: .*{message}"):
        loaders.write_shards((images, np.array(labels)), tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("values", [range(40), "a" * 40, {str(n): n for n in range(40)}, [b"a"] * 40, [Path("a")] * 40])
def test_names_that_are_no_texts_are_refused(tmp_path, values):
    told = r"{0} must be (a sequence of texts, such as a list, got|texts, got .* at 0; list\(map\(str, {0}\)\) makes)"
    with pytest.raises(TypeError, match=f"write_shards: {told.format('class_names')}"):
        loaders.write_shards(make_arrays(), tmp_path / "x", class_names=values)
    with pytest.raises(TypeError, match=f"ArrayStream: {told.format('class_names')}"):
        loaders.ArrayStream(*make_arrays(), class_names=values)
    with pytest.raises(TypeError, match=f"array_source: {told.format('names')}"):
        loaders.array_source(*make_arrays(), names=values)
    assert not (tmp_path / "x").exists()


def test_names_may_be_arrays(tmp_path):
    names = np.array([f"{number}.jpg" for number in range(40)])
    built(loaders.array_source(*make_arrays(), names=names, class_names=np.array(list("abcde"))), tmp_path / "x")
    assert names_of(tmp_path / "x") == names.tolist()
    assert loaders.read_index(tmp_path / "x").class_names == tuple("abcde")


def test_labels_without_a_class_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="label 4 has no name"):
        loaders.write_shards(make_arrays(), tmp_path / "x", class_names=["a", "b"])


@pytest.mark.parametrize(("mode", "program"), [("w:gz", "gunzip"), ("w:xz", "unxz"), ("w:bz2", "bunzip2")])
def test_compressed_archives_of_images_are_refused_with_what_unpacks_them(tmp_path, mode, program):
    files = {f"train/{label}/{number}.jpg": picture(number) for label in "ab" for number in range(3)}
    path = make_tar(tmp_path / "images.tar.x", files, mode)
    for split in (None, "val"):
        with pytest.raises(ValueError, match=rf"images\.tar\.x is compressed, .* unpack it first \({program}\)"):
            loaders.open_source(path, split=split)
