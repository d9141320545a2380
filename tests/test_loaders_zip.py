"""Zip archives of images: class folders, splits, Kaggle's ImageNet; and damaged or hostile ones."""

import stat
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from loaders_helpers import (
    built,
    contents,
    files_of,
    make_tar,
    make_tree,
    make_zip,
    names_of,
    picture,
    read_all,
    report_of,
)

import loaders
from loaders.sources import base, zip_members


def labels_of(source):
    return [(item.name, item.label) for item in source.items() if item.problem is None]


def problems_of(source):
    return {item.name: item.problem for item in source.items() if item.problem is not None}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_gives_the_images_of_the_tree_that_was_packed(tmp_path, method):
    tree = make_tree(tmp_path / "tree")
    path = make_zip(tmp_path / "a.zip", files_of(tree), method)
    index = built(path, tmp_path / "shards")
    expected = built(tree, tmp_path / "expected")
    assert (index.class_names, index.class_counts) == (expected.class_names, expected.class_counts)
    assert names_of(tmp_path / "shards") == names_of(tmp_path / "expected")
    for found, image in zip(read_all(tmp_path / "shards")[0], read_all(tmp_path / "expected")[0], strict=True):
        np.testing.assert_array_equal(found, image)
    assert loaders.verify_shards(tmp_path / "shards") == []


def test_sizes_of_64_bits_are_read(tmp_path):
    path = tmp_path / "wide.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(3):
            with archive.open(f"cat/{number}.jpg", "w", force_zip64=True) as file:
                file.write(picture(number))
        archive.comment = b"PK comments may say anything"
    # the directory's own 64 bits: zipfile writes them for 65,536 files, or where its limit is lowered
    limit = zipfile.ZIP_FILECOUNT_LIMIT
    zipfile.ZIP_FILECOUNT_LIMIT = 1
    try:
        many = make_zip(tmp_path / "many.zip", {f"cat/{number}.jpg": picture(number) for number in range(3)})
    finally:
        zipfile.ZIP_FILECOUNT_LIMIT = limit
    assert b"PK\6\6" in many.read_bytes()
    for archive in (path, many):
        assert [item.read() for item in loaders.open_source(archive).items()] == [picture(i) for i in range(3)]


