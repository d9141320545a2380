"""Every source, written to shards and read back: the same images, labels and names."""

import gzip
import io
import json
import os
import pickle
import shutil
import struct
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from loaders_helpers import contents, crop, encoded, make_arrays, make_tar, make_tree, read_all, shared_file

import loaders
from loaders.images.decode import decode
from loaders.shards.format import read_names


def built(source, folder, **options):
    return loaders.build_shards(source, folder, workers=1, **options)


def names_of(folder):
    return [name for path in sorted(folder.glob("shard-*.h5")) for name in read_names(path)]


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


def picture(number: int) -> bytes:
    return encoded(crop(number, 20, 30))


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
    (tree / "class_9").symlink_to(tree / "class_1")
    (tree / "LOC_synset_mapping.txt").write_text("beside the classes")
    os.mkfifo(tree / "class_0" / "pipe.jpg")
    bad_name = os.fsencode(tree / "class_1") + b"/\xff\xfe.jpg"
    Path(os.fsdecode(bad_name)).write_bytes(picture(3))
    index = built(tree, tmp_path / "shards")
    report = report_of(tmp_path / "shards")
    assert index.class_names == ("class_0", "class_1", "class_1b_empty", "class_9")
    assert index.class_counts == (3, 3, 0, 3)
    assert report["images_in"] == report["written"] + len(report["skipped"]) == 9 + 8
    reasons = {entry["path"]: entry["reason"] for entry in report["skipped"]}
    assert reasons["class_0/notes.txt"] == reasons["class_0/.DS_Store"] == "not an image by its content"
    assert "cannot identify" in reasons["class_0/junk.jpg"]
    assert "empty" in reasons["class_0/empty.png"]
    assert "broken link" in reasons["class_0/gone.jpg"]
    assert "broken link" in reasons["class_0/pipe.jpg"]
    assert "contains it" in reasons["class_0/loop"]
    assert "outside" in reasons["LOC_synset_mapping.txt"]
    assert "class_1/\udcff\udcfe.jpg" in names_of(tmp_path / "shards")
    assert built(tree, tmp_path / "shards") == index


def test_folders_that_are_not_class_trees_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="open_source"):
        loaders.open_source(tmp_path / "missing")
    with pytest.raises(ValueError, match="one folder for each class"):
        loaders.open_source(tmp_path)
    for split in ("train", "val"):
        make_tree(tmp_path / "data" / split)
    with pytest.raises(ValueError, match="holds splits"):
        loaders.open_source(tmp_path / "data")
    with pytest.raises(ValueError, match="one split only"):
        loaders.open_source(tmp_path / "data" / "train", split="test")


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


def test_duplicate_names_in_a_tar_are_all_kept(tmp_path):
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
    assert (index.records, index.skipped) == (2, 2)
    images, _ = read_all(tmp_path / "shards")
    np.testing.assert_array_equal(images[1], decode(picture(2)))


def test_two_splits_in_one_tar_are_refused(tmp_path):
    make_tar(tmp_path / "both.tar", {"train/n01/a.jpg": picture(1), "val/n01/b.jpg": picture(2)})
    with pytest.raises(ValueError, match="two folders of one class"):
        loaders.open_source(tmp_path / "both.tar")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", ["text", "mat"])
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
    (tmp_path / "truth.txt").write_text("".join(f"{number}\n" for number in ids))
    if kind == "text":
        synsets = tmp_path / "synsets.txt"
        synsets.write_text("".join(f"{wnid} some words\n" for wnid in wnids))
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


def cifar_python(folder: Path, hundred: bool, arrays) -> Path:
    """The official python version of some images, protocol 2 with byte strings as Python 2 wrote it."""
    folder.mkdir(parents=True)
    images, labels = arrays
    parts = np.array_split(np.arange(len(labels)), 6)
    groups = {"train": np.concatenate(parts[:5]), "test": parts[5]}
    if not hundred:
        groups = {**{f"data_batch_{i + 1}": parts[i] for i in range(5)}, "test_batch": parts[5]}
    for name, rows in groups.items():
        key = b"fine_labels" if hundred else b"labels"
        pixels = np.ascontiguousarray(images[rows].transpose(0, 3, 1, 2).reshape(len(rows), -1))
        values = {b"data": pixels, key: labels[rows].tolist(), b"filenames": [b"%d.png" % row for row in rows]}
        (folder / name).write_bytes(old_pickle(values))
    meta = {(b"fine_label_names" if hundred else b"label_names"): [b"c%d" % i for i in range(5)]}
    (folder / ("meta" if hundred else "batches.meta")).write_bytes(old_pickle(meta))
    return folder


