"""A new kind of source is its own file and one line of a table; and what every source, old or new, must do."""

import json
import os
import pickle
import re
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loaders_helpers import contents, crop, encoded, files_of, make_tar, make_tree, make_zip, read_all

import loaders
from hebbcore.cli import main
from loaders.sources import detect
from loaders.sources.base import Item
from loaders.sources.class_folders import ClassFolders
from loaders.sources.content import archive_digest
from loaders.sources.detect import Kind
from loaders.text import printable

# All of a new source: packs of class folders, whose members may be compressed


class ClassFolderPack:
    """A pack, which is a zip, of …/<class>/<image>."""

    unit = "images"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path, self.changed = str(path), os.stat(path).st_ctime
        with zipfile.ZipFile(path) as archive:
            self._names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        self._folders = ClassFolders(f"ClassFolderPack: {printable(path)}", self._names)
        self.class_names, self.total = self._folders.class_names, len(self._names)

    def describe(self) -> dict[str, Any]:
        return {"kind": "pack of class folders", "content": archive_digest(self.path)}

    def items(self) -> Iterator[Item]:
        for position, name in enumerate(self._names, 1):
            label = self._folders.label_of(name)
            problem = "outside the class folders" if label is None else None
            load = partial(read_member, self.path, name)
            yield Item(name, label or 0, self.path, position=position, problem=problem, load=load)


def read_member(path: str, name: str, most: int) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as file:
            return file.read(most)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"damaged in its archive: {error}") from error


LINE = Kind("pack of class folders", ClassFolderPack, file=lambda path: path.suffix == ".pack")


@pytest.fixture
def with_pack(monkeypatch):
    """The table with the new line."""
    monkeypatch.setattr(detect, "KINDS", (LINE, *detect.KINDS))


def test_one_line_lets_everything_find_a_new_source(tmp_path, with_pack, capsys):
    tree = make_tree(tmp_path / "tree")
    files = files_of(tree)
    path = make_zip(tmp_path / "a.pack", files)
    assert isinstance(loaders.open_source(path), ClassFolderPack)
    with pytest.raises(ValueError, match=r"a\.pack holds one split only; leave split out"):
        loaders.open_source(path, split="test")
    assert main(["shards", "build", str(path), str(tmp_path / "cli"), "--workers", "2"]) == 0  # items go to processes
    assert loaders.verify_shards(tmp_path / "cli") == []
    loaders.build_shards(path, tmp_path / "one", workers=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "cli")
    loaders.build_shards(tree, tmp_path / "tree-shards", workers=1)
    expected = read_all(tmp_path / "tree-shards")
    found = read_all(tmp_path / "one")
    assert found[1] == expected[1]
    np.testing.assert_array_equal(found[0], expected[0])
    with loaders.ShardStream(tmp_path / "one", image_size=16, batch_size=5) as stream:
        assert [len(images) for images, _ in stream] == [5, 5, 2]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["shards", "build", "--help"])
    assert "pack of class folders" in re.sub(r"\s+", " ", capsys.readouterr().out)


def test_a_damaged_member_is_reported_and_a_changed_archive_is_another_set(tmp_path, with_pack):
    files = files_of(make_tree(tmp_path / "tree", classes=2, images=2))
    path = make_zip(tmp_path / "a.pack", files)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = archive.infolist()[1]
    data[entry.header_offset + 30 + len(entry.filename) + entry.compress_size // 2] ^= 0xFF
    path.write_bytes(data)
    index = loaders.build_shards(path, tmp_path / "shards", workers=1)
    assert (index.records, index.skipped) == (3, 1)
    (skipped,) = json.loads((tmp_path / "shards" / "report.json").read_text())["skipped"]
    assert skipped["path"] == entry.filename
    assert "damaged in its archive" in skipped["reason"]
    make_zip(path, files)
    with pytest.raises(ValueError, match="from a source whose files have changed since"):
        loaders.build_shards(path, tmp_path / "shards", workers=1)


def test_an_archive_that_goes_away_stops_the_build(tmp_path, with_pack):
    path = make_zip(tmp_path / "a.pack", files_of(make_tree(tmp_path / "tree")))
    source = loaders.open_source(path)
    source.describe = lambda: {"kind": "gone"}
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.pack"):
        loaders.build_shards(source, tmp_path / "shards", workers=1)


def test_a_member_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(loaders.sources.base, "MAX_FILE", 10)
    assert Item("a", 0, "x", load=b"0123456789"[:10].__getitem__ and (lambda most: bytes(10)[:most])).read() == bytes(
        10
    )
    with pytest.raises(ValueError, match="more than the 10 bytes"):
        Item("a", 0, "x", load=lambda most: bytes(11)[:most]).read()


def test_a_folder_above_a_new_kind_of_folder_is_a_level_too_high(tmp_path, monkeypatch):
    make_zip(make_tree(tmp_path / "root" / "pack", classes=1) / "images.pack", {"a/1.jpg": b""})
    line = Kind("pack", lambda path: ClassFolderPack(path / "images.pack"), folder=lambda names: "images.pack" in names)
    assert loaders.open_source(tmp_path / "root").class_names == ["pack"]
    monkeypatch.setattr(detect, "KINDS", (line, *detect.KINDS))
    with pytest.raises(ValueError, match=rf"level too high; give {tmp_path}/root/pack"):
        loaders.open_source(tmp_path / "root")


def test_what_sources_share_lies_below_the_table():
    """Otherwise a new source that uses it could not be imported by the table."""
    folder = Path(detect.__file__).parent
    for name in ("base", "arrays", "class_folders", "content", "tar", "unpack", "walk"):
        imports = (folder / f"{name}.py").read_text()
        assert not re.search(r"loaders\.sources(\.| import )(detect|layout|open)\b", imports), name


# What every source of encoded images must do


def imagenet_train(folder: Path, files: dict[str, bytes]) -> loaders.ImageSource:
    tars = {}
    for name in sorted({file.partition("/")[0] for file in files}):
        members = {file.partition("/")[2]: data for file, data in files.items() if file.startswith(f"{name}/")}
        tars[f"{name}.tar"] = make_tar(folder / "class.tar", members).read_bytes()
    return loaders.ImageNetTrain(make_tar(folder / "train.tar", tars))


def class_tars(folder: Path, files: dict[str, bytes]) -> loaders.ImageSource:
    (folder / "tars").mkdir(exist_ok=True)
    for number, name in enumerate(sorted({file.partition("/")[0] for file in files})):
        members = {file.partition("/")[2]: data for file, data in files.items() if file.startswith(f"{name}/")}
        make_tar(folder / "tars" / f"n{number:08d}.tar", members)
    return loaders.open_source(folder / "tars")


def imagenet_validation(folder: Path, files: dict[str, bytes]) -> loaders.ImageSource:
    (folder / "truth.txt").write_text("1\n2\n" * 10)
    (folder / "synsets.txt").write_text("n1\nn2\n")
    tar = make_tar(folder / "val.tar", {f"val_{i:08d}.JPEG": data for i, data in enumerate(files.values(), 1)})
    return loaders.ImageNetValidation(tar, folder / "truth.txt", folder / "synsets.txt")


def tiny_imagenet(folder: Path, files: dict[str, bytes]) -> loaders.ImageSource:
    for name, data in files.items():
        wnid, _, file = name.partition("/")
        path = folder / "tiny" / "train" / wnid / "images" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "tiny" / "wnids.txt").write_text("\n".join({name.partition("/")[0] for name in files}))
    return loaders.TinyImageNet(folder / "tiny")


