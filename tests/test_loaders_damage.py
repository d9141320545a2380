"""Flipped bits, cut, missing and foreign files: all noticed, named, and skipped where that is asked for."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from loaders_helpers import contents, make_arrays, make_tree

import loaders
from loaders import ShardStream
from loaders.shards.format import read_table


@pytest.fixture(scope="module", params=["raw", "packed"])
def shards(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "raw":
        loaders.write_shards(make_arrays(30), folder, shard_bytes=12 * 240)
    else:
        tree = make_tree(tmp_path_factory.mktemp("data") / "tree", classes=3, images=10, height=40, width=40)
        loaders.build_shards(tree, folder, workers=1, shard_bytes=12_000)
    return folder


@pytest.fixture
def copy(shards, tmp_path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "copy"))


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(data)


def tables(folder: Path):
    return [(path, read_table(path)) for path in sorted(folder.glob("shard-*.h5"))]


def test_one_flipped_bit_in_any_record_is_found_by_verify_and_stream(copy):
    random = np.random.default_rng(0)
    record = 0
    for path, table in tables(copy):
        for number in range(len(table.labels)):
            bit = 8 * int(table.starts[number]) + int(random.integers(8 * table.lengths[number]))
            flip(path, bit)
            (damage,) = loaders.verify_shards(copy)
            assert (damage.shard, damage.record) == (path.name, number)
            assert damage.name
            with pytest.raises(ValueError, match=rf"record {number} of .*{path.name} \(.+\) is damaged: its CRC-32"):
                list(ShardStream(copy, batch_size=4))
            stream = ShardStream(copy, batch_size=30, on_error="skip", shuffle=True)
            ((images, labels),) = stream
            assert len(images) == len(labels) == 29
            assert list(stream.skipped) == [(path.name, number)]
            flip(path, bit)
            record += 1
    assert record == 30
    assert loaders.verify_shards(copy) == []


def test_a_flipped_bit_in_labels_offsets_checksums_or_names_is_found(copy):
    for path, _ in tables(copy)[:2]:
        with h5py.File(path) as file:
            tables_only = [file[name].id for name in file if name != "images" and file[name].size]
            places = [(table.get_offset(), table.get_storage_size()) for table in tables_only]
        for start, size in places:
            for byte in range(start, start + size, 5):
                flip(path, 8 * byte + byte % 8)
                assert loaders.verify_shards(copy), f"byte {byte}"
                flip(path, 8 * byte + byte % 8)
    assert loaders.verify_shards(copy) == []


def test_a_flip_anywhere_in_a_shard_never_crashes(copy):
    path = tables(copy)[0][0]
    size = path.stat().st_size
    for byte in range(0, size, max(1, size // 120)):
        flip(path, 8 * byte + 3)
        loaders.verify_shards(copy)
        try:
            for _ in ShardStream(copy, batch_size=4):
                pass
        except (OSError, ValueError) as error:
            message = str(error)
            assert path.name in message
        flip(path, 8 * byte + 3)


def test_skipping_keeps_the_other_records_and_their_order(copy):
    expected = [image for images, _ in ShardStream(copy, batch_size=4) for image in images]
    path, table = tables(copy)[1]
    first = len(tables(copy)[0][1].labels)
    for number in (0, 3):
        flip(path, 8 * int(table.starts[number]) + 100)
    stream = ShardStream(copy, batch_size=4, on_error="skip")
    for _ in range(2):
        found = [image for images, _ in stream for image in images]
        kept = [image for i, image in enumerate(expected) if i not in (first, first + 3)]
        assert all(np.array_equal(*pair) for pair in zip(found, kept, strict=True))
        assert set(stream.skipped) == {(path.name, 0), (path.name, 3)}
        assert all("CRC-32" in reason for reason in stream.skipped.values())


def test_a_damaged_first_record_does_not_hide_the_size_of_the_others(copy):
    path, table = tables(copy)[0]
    flip(path, 8 * int(table.starts[0]) + 200)
    with pytest.raises(ValueError, match=r"record 0 of"):
        list(ShardStream(copy))
    assert sum(len(images) for images, _ in ShardStream(copy, on_error="skip")) == 29


def test_a_batch_with_nothing_left_is_left_out(copy):
    path, table = tables(copy)[0]
    flip(path, 8 * int(table.starts[1]) + 7)
    stream = ShardStream(copy, batch_size=1, on_error="skip")
    assert sum(len(images) for images, _ in stream) == 29
    assert stream.state()["epoch"] == 1


def check_refused(folder: Path, message: str) -> None:
    with pytest.raises((OSError, ValueError), match=message):
        ShardStream(folder)
    assert any(damage.record is None for damage in loaders.verify_shards(folder))


def test_missing_cut_and_foreign_shards_say_so(copy):
    paths = [path for path, _ in tables(copy)]
    whole = paths[1].read_bytes()
    paths[1].unlink()
    check_refused(copy, rf"{paths[1].name} is missing")
    for length in (0, 5, 700, len(whole) // 2, len(whole) - 1):
        paths[1].write_bytes(whole[:length])
        check_refused(copy, rf"{paths[1].name}.* (truncated|damaged)")
    paths[1].write_bytes(whole + b"more")
    check_refused(copy, "truncated or changed")
    paths[1].write_bytes(b"hello")
    check_refused(copy, "does not open as HDF5")
    with h5py.File(paths[1], "w") as file:
        file["x"] = 1
    check_refused(copy, "must be 'image-shards' version 1")
    paths[1].write_bytes(paths[0].read_bytes())
    check_refused(copy, paths[1].name)


def test_a_shard_of_another_set_is_noticed(copy, tmp_path):
    other = tmp_path / "other"
    loaders.write_shards(make_arrays(30, seed=1), other, shard_bytes=12 * 240)
    shutil.copy(other / "shard-00001.h5", copy / "shard-00001.h5")
    check_refused(copy, r"(another set|truncated or changed)")


def test_a_shard_cut_while_it_is_read_is_an_error(copy):
    stream = ShardStream(copy, batch_size=4)
    path = tables(copy)[1][0]
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(OSError, match=path.name):
        list(stream)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=path.name):
        list(stream)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", "belongs to something else"),
        ('{"format": "other"}', "belongs to something else"),
        ('{"format": "image-shards", "version": 3}', "version 1 or 2, got 3"),
        ('{"format": "image-shards", "version": 1}', "lacks or garbles 'identity'"),
    ],
)
def test_a_bad_index_says_so(copy, text, message):
    (copy / "index.json").write_text(text)
    for read in (ShardStream, loaders.verify_shards, loaders.read_index):
        with pytest.raises(ValueError, match=message):
            read(copy)


def test_an_unfinished_set_is_not_read(copy):
    (copy / "index.json").unlink()
    with pytest.raises(FileNotFoundError, match="if a build was interrupted run it again"):
        ShardStream(copy)


def test_the_page_is_enough_for_plain_h5py(shards):
    """What docs/formats/shards.md says, with h5py, json and zlib only."""
    import zlib

    index = json.loads((shards / "index.json").read_text())
    total = 0
    for entry in index["shards"]:
        with h5py.File(shards / entry["file"]) as file:
            for i in range(len(file["labels"])):
                if index["layout"] == "raw":
                    image = file["images"][i].tobytes()
                else:
                    start, stop = file["offsets"][i : i + 2]
                    image = file["images"][start:stop].tobytes()
                label = int(file["labels"][i])
                assert zlib.crc32(image + label.to_bytes(8, "little")) == file["crc32"][i]
            total += len(file["labels"])
    assert total == index["records"] == 30
    assert contents(shards)
