"""What is written carries digests of what it is made of and of itself, and whoever relies on it compares them."""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from loaders_helpers import contents, crop, encoded, make_arrays, make_tar, make_tree, make_zip

import loaders
from hebbcore.cli import main
from loaders.shards.format import read_table
from loaders.sources.content import Spread

EARLIER = Path(__file__).parent / "golden" / "shards-1"  # written by the version without digests


def build(source, folder, **options):
    return loaders.build_shards(source, folder, workers=1, **options)


def bitmaps(root: Path, count: int = 6) -> Path:
    """Two classes of images whose files all have the same size."""
    for number in range(count):
        folder = root / f"class_{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.bmp").write_bytes(encoded(crop(number, 16, 16), "BMP"))
    return root


def test_a_changed_image_of_the_same_name_and_size_is_another_set(tmp_path):
    tree = bitmaps(tmp_path / "tree")
    index = build(tree, tmp_path / "shards")
    before = contents(tmp_path / "shards")
    (tree / "class_1" / "3.bmp").write_bytes(encoded(crop(33, 16, 16), "BMP"))
    with pytest.raises(ValueError, match=r"from a source whose files have changed since .content .* there and .* here"):
        build(tree, tmp_path / "shards")
    assert contents(tmp_path / "shards") == before
    assert build(tree, tmp_path / "other").identity != index.identity


def test_a_copy_of_a_source_is_the_same_source(tmp_path):
    tree = bitmaps(tmp_path / "one" / "tree")
    build(tree, tmp_path / "shards")
    shutil.copytree(tree, tmp_path / "two" / "tree")
    for path in (tmp_path / "two").rglob("*.bmp"):
        os.utime(path, (1, 1))
    assert build(tmp_path / "two" / "tree", tmp_path / "shards") == loaders.read_index(tmp_path / "shards")
    build(tmp_path / "two" / "tree", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "shards")


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_a_change_outside_the_sample_is_met_when_the_file_was_touched(tmp_path, monkeypatch, finished, packed):
    """Of large sources the digest sees a part; a file touched later is compared with the checksum of what was read."""
    monkeypatch.setattr(loaders.sources.walk, "files_digest", lambda sizes, sample: sizes.hexdigest()[:16])
    monkeypatch.setattr(loaders.sources.tar, "archive_digest", lambda path: "same")
    tree = bitmaps(tmp_path / "tree")
    source = make_tar(
        tmp_path / "a.tar", {f"{p.parent.name}/{p.name}": p.read_bytes() for p in sorted(tree.rglob("*.bmp"))}
    )
    source = source if packed else tree
    build(source, tmp_path / "shards", shard_bytes=1)
    if not finished:
        (tmp_path / "shards" / "index.json").unlink()
        (tmp_path / "shards" / "shard-00005.h5").unlink()
    time.sleep(0.02)  # longer than the clock of files takes to move on
    for path in [source] if packed else tree.rglob("*.bmp"):
        path.touch()
    build(source, tmp_path / "shards", shard_bytes=1)  # touched, but the same
    if not finished:
        (tmp_path / "shards" / "index.json").unlink()
    changed = encoded(crop(33, 16, 16), "BMP")
    old = (tree / "class_1" / "3.bmp").read_bytes()
    time.sleep(0.02)
    path = source if packed else tree / "class_1" / "3.bmp"
    path.write_bytes(path.read_bytes().replace(old, changed))
    with pytest.raises(ValueError, match=r"class_1/3\.bmp has changed since .*shard-0000"):
        build(source, tmp_path / "shards", shard_bytes=1)


def test_repairing_a_damaged_image_is_not_mistaken_for_the_same_set(tmp_path):
    tree = make_tree(tmp_path / "tree", classes=2, images=2)
    whole = (tree / "class_0" / "000.jpg").read_bytes()
    (tree / "class_0" / "000.jpg").write_bytes(whole[:-300] + bytes(300))
    build(tree, tmp_path / "shards")
    (tree / "class_0" / "000.jpg").write_bytes(whole)
    with pytest.raises(ValueError, match="files have changed since"):
        build(tree, tmp_path / "shards")