def kaggle(folder: Path, files: dict[str, bytes]) -> loaders.ImageSource:
    for name, data in files.items():
        path = folder / "kaggle" / "ILSVRC/Data/CLS-LOC/train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "kaggle" / "LOC_val_solution.csv").touch()
    return loaders.open_source(folder / "kaggle")


def parquet(folder: Path, files: dict[str, bytes]) -> loaders.ImageSource:
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra parquet)")
    pq = pytest.importorskip("pyarrow.parquet")
    rows = [{"bytes": data, "path": name} for name, data in files.items()]
    labels = arrow.array([name.partition("/")[0] for name in files])
    pq.write_table(arrow.table({"image": arrow.array(rows), "label": labels}), folder / "a.parquet", row_group_size=5)
    return loaders.open_source(folder / "a.parquet")


def webdataset(folder: Path, files: dict[str, bytes]) -> loaders.ImageSource:
    samples = {}
    for name, data in files.items():
        samples |= {name: data, f"{name[:-4]}.cls": name.partition("/")[0].encode()}
    return loaders.open_source(make_tar(folder / "a.tar", samples))


SOURCES = {
    "folder": lambda folder, files: loaders.ImageFolder(folder / "tree"),
    "tar": lambda folder, files: loaders.ClassFolderTar(make_tar(folder / "a.tar", files)),
    "pack": lambda folder, files: ClassFolderPack(make_zip(folder / "a.pack", files)),
    "zip": lambda folder, files: loaders.open_source(make_zip(folder / "a.zip", files)),
    "Kaggle's folder": kaggle,
    "Parquet": parquet,
    "WebDataset": webdataset,
    "ImageNet train": imagenet_train,
    "ImageNet class tars": class_tars,
    "ImageNet validation": imagenet_validation,
    "Tiny ImageNet": tiny_imagenet,
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_what_every_source_must_do(tmp_path, make):
    files = files_of(make_tree(tmp_path / "tree"))
    source = make(tmp_path, files)
    assert isinstance(source, loaders.ImageSource)
    items = list(source.items())
    assert [item.name for item in items] == [item.name for item in source.items()]
    assert [item.read() for item in items] == list(files.values())
    for item in items:
        assert item.problem is None
        assert item.read().startswith(item.head())
        assert os.path.isfile(item.path)
        assert pickle.loads(pickle.dumps(item)).read() == item.read()
        assert 0 <= item.label < len(source.class_names)
    positions = [item.position for item in items]
    assert positions == sorted(set(positions))
    assert positions[-1] <= source.total
    before = source.describe()
    assert before == json.loads(json.dumps(before)) == make(tmp_path, files).describe()
    (tmp_path / "tree" / next(iter(files))).write_bytes(encoded(crop(77)))
    other = make(tmp_path, files_of(tmp_path / "tree"))
    assert other.describe()["content"] != before["content"]
    build = partial(loaders.build_shards, other, workers=1, shard_bytes=3 * len(next(iter(files.values()))))
    index = build(tmp_path / "shards")
    assert (index.records, index.skipped, len(index.shards) > 1) == (len(items), 0, True)
    assert loaders.verify_shards(tmp_path / "shards") == []
    with pytest.raises(KeyboardInterrupt):  # before the last shard
        build(tmp_path / "again", progress=stopping)
    build(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "shards")


def stopping(progress: loaders.Progress) -> None:
    raise KeyboardInterrupt