@pytest.mark.parametrize("limit", [1, zipfile.ZIP_FILECOUNT_LIMIT])  # 1: a directory of 64 bits
def test_an_archive_that_unpacks_itself_is_read(tmp_path, limit, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", limit)
    files, program = {f"cat/{number}.jpg": picture(number) for number in range(3)}, b"MZ" + bytes(3000)
    plain = make_zip(tmp_path / "a.zip", files).read_bytes()
    (tmp_path / "before.exe").write_bytes(program + plain)  # places count from the archive's start,
    (tmp_path / "within.exe").write_bytes(program)
    with zipfile.ZipFile(tmp_path / "within.exe", "a") as archive:  # or from the file's
        for name, data in files.items():
            archive.writestr(name, data)
    for path in (tmp_path / "before.exe", tmp_path / "within.exe"):
        assert [item.read() for item in loaders.open_source(path).items()] == list(files.values())
    assert not zip_members.is_zip(make_tar(tmp_path / "a.tar", {"cat/1.jpg": picture(1), "cat/a.zip": plain}))
    assert labels_of(loaders.open_source(tmp_path / "a.tar"))[0] == ("cat/1.jpg", 0)


@pytest.mark.parametrize("data", [b"", b"MZ" + bytes(3000), b"PDF" * 1000])
def test_a_file_that_is_no_archive_is_told(tmp_path, data):
    (tmp_path / "a.bin").write_bytes(data)
    with pytest.raises(ValueError, match=r"open_source: .*a\.bin is neither a tar, a zip nor another kind of file"):
        loaders.open_source(tmp_path / "a.bin")


def test_wide_fields_of_an_entry():
    extra = struct.pack("<2H2x2H2Q", 9, 2, 1, 16, 2**40, 2**41)
    assert zip_members._wide(extra, 0xFFFFFFFF, 7, 0xFFFFFFFF) == [2**40, 7, 2**41]
    assert zip_members._wide(b"\1\0\x20\0", 0xFFFFFFFF, 7, 8) == [0xFFFFFFFF, 7, 8]  # cut short


def test_more_files_and_bytes_than_an_archive_of_32_bits_can_say_are_read(tmp_path, monkeypatch):
    """As the Mac packs them: with 4 in place of 65,536 files, and 4 KiB in place of 4 GiB."""
    monkeypatch.setattr(zip_members, "_WRAP_COUNT", 4)
    monkeypatch.setattr(zip_members, "_WRAP", 2**12)
    files = {f"cat/{number}.jpg": picture(number) for number in range(11)}
    data = bytearray(make_zip(tmp_path / "a.zip", files, zipfile.ZIP_STORED).read_bytes())
    assert len(data) > 2 * 2**12
    end, place = data.rfind(b"PK\5\6"), data.find(b"PK\1\2")
    assert place > 2**12
    struct.pack_into("<2H", data, end + 8, 11 % 4, 11 % 4)
    struct.pack_into("<L", data, end + 16, place % 2**12)
    while place >= 0:
        (offset,) = struct.unpack_from("<L", data, place + 42)
        struct.pack_into("<L", data, place + 42, offset % 2**12)
        place = data.find(b"PK\1\2", place + 4)
    (tmp_path / "a.zip").write_bytes(data)
    assert [item.read() for item in loaders.open_source(tmp_path / "a.zip").items()] == list(files.values())
    struct.pack_into("<2H", data, end + 8, 2, 2)
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.zip has a damaged directory: entry 12 of 2 is not there"):
        loaders.open_source(tmp_path / "a.zip")


@pytest.mark.parametrize("names", [("a", "bcd"), ("a", "b")], ids=["of two sizes", "of one size"])
def test_two_archives_one_behind_the_other_are_refused(tmp_path, names):
    both = [make_zip(tmp_path / "a.zip", {f"{n}/1.jpg": picture(len(n))}).read_bytes() for n in names]
    (tmp_path / "a.zip").write_bytes(b"".join(both))
    with pytest.raises(ValueError, match=r"a\.zip has other members in front of an archive"):
        loaders.open_source(tmp_path / "a.zip")


def test_a_name_in_a_field_of_its_own_counts(tmp_path):
    """As WinZip and WinRAR write it beside one in the letters of the country."""
    russian, path = "Кошка", tmp_path / "a.zip"
    old, name = russian.encode("cp866"), f"{russian}/1.jpg".encode()
    for crc, expected in ((zlib.crc32(old + b"/1.jpg"), russian), (0, old.decode("cp437"))):
        entry = zipfile.ZipInfo("XXXXX/1.jpg")
        entry.extra = struct.pack("<2HBL", 0x7075, 5 + len(name), 1, crc) + name
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(entry, picture(1))
        path.write_bytes(path.read_bytes().replace(b"XXXXX", old))
        assert labels_of(loaders.open_source(path)) == [(f"{expected}/1.jpg", 0)]


def test_splits_in_a_zip_are_read_one_at_a_time(tmp_path):
    names = ["data/train/cat/1.jpg", "data/train/dog/2.jpg", "data/val/dog/3.jpg", "data/readme.txt", "notes/val/x.txt"]
    path = make_zip(tmp_path / "a.zip", {name: picture(i) for i, name in enumerate(names)})
    assert labels_of(loaders.open_source(path)) == [("data/train/cat/1.jpg", 0), ("data/train/dog/2.jpg", 1)]
    assert labels_of(loaders.open_source(path, split="val")) == [("data/val/dog/3.jpg", 0)]
    with pytest.raises(ValueError, match=r"a\.zip holds the splits data/train, data/val, not test; choose one"):
        loaders.open_source(path, split="test")
    one = make_zip(tmp_path / "one.zip", {"cat/1.jpg": picture(1)})
    with pytest.raises(ValueError, match=r"one\.zip holds one split only; leave split out"):
        loaders.open_source(one, split="test")
    files = {f"{thing}/{split}/good/1.jpg": picture(1) for thing in ("cable", "tile") for split in ("train", "test")}
    with pytest.raises(ValueError, match=r"holds splits in several folders \(cable, tile\)"):
        loaders.open_source(make_zip(tmp_path / "two.zip", files))


def test_a_zip_without_class_folders_has_images_without_labels(tmp_path, caplog):
    path = make_zip(tmp_path / "flat.zip", {"1.jpg": picture(1), "2.jpg": picture(2), "notes.txt": b"text"})
    index = built(path, tmp_path / "shards")
    assert (index.records, index.skipped, index.class_names) == (2, 1, ())
    assert "3 files of" in caplog.text
    dated = make_zip(tmp_path / "dated.zip", {"2019/1.jpg": picture(1), "2020-05/2.jpg": picture(2)})
    source = loaders.open_source(dated)
    assert [label for _, label in labels_of(source)] == [-1, -1]
    assert "named after dates or by cameras" in source.remarks[0]
    with pytest.raises(ValueError, match=r"holds no file that is called like an image$"):
        loaders.open_source(make_zip(tmp_path / "texts.zip", {"a/1.txt": b"text"}))
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match=r"file of NumPy arrays \(npz\)"):
        loaders.open_source(tmp_path / "arrays.npz")