class Python2Pickler(pickle._Pickler):
    """Writes byte strings and names as Python 2 did, as its str."""

    def save_str(self, value):
        data = value if isinstance(value, bytes) else value.encode("latin-1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch = {**pickle._Pickler.dispatch, bytes: save_str, str: save_str}  # noqa: RUF012


def old_pickle(values) -> bytes:
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(values)
    return buffer.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def cifar_binary(folder: Path, hundred: bool, arrays) -> Path:
    folder.mkdir(parents=True)
    images, labels = arrays
    planes = images.transpose(0, 3, 1, 2).reshape(len(labels), -1)
    first = [np.full((len(labels), 1), 99, np.uint8)] if hundred else []
    rows = np.concatenate([*first, labels[:, None].astype(np.uint8), planes], axis=1)
    parts = np.array_split(rows, 6)
    if hundred:
        groups = {"train.bin": np.concatenate(parts[:5]), "test.bin": parts[5]}
    else:
        groups = {**{f"data_batch_{i + 1}.bin": parts[i] for i in range(5)}, "test_batch.bin": parts[5]}
    for name, part in groups.items():
        (folder / name).write_bytes(part.tobytes())
    names = "fine_label_names.txt" if hundred else "batches.meta.txt"
    (folder / names).write_text("".join(f"c{i}\n" for i in range(5)) + "\n")
    return folder


@pytest.mark.parametrize("packed", ["folder", "tar.gz", "tar"])
@pytest.mark.parametrize("version", ["python", "binary"])
@pytest.mark.parametrize("hundred", [False, True])
def test_cifar_in_every_version(tmp_path, hundred, version, packed):
    arrays = make_arrays(count=31, height=32, width=32)
    name = ("cifar-100" if hundred else "cifar-10-batches") + version
    path = (cifar_python if version == "python" else cifar_binary)(tmp_path / name, hundred, arrays)
    if packed != "folder":
        files = {f"{name}/{file}": data for file, data in contents(path).items()}
        path = make_tar(tmp_path / f"{name}.{packed}", files, "w:gz" if packed == "tar.gz" else "w")
    for split, rows in [("train", slice(0, 26)), ("test", slice(26, 31))]:
        index = built(loaders.open_source(path, split=split), tmp_path / split, shard_bytes=30_000)
        images, labels = read_all(tmp_path / split)
        np.testing.assert_array_equal(images, arrays[0][rows])
        np.testing.assert_array_equal(labels, arrays[1][rows])
        assert index.class_names == tuple(f"c{i}" for i in range(5))
        assert index.source["kind"] == ("CIFAR-100" if hundred else "CIFAR-10")
        if version == "python":
            assert names_of(tmp_path / split)[0] == f"{rows.start}.png"


def test_a_hostile_cifar_pickle_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/owned",)

    folder = cifar_python(tmp_path / "cifar", False, make_arrays(12, 32, 32))
    for payload in (Evil(), {"data": Evil()}):
        (folder / "data_batch_3").write_bytes(pickle.dumps(payload))
        with pytest.raises(ValueError, match=r"data_batch_3 .*system, which no CIFAR file needs"):
            loaders.open_cifar(folder)
    assert not (tmp_path / "owned").exists()
    (folder / "data_batch_3").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ValueError, match="data_batch_3"):
        loaders.open_cifar(folder)
    (folder / "data_batch_3").unlink()
    with pytest.raises(FileNotFoundError, match="lacks data_batch_3"):
        loaders.open_cifar(folder)


def test_a_cut_cifar_archive_is_refused(tmp_path):
    folder = cifar_binary(tmp_path / "bin", False, make_arrays(12, 32, 32))
    tar = make_tar(tmp_path / "bin.tar.gz", contents(folder), "w:gz")
    tar.write_bytes(tar.read_bytes()[:5000])
    with pytest.raises(ValueError, match="not a whole tar"):
        loaders.open_source(tar)
    (folder / "data_batch_2.bin").write_bytes(b"\0" * 5000)
    with pytest.raises(ValueError, match="multiple of 3073"):
        loaders.open_cifar(folder)


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


def test_labels_without_a_class_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="label 4 has no name"):
        loaders.write_shards(make_arrays(), tmp_path / "x", class_names=["a", "b"])


def test_real_imagenet_images(tmp_path):
    tar = shared_file("imagenet_sample.tar")
    index = loaders.build_shards(tar, tmp_path / "shards", size=64, workers=2)
    assert (index.records, index.skipped, len(index.class_names)) == (220, 0, 220)
    assert {min(image.shape[:2]) for image in read_all(tmp_path / "shards")[0]} == {56, 64}  # one is that small


def test_real_cifar(tmp_path):
    path = shared_file("cifar10.h5")
    index = built(loaders.open_source(path, split="test"), tmp_path / "shards")
    assert index.class_counts == (1000,) * 10
    with h5py.File(path) as file:
        expected = file["test/images"][::997]
    shards = loaders.shards.read.ShardSet(tmp_path / "shards")
    found = shards.read(np.arange(0, 10000, 997)).data.reshape(-1, 32, 32, 3)
    np.testing.assert_array_equal(found, expected)


def test_odd_imagenet_images_are_written_or_reported(tmp_path):
    tar = shared_file("imagenet_oddities_synthetic.tar")
    for options in ({}, {"size": 64}, {"size": 64, "layout": "raw"}):
        index = built(tar, tmp_path / "shards", **options)
        assert (index.records, index.skipped) == (9, 2)
        for entry in report_of(tmp_path / "shards")["skipped"]:
            assert "truncated" in entry["path"] or "empty" in entry["path"]
        shutil.rmtree(tmp_path / "shards")
