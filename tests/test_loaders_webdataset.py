"""WebDataset's tars, as its own writer makes them; and odd or damaged ones."""

import io
import json
import tarfile

import numpy as np
import pytest
from loaders_helpers import built, contents, files_of, make_tar, make_tree, names_of, picture, read_all, report_of

import loaders


def labels_of(source):
    return {item.name: item.label for item in source.items() if item.problem is None}


def problems_of(source):
    return {item.name: item.problem for item in source.items() if item.problem is not None}


def test_tars_of_the_real_writer(tmp_path):
    wds = pytest.importorskip("webdataset", reason="webdataset is not installed")
    data = tmp_path / "data"
    data.mkdir()
    samples = [(f"{number:06d}", number % 3) for number in range(24)]
    for split, chosen in (("train", samples), ("val", samples[:4])):
        with wds.ShardWriter(str(data / f"set-{split}-%04d.tar"), maxcount=9, verbose=0) as writer:
            for key, label in chosen:
                row = {"source": "made", "label": 99}
                writer.write({"__key__": key, "jpg": picture(int(key)), "cls": label, "json": row})
    assert len(list(data.glob("set-train-*.tar"))) == 3
    source = loaders.open_source(data)
    assert source.class_names == ["0", "1", "2"]
    index = built(source, tmp_path / "shards", shard_bytes=6000)
    assert (index.records, index.skipped, index.class_counts) == (24, 0, (8, 8, 8))
    assert names_of(tmp_path / "shards") == [f"{key}.jpg" for key, _ in samples]
    images, labels = read_all(tmp_path / "shards")
    assert labels == [label for _, label in samples]
    np.testing.assert_array_equal(images[5], np.asarray(loaders.images.decode.decode(picture(5))))
    assert loaders.verify_shards(tmp_path / "shards") == []
    loaders.build_shards(source, tmp_path / "workers", workers=2, shard_bytes=6000)
    assert contents(tmp_path / "workers") == contents(tmp_path / "shards")
    assert list(labels_of(loaders.open_source(data, split="val")).values()) == [0, 1, 2, 0]
    with pytest.raises(ValueError, match="holds the splits train, val, not test"):
        loaders.open_source(data, split="test")
    one = loaders.open_source(data / "set-train-0002.tar")  # recognised by what it begins with
    assert list(labels_of(one).values()) == [label for _, label in samples[18:]]
    with pytest.raises(ValueError, match=rf"level too high; give {data}"):
        loaders.open_source(tmp_path)


def test_a_byte_order_mark_is_no_part_of_a_label(tmp_path):
    texts = {"a": b"cat", "b": b"\xef\xbb\xbfcat", "c": b"\xef\xbb\xbfdog\r\n", "d": b"dog"}
    files = {}
    for number, (key, text) in enumerate(texts.items()):
        files |= {f"{key}.jpg": picture(number), f"{key}.txt": text}
    make_tar(tmp_path / "set.tar", files)
    source = loaders.open_source(tmp_path / "set.tar")
    assert source.class_names == ["cat", "dog"]
    assert list(labels_of(source).values()) == [0, 0, 1, 1]


def test_labels_of_json_and_texts(tmp_path):
    files = {}
    for key, row in (
        ("a", {"label": 2}),
        ("b", {"cls": "0"}),
        ("e", {"label": 1.0}),
        ("c", {"label": None}),
        ("d", {"height": 3}),
    ):
        files |= {f"{key}.png": picture(1), f"{key}.json": json.dumps(row).encode()}
    source = loaders.open_source(make_tar(tmp_path / "a.tar", files))
    assert (source.class_names, labels_of(source)) == (
        ["0", "1", "2"], {"a.png": 2, "b.png": 0, "e.png": 1, "c.png": -1, "d.png": -1}
    )  # fmt: skip
    assert "2 of 5 samples of" in source.remarks[0]
    names = ["dog", "cat", "dog", "cat\n"]
    files = {
        f"{key}.{suffix}": data
        for key, name in enumerate(names)
        for suffix, data in (("jpg", picture(1)), ("txt", name.encode()))
    }
    source = loaders.open_source(make_tar(tmp_path / "b.tar", files))
    assert (source.class_names, list(labels_of(source).values())) == (["cat", "dog"], [1, 0, 1, 0])
    files = {
        f"{key}.{suffix}": data
        for key in range(30)
        for suffix, data in (("jpg", picture(1)), ("txt", f"a photo of {key}".encode()))
    }
    source = loaders.open_source(make_tar(tmp_path / "c.tar", files))
    assert (source.class_names, set(labels_of(source).values())) == ([], {-1})
    assert source.remarks[-1] == "the texts beside the images differ as captions do, and give no label"