def stopped(source, folder, **options):
    """Begin a build, and stop it after its first shards."""

    def stop(progress):
        if progress.written >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(source, folder, shard_bytes=1, progress=stop, **options)
    assert (folder / "build.json").exists()
    time.sleep(0.02)  # longer than the clock of files takes to move on


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("kind", ["classes", "flat", "table"])
def test_a_build_goes_on_though_files_that_are_no_images_have_come_or_changed(
    tmp_path, caplog, monkeypatch, kind, finished
):
    monkeypatch.setattr(loaders.shards.job, "CHUNK", 2)
    tree = bitmaps(tmp_path / "tree")
    (tree / "class_1" / ".DS_Store").write_text("1")
    source = tree
    if kind != "classes":
        table = tmp_path / "labels.csv"
        table.write_text("file,label\nclass_0/0.bmp,a\nclass_1/1.bmp,b\n")
        source = loaders.ImageFiles(tree, table if kind == "table" else None)
    build(source, tmp_path / "whole", shard_bytes=1)
    if finished:
        build(source, tmp_path / "shards", shard_bytes=1)
        time.sleep(0.02)
    else:
        stopped(source, tmp_path / "shards")
    (tree / "class_1" / ".DS_Store").write_text("22")
    for name in ("class_0/.DS_Store", "class_0/Thumbs.db", "class_0/._0.bmp", "Desktop.ini"):
        (tree / name).write_text("none")
    if kind != "classes":
        source = loaders.ImageFiles(tree, table if kind == "table" else None)
    build(source, tmp_path / "shards", shard_bytes=1)
    told = "are left out: Desktop.ini, class_0/.DS_Store, class_0/._0.bmp, class_0/Thumbs.db"
    assert told in caplog.text
    assert contents(tmp_path / "shards") == contents(tmp_path / "whole")


@pytest.mark.parametrize("change", ["new", "other", "gone"])
def test_a_build_does_not_go_on_with_other_images_beside_files_that_are_none(tmp_path, monkeypatch, change):
    monkeypatch.setattr(loaders.shards.job, "CHUNK", 2)
    tree = bitmaps(tmp_path / "tree")
    (tree / "class_1" / ".DS_Store").write_text("1")
    stopped(tree, tmp_path / "shards")
    (tree / "class_1" / ".DS_Store").write_text("22")
    (tree / "class_0" / ".DS_Store").write_text("none")
    if change == "gone":
        (tree / "class_1" / "5.bmp").unlink()
    else:
        other = tree / "class_1" / ("5.bmp" if change == "other" else "9.bmp")
        other.write_bytes(encoded(crop(33, 16, 16), "BMP"))
    with pytest.raises(ValueError, match="holds a set built"):
        build(tree, tmp_path / "shards", shard_bytes=1)


def test_a_set_whose_shards_are_gone_is_compared_too(tmp_path):
    tree = bitmaps(tmp_path / "tree")
    build(tree, tmp_path / "shards")
    (tmp_path / "shards" / "shard-00000.h5").unlink()
    (tree / ".DS_Store").write_text("1")
    with pytest.raises(ValueError, match=r"holds a set built differently \(files 6 there and 7 here\)"):
        build(tree, tmp_path / "shards")


def test_older_images_of_the_same_names_are_others_though_a_file_that_is_none_has_come(tmp_path, monkeypatch):
    monkeypatch.setattr(loaders.shards.job, "CHUNK", 2)
    tree, other = bitmaps(tmp_path / "a" / "tree"), bitmaps(tmp_path / "b" / "tree")
    for folder in (tree, other):
        (folder / ".DS_Store").write_text("1")
    (other / "class_0" / "0.bmp").write_bytes(encoded(crop(33, 16, 16), "BMP"))
    time.sleep(0.02)
    stopped(tree, tmp_path / "shards")
    (other / ".DS_Store").write_text("22")
    with pytest.raises(ValueError, match="holds a set built"):
        build(other, tmp_path / "shards", shard_bytes=1)


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_images_whose_folder_or_archive_has_another_name_are_the_same(tmp_path, monkeypatch, kind, finished):
    monkeypatch.setattr(loaders.shards.job, "CHUNK", 2)
    source, new = bitmaps(tmp_path / "tree"), tmp_path / f"new.{kind}"
    if kind != "folder":
        files = {str(path.relative_to(source)): path.read_bytes() for path in sorted(source.rglob("*.bmp"))}
        source = (make_zip if kind == "zip" else make_tar)(tmp_path / f"a.{kind}", files)
    build(source, tmp_path / "whole", shard_bytes=1)
    if finished:
        build(source, tmp_path / "shards", shard_bytes=1)
    else:
        stopped(source, tmp_path / "shards")
    source.rename(new)
    build(new, tmp_path / "shards", shard_bytes=1)
    assert contents(tmp_path / "shards") == contents(tmp_path / "whole")