def kaggle_files() -> dict[str, bytes]:
    files = {"LOC_synset_mapping.txt": b"n01 a\nn02 b\n"}
    for wnid in ("n02", "n01"):
        files |= {f"ILSVRC/Data/CLS-LOC/train/{wnid}/{wnid}_{i}.JPEG": picture(i) for i in range(2)}
        files |= {f"ILSVRC/Annotations/CLS-LOC/train/{wnid}/{wnid}_{i}.xml": b"<a/>" for i in range(2)}
    for i in (1, 2, 3):
        files[f"ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_{i:08d}.JPEG"] = picture(i)
        files[f"ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_{i:08d}.xml"] = b"<a/>"
        files[f"ILSVRC/Data/CLS-LOC/test/ILSVRC2012_test_{i:08d}.JPEG"] = picture(i)
    rows = [
        "ImageId,PredictionString",
        "ILSVRC2012_val_00000003,n01 1 2 3 4 n01 5 6 7 8 ",
        "ILSVRC2012_val_00000001,n02 1 2 3 4",
    ]
    files["LOC_val_solution.csv"] = "\n".join([*rows, "ILSVRC2012_val_00000002,n01 0 0 1 1"]).encode()
    return files


@pytest.mark.parametrize("packed", [True, False])
def test_kaggles_imagenet_is_read_from_its_zip_or_folder(tmp_path, packed):
    path = make_zip(tmp_path / "imagenet-object-localization-challenge.zip", kaggle_files())
    if not packed:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "imagenet")
        path = tmp_path / "imagenet"
    train, val, test = (loaders.open_source(path, split=split) for split in (None, "val", "test"))
    assert (list(train.class_names), list(val.class_names), list(test.class_names)) == (["n01", "n02"],) * 2 + ([],)
    assert sorted((name.rsplit("/")[-1], label) for name, label in labels_of(train)) == [
        ("n01_0.JPEG", 0), ("n01_1.JPEG", 0), ("n02_0.JPEG", 1), ("n02_1.JPEG", 1)
    ]  # fmt: skip
    assert [label for _, label in labels_of(val)] == [1, 0, 0]
    assert [label for _, label in labels_of(test)] == [-1, -1, -1]
    index = built(val, tmp_path / "val")
    assert (index.records, index.class_counts) == (3, (2, 1))
    assert index.source["labels"]
    if packed:  # the labels are the table's, so another one makes another set
        changed = kaggle_files()
        changed["LOC_val_solution.csv"] = changed["LOC_val_solution.csv"].replace(b"n02 1", b"n01 1")
        make_zip(path, changed)
        with pytest.raises(ValueError, match=r"class names .* there and .* here"):
            built(loaders.open_source(path, split="val"), tmp_path / "val")
    else:
        below = path / "ILSVRC/Data/CLS-LOC/val"
        direct = loaders.open_source(below, labels=path / "LOC_val_solution.csv")
        assert [label for _, label in labels_of(direct)] == [1, 0, 0]
        with pytest.raises(ValueError, match=rf"level too high; give {path}"):
            loaders.open_source(tmp_path)


def test_a_damaged_table_of_kaggle_is_refused(tmp_path):
    for table, message in (
        (b"", "is empty"),
        (b"ImageId,PredictionString\nx,\n", "tells none"),
        (b"\xff\xfe", "UTF-8"),
    ):
        path = make_zip(tmp_path / "k.zip", {**kaggle_files(), "LOC_val_solution.csv": table})
        assert len(labels_of(loaders.open_source(path))) == 4
        with pytest.raises(ValueError, match=message):
            loaders.open_source(path, split="val")


