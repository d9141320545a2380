"""An extraction goes on where it was stopped, with its own settings only, and one process at a time."""

import errno
import json
import os
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from extract_helpers import COUNT, Stop, contents, names, stop_after

import hebbcore
import loaders
from hebbcore import files
from hebbcore.features import extract
from hebbcore.features import storage as features
from hebbcore.features.choice import Features
from hebbcore.features.extract import extract_features
from hebbcore.files import locked_file
from hebbcore.labelling.features import extracted, rows_of

pytest_plugins = "extract_helpers"


def other_network(network):
    layers = [
        hebbcore.Conv(6, 3),
        hebbcore.Pool(2),
        hebbcore.BatchNorm(),
        hebbcore.Dense(7, "swta"),
        hebbcore.Triangle(),
    ]
    return hebbcore.Network(layers, (8, 10, 3), seed=4, device="cpu")


OTHERS = [
    ("layer", lambda network, data: (network, loaders.ArrayStream(*data, 8), {"layer": "bn1"})),
    ("dtype", lambda network, data: (network, loaders.ArrayStream(*data, 8), {"dtype": "float16"})),
    ("mirror", lambda network, data: (network, loaders.ArrayStream(*data, 8), {"mirror": True})),
    ("shifts", lambda network, data: (network, loaders.ArrayStream(*data, 8), {"shifts": 1})),
    ("batches", lambda network, data: (network, loaders.ArrayStream(*data, 9), {})),
    ("labels", lambda network, data: (network, loaders.ArrayStream(data[0], data[1][::-1], 8), {})),
    ("images", lambda network, data: (network, loaders.ArrayStream(data[0][::-1], data[1], 8), {})),
    ("weights", lambda network, data: (other_network(network), loaders.ArrayStream(*data, 8), {})),
]


@pytest.mark.parametrize("change", [change for _, change in OTHERS], ids=[name for name, _ in OTHERS])
def test_other_settings_never_mix(network, data, stream, tmp_path, change):
    path = extract_features(network, stream, tmp_path / "f.h5")
    before = path.read_bytes()
    other, images, options = change(network, data)
    message = r"f.h5 exists and holds something else; remove it or name another file"
    if "shifts" in options:
        message += r" \(shifts is 1 here and not set there\)"
    with pytest.raises(FileExistsError, match=message):
        extract_features(other, images, path, **options)
    assert path.read_bytes() == before
    stop_after(network, stream, tmp_path / "g.h5", 2)
    with pytest.raises(ValueError, match=r"g.h5.partial is of another extraction; finish that one, or remove it"):
        extract_features(other, images, tmp_path / "g.h5", **options)


@pytest.mark.parametrize("change", [change for name, change in OTHERS if name in ("images", "weights")])
@pytest.mark.parametrize("damaged", [False, True])
def test_what_others_left_in_the_folder_of_a_work_makes_room(
    network, data, stream, tmp_path, monkeypatch, change, damaged
):
    monkeypatch.setattr(extract, "_SAVE_SECONDS", 0)
    other, images, _ = change(network, data)
    path = tmp_path / "features.h5"
    stop_after(other, images, path, 2)
    if damaged:
        (tmp_path / "features.h5.progress").write_text("[1, 2]")
    chosen = Features.checked("classify", network, None, None, False, 0)
    rows = extracted(chosen, stream, path, lambda done: None)
    np.testing.assert_array_equal(rows, rows_of(chosen, data[0]))
    assert names(tmp_path) == ["features.h5"]
    stop_after(network, stream, tmp_path / "own.h5", 3)
    seen = []
    extracted(chosen, stream, tmp_path / "own.h5", seen.append)
    assert seen[0] > 8  # its own goes on


@pytest.mark.parametrize("kind", ["hdf5", "npy"])
def test_finished_features_are_found_where_nothing_can_be_written(network, stream, tmp_path, monkeypatch, kind):
    path = extract_features(network, stream, tmp_path / "f", format=kind)

    def refuse(path, missing_ok=False):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "unlink", refuse)  # so it is on Linux for a file that is not there, too
    assert extract_features(network, stream, tmp_path / "f", format=kind) == path


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"batch": 1}', '{"batch": null, "done": 8, "settings": {}}'])
def test_a_damaged_note_of_how_far_it_got_is_named(network, stream, tmp_path, text):
    stop_after(network, stream, tmp_path / "f.h5", 2)
    (tmp_path / "f.h5.progress").write_text(text)
    with pytest.raises(ValueError, match=r"f\.h5\.progress does not say how far .*f\.h5\.partial got .*; remove both"):
        extract_features(network, stream, tmp_path / "f.h5")