def test_one_changed_pixel_of_arrays_is_another_set(tmp_path):
    images, labels = make_arrays(300)
    loaders.write_shards((images, labels), tmp_path / "a")
    images[201, 3, 3, 1] ^= 1
    with pytest.raises(ValueError, match="content"):
        loaders.write_shards((images, labels), tmp_path / "a")


def test_a_tar_is_told_from_one_with_other_images(tmp_path):
    tar = make_tar(tmp_path / "a.tar", {f"c{i % 2}/{i}.bmp": encoded(crop(i, 16, 16), "BMP") for i in range(4)})
    build(tar, tmp_path / "shards")
    make_tar(tar, {f"c{i % 2}/{i}.bmp": encoded(crop(i + 9, 16, 16), "BMP") for i in range(4)})
    with pytest.raises(ValueError, match="files have changed since"):
        build(tar, tmp_path / "shards")


def test_things_are_kept_evenly_however_many_come():
    for count in (0, 5, 64, 1000, 12_345):
        spread = Spread[int](32)
        for number in range(count):
            spread.add(number)
        kept = list(spread)
        assert min(count, 32) <= len(kept) <= 64
        assert len(set(np.diff(kept))) <= 1


@pytest.fixture
def shards(tmp_path) -> Path:
    loaders.write_shards(make_arrays(20), tmp_path / "set", shard_bytes=240 * 8)
    return tmp_path / "set"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_digit_changed_anywhere_in_the_index_is_found(shards):
    path = shards / "index.json"
    whole = path.read_text()
    for place in [place for place, letter in enumerate(whole) if letter.isdigit()]:
        other = whole[:place] + str((int(whole[place]) + 3) % 10) + whole[place + 1 :]
        path.write_text(other)
        for read in (loaders.read_index, loaders.ShardStream, loaders.verify_shards):
            with pytest.raises(ValueError, match=r"read_index: .*index\.json"):
                read(shards)
    path.unlink()  # as the message says
    made = (shards / "shard-00001.h5").stat().st_mtime_ns
    loaders.write_shards(make_arrays(20), shards, shard_bytes=240 * 8)
    assert path.read_text() == whole
    assert (shards / "shard-00001.h5").stat().st_mtime_ns == made
    assert loaders.verify_shards(shards) == []


def test_an_index_that_is_rewritten_is_compared_with_the_shards(shards, capsys):
    """As a program would that knows nothing of digests: it leaves the digest out, or makes it anew."""
    path = shards / "index.json"
    values = json.loads(path.read_text())
    for key, value in [
        ("mean", [0.5, 0.5, 0.5]),
        ("std", [1, 1, 1]),
        ("class_counts", [20, 0, 0, 0, 0]),
        ("skipped", 7),
    ]:
        changed = {**values, key: value}
        del changed["digest"]
        for text in (
            json.dumps(changed),
            json.dumps({**changed, "digest": loaders.shards.index.index_digest(changed)}),
        ):
            path.write_text(text)
            (damage,) = loaders.verify_shards(shards)
            assert (damage.shard, damage.record) == ("index.json", None)
            assert f"its {key} must be" in damage.reason
            assert main(["shards", "verify", str(shards)]) == 1
    assert "digest" in values
    path.write_text(json.dumps({**values, "records": 10**12}))
    with pytest.raises(ValueError, match="digest"):
        loaders.read_index(shards)


def test_figures_from_another_set_are_not_recomputed(shards, tmp_path):
    loaders.write_shards(make_arrays(10, seed=3), tmp_path / "test", stats_from=shards)
    assert loaders.verify_shards(tmp_path / "test") == []


def test_a_damaged_or_lost_report_is_found(shards):
    edit(shards / "report.json", '"written": 20', '"written": 21')
    assert [damage.shard for damage in loaders.verify_shards(shards)] == ["report.json"]
    (shards / "report.json").unlink()
    assert [damage.shard for damage in loaders.verify_shards(shards)] == ["report.json"]


@pytest.mark.parametrize("name", ["pixel_sum", "pixel_sum_squares", "pixel_count", "number", "items", "names_crc32"])
def test_a_changed_attribute_of_a_shard_is_found(shards, name):
    path = shards / "shard-00001.h5"
    size = path.stat().st_size
    with h5py.File(path, "r+") as file:
        file.attrs.modify(name, file.attrs[name] + np.array(1, file.attrs[name].dtype))
    assert path.stat().st_size == size
    assert [(damage.shard, damage.record) for damage in loaders.verify_shards(shards)] == [(path.name, None)]
    with pytest.raises(ValueError, match=r"shard-00001.h5 is damaged: its tables do not have the digest"):
        loaders.ShardStream(shards)