def test_odd_names_are_kept_or_told(tmp_path):
    path = tmp_path / "odd.zip"
    link = zipfile.ZipInfo("cat/link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("cat/"), b"")
        for number, name in enumerate(["./cat/1.jpg", "dog\\2.jpg", "cat/ünïcode.jpg", "cat/1.jpg"]):
            archive.writestr(name, picture(number))
        archive.writestr("__MACOSX/cat/._1.jpg", b"resource fork")
        archive.writestr(link, "1.jpg")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("cat/1.jpg", picture(8))
    source = loaders.open_source(path)
    names = ["dog/2.jpg", "cat/ünïcode.jpg", "cat/1.jpg"]
    assert labels_of(source) == [(name, int(name.startswith("dog"))) for name in names]
    assert problems_of(source) == {
        "__MACOSX/cat/._1.jpg": "hidden, or in a hidden folder",
        "cat/link.jpg": "a link or not a file",
        "cat/1.jpg": "a later file of the same name replaces it",
    }
    index = built(source, tmp_path / "shards")
    assert (index.records, index.skipped) == (3, 4)
    assert names_of(tmp_path / "shards") == names
    assert loaders.verify_shards(tmp_path / "shards") == []
    assert list(source.items())[-1].read() == picture(8)


def test_absolute_names_and_names_that_lead_out_of_the_archive_are_only_names(tmp_path):
    files = {"/abs/cat/1.jpg": picture(1), "../../dog/2.jpg": picture(2)}
    for path in (make_zip(tmp_path / "in" / "a.zip", files), make_tar(tmp_path / "in" / "a.tar", files)):
        source = loaders.open_source(path)
        assert labels_of(source) == [("/abs/cat/1.jpg", 0), ("../../dog/2.jpg", 1)]
        assert built(source, tmp_path / f"shards of {path.name}").records == 2
    assert {entry.name for entry in tmp_path.iterdir()} == {"in", "shards of a.zip", "shards of a.tar"}


def test_what_is_damaged_is_reported_and_the_rest_read(tmp_path):
    files = {f"cat/{number}.jpg": picture(number) for number in range(4)}
    path = make_zip(tmp_path / "a.zip", files)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    data[entries[1].header_offset + 30 + len(entries[1].filename) + entries[1].compress_size // 2] ^= 0xFF
    data[entries[2].header_offset] ^= 0xFF
    path.write_bytes(data)
    index = built(path, tmp_path / "shards")
    assert (index.records, index.skipped) == (2, 2)
    reasons = {entry["path"]: entry["reason"] for entry in report_of(tmp_path / "shards")["skipped"]}
    assert list(reasons) == ["cat/1.jpg", "cat/2.jpg"]
    assert all(reason.startswith("damaged in its archive") for reason in reasons.values())
    with pytest.raises(ValueError, match=r"cat/1\.jpg cannot be decoded: damaged in its archive"):
        built(path, tmp_path / "strict", strict=True)


def patched(path: Path, signature: bytes, at: int, form: str, value: int) -> Path:
    """Write a field of every header that begins so."""
    data = bytearray(path.read_bytes())
    place = data.find(signature)
    while place >= 0:
        struct.pack_into(form, data, place + at, value)
        place = data.find(signature, place + 4)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("signature", "at", "form", "value", "message"),
    [
        (b"PK\1\2", 8, "<H", 1, "is encrypted"),
        (b"PK\1\2", 20, "<L", 2**31, "does not lie in the archive"),
        (b"PK\1\2", 42, "<L", 2**31, "does not lie in the archive"),
        (b"PK\1\2", 28, "<H", 2**15, "entry . of 3 is not there"),
        (b"PK\5\6", 16, "<L", 2**31, "claims a directory"),
        (b"PK\5\6", 12, "<L", 2**31, "claims a directory"),
        (b"PK\5\6", 10, "<H", 2**15, "part of several files"),
        (b"PK\5\6", 4, "<H", 1, "part of several files"),
    ],
)
def test_a_directory_that_cannot_be_right_is_refused(tmp_path, signature, at, form, value, message):
    path = make_zip(tmp_path / "a.zip", {f"cat/{number}.jpg": picture(number) for number in range(3)})
    with pytest.raises(ValueError, match=rf"a\.zip .*{message}"):
        loaders.open_source(patched(path, signature, at, form, value))


@pytest.mark.parametrize("cut", [0.5, 0.9, 0.999])
def test_a_zip_that_is_cut_short_is_refused(tmp_path, cut):
    data = make_zip(tmp_path / "a.zip", {f"cat/{number}.jpg": picture(number) for number in range(3)}).read_bytes()
    (tmp_path / "cut.zip").write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(ValueError, match=r"cut\.zip has no directory at its end"):
        loaders.open_source(tmp_path / "cut.zip")


def test_random_changes_are_errors_or_the_same_images(tmp_path):
    files = {f"cat/{number}.jpg": picture(number) for number in range(3)}
    data = make_zip(tmp_path / "a.zip", files).read_bytes()
    random = np.random.default_rng(0)
    for place in random.integers(4, len(data), 300):
        changed = bytearray(data)
        changed[place] ^= 1 << random.integers(8)
        (tmp_path / "b.zip").write_bytes(changed)
        try:
            for item in loaders.open_source(tmp_path / "b.zip").items():
                if item.problem is None:
                    assert item.read() in files.values()
        except ValueError:
            continue


def test_bombs_are_refused_before_they_unpack(tmp_path, monkeypatch):
    monkeypatch.setattr(zip_members, "SMALL", 2**16)
    path = make_zip(tmp_path / "a.zip", {"cat/1.jpg": picture(1), "cat/bomb.bmp": b"BM" + bytes(2**22)})
    assert problems_of(loaders.open_source(path))["cat/bomb.bmp"].startswith("claims to unpack from")
    # one that claims less than it holds ends where it claims, which its checksum shows
    patched(path, b"PK\1\2", 24, "<L", 100)
    for item in loaders.open_source(path).items():
        assert len(item.head()) == 32
        with pytest.raises(ValueError, match="its checksum differs"):
            item.read()
    monkeypatch.setattr(base, "MAX_FILE", 50)
    with pytest.raises(ValueError, match="more than the 50 bytes"):
        next(loaders.open_source(path).items()).read()


def test_a_method_that_is_not_read_is_told(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"cat/1.jpg": picture(1)}, zipfile.ZIP_BZIP2)
    assert "method 12 of zip; only deflate" in problems_of(loaders.open_source(path))["cat/1.jpg"]


