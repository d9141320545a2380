"""Features as Parquet, Zarr and NumPy's files: the same numbers, names and labels as in HDF5; kills and damage."""

import dataclasses
import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_helpers import call
from extract_helpers import COUNT, names, stop_after
from PIL import Image

import hebbcore
import loaders
from hebbcore.evaluation import RidgeReadout
from hebbcore.features import blocks, extract, formats
from hebbcore.features.extract import extract_features

pytest_plugins = "extract_helpers"
__all__ = ["call"]
NAMES = ["ü.png", "\udcff.png", "", *(f"{number}.png" for number in range(COUNT - 3))]
SHOWN = ["ü.png", "\\xff.png", *NAMES[2:]]


@pytest.fixture(params=["npy", "parquet", "zarr"])
def form(request, monkeypatch):
    if request.param != "npy":
        package = {"parquet": "pyarrow", "zarr": "zarr"}[request.param]
        pytest.importorskip(package, reason=f"{package} is not installed (extra {request.param})")
    monkeypatch.setattr(blocks, "_PIECE", 300)  # several blocks
    return request.param


@pytest.fixture
def named(data):
    return loaders.ArrayStream(*data, batch_size=8, names=NAMES)


def rows_of(form, path):
    """Features, labels and names, read by the format's own library."""
    if form == "npy":
        features, labels, called = (
            np.load(path / f"{name}.npy", mmap_mode="r") for name in ("features", "labels", "names")
        )
        return features, labels, [name.decode("utf-8", "backslashreplace") for name in called.tolist()]
    if form == "zarr":
        import zarr

        group = zarr.open_group(path, mode="r")
        return group["features"][:], group["labels"][:], group["names"][:].tolist()
    from pyarrow import parquet

    table = parquet.read_table(path)
    features = np.array(table["features"].to_pylist())
    return features, table["label"].to_numpy(), table["name"].to_pylist()


@pytest.mark.parametrize("options", [{}, {"dtype": "float16", "layer": "pool1"}])
def test_they_are_those_of_the_hdf5_file(network, named, tmp_path, form, options):
    extract_features(network, named, tmp_path / "f.h5", **options)
    path = extract_features(network, named, tmp_path / "f.out", format=form, **options)
    assert names(tmp_path) == ["f.h5", "f.out"]
    features, labels, called = rows_of(form, path)
    with h5py.File(tmp_path / "f.h5") as file:
        np.testing.assert_array_equal(features.reshape(file["features"].shape), file["features"])
        np.testing.assert_array_equal(labels, file["labels"])
        settings = json.loads(file.attrs["settings"])
    assert called == SHOWN
    assert formats._read("", path).settings == settings
    before = path.stat().st_mtime_ns
    assert extract_features(network, named, path, format=form, **options) == path
    assert path.stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match=r"f\.out exists and holds something else"):
        extract_features(network, named, path, format=form, mirror=True, **options)


def test_other_names_of_the_same_images_are_refused(network, data, named, stream, tmp_path, form):
    path = extract_features(network, named, tmp_path / "f.out", format=form)
    renamed = loaders.ArrayStream(*data, batch_size=8, names=[*NAMES[:-1], "b.png"])
    with pytest.raises(
        FileExistsError, match=rf"f\.out exists and .* other names: image {COUNT - 1} is b\.png here and"
    ):
        extract_features(network, renamed, path, format=form)
    extract_features(network, stream, path, format=form)  # which has no names


def test_without_names_there_are_none(network, stream, tmp_path, form):
    path = extract_features(network, stream, tmp_path / "f.out", format=form)
    formats.verify("verify", path)
    assert all(block[2] is None for block in formats._read("", path).blocks())


@pytest.mark.parametrize("batches", [1, 4])
def test_an_extraction_goes_on(network, named, tmp_path, form, batches, monkeypatch):
    monkeypatch.setattr(extract, "_SAVE_SECONDS", 0)
    expected = extract_features(network, named, tmp_path / "expected", format=form)
    stop_after(network, named, tmp_path / "f.out", batches, format=form)
    assert names(tmp_path) == [".f.out.h5.partial", ".f.out.h5.progress", "expected"]
    seen = []
    extract_features(network, named, tmp_path / "f.out", format=form, progress=seen.append)
    assert len(seen) == 1 + len(named) - batches
    for found, other in zip(rows_of(form, tmp_path / "f.out"), rows_of(form, expected), strict=True):
        np.testing.assert_array_equal(found, other)
    assert names(tmp_path) == ["expected", "f.out"]


def test_a_kill_while_the_format_is_written_costs_no_features(network, named, tmp_path, form, monkeypatch):
    rows = formats.blocks_of

    def killed(*arguments):
        for number, block in enumerate(rows(*arguments)):
            yield block
            if number == 1:
                raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(formats, "blocks_of", killed)
        with pytest.raises(KeyboardInterrupt):
            extract_features(network, named, tmp_path / "f.out", format=form)
    assert names(tmp_path) == [".f.out.h5"]
    (tmp_path / ".f.out.partial").mkdir()  # as a kill without mercy leaves it
    (tmp_path / ".f.out.partial" / "x").touch()
    seen = []
    extract_features(network, named, tmp_path / "f.out", format=form, progress=seen.append)
    assert not seen
    assert names(tmp_path) == ["f.out"]
    for left in (".f.out.h5", "..f.out.h5.lock", ".f.out.lock"):
        (tmp_path / left).touch()
    extract_features(network, named, tmp_path / "f.out", format=form)
    assert names(tmp_path) == ["f.out"]


