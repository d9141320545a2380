"""A disk that is full at any byte: an error with the path and what to do, the earlier state, and nothing left over."""

import errno
import json
import os
import re
import resource
import subprocess
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import h5py
import numpy as np
import pytest
from loaders_helpers import make_arrays

import hebbcore
import loaders
from hebbcore import checkpoint, hdf5, plots
from hebbcore.cli import main
from hebbcore.evaluation.evaluate import evaluate
from hebbcore.evaluation.report import write_report
from hebbcore.features import storage
from hebbcore.features.extract import extract_features
from hebbcore.training import diagnostics

IMAGES, LABELS = make_arrays(40, seed=1)
CONFIG = """
[data]
path = "{}"
[network]
layers = [{{ type = "conv", units = 4, kernel_size = 3 }}, {{ type = "dense", units = 50, rule = "swta" }}]
[training]
epochs = 2
log_seconds = 0
batch_size = 10
"""


class FullAt:
    """A folder in which a file can have so many bytes and no more."""

    def __init__(self, folder):
        self.folder = folder

    @contextmanager
    def room(self, size):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


class SmallDisk:
    """A tmpfs, all but so many bytes of which are taken."""

    def __init__(self, folder):
        self.folder, self._ballast = folder, folder.parent / "ballast"

    @contextmanager
    def room(self, size):
        with self._ballast.open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(bytes(4096))
                except OSError:
                    break
            file.truncate(max(0, file.tell() - size))
            try:
                yield
            finally:
                self._ballast.unlink()


@pytest.fixture(params=["limit", "tmpfs"])
def disk(request, tmp_path):
    if request.param == "limit":
        (tmp_path / "full").mkdir()
        yield FullAt(tmp_path / "full")
        return
    place = tmp_path / "tmpfs"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small tmpfs")
    try:
        (place / "folder").mkdir()
        yield SmallDisk(place / "folder")
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture(scope="module")
def network():
    layers = [hebbcore.Conv(6, 3), hebbcore.Pool(2), hebbcore.BatchNorm(), hebbcore.Dense(50, "swta")]
    return hebbcore.Network(layers, (8, 10, 3), seed=3, device="cpu")


def stream():
    return loaders.ArrayStream(IMAGES, LABELS, batch_size=8)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused_at_every_size(disk, action, check, step=4096, most=400):
    """Run an action with ever more room until it succeeds; before, it must fail, and check the folder each time."""
    failures = 0
    for number in count():
        assert number < most
        failure = None
        with disk.room(number * step):
            try:
                action()
            except OSError as error:
                failure = error
        if failure is None:
            break
        failures += 1
        assert failure.errno in (errno.ENOSPC, errno.EFBIG), failure
        assert re.search("cannot write.*(make room, then run the same again|run the same command again)", str(failure))
        assert str(disk.folder) in str(failure)
        assert not [path for path in disk.folder.rglob("*") if path.name.endswith((".partial", ".progress"))]
        check()
    assert failures >= 2


def test_save_keeps_the_file_before(disk, network, tmp_path):
    path = disk.folder / "net.h5"
    path.write_bytes(b"the file before")
    hebbcore.save(tmp_path / "expected.h5", network)

    def unchanged():
        assert contents(disk.folder) == {Path("net.h5"): b"the file before"}

    refused_at_every_size(disk, lambda: hebbcore.save(path, network), unchanged)
    assert path.read_bytes() == (tmp_path / "expected.h5").read_bytes()


def test_extract_leaves_nothing(disk, network, tmp_path):
    path = disk.folder / "f.h5"
    expected = extract_features(network, stream(), tmp_path / "f.h5").read_bytes()

    def nothing():
        assert contents(disk.folder) == {}

    refused_at_every_size(disk, lambda: extract_features(network, stream(), path), nothing, 1024)
    assert path.read_bytes() == expected


