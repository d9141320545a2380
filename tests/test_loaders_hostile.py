"""Shards and texts of unknown origin: whatever they claim, reading them ends with an error that names them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from loaders_helpers import make_arrays, make_tar, make_tree
from loaders_hostile_helpers import ESCAPE, drain, measured, read_shards, set_of

import loaders
from hebbcore.cli import main
from loaders.sources.imagenet import read_synsets
from loaders.text import printable

pytest_plugins = "loaders_hostile_helpers"
pytestmark = pytest.mark.usefixtures("traced")


def rewritten(path: Path, **changes: object) -> None:
    """A JSON file with other values and, where it has a digest, the right one for them."""
    values = {**json.loads(path.read_text()), **changes}
    if "digest" in values:
        values["digest"] = loaders.shards.index.index_digest(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    "changes",
    [
        {"records": 10**12},
        {"records": 0, "shards": []},
        {"class_names": [], "class_counts": []},
        {"class_counts": [10**15] * 4},
        {"class_names": ["a"] * 5, "class_counts": [1, -1, 1, 1, 1]},
        {"image_shape": [10**6, 10**6, 3]},
        {"image_shape": [8, 10]},
        {"image_shape": [8, 10, 0]},
        {"image_shape": None},
        {"mean": [float("nan")] * 3},
        {"std": [1, 2]},
        {"layout": "zip"},
        {"shards": [{"file": "../../secret.h5", "records": 12, "bytes": 10}]},
        {"shards": [{"file": "shard-00000.h5", "records": 12, "bytes": 10, "more": 1}]},
        {"shards": [{"file": "shard-00000.h5", "records": 1.5, "bytes": 10}]},
        {"shards": {}},
        {"settings": [], "source": ESCAPE},
        {"version": [ESCAPE]},
        {"identity": 7},
    ],
)
def test_an_index_that_cannot_be_is_refused(tmp_path, changes):
    path = set_of(tmp_path, "raw") / "index.json"
    rewritten(path, **changes)
    assert measured(lambda: read_shards(path), "set")


def test_text_nested_without_end_is_refused(tmp_path):
    folder = set_of(tmp_path, "raw")
    (folder / "index.json").write_text("[" * 100_000)
    assert "nested too deeply" in str(measured(lambda: read_shards(folder / "x"), "index.json"))
    (folder / "index.json").unlink()
    for text in ("[" * 100_000, "[]", '{"source": 1, "settings": 2}', "1" * 9000):
        (folder / "build.json").write_text(text)
        assert measured(lambda: loaders.write_shards(make_arrays(12), folder), "build.json is damaged")


def replaced(name: str, **options: object) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file.create_dataset(name, **options)

    return edit


def link(name: str, target: object) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        del file[name]
        file[name] = target

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (replaced("labels", data=np.full(12, 10**15)), "label outside"),
        (replaced("labels", data=np.full(12, -2)), "label outside"),
        (replaced("labels", shape=(10**12,), dtype="i8", chunks=(1000,)), "in one piece"),
        (replaced("labels", shape=(10**12,), dtype="i8"), "claims 8000000000000 bytes"),
        (replaced("images", shape=(10**12, 8, 10, 3), dtype="u1"), "claims 240000000000000 bytes"),
        (replaced("names", data=["x"] * 12, dtype=h5py.string_dtype()), "must not be of dtype object"),
        (replaced("names", shape=(12,), dtype="S1000000000"), "claims 12000000000 bytes"),
        (replaced("crc32", data=np.zeros(5, "u4")), "do not fit together"),
        (replaced("labels", data=np.zeros((3, 4), "i8")), "damaged"),
        (link("labels", h5py.SoftLink("/crc32")), "its labels is a link"),
        (link("images", h5py.ExternalLink("other.h5", "/images")), "its images is a link"),
    ],
)
def test_a_shard_that_claims_or_leads_elsewhere_is_refused(tmp_path, edit, message):
    path = set_of(tmp_path, "raw") / "shard-00000.h5"
    shutil.copy(path, path.parent / "other.h5")
    columns = list(loaders.shards.format.NUMBERS)
    with h5py.File(path, "r+") as file:
        edit(file)
        small = {name: file[name] for name in columns if name in file}
        if all(isinstance(table, h5py.Dataset) and table.size < 100 for table in small.values()):
            stored = {name: table[:] for name, table in small.items()}
            images = file["images"].shape if file.get("images", getlink=True).__class__ is h5py.HardLink else ()
            file.attrs["digest"] = loaders.shards.format.table_digest(file.attrs, stored, images)
    shards = json.loads((path.parent / "index.json").read_text())["shards"]
    shards[0]["bytes"] = path.stat().st_size
    rewritten(path.parent / "index.json", shards=shards)
    damages = loaders.verify_shards(path.parent)
    assert damages
    assert message in " ".join(damage.reason for damage in damages)
    if "names" not in str(message) and "dtype object" not in message and "12000000000" not in message:
        assert message in str(measured(lambda: read_shards(path), path.name))


def test_texts_that_are_none_are_refused(tmp_path):
    make_tar(tmp_path / "val.tar", {"ILSVRC2012_val_00000001.JPEG": b"x", "v_" + "1" * 5000 + ".JPEG": b"x"})
    (tmp_path / "synsets.txt").write_text("n01\nn02\n")
    (tmp_path / "truth.txt").write_text("1\n")
    source = loaders.ImageNetValidation(tmp_path / "val.tar", tmp_path / "truth.txt", tmp_path / "synsets.txt")
    assert [item.problem is None for item in source.items()] == [True, False]
    for data in (b"\xff\xfe\0", b"9" * 5000, ESCAPE.encode()):
        (tmp_path / "truth.txt").write_bytes(data)
        files = [tmp_path / name for name in ("val.tar", "truth.txt", "synsets.txt")]
        assert measured(lambda files=files: loaders.ImageNetValidation(*files), "truth.txt")
    (tmp_path / "meta.mat").write_bytes(b"MATLAB 5.0" + bytes(200))
    assert measured(lambda: read_synsets(tmp_path / "meta.mat"), "meta.mat is not the devkit's meta.mat")


def test_names_are_printable():
    assert printable("a b/ü€.jpg") == "a b/ü€.jpg"
    assert printable(ESCAPE) == r"\x1b[31mred\x1b[0m\x07\u202e"
    assert printable("\udcff\n") == r"\udcff\n"
    assert len(printable("x" * 10**6)) == 1000


def test_escape_codes_of_names_do_not_reach_the_terminal(tmp_path, capsys, caplog):
    tree = make_tree(tmp_path / ESCAPE, classes=1, images=2)
    (tree / "class_0").rename(tree / f"class{ESCAPE}")
    (tree / f"class{ESCAPE}" / f"{ESCAPE}.jpg").write_bytes(b"bad")
    shards = tmp_path / "shards"
    assert main(["shards", "build", str(tree), str(tmp_path / "s"), "--strict", "--workers", "1"]) == 1
    assert main(["shards", "build", str(tree), str(shards), "--workers", "1"]) == 0
    assert main(["shards", "info", str(shards)]) == 0
    path = shards / "shard-00000.h5"
    data = bytearray(path.read_bytes())
    data[int(loaders.shards.format.read_table(path).starts[1]) + 9] ^= 4
    path.write_bytes(data)
    assert main(["shards", "verify", str(shards)]) == 1
    stream = loaders.ShardStream(shards, on_error="skip")
    drain(stream)
    with pytest.raises(ValueError, match="is damaged") as caught:
        drain(loaders.ShardStream(shards))
    (tmp_path / f"e{ESCAPE}").mkdir()
    with pytest.raises(ValueError, match="it has no files") as empty:
        loaders.open_source(tmp_path / f"e{ESCAPE}")
    captured = capsys.readouterr()
    texts = [captured.out, captured.err, caplog.text, str(caught.value), str(empty.value), *stream.skipped.values()]
    assert all("\x1b" not in text and "\u202e" not in text for text in texts)
    assert r"\x1b[31mred" in captured.out
    assert r"\x1b[31mred" in str(caught.value)
    assert next(name for name in stream.names if "red" in name)  # as it is


@pytest.mark.parametrize("claim", [(1, 2**64 - 1), (1, 2**64 - 16), (0, 0), (0, 2**63), (1, 10**6)])
def test_a_heap_of_texts_that_hdf5_would_read_for_ever_is_refused(tmp_path, claim):
    path = set_of(tmp_path, "raw") / "shard-00000.h5"
    data = bytearray(path.read_bytes())
    place = data.index(loaders.hdf5.HEAP) + 16
    data[place : place + 2], data[place + 8 : place + 16] = (
        claim[0].to_bytes(2, "little"),
        claim[1].to_bytes(8, "little"),
    )
    path.write_bytes(data)
    assert "heap of texts claims bytes" in str(measured(lambda: read_shards(path), path.name))
