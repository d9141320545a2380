"""Files that someone made to deceive: sealed with a right digest, and saying what is not so."""

import json
import re
import subprocess
import sys
import tracemalloc
import zlib
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import ROOT
from loaders_helpers import make_arrays

import hebbcore
import loaders
from hebbcore import checkpoint, hdf5
from hebbcore.checks import printable
from hebbcore.cli import main
from hebbcore.cli.sources import read_arrays
from hebbcore.features import storage
from hebbcore.features.extract import extract_features
from hebbcore.runs.config import read_config
from hebbcore.training import diagnostics

IMAGES, LABELS = make_arrays(20, seed=1)
DEEP = "[" * 100_000 + "]" * 100_000
LONG = "9" * 100_000


def network():
    layers = [
        hebbcore.Whiten(2), hebbcore.Conv(4, 1), hebbcore.Pool(2), hebbcore.BatchNorm(), hebbcore.Dense(50, "swta")
    ]  # fmt: skip
    return hebbcore.Network(layers, (8, 10, 3), seed=3, device="cpu")


def stream():
    return loaders.ArrayStream(IMAGES, LABELS, batch_size=8)


def seal(path, what):
    """Give a file a right digest."""
    with path.open("r+b") as file:
        file.seek(hdf5.BLOCK)
        digest = hdf5.new_digest()
        digest.update(file.read())
        hdf5.seal(file, what, 1, digest.hexdigest())


@contextmanager
def changed(path, what):
    """Let HDF5 change a sealed file."""
    with h5py.File(path, "r+") as file:
        yield file
    seal(path, what)


@contextmanager
def little_memory(most=20 * 2**20):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