def test_hidden_files_part_no_sample_and_are_left_out(tmp_path):
    """A Mac's tar has a hidden file before each."""
    names = [f"{key}.{suffix}" for key in range(3) for suffix in ("jpg", "cls")]
    files = {name: picture(1) if name.endswith("jpg") else name[:1].encode() for name in names}
    path = make_tar(tmp_path / "a-0.tar", {f"{dot}{name}": files[name] for name in names for dot in ("._", "")})
    source = loaders.open_source(path)
    assert isinstance(source, loaders.WebDataset)
    assert labels_of(source) == {"0.jpg": 0, "1.jpg": 1, "2.jpg": 2}
    assert source.remarks == []
    assert problems_of(source) == {f"._{name}": "hidden, or in a hidden folder" for name in names}


def test_samples_that_are_odd(tmp_path):
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w") as tar:

        def add(name, data):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))

        add("__meta__", b"about the tar")
        add("/abs/one.cls", b"\xef\xbb\xbf1")  # a byte order mark
        add("/abs/one.left.jpg", picture(1))
        add("/abs/one.right.webp", picture(2))
        for number in (0, 1):  # a key that comes again right after itself is a sample of its own
            add("../two.jpg", picture(3 + number))
            add("../two.cls", b"%d" % number)
        add("three.cls", b"\xff\xfe")
        add("three.jpg", picture(5))
        add("four.cls", b"1")
        add("five.jpg", picture(6))
        add("six.cls", b"-7")
        add("six.jpg", b"no image")
        link = tarfile.TarInfo("seven.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "five.jpg"
        tar.addfile(link)
        add("big.json", b" " * (2**20 + 1))
        add("big.jpg", picture(7))
        add("deep.json", b"[" * 100_000)
        add("deep.jpg", picture(8))
    source = loaders.WebDataset(path)
    found = [(item.name, item.label) for item in source.items() if item.problem is None]
    assert found == [
        ("/abs/one.left.jpg", 1), ("/abs/one.right.webp", 1), ("../two.jpg", 0), ("../two.jpg", 1), ("five.jpg", -1)
    ]  # fmt: skip
    assert problems_of(source) == {
        "three.jpg": "its .cls is damaged: not a text",
        "four": "a sample without image",
        "six.jpg": "its label must be a number from 0, or -1 for none, or a text",
        "seven.jpg": "a link or not a file",
        "big.jpg": "big.json is no small file that could tell the label",
        "deep.jpg": "its .json is damaged",
    }
    index = built(source, tmp_path / "shards")
    assert (index.records, index.skipped) == (5, 6)
    assert loaders.open_source(path).describe() == source.describe()


@pytest.mark.parametrize("files", [
    {"cat/1.jpg": b"x", "cat/1.json": b"{}", "dog/2.jpg": b"x"}, {"cat/1.jpg": b"x", "dog/1.txt": b"a"}
])  # fmt: skip
def test_class_folders_with_texts_beside_their_images_stay_class_folders(tmp_path, files):
    assert isinstance(loaders.open_source(make_tar(tmp_path / "a-1.tar", files)), loaders.ClassFolderTar)


def test_folders_of_other_tars_are_not_taken_for_samples(tmp_path):
    for name in ("backup.tar", "n01440764.tar"):
        (tmp_path / name[:3] / "cat").mkdir(parents=True)
        (tmp_path / name[:3] / "cat" / "1.jpg").write_bytes(picture(1))
        make_tar(tmp_path / name[:3] / name, {"a.jpg": picture(1)})
        assert loaders.open_source(tmp_path / name[:3]).class_names == ["cat"]
    (tmp_path / "empty").mkdir()
    make_tar(tmp_path / "empty" / "x-000.tar", {"a.npy": b"x"})
    with pytest.raises(ValueError, match=r"has no sample with an image; give tars of <key>\.jpg"):
        loaders.open_source(tmp_path / "empty")
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"WebDataset: .*none has no sample with an image"):
        loaders.WebDataset(tmp_path / "none")