def test_an_extraction_whose_note_cannot_be_written_goes_on(disk, network, tmp_path, monkeypatch):
    monkeypatch.setattr("hebbcore.features.extract._SAVE_SECONDS", 0)
    expected = extract_features(network, stream(), tmp_path / "f.h5").read_bytes()
    path = disk.folder / "f.h5"

    def full(done):
        monkeypatch.setattr(storage, "write_text", refuse)

    def refuse(note, text):
        raise OSError(errno.ENOSPC, "cannot write", str(note))

    with pytest.raises(OSError, match="cannot write"):
        extract_features(network, stream(), path, progress=full)
    assert sorted(item.name for item in disk.folder.iterdir()) == ["f.h5.partial", "f.h5.progress"]
    monkeypatch.undo()
    assert extract_features(network, stream(), path).read_bytes() == expected


def test_train_keeps_its_checkpoints_and_goes_on(disk, tmp_path, capsys):
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["train/images"] = IMAGES
    (tmp_path / "run.toml").write_text(CONFIG.format(tmp_path / "images.h5"))
    assert main(["train", str(tmp_path / "run.toml"), "--out", str(tmp_path / "whole")]) == 0
    run = disk.folder / "run"
    capsys.readouterr()
    failures = 0
    for number in count():
        assert number < 100
        with disk.room(number * 2048):
            status = main(["train", str(tmp_path / "run.toml"), "--out", str(run)])
        if not status:
            break
        failures += 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith("hebbcore: cannot "), said
        assert str(disk.folder) in said
        assert not list(disk.folder.rglob("*.partial"))
        for path in checkpoint.checkpoints(run):
            checkpoint.read("load", path)
        diagnostics.lines(run / "metrics.jsonl")
    assert failures > 5
    ours, theirs = (hebbcore.load(folder, device="cpu") for folder in (run, tmp_path / "whole"))
    np.testing.assert_array_equal(ours["fc2"].weights, theirs["fc2"].weights)
    steps = [record["step"] for record in diagnostics.lines(run / "metrics.jsonl")]
    assert steps == [record["step"] for record in diagnostics.lines(tmp_path / "whole/metrics.jsonl")]