@pytest.fixture
def saved(tmp_path):
    hebbcore.save(tmp_path / "net.h5", network())
    return tmp_path / "net.h5"


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A file that nobody is to be led to."""
    path = tmp_path_factory.mktemp("other") / "secret.h5"
    with h5py.File(path, "w") as file:
        file["weights"] = np.ones((50, 60), np.float32)
        file["train/images"] = IMAGES
    (path.parent / "secret.raw").write_bytes(bytes(50 * 60 * 4))
    return path


# Checkpoints: what the header says


def set_header(path, text):
    with changed(path, "checkpoint") as file:
        del file["header"]
        file["header"] = np.frombuffer(text.encode(), np.uint8)


def edited(**changes):
    def edit(header):
        header.update(changes)

    return edit


def in_layer(place, **changes):
    def edit(header):
        header["layers"][place].update(changes)

    return edit


HEADERS = {
    "many units": in_layer(4, units=10**9),
    "more units than numbers": in_layer(1, units=10**30),
    "a large whitening": in_layer(0, kernel_size=[70, 70], padding=[60, 60]),
    "a large image": edited(image_shape=[10**9, 10**9, 3]),
    "an image of another shape": edited(image_shape=[9, 12, 3]),
    "an image that is none": edited(image_shape="big"),
    "no image": edited(image_shape=None),
    "a wide border": in_layer(2, padding=[10**9, 10**9], window=[2 * 10**9, 2 * 10**9]),
    "another border": in_layer(1, padding=[10**7, 10**7]),
    "another kind": edited(kind="forest"),
    "a kind that is none": edited(kind=[1]),
    "layers that are none": edited(layers="conv"),
    "no layers": edited(layers=[]),
    "layers of numbers": edited(layers=[1, 2]),
    "an unknown layer": in_layer(1, type="wavelet"),
    "an unknown rule": in_layer(1, rule={"name": "mine"}),
    "a name with codes": in_layer(1, name="\x1b[2J"),
    "the same name twice": in_layer(2, name="conv1"),
    "a negative seed": edited(seed=-1),
    "a seed that is none": edited(seed={"a": 1}),
    "an unknown precision": edited(precision=["float32"]),
    "a layer": edited(kind="layer"),
}


@pytest.mark.parametrize("edit", HEADERS.values(), ids=HEADERS)
def test_a_header_that_its_arrays_do_not_bear_out(saved, edit):
    header, _ = checkpoint.read("load", saved)
    edit(header)
    set_header(saved, json.dumps(header))
    with little_memory(), pytest.raises(ValueError, match=f"^load: {re.escape(str(saved))} "):
        hebbcore.load(saved, device="cpu")


@pytest.mark.parametrize("key", ["kind", "image_shape", "seed", "precision", "layers"])
def test_a_header_without_a_key(saved, key):
    header, _ = checkpoint.read("load", saved)
    del header[key]
    set_header(saved, json.dumps(header))
    with pytest.raises(ValueError, match=rf"load: .*net\.h5 does not hold .*'{key}' is missing"):
        hebbcore.load(saved, device="cpu")


@pytest.mark.parametrize("text", [DEEP, f'{{"seed": {LONG}}}', "[]", "{", "\x00", '{"kind": NaN}', "5"])
def test_a_header_that_is_no_table(saved, text):
    set_header(saved, text)
    with little_memory(), pytest.raises(ValueError, match=rf"load: {re.escape(str(saved))} (is damaged|does not hold)"):
        hebbcore.load(saved, device="cpu")


def test_many_layers_without_a_name(saved):
    header, _ = checkpoint.read("load", saved)
    header["layers"] = [{"type": "flatten"}] * 5_000
    set_header(saved, json.dumps(header))
    assert len(hebbcore.load(saved, device="cpu")) == 5_000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stride": [0, 1]}, "stride must be at least 1"),
        ({"padding": "x"}, "padding must be an integer"),
        ({"padding_mode": "mirror"}, "padding_mode must be one of"),
        ({"linear": 3}, "linear must be true or false"),
        ({"precision": "float8"}, "precision must be one of"),
        ({"rule": {"name": "kwta", "k": 99}}, "k"),
    ],
)
def test_a_layer_whose_header_is_wrong(tmp_path, change, words):
    path = tmp_path / "layer.h5"
    hebbcore.save(path, network()["conv1"].as_layer())
    header, _ = checkpoint.read("load", path)
    set_header(path, json.dumps(header | change))
    with pytest.raises(ValueError, match=rf"load: .*layer\.h5 does not hold .*{words}"):
        hebbcore.load(path, device="cpu")


# Checkpoints: what the arrays are


def replaced(make):
    def change(file, other):
        del file["arrays/fc2/weights"]
        make(file["arrays/fc2"], other)

    return change


def external(group, other):
    group.create_dataset("weights", (50, 48), "f4", external=[(str(other.parent / "secret.raw"), 0, 50 * 60 * 4)])


def virtual(group, other):
    layout = h5py.VirtualLayout((50, 48), "f4")
    layout[...] = h5py.VirtualSource(str(other), "weights", (50, 60))[:, :48]
    group.create_virtual_dataset("weights", layout)


def never_written(group, other):
    group.create_dataset("weights", (10**6, 10**6), "f4")


def many_links(group, other):
    group["weights"] = np.ones((50, 48), np.float32)
    for i in range(20):
        group[f"more{i}"] = group["weights"]


ARRAYS = {
    "missing": lambda group, other: None,
    "of another shape": lambda group, other: group.create_dataset("weights", data=np.ones((50, 60), np.float32)),
    "of integers": lambda group, other: group.create_dataset("weights", data=np.ones((50, 48), np.int32)),
    "complex": lambda group, other: group.create_dataset("weights", data=np.ones((50, 48), np.complex64)),
    "of text": lambda group, other: group.create_dataset("weights", data=[["a"] * 48] * 50),
    "of bytes": lambda group, other: group.create_dataset("weights", data=np.full((50, 48), b"abcd")),
    "of pairs": lambda group, other: group.create_dataset("weights", (50, 48), np.dtype([("a", "f4"), ("b", "f4")])),
    "of references": lambda group, other: group.create_dataset("weights", (50, 48), h5py.ref_dtype),
    "a single number": lambda group, other: group.create_dataset("weights", data=np.float32(1)),
    "without a shape": lambda group, other: group.create_dataset("weights", data=h5py.Empty("f4")),
    "compressed": lambda group, other: group.create_dataset("weights", data=np.ones((50, 48), "f4"), compression=9),
    "a group": lambda group, other: group.create_group("weights/deeper"),
    "a soft link": lambda group, other: group.__setitem__("weights", h5py.SoftLink("/arrays/conv1/weights")),
    "a link to another file": lambda group, other: group.__setitem__("weights", h5py.ExternalLink(other, "weights")),
    "stored in another file": external,
    "made of another file": virtual,
    "never written": never_written,
    "linked many times": many_links,
}


@pytest.mark.parametrize("make", ARRAYS.values(), ids=ARRAYS)
def test_an_array_that_is_not_what_it_should_be(saved, other, make):
    with changed(saved, "checkpoint") as file:
        replaced(make)(file, other)
    with little_memory(), pytest.raises(ValueError, match=f"^load: {re.escape(str(saved))} "):
        hebbcore.load(saved, device="cpu")


@pytest.mark.parametrize("name", ["header", "arrays", "arrays/fc2"])
def test_a_link_in_place_of_a_part(saved, other, name):
    with changed(saved, "checkpoint") as file:
        del file[name]
        file[name] = h5py.ExternalLink(other, "weights")
    with pytest.raises(ValueError, match=f"load: {re.escape(str(saved))} .*link"):
        hebbcore.load(saved, device="cpu")


@pytest.mark.parametrize(
    ("position", "words"),
    [
        ({"phase": 9}, "more phases"),
        ({"phase": -1}, "phase must be at least 0"),
        ({"batch": "x"}, "batch must be an integer"),
        ({"extra": 1}, "extra is unknown"),
        (None, "position must be a table"),
    ],
)
def test_a_position_where_no_training_is(tmp_path, position, words):
    options = {"batch_size": 10, "run": tmp_path / "run"}
    hebbcore.fit(network(), IMAGES, **options)
    path = checkpoint.checkpoints(tmp_path / "run")[-1]
    header, _ = checkpoint.read("load", path)
    header["position"] = None if position is None else header["position"] | position
    set_header(path, json.dumps(header))
    with pytest.raises(ValueError, match=rf"fit: {re.escape(str(path))} .*{words}"):
        hebbcore.fit(network(), IMAGES, **options)


# Features


def test_a_damaged_file_of_features_is_not_finished(tmp_path, capsys, caplog):
    path = extract_features(network(), stream(), tmp_path / "f.h5")
    content = path.read_bytes()
    with h5py.File(path) as file:
        place = file["features"].id.get_offset() + 7
        labels = file["labels"].id.get_offset() + 8
    for i in (3, 40, 600, place, labels, len(content) - 1):
        path.write_bytes(content[:i] + bytes([content[i] ^ 4]) + content[i + 1 :])
        with pytest.raises(
            (ValueError, FileExistsError), match=r"extract: .*f\.h5 (is damaged.* Remove it|exists and)"
        ):
            extract_features(network(), stream(), path)
        assert main(["verify", str(path)]) == 1
        assert "f.h5 is damaged" in capsys.readouterr().out
    path.write_bytes(content)
    assert extract_features(network(), stream(), path) == path
    assert main(["verify", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: sound\nfiles: 1, damaged: 0\n"
    assert not caplog.records


def test_a_file_of_features_without_a_digest_says_so(tmp_path, caplog, capsys):
    path = extract_features(network(), stream(), tmp_path / "f.h5")
    with h5py.File(path) as file:  # as an earlier version wrote them
        arrays, text = {name: file[name][...] for name in ("features", "labels")}, file.attrs["settings"].decode()
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        file.attrs["settings"] = text
    assert extract_features(network(), stream(), path) == path
    assert "has no digest" in caplog.text
    assert main(["verify", str(path)]) == 0
    assert "readable, but has no digest" in capsys.readouterr().out


def test_a_half_written_file_that_was_damaged_is_not_gone_on_with(tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def stop(done):
        if done == 16:
            raise Stop

    monkeypatch.setattr("hebbcore.features.extract._SAVE_SECONDS", 0)
    expected = extract_features(network(), stream(), tmp_path / "whole.h5").read_bytes()
    path, partial = tmp_path / "f.h5", tmp_path / "f.h5.partial"
    with pytest.raises(Stop):
        extract_features(network(), stream(), path, progress=stop)
    content = partial.read_bytes()
    with h5py.File(partial) as file:
        places = [file[name].id.get_offset() for name in ("features", "labels")]
    for place in places:
        partial.write_bytes(content[: place + 1] + bytes([content[place + 1] ^ 1]) + content[place + 2 :])
        with pytest.raises(ValueError, match=r"f\.h5\.partial is damaged \(.*remove it and .*f\.h5\.progress to begin"):
            extract_features(network(), stream(), path)
    partial.write_bytes(content[:-2000])
    with pytest.raises(ValueError, match=r"f\.h5\.partial is damaged"):
        extract_features(network(), stream(), path)
    partial.write_bytes(content)
    assert extract_features(network(), stream(), path).read_bytes() == expected


@pytest.mark.parametrize(
    "note", [DEEP, f'{{"batch": {LONG}}}', '{"batch": 1e999, "done": 1}', '{"batch": 9999, "done": 1, "settings": {}}']
)
def test_a_note_that_says_anything(tmp_path, note):
    (tmp_path / "f.h5.partial").write_bytes(b"half")
    (tmp_path / "f.h5.progress").write_text(note)
    with little_memory(), pytest.raises(ValueError, match=r"f\.h5\.progress does not say how far .* remove both"):
        extract_features(network(), stream(), tmp_path / "f.h5")


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.attrs.__setitem__("settings", "text of any length"),
        lambda file: file.attrs.__setitem__("settings", 5),
        lambda file: file.attrs.__delitem__("settings"),
        lambda file: file.attrs.create("settings", DEEP[:60_000].encode()),
        lambda file: file.__delitem__("labels"),
        lambda file: file.move("labels", "others"),
    ],
)
def test_features_that_are_none(tmp_path, change, capsys):
    path = extract_features(network(), stream(), tmp_path / "f.h5")
    with changed(path, "features") as file:
        change(file)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is damaged or holds no features"):
        storage.verify(path)
    assert main(["verify", str(path)]) == 1


def test_names_go_into_the_file(tmp_path):
    class Named(loaders.ArrayStream):
        names = [f"tench/é {i}.jpg" for i in range(19)] + ["odd \udcff.jpg"]

    named = Named(IMAGES, LABELS, batch_size=8)
    path = extract_features(network(), named, tmp_path / "f.h5")
    with h5py.File(path) as file:
        assert list(file["names"].asstr(errors="surrogateescape")[...]) == Named.names
        assert file["names"].asstr()[3] == "tench/é 3.jpg"
        plain = extract_features(network(), stream(), tmp_path / "plain.h5")
        with h5py.File(plain) as without:
            np.testing.assert_array_equal(file["features"][...], without["features"][...])
            assert "names" not in without
    assert extract_features(network(), named, tmp_path / "again.h5").read_bytes() == path.read_bytes()
    Named.names = Named.names[1:]
    with pytest.raises(ValueError, match=r"extract: stream\.names must be one for each image, 20 in all, got 19"):
        extract_features(network(), named, tmp_path / "wrong.h5")
    Named.names = ["x" * 5000] * 20
    with pytest.raises(ValueError, match="a name of 5000 bytes is too long"):
        extract_features(network(), named, tmp_path / "wrong.h5")
    assert not list(tmp_path.glob("wrong.h5*"))


def test_a_stream_with_a_long_state(tmp_path):
    class Long(loaders.ArrayStream):
        def state(self):
            return {**super().state(), "long": ["x" * 100] * 1000}

        def restore(self, state):
            super().restore({key: value for key, value in state.items() if key != "long"})

    path = extract_features(network(), Long(IMAGES, LABELS), tmp_path / "f.h5")
    assert storage.verify(path)
    assert extract_features(network(), Long(IMAGES, LABELS), path) == path


# Arrays of users


def bomb(group, other):
    images = group.create_dataset("images", (400, 2**20), "u1", chunks=(1, 2**20), compression=9)
    packed = zlib.compress(bytes(2**20), 9)
    for i in range(400):
        images.id.write_direct_chunk((i, 0), packed)


USERS = {
    "never written": lambda group, other: group.create_dataset("images", (10**9, 32, 32, 3), "u1"),
    "a bomb": bomb,
    "large chunks": lambda group, other: group.create_dataset(
        "images", (1, 8), "u1", maxshape=(None, 8), chunks=(2**27, 8), compression=9
    ),
    "of text": lambda group, other: group.create_dataset("images", data=["a", "b"]),
    "of lists": lambda group, other: group.create_dataset("images", (9,), h5py.vlen_dtype(np.uint8)),
    "of pairs": lambda group, other: group.create_dataset("images", (9, 9), np.dtype([("a", "u1"), ("b", "u1")])),
    "without a shape": lambda group, other: group.create_dataset("images", data=h5py.Empty("f4")),
    "in another file": lambda group, other: group.__setitem__("images", h5py.ExternalLink(other, "train/images")),
    "by way of another file": lambda group, other: (
        group.__setitem__("away", h5py.ExternalLink(other, "train")),
        group.__setitem__("images", h5py.SoftLink("away/images")),
    ),
    "round in circles": lambda group, other: group.__setitem__("images", h5py.SoftLink("images")),
    "stored elsewhere": lambda group, other: group.create_dataset(
        "images", (50, 48), "u1", external=[(str(other.parent / "secret.raw"), 0, 2400)]
    ),
}


@pytest.mark.parametrize("make", USERS.values(), ids=USERS)
def test_arrays_of_users(tmp_path, other, make):
    path = tmp_path / "images.h5"
    with h5py.File(path, "w") as file:
        make(file.create_group("train"), other)
    with little_memory(), pytest.raises(ValueError, match=rf"{re.escape(str(path))} (cannot be read|must hold)"):
        read_arrays(path, "train")


def test_honest_arrays_are_read_however_they_are_stored(tmp_path):
    zeros = np.zeros((300, 100, 100, 3), np.uint8)
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file.create_dataset("real/images", data=zeros, chunks=(10, 100, 100, 3), compression=9)  # 1:1000
        file["train"] = h5py.SoftLink("/real")
        file["test/images"] = h5py.SoftLink("/train/images")
        file["val/images"] = IMAGES
        file["val/labels"] = LABELS
        file["val/labels"].attrs["note"] = "more"
    for split in ("train", "test"):
        assert read_arrays(tmp_path / "images.h5", split)[0].shape == zeros.shape
    np.testing.assert_array_equal(read_arrays(tmp_path / "images.h5", "val")[1], LABELS)


# Text


@pytest.mark.parametrize(("name", "text"), [("a.json", DEEP), ("a.json", f'{{"seed": {LONG}}}'), ("a.toml", DEEP)])
def test_configurations_that_do_not_end(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text if name == "a.json" else f"a = {text}")
    with pytest.raises(ValueError, match=rf"config: .*{name} is not valid .*(nested too deeply|100000 digits)"):
        read_config(path)


def test_numbers_without_end_in_toml(tmp_path):
    (tmp_path / "a.toml").write_text(f"seed = {LONG}")
    with pytest.raises(ValueError, match=r"a\.toml is not valid TOML: it holds an integer of too many digits"):
        read_config(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_text(f"seed = {LONG[:4000]}")
    with pytest.raises(ValueError, match=r"seed must be at most 2\*\*128"):
        read_config(tmp_path / "a.toml")
    with pytest.raises(ValueError, match="learning_rate must be finite"):
        hebbcore.fit(network(), IMAGES, learning_rate=10**400)


@pytest.mark.parametrize("line", [DEEP, f'{{"step": {LONG}}}', '{"step": true}', "x", "", '{"step": 1, "crc32": "x"}'])
def test_lines_of_metrics(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}: line 2 is .*; remove that line"):
        diagnostics.lines(path)


def test_a_changed_figure_in_a_line_of_metrics_is_noticed(tmp_path, capsys):
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2, 3):
        diagnostics.append(path, {"step": step, "seconds": 1.5})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]
    content = path.read_bytes()
    noticed = 0
    second = content.index(b"\n") + 1
    for place in range(second, content.index(b"\n", second)):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=r"line 2 is (damaged|no record)"):
            diagnostics.lines(path)
        noticed += 1
    assert noticed > 40
    path.write_bytes(content.replace(b"1.5", b"9.5", 1))
    with pytest.raises(ValueError, match="line 1 is damaged: it does not match its CRC-32; remove that line"):
        diagnostics.cut_after(path, 2)
    assert main(["verify", str(path)]) == 1
    path.write_bytes(b'{"step": 0}\n' + content)
    assert main(["verify", str(path)]) == 0
    assert "sound, but 1 lines have no checksum" in capsys.readouterr().out


def test_a_run_is_verified_whole(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with h5py.File("images.h5", "w") as file:
        file["train/images"] = IMAGES
    Path("run.toml").write_text(
        '[data]\npath = "images.h5"\n[network]\nlayers = [{ type = "conv", units = 4, kernel_size = 3 }]\n'
    )
    assert main(["train", "run.toml", "--out", "a"]) == 0
    assert main(["verify", "a"]) == 0
    out = capsys.readouterr().out
    assert "a/metrics.jsonl: sound" in out
    assert "a/config.json: readable, and network and training are those of step-0000000001.h5" in out
    config = Path("a/config.json").read_text()
    Path("a/config.json").write_text(config.replace('"batch_size": 64', '"batch_size": 65'))
    assert main(["verify", "a"]) == 1
    assert "a/config.json is damaged: training.batch_size is not what" in capsys.readouterr().out
    Path("a/config.json").write_text(config)
    latest = checkpoint.checkpoints(Path("a"))[-1]
    latest.write_bytes(latest.read_bytes()[:-1])
    assert main(["verify", "a", "images.h5"]) == 1
    out = capsys.readouterr().out
    assert f"{latest} is damaged" in out
    assert "images.h5 is damaged or holds no features" in out
    assert main(["verify", "missing"]) == 1
    assert main(["verify", str(tmp_path)]) == 1


def test_no_code_reaches_the_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "\x1b]0;owned\x07\u202egpj.h5"
    Path(name).write_bytes(b"x")
    assert main(["extract", name, "x", "y"]) == 1
    assert main(["verify", name]) == 1
    out, err = capsys.readouterr()
    for text in (out, err):
        assert r"\x1b]0;owned\x07\u202egpj.h5" in text
        assert text.replace("\n", "").isprintable()
    assert printable("größe 表\n") == "größe 表\n"
    assert printable("a\r\tb\x9b\udcff") == r"a\r\tb\x9b\udcff"


# Anything at all

FUZZ = r"""
import json, random, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
sys.path[:0] = ["tests"]
import test_hostile_files as t
from test_hostile_files import *