def test_a_build_that_goes_on_finds_a_changed_archive(tmp_path):
    files = {f"cat/{number}.jpg": picture(number) for number in range(6)}
    path = make_zip(tmp_path / "a.zip", files)
    built(path, tmp_path / "shards", shard_bytes=3000)
    before = contents(tmp_path / "shards")
    built(path, tmp_path / "shards", shard_bytes=3000)
    assert contents(tmp_path / "shards") == before
    make_zip(path, {**files, "cat/5.jpg": picture(9)})
    with pytest.raises(ValueError, match=r"bytes .* there and .* here"):
        built(path, tmp_path / "shards", shard_bytes=3000)


def test_a_table_of_labels_goes_with_a_zip(tmp_path, caplog):
    names = ["photos/cat/1.jpg", "photos/cat/2.jpg", "photos/3.jpg", "photos/2019/4.jpg", "readme.txt"]
    path = make_zip(tmp_path / "a.zip", {name: picture(i) for i, name in enumerate(names)})
    table = tmp_path / "labels.csv"
    table.write_text("file,label\ncat/2.jpg,dog\nphotos/3.jpg,cat\n")
    source = loaders.open_source(path, labels=table)
    assert (source.class_names, labels_of(source)) == (
        ["cat", "dog"], list(zip(names, [0, 1, 0, -1, -1], strict=True))  # folders count, but the table counts more
    )  # fmt: skip
    assert source.remarks[0] == "folders that are called like no label of the table give none: 2019"
    built(source, tmp_path / "shards")
    table.write_text("file,label\ncat/2.jpg,dog\nphotos/3.jpg,dog\ncat/1.jpg,cat\n")
    with pytest.raises(ValueError, match=r"labels \w+ there and \w+ here"):
        built(loaders.open_source(path, labels=table), tmp_path / "shards")
    table.write_text("gone.jpg,dog\n")
    with pytest.raises(ValueError, match=r"name a file that is not among the images of photos: 'gone\.jpg'"):
        loaders.open_source(path, labels=table)


def test_a_table_of_labels_goes_with_a_split_of_a_zip(tmp_path):
    files = kaggle_files()
    (tmp_path / "labels.csv").write_bytes(files.pop("LOC_val_solution.csv"))
    path = make_zip(tmp_path / "a.zip", files)
    assert {label for _, label in labels_of(loaders.open_source(path, split="val"))} == {-1}
    source = loaders.open_source(path, split="val", labels=tmp_path / "labels.csv")
    assert [label for _, label in labels_of(source)] == [1, 0, 0]