def test_a_checkpoint_in_the_middle_keeps_the_one_before(disk):
    net = hebbcore.Network([hebbcore.Conv(4, 3), hebbcore.Dense(50, "swta")], (8, 10, 3), device="cpu")
    options = {"batch_size": 10, "log_seconds": 0, "run": disk.folder / "run"}
    hebbcore.fit(net, IMAGES, **options)
    before = contents(disk.folder)
    net = hebbcore.Network([hebbcore.Conv(4, 3), hebbcore.Dense(50, "swta")], (8, 10, 3), device="cpu")
    size = checkpoint.checkpoints(disk.folder / "run")[-1].stat().st_size
    with disk.room(size // 2), pytest.raises(OSError, match=r"cannot write: .*make room.*step-0000000008\.h5"):
        hebbcore.fit(net, IMAGES, epochs=2, **options)
    after = contents(disk.folder)
    assert {path: after[path] for path in before if path.suffix == ".h5"} == {
        path: data for path, data in before.items() if path.suffix == ".h5"
    }
    hebbcore.fit(net, IMAGES, epochs=2, **options)


def test_a_line_of_metrics_is_whole_or_not_there(disk):
    path = disk.folder / "metrics.jsonl"
    records = [{"phase": 0, "epoch": 0, "step": step, "layers": {}, "text": "x" * 300} for step in range(30)]
    done = []

    def append_all():
        for record in records:
            diagnostics.append(path, record)
            done.append(record)

    with disk.room(4096), pytest.raises(OSError, match=r"cannot write: .*metrics\.jsonl"):
        append_all()
    assert 5 < len(done) < 30
    assert diagnostics.lines(path) == done
    assert path.read_bytes().endswith(b"}\n")
    diagnostics.append(path, records[len(done)])
    assert diagnostics.lines(path) == records[: len(done) + 1]


def test_results_and_their_report(disk, network, tmp_path):
    pytest.importorskip("matplotlib")
    options = {"layers": ["fc2"], "fractions": (1,), "baselines": (), "queries": 10}
    results = evaluate(network, stream(), stream(), tmp_path / "results", **options)
    folder = disk.folder / "results"

    def whole():
        assert all(json.loads(data)["settings"] for data in contents(disk.folder).values())

    refused_at_every_size(disk, lambda: evaluate(network, stream(), stream(), folder, **options), whole, 512)
    assert json.loads((folder / "results.json").read_text())["sources"] == results["sources"]

    def sound():
        for path in folder.iterdir():
            assert path.name == "results.json" or path.read_bytes()[-1:] in (b"\n", b"\x82")  # the end of a PNG

    refused_at_every_size(disk, lambda: write_report(folder, results, "title"), sound, 8192)
    assert main(["verify", str(folder)]) == 0
    text = (folder / "results.json").read_text()
    (folder / "results.json").write_text(re.sub(r'("top1": )\d', r"\g<1>0", text, count=1))
    assert main(["verify", str(folder)]) == 1


def test_pictures_of_runs_keep_those_before(disk, tmp_path):
    pytest.importorskip("matplotlib")
    runs = {name: tmp_path / name for name in "ab"}
    for run in runs.values():
        net = hebbcore.Network([hebbcore.Conv(4, 3)], (8, 10, 3), device="cpu")
        hebbcore.fit(net, IMAGES, batch_size=10, log_seconds=0, run=run)
    for save in (partial(plots.save_curves, runs["a"]), partial(plots.save_comparison, runs)):
        path = disk.folder / "curves.png"
        path.write_bytes(b"the file before")
        with disk.room(8192), pytest.raises(OSError, match=r"cannot write: .*make room.*curves\.png"):
            save(path)
        assert contents(disk.folder) == {Path("curves.png"): b"the file before"}


def test_shards(disk, tmp_path):
    expected = tmp_path / "expected"
    loaders.write_shards((IMAGES, LABELS), expected, shard_bytes=4000)
    target = disk.folder / "shards"

    def sound():
        whole = contents(expected)
        for path, data in contents(target).items() if target.exists() else ():
            assert path.name == "build.json" or data == whole[path]

    refused_at_every_size(disk, lambda: loaders.write_shards((IMAGES, LABELS), target, shard_bytes=4000), sound, 1024)
    assert contents(target) == contents(expected)


# How it is done


def test_hdf5_gets_no_file_to_write(tmp_path, monkeypatch, network):
    opened, original = [], h5py.File

    def watched(name, mode="r", **options):
        opened.append((name, mode))
        return original(name, mode, **options)

    monkeypatch.setattr(h5py, "File", watched)
    hebbcore.save(tmp_path / "net.h5", network)
    extract_features(network, stream(), tmp_path / "f.h5")
    assert [mode for name, mode in opened if isinstance(name, os.PathLike | str)] == ["r"] * (len(opened) - 2)


def test_a_plan_is_what_hdf5_would_have_written(tmp_path, generator):
    arrays = {"a": generator.random((3, 4)), "deep/b": generator.integers(0, 9, 7), "none": np.zeros((0, 3), np.uint8)}
    hdf5.write_sealed(tmp_path / "x", "test", 3, arrays)
    hdf5.check("read", tmp_path / "x", "test", 3)
    with h5py.File(tmp_path / "x") as file:
        for name, array in arrays.items():
            np.testing.assert_array_equal(file[name][...], array)
            assert file[name].dtype == array.dtype
    with h5py.File(tmp_path / "x", "r+") as file:  # and it can be changed as any other
        file["more"] = np.arange(100_000)
        np.testing.assert_array_equal(file["more"][...], np.arange(100_000))


def test_a_checkpoint_takes_no_second_copy_of_the_weights(tmp_path):
    import tracemalloc

    net = hebbcore.Network([hebbcore.Dense(1000)], (10_000,), device="cpu")
    tracemalloc.start()
    hebbcore.save(tmp_path / "net.h5", net)
    written = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    hebbcore.load(tmp_path / "net.h5", device="cpu")
    read = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert written < 2**20
    assert read < 1.2 * 40e6  # no weights are drawn, to be thrown away