folder, generator = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
hebbcore.save(folder / "net.h5", network())
extract_features(network(), stream(), folder / "f.h5")
with h5py.File(folder / "images.h5", "w") as file:
    file.create_dataset("train/images", data=IMAGES, chunks=(4, 8, 10, 3), compression=1, shuffle=True)
    file.create_dataset("train/labels", data=LABELS, chunks=(7,), maxshape=(None,))
for step in range(5):
    diagnostics.append(folder / "metrics.jsonl", {"step": step, "layers": {"conv1": {"change": 0.5}}})
config = {"data": {"path": "x"}, "network": {"layers": [{"type": "conv", "units": 4, "kernel_size": 3}]}, "seed": 1}
(folder / "config.json").write_text(json.dumps(config))
(folder / "config.toml").write_text('seed = 1\n[data]\npath = "x"\n[network]\npreset = "softhebb-cifar"\n')
(folder / "g.h5.progress").write_text(json.dumps({"settings": {"a": [1]}, "batch": 1, "done": 8, "digest": "ab"}))
(folder / "g.h5.partial").write_bytes((folder / "f.h5").read_bytes())
READERS = {
    "net.h5": lambda path: hebbcore.load(path, device="cpu"),
    "f.h5": storage.verify,
    "images.h5": lambda path: read_arrays(path, "train"),
    "metrics.jsonl": diagnostics.lines,
    "config.json": read_config,
    "config.toml": read_config,
    "g.h5.progress": lambda path: extract_features(network(), stream(), path.with_suffix("")),
}
WORDS = [b"[" * 5000, b"{" * 5000, b"9" * 5000, b"-", b"NaN", b"1e999", b"null", b'"', b"\xff", b"\n", b"true", b"\x1b"]