def test_other_pixels_never_mix(network, data, tmp_path):
    loaders.write_shards(data, tmp_path / "shards", shard_bytes=4000)
    options = [{}, {"dtype": "float32"}, {"dtype": "float32", "normalize": "stored"}]
    one, *others = [loaders.ShardStream(tmp_path / "shards", batch_size=8, **given) for given in options]
    path = extract_features(network, one, tmp_path / "f.h5")
    stop_after(network, one, tmp_path / "g.h5", 2)
    for other in others:
        with pytest.raises(FileExistsError, match="holds something else"):
            extract_features(network, other, path)
        with pytest.raises(ValueError, match=r"g.h5.partial is of another extraction"):
            extract_features(network, other, tmp_path / "g.h5")


@pytest.mark.parametrize("content", [b"", b"something", b"\x89HDF\r\n\x1a\n damaged"])
def test_files_of_others_are_never_overwritten(network, stream, tmp_path, content):
    (tmp_path / "f.h5").write_bytes(content)
    with pytest.raises(FileExistsError, match="holds something else"):
        extract_features(network, stream, tmp_path / "f.h5")
    assert (tmp_path / "f.h5").read_bytes() == content


@pytest.mark.parametrize("kind", ["arrays", "shards"])
def test_an_extraction_goes_on_where_it_was_noted(network, data, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(extract, "_SAVE_SECONDS", 0)
    if kind == "shards":
        loaders.write_shards(data, tmp_path / "shards", shard_bytes=4000)

    def stream():
        if kind == "shards":
            return loaders.ShardStream(tmp_path / "shards", batch_size=8)
        return loaders.ArrayStream(*data, batch_size=8)

    whole = extract_features(network, stream(), tmp_path / "whole.h5").read_bytes()
    path = tmp_path / "f.h5"
    one = stream()
    stop_after(network, one, path, 5)
    assert not path.exists()
    note = json.loads((tmp_path / "f.h5.progress").read_text())
    assert (note["batch"], note["done"]) == (5, 40)
    seen = []
    extract_features(network, one, path, progress=seen.append)  # with the stream that was left in the middle
    assert seen == [40, 48, 50]
    assert path.read_bytes() == whole
    assert not (tmp_path / "f.h5.progress").exists()
    path.unlink()
    stop_after(network, stream(), path, 3)
    extract_features(network, stream(), path)
    assert path.read_bytes() == whole


def test_what_an_earlier_version_began_goes_on(network, data, stream, tmp_path, monkeypatch, caplog):
    expected = contents(extract_features(network, stream, tmp_path / "new.h5"))
    path, partial = tmp_path / "f.h5", tmp_path / "f.h5.partial"
    monkeypatch.setattr(extract, "_SAVE_SECONDS", 0)
    stop_after(network, stream, path, 3)
    note = json.loads((tmp_path / "f.h5.progress").read_text())
    del note["digest"]
    (tmp_path / "f.h5.progress").write_text(json.dumps(note))
    with h5py.File(partial) as file:
        arrays = {name: file[name][...] for name in ("features", "labels")}
    with h5py.File(partial, "w") as file:  # without a line before the HDF5
        for name, array in arrays.items():
            file[name] = array
        file.attrs["settings"] = json.dumps(note["settings"])
    seen = []
    found = contents(extract_features(network, stream, path, progress=seen.append))
    assert seen[:2] == [24, 32]
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    assert not features.verify(path)
    extract_features(network, stream, path)
    assert "has no digest" in caplog.text


def test_an_old_note_does_not_speak_for_a_new_file(network, data, stream, tmp_path, monkeypatch):
    path = tmp_path / "f.h5"
    whole = extract_features(network, stream, path).read_bytes()
    settings = json.loads(contents(path)[2]["settings"])
    path.unlink()
    # a note that everything is done, and a kill in the moment after the new partial file was made
    (tmp_path / "f.h5.progress").write_text(json.dumps({"settings": settings, "batch": 7, "done": COUNT}))

    def killed(*arguments):
        raise Stop

    monkeypatch.setattr(features.Growing, "save", killed)
    monkeypatch.setattr(features.Growing, "drop", lambda self: None)
    with pytest.raises(Stop):
        extract_features(network, stream, path)
    monkeypatch.undo()
    extract_features(network, stream, path)
    assert path.read_bytes() == whole


def extract_slowly(network, data, path):
    """Extract, and note each batch on the disk."""
    slow = lambda done: time.sleep(0.002)  # noqa: E731
    extract_features(network, loaders.ArrayStream(*data, batch_size=8), path, layer="bn1", progress=slow)


def kill_at_a_random_moment(network, data, path, seconds):
    """Extract in a forked child, and kill it; returns whether it was still at work."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            extract_slowly(network, data, path)
            status = 0
        finally:
            os._exit(status)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_kills_at_random_moments_leave_the_same_file(network, data, tmp_path, generator, monkeypatch):
    monkeypatch.setattr(extract, "_SAVE_SECONDS", 0)
    stream = loaders.ArrayStream(*data, batch_size=8)
    whole = extract_features(network, stream, tmp_path / "whole.h5", layer="bn1").read_bytes()
    begin = time.monotonic()
    extract_slowly(network, data, tmp_path / "timed.h5")
    seconds = time.monotonic() - begin  # of an extraction as long as the machine is as busy
    kills, in_the_middle = 0, 0
    for attempt in range(60):  # a busy machine needs more than twelve
        if attempt >= 12 and kills > 6 and in_the_middle > 2:
            break
        path = tmp_path / f"f{attempt}.h5"
        for _ in range(3):
            kills += kill_at_a_random_moment(network, data, path, generator.uniform(0, 1.3 * seconds))
            note = path.with_name(f"{path.name}.progress")
            in_the_middle += note.exists() and 0 < json.loads(note.read_text())["done"] < COUNT
        extract_features(network, loaders.ArrayStream(*data, batch_size=8), path, layer="bn1")
        assert path.read_bytes() == whole
        assert not list(tmp_path.glob(f"*f{attempt}.h5.*"))
    assert kills > 6
    assert in_the_middle > 2


def test_two_processes_do_not_extract_into_one_file(network, stream, tmp_path):
    path = tmp_path / "f.h5"
    held = locked_file(path, "extracting into")

    def other(done):
        if not done:
            return
        with pytest.raises(BlockingIOError, match=r"another process is extracting into .*f.h5; wait for it or stop it"):
            extract_features(network, stream, path)
        extract_features(network, stream, tmp_path / "g.h5")  # another file of the folder
        assert names(tmp_path) == [".f.h5.lock", "f.h5.partial", "f.h5.progress", "g.h5"]
        raise Stop

    for _ in range(2):
        with pytest.raises(Stop):
            extract_features(network, stream, path, progress=other)
        assert names(tmp_path) == ["f.h5.partial", "f.h5.progress", "g.h5"]
    with held, pytest.raises(BlockingIOError, match="another process"):
        extract_features(network, stream, path)
    for _ in range(2):  # the second time there is nothing left to do
        for left in (".f.h5.lock", ".f.h5.progress.partial"):  # as a kill leaves them
            (tmp_path / left).touch()
        extract_features(network, stream, path)
        assert names(tmp_path) == ["f.h5", "g.h5"]
    (tmp_path / ".f.h5.lock").touch()
    with locked_file(path, "extracting into"):
        extract_features(network, stream, path)
        assert names(tmp_path) == [".f.h5.lock", "f.h5", "g.h5"]


def test_other_names_of_the_same_images_are_refused(network, data, tmp_path, monkeypatch):
    monkeypatch.setattr(extract, "_SAVE_SECONDS", 0)

    def named(text):
        return loaders.ArrayStream(*data, batch_size=8, names=[f"{text}{i}" for i in range(len(data[0]))])

    stop_after(network, named("é"), tmp_path / "f.h5", 2)
    with pytest.raises(FileExistsError, match=r"f.h5.partial exists and .* other names: image 0 is b0 here and é0 th"):
        extract_features(network, named("b"), tmp_path / "f.h5")
    extract_features(network, named("é"), tmp_path / "f.h5")
    extract_features(network, named("é"), tmp_path / "f.h5")
    with pytest.raises(FileExistsError, match=r"f.h5 exists and holds features of the same images under other"):
        extract_features(network, named("b"), tmp_path / "f.h5")
    extract_features(network, loaders.ArrayStream(*data, batch_size=8), tmp_path / "f.h5")


def test_a_lock_that_its_holder_removes_is_taken_anew(tmp_path, monkeypatch):
    path, flock, holders = tmp_path / "f.h5", files.fcntl.flock, []

    def late(descriptor, kind):
        holders.append(descriptor)
        if len(holders) == 1:  # the holder ends between the opening of its file and the locking
            (tmp_path / ".f.h5.lock").unlink()
        flock(descriptor, kind)

    monkeypatch.setattr(files.fcntl, "flock", late)
    with locked_file(path, "extracting into"):
        assert len(holders) == 2
        with pytest.raises(BlockingIOError), locked_file(path, "extracting into"):
            pass
    assert names(tmp_path) == []


def test_a_file_that_another_process_finishes_meanwhile_is_kept(network, stream, tmp_path, monkeypatch):
    path = extract_features(network, stream, tmp_path / "f.h5")
    before, exists, asked = path.stat().st_mtime_ns, extract.Path.exists, []

    def late(self):
        asked.append(self)
        return len(asked) > 1 and exists(self)

    monkeypatch.setattr(extract.Path, "exists", late)
    assert extract_features(network, stream, path) == path
    assert path.stat().st_mtime_ns == before
