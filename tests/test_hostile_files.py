"""Features and users' arrays that someone made to deceive, and any file at all changed at random."""

import re
import subprocess
import sys
import zlib

import h5py
import numpy as np
import pytest
from conftest import ROOT
from hostile_helpers import DEEP, IMAGES, LABELS, LONG, changed, little_memory, network, stream

import loaders
from hebbcore.cli import main
from hebbcore.cli.sources import read_arrays
from hebbcore.features import storage
from hebbcore.features.extract import extract_features

pytest_plugins = "hostile_helpers"


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


# Anything at all

FUZZ = r"""
import json, random, resource, sys
from pathlib import Path
if sys.platform == "linux":  # macOS has no such limit
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
sys.path[:0] = ["tests"]
import h5py
import hebbcore
from hebbcore.cli.sources import read_arrays
from hebbcore.features import storage
from hebbcore.features.extract import extract_features
from hebbcore.runs.config import read_config
from hebbcore.training import diagnostics
from hostile_helpers import IMAGES, LABELS, network, seal, stream

folder, generator = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
hebbcore.save(folder / "net.h5", network())
extract_features(network(), stream(), folder / "f.h5")
with h5py.File(folder / "images.h5", "w") as file:
    file.create_dataset("train/images", data=IMAGES, chunks=(4, 8, 10, 3), compression=1, shuffle=True)
    file.create_dataset("train/labels", data=LABELS, chunks=(7,), maxshape=(None,))
for step in range(5):
    record = {"phase": 0, "epoch": 0, "step": step, "layers": {"conv1": {"change": 0.5}}}
    diagnostics.append(folder / "metrics.jsonl", record)
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