def test_a_shard_without_a_digest_does_not_pass_for_one_of_a_set_with_digests(shards):
    path = shards / "shard-00000.h5"
    size = path.stat().st_size
    with h5py.File(path, "r+") as file:
        h5py.h5a.rename(file.id, b"digest", b"dagest")
    assert path.stat().st_size == size
    with pytest.raises(ValueError, match="has no digest, though the index"):
        loaders.ShardStream(shards)


@pytest.mark.parametrize("kind", ["packed", "raw"])
def test_sets_of_the_earlier_version_are_read_and_say_that_they_have_no_digest(kind, capsys):
    assert loaders.verify_shards(EARLIER / kind) == []
    stream = loaders.ShardStream(EARLIER / kind, batch_size=5, image_size=8)
    assert sum(len(images) for images, _ in stream) == stream.images == len(stream.names)
    assert loaders.read_index(EARLIER / kind).digest is None
    for command in ("verify", "info"):
        assert main(["shards", command, str(EARLIER / kind)]) == 0
        assert "written by an earlier version" in capsys.readouterr().out


def test_a_finished_set_of_the_earlier_version_is_not_built_again(tmp_path):
    shutil.copytree(EARLIER / "raw", tmp_path / "raw")
    before = contents(tmp_path / "raw")
    index = loaders.write_shards(make_arrays(12), tmp_path / "raw", shard_bytes=240 * 8)
    assert (index.digest, index.records) == (None, 12)
    assert contents(tmp_path / "raw") == before
    with pytest.raises(ValueError, match="shard_bytes 1920 there and 2400 here"):
        loaders.write_shards(make_arrays(12), tmp_path / "raw", shard_bytes=2400)


def test_a_build_begun_by_the_earlier_version_is_refused_not_mixed(tmp_path):
    shutil.copytree(EARLIER / "raw", tmp_path / "raw")
    index = json.loads((tmp_path / "raw" / "index.json").read_text())
    plan = {"version": 1, "source": index["source"], "class_names": index["class_names"], "settings": index["settings"]}
    (tmp_path / "raw" / "index.json").unlink()
    (tmp_path / "raw" / "shard-00001.h5").unlink()
    (tmp_path / "raw" / "build.json").write_text(json.dumps(plan, indent=1) + "\n")
    before = contents(tmp_path / "raw")
    with pytest.raises(ValueError, match=r"begun by an earlier version.* delete the folder and build it again"):
        loaders.write_shards(make_arrays(12), tmp_path / "raw", shard_bytes=240 * 8)
    assert contents(tmp_path / "raw") == before


def test_the_checksums_of_the_source_are_of_its_files(tmp_path):
    import zlib

    tree = make_tree(tmp_path / "tree", classes=2, images=2)
    build(tree, tmp_path / "shards", size=20)
    table = read_table(tmp_path / "shards" / "shard-00000.h5")
    expected = [zlib.crc32(path.read_bytes()) for path in sorted(tree.rglob("*.jpg"))]
    assert table.source_crc32.tolist() == expected


@pytest.mark.parametrize("layout", ["raw", "packed"])
def test_the_page_is_enough_to_compute_the_digests(tmp_path, layout):
    """As docs/formats/shards.md has them."""
    if layout == "raw":
        loaders.write_shards(make_arrays(9), tmp_path / "set")
    else:
        build(make_tree(tmp_path / "tree", classes=2, images=2), tmp_path / "set")
    with h5py.File(tmp_path / "set" / "shard-00000.h5") as file:
        digest = hashlib.sha256(repr(file["images"].shape).encode())
        values = {name: value for name, value in file.attrs.items() if name != "digest"}
        values |= {name: file[name][:] for name in ("labels", "crc32", "source_crc32", "offsets") if name in file}
        for name, value in sorted(values.items()):
            array = np.array(value.encode() if isinstance(value, str) else value)
            digest.update(f"{name} {array.dtype.str} {array.shape} ".encode() + array.tobytes())
        assert file.attrs["digest"] == digest.hexdigest()
    index = json.loads((tmp_path / "set" / "index.json").read_text())
    stored = index.pop("digest")
    assert stored == hashlib.sha256(json.dumps(index, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def test_a_report_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "report.json").write_text("mine")
    with pytest.raises(FileExistsError, match=r"build_shards: .*report\.json is of no set of shards"):
        loaders.write_shards((np.zeros((2, 8, 8), np.uint8), [0, 1]), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert (tmp_path / "report.json").read_text() == "mine"