def test_a_full_disk_leaves_nothing_half_written(network, named, tmp_path, form, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(formats, "sync", full)
        with pytest.raises(OSError, match=r"No space left.*make room"):
            extract_features(network, named, tmp_path / "f.out", format=form)
    assert names(tmp_path) == [".f.out.h5"]


def is_damaged(path):
    try:
        formats.verify("verify", path)
    except ValueError:  # and nothing else
        return True
    return False


def test_damage_is_found(network, named, tmp_path, form):
    path = extract_features(network, named, tmp_path / "f.out", format=form)
    random = np.random.default_rng(0)
    files = [file for file in ([path] if path.is_file() else sorted(path.rglob("*"))) if file.is_file()]
    found = 0
    for number in range(60):
        file = files[number % len(files)]
        data = file.read_bytes()
        changed = bytearray(data)
        changed[random.integers(len(data))] ^= 1 << random.integers(8)
        file.write_bytes(changed)
        found += is_damaged(path)
        file.write_bytes(data)
    assert found > 30  # the rest are bytes that say nothing, such as spaces of a header
    formats.verify("verify", path)
    for file in files:
        data = file.read_bytes()
        if len(data) > 300 or form == "parquet":
            file.write_bytes(data[: len(data) // 2])
            with pytest.raises(ValueError, match="damaged"):
                formats.verify("verify", path)
            file.write_bytes(data)


def test_the_commands(network, named, data, tmp_path, form, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hebbcore.save("net.h5", network)
    loaders.write_shards(data, "shards")
    out, _ = call(f"extract net.h5 shards f.{form} --format {form} --device cpu")
    assert out == f"f.{form}: features of {COUNT} images\n"
    out, _ = call(f"verify f.{form}")
    assert f"f.{form}: sound" in out
    Path("folder").mkdir()
    Path(f"f.{form}").rename(f"folder/f.{form}")
    assert f"f.{form}: sound" in call("verify folder")[0]
    victim = (
        Path(f"folder/f.{form}")
        if form == "parquet"
        else max(Path(f"folder/f.{form}").rglob("*"), key=lambda file: file.stat().st_size * file.is_file())
    )
    victim.write_bytes(victim.read_bytes()[:-40] + bytes(40))
    assert "damaged: 1" in call("verify folder", 1)[0]


def test_a_package_that_is_missing_is_named(network, stream, tmp_path, monkeypatch):
    for form, package in (("parquet", "pyarrow"), ("zarr", "zarr")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ImportError, match=rf"needs {package}; pip install 'hebbcore\[{form}\]'"):
            extract_features(network, stream, tmp_path / "f", format=form)
    with pytest.raises(ValueError, match="format must be"):
        extract_features(network, stream, tmp_path / "f", format="csv")


def test_a_readout_takes_mapped_features(network, stream, tmp_path):
    path = extract_features(network, stream, tmp_path / "f", format="npy")
    features, labels = (np.load(path / f"{name}.npy", mmap_mode="r") for name in ("features", "labels"))
    assert RidgeReadout(1.0).fit(features, labels).predict(features).shape == (COUNT,)


class Classed(loaders.ArrayStream):
    """Images that know what their labels mean."""

    class_names = ("cat", "schöner \udcff", "")


def classes_of(form, path):
    if form == "hdf5":
        with h5py.File(path) as file:
            return (
                [name.decode("utf-8", "backslashreplace") for name in file["classes"][:]] if "classes" in file else []
            )
    if form == "npy":
        return json.loads((path / "features.json").read_text())["classes"]
    if form == "zarr":
        import zarr

        return list(zarr.open_group(path, mode="r").attrs.get("classes", []))
    from pyarrow import parquet

    return json.loads(parquet.read_schema(path).metadata.get(b"hebbcore.classes", "[]"))


@pytest.mark.parametrize("everywhere", [False, True])
def test_what_the_labels_mean_is_there(network, data, tmp_path, form, everywhere):
    stream = (Classed if everywhere else loaders.ArrayStream)(*data, batch_size=8)
    for each in ("hdf5", form):
        path = extract_features(network, stream, tmp_path / each, format=each)
        assert classes_of(each, path) == (["cat", "schöner \\xff", ""] if everywhere else [])
        assert extract_features(network, stream, path, format=each) == path
    formats.verify("verify", path)
    stored = formats._read("verify", path)
    assert stored.is_sound()
    assert not dataclasses.replace(stored, classes=("dog",)).is_sound()


def test_class_folders_say_what_the_labels_mean(network, tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hebbcore.save("net.h5", network)
    for split, classes in (("train", ["one", "three", "two"]), ("test", ["one", "two"])):
        for name in classes:
            Path(split, name).mkdir(parents=True)
            Image.effect_noise((10, 8), 50).convert("RGB").save(f"{split}/{name}/0.png")
        call(f"shards build {split} shards/{split} --raw --workers 1")
        call(f"extract net.h5 shards/{split} {split}.h5 --device cpu")
        assert classes_of("hdf5", Path(f"{split}.h5")) == classes