def test_class_folders_beside_the_tar_that_they_came_from_stay_class_folders(tmp_path):
    tree = make_tree(tmp_path / "tree", 2, 2)
    make_tar(tree / "caltech101.tar", files_of(tree))
    source = loaders.open_source(tree)
    assert (source.class_names, [item.label for item in source.items()][:-1]) == (["class_0", "class_1"], [0, 0, 1, 1])
    assert list(source.items())[-1].problem == "outside the class folders"
    make_tar(tree / "caltech101.tar", {"1.jpg": picture(1), "1.cls": b"7"})
    assert list(labels_of(loaders.open_source(tree)).values()) == [7]


def test_tars_of_class_folders_in_a_folder_are_told(tmp_path):
    for number, name in enumerate(("cat", "dog")):
        make_tar(tmp_path / f"part-{number}.tar", {f"./{name}/1.jpg": picture(1)})
    assert "2 of 2 samples" in (told := loaders.open_source(tmp_path).remarks[0])
    assert "have no label; the folders in the tars are no classes here: unpack the tars into one folder" in told
    make_tar(tmp_path / "part-0.tar", {"1.jpg": picture(1)})
    make_tar(tmp_path / "part-1.tar", {"./2.jpg": picture(1)})
    assert loaders.open_source(tmp_path).remarks[0].endswith("have no label")


def test_tars_of_no_split_and_samples_of_several_images_are_told(tmp_path):
    for name in ("train-0", "test-0", "more-0"):
        files = {"1.jpg": picture(1), "1.seg.png": picture(2), "1.cls": b"0", "2.jpg": picture(3), "2.cls": b"0"}
        make_tar(tmp_path / f"{name}.tar", files)
    assert loaders.open_source(tmp_path).remarks == [
        "1 files are of no split by their names, and are left out: more-0.tar",
        f"1 samples of {tmp_path} hold several images, and each counts; where some are masks or depths, pack the tars "
        "without them",
    ]
    (tmp_path / "test-0.tar").unlink()
    assert loaders.open_source(tmp_path).total > 2 * 2048  # one split: all files are of it


def test_a_tar_that_is_damaged_or_cut_short_is_an_error(tmp_path):
    files = {f"{key}.{suffix}": data for key in range(5) for suffix, data in (("jpg", picture(key)), ("cls", b"1"))}
    whole = make_tar(tmp_path / "a-0.tar", files).read_bytes()
    (tmp_path / "cut").mkdir()
    for cut in (len(whole) // 2, len(whole) - 10240):
        (tmp_path / "cut" / "a-0.tar").write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"a-0\.tar"):
            loaders.open_source(tmp_path / "cut")
    spoiled = bytearray(whole)
    at = whole.find(picture(2)) + 3
    spoiled[at : at + 300] = bytes(300)
    (tmp_path / "cut" / "a-0.tar").write_bytes(spoiled)
    index = built(tmp_path / "cut", tmp_path / "shards")
    assert (index.records, index.skipped) == (4, 1)
    assert report_of(tmp_path / "shards")["skipped"][0]["path"] == "2.jpg"


def test_random_changes_are_errors_or_labels(tmp_path):
    files = {f"{key}.{suffix}": data for key in range(3) for suffix, data in (("jpg", picture(key)), ("cls", b"1"))}
    data = make_tar(tmp_path / "a-0.tar", files).read_bytes()[:9216]
    random = np.random.default_rng(0)
    for place in random.integers(0, len(data), 200):
        changed = bytearray(data + bytes(1024))
        changed[place] ^= 1 << random.integers(8)
        (tmp_path / "b-0.tar").write_bytes(changed)
        try:
            source = loaders.WebDataset(tmp_path / "b-0.tar")
        except ValueError:
            continue
        assert all(-1 <= item.label < len(source.class_names) for item in source.items())