def changed_at_random(content, text):
    content = bytearray(content)
    for _ in range(generator.choice([1, 1, 2, 4, 16])):
        place = generator.randrange(0, max(1, len(content)))
        place = place if text or generator.random() < 0.5 else generator.randrange(0, min(len(content), 5000))
        some = generator.choice(WORDS) if text else generator.randbytes(generator.choice([1, 4, 8]))
        end = place + generator.choice([0, 1, len(some)])
        content[place:end] = some
    return bytes(content)


outcomes = {}
for name, read in READERS.items():
    path, text = folder / name, not name.endswith(".h5")
    content = path.read_bytes()
    for _ in range(int(sys.argv[3])):
        path.write_bytes(changed_at_random(content, text))
        if name in ("net.h5", "f.h5"):
            seal(path, {"net.h5": "checkpoint", "f.h5": "features"}[name])
        try:
            read(path)
            outcome = "read"
        except (OSError, ValueError, TypeError) as error:
            outcome = type(error).__name__
            # a key's path stands for the file of a configuration that is one
            if folder.name not in str(error) and not name.startswith("config"):
                raise SystemExit(f"{name}: {error!r} does not name the file")
        outcomes[name, outcome] = outcomes.get((name, outcome), 0) + 1
    path.write_bytes(content)
print(outcomes)
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_anything_at_all_is_read_or_named(tmp_path, seed):
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, str(tmp_path), str(seed), "60"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
    assert "'net.h5', 'ValueError'" in done.stdout
