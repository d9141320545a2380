"""Builds that are killed, fail or run out of disk: what is there stays right, and the next run finishes it."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from urllib.error import HTTPError

import pytest
from loaders_helpers import contents, make_arrays, make_tar, make_tree, members

import loaders
import loaders.files
from loaders.shards.plan import found_instead
from loaders.workers import map_ordered

OPTIONS = {"size": 48, "shard_bytes": 9000}
SCRIPT = """
import sys
import loaders
if __name__ == "__main__":
    loaders.open_source(sys.argv[1])
    print("ready", flush=True)
    loaders.build_shards(sys.argv[1], sys.argv[2], size=48, shard_bytes=9000, workers=int(sys.argv[3]))
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    tree = make_tree(tmp_path_factory.mktemp("data") / "tree", classes=4, images=25)
    (tree / "class_0" / "010.jpg").write_bytes(b"damaged")
    (tree / "class_3" / "024.jpg").write_bytes(b"damaged, and the last one of all")
    return tree


@pytest.fixture(scope="module")
def expected(tree, tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("expected")
    index = loaders.build_shards(tree, folder, workers=1, **OPTIONS)
    assert len(index.shards) > 15
    assert index.records + index.skipped == 100
    return contents(folder)


def start(tmp_path: Path, *arguments: object) -> subprocess.Popen:
    """A build in another process, which has just begun when this returns."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(loaders.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    assert process.stdout.readline() == b"ready\n"
    return process


def kill(process: subprocess.Popen) -> bool:
    """kill -9; True if it was still running."""
    running = process.poll() is None
    process.kill()
    process.communicate()
    return running


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_builds_are_finished_to_the_same_bytes(tree, expected, tmp_path, workers):
    clock = random.Random(workers)
    target = tmp_path / "shards"
    process = start(tmp_path, tree, target, workers)
    began = time.monotonic()
    process.communicate()
    duration = time.monotonic() - began
    assert contents(target) == expected
    kills, partly = 0, 0
    for attempt in range(40):
        target = tmp_path / str(attempt)
        process = start(tmp_path, tree, target, workers)
        if attempt < 5:  # surely among the shards
            while not (target / f"shard-{attempt:05d}.h5").exists() and process.poll() is None:
                time.sleep(0.001)
        else:
            time.sleep(clock.uniform(0, duration))
        if kill(process):
            kills += 1
            found = contents(target) if target.exists() else {}
            partly += any(name.startswith("shard") for name in found) and "index.json" not in found
            for name, data in found.items():
                assert name == "build.json" or name.endswith(".partial") or data == expected[name]
        loaders.build_shards(tree, target, workers=1, **OPTIONS)
        assert contents(target) == expected
        if kills == 12:
            break
    assert kills == 12
    assert partly >= 2


def test_a_build_killed_again_and_again_still_arrives(tree, expected, tmp_path):
    target = tmp_path / "shards"
    clock = random.Random(0)
    for _ in range(6):
        process = start(tmp_path, tree, target, 1)
        time.sleep(clock.uniform(0, 0.15))
        kill(process)
    loaders.build_shards(tree, target, workers=1, **OPTIONS)
    assert contents(target) == expected


def test_a_crash_at_every_write_is_made_good(tree, expected, tmp_path, monkeypatch):
    replace = os.replace
    for crash in range(1, len(expected) + 2):
        target = tmp_path / str(crash)
        calls = 0

        def failing(source, destination, crash=crash):
            nonlocal calls
            calls += 1
            if calls == crash:
                raise KeyboardInterrupt
            replace(source, destination)

        with monkeypatch.context() as patch:
            patch.setattr(loaders.files.os, "replace", failing)
            with pytest.raises(KeyboardInterrupt):
                loaders.build_shards(tree, target, workers=1, **OPTIONS)
        loaders.build_shards(tree, target, workers=1, **OPTIONS)
        assert contents(target) == expected


def test_the_number_of_workers_does_not_change_a_byte(tree, expected, tmp_path):
    loaders.build_shards(tree, tmp_path / "three", workers=3, **OPTIONS)
    assert contents(tmp_path / "three") == expected


def test_a_lost_shard_is_made_again(tree, expected, tmp_path):
    loaders.build_shards(tree, tmp_path, workers=1, **OPTIONS)
    (tmp_path / "shard-00003.h5").unlink()
    (tmp_path / "shard-00007.h5").unlink()
    loaders.build_shards(tree, tmp_path, workers=1, **OPTIONS)
    assert contents(tmp_path) == expected


def test_a_finished_build_returns_without_reading_the_source_again(tree, expected, tmp_path, monkeypatch):
    index = loaders.build_shards(tree, tmp_path, workers=1, **OPTIONS)
    monkeypatch.setattr(loaders.sources.base.Item, "read", lambda item: pytest.fail("read again"))
    assert loaders.build_shards(tree, tmp_path, workers=1, **OPTIONS) == index
    assert contents(tmp_path) == expected


def test_arrays_go_on_too(tmp_path, monkeypatch):
    arrays = make_arrays(60)
    loaders.write_shards(arrays, tmp_path / "whole", shard_bytes=1500)
    with monkeypatch.context() as patch:
        patch.setattr(loaders.shards.write, "shard_name", lambda number: 1 / (number != 5) and f"shard-{number:05d}.h5")
        with pytest.raises(ZeroDivisionError):
            loaders.write_shards(arrays, tmp_path / "broken", shard_bytes=1500)
    assert (tmp_path / "broken" / "shard-00004.h5").exists()
    loaders.write_shards(arrays, tmp_path / "broken", shard_bytes=1500)
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")
    other = arrays[0].copy()
    other[0] ^= 1
    with pytest.raises(ValueError, match="crc32"):
        loaders.write_shards((other, arrays[1]), tmp_path / "broken", shard_bytes=1500)


def test_another_set_in_the_folder_is_not_touched(tree, tmp_path):
    loaders.build_shards(tree, tmp_path, workers=1, **OPTIONS)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="size 48 there and 32 here"):
        loaders.build_shards(tree, tmp_path, workers=1, size=32, shard_bytes=9000)
    (tmp_path / "index.json").unlink()
    with pytest.raises(ValueError, match="belongs to another set") as caught:
        loaders.build_shards(tree, tmp_path, workers=1, size=32, shard_bytes=9000)
    found = found_instead(caught.value)
    assert str(caught.value) == f"build_shards: {found}; choose another folder or delete it"
    assert found_instead(ValueError(str(caught.value))) is None  # nobody reads the text
    del before["index.json"]
    (tmp_path / "build.json").unlink()
    assert contents(tmp_path) == before


def test_an_interrupted_build_is_not_continued_with_other_settings(tree, tmp_path):
    process = start(tmp_path, tree, tmp_path / "shards", 1)
    while not (tmp_path / "shards" / "build.json").exists():
        time.sleep(0.001)
    assert kill(process)
    with pytest.raises(ValueError, match="quality 90 there and 50 here"):
        loaders.build_shards(tree, tmp_path / "shards", workers=1, quality=50, **OPTIONS)


def test_two_builds_do_not_write_to_one_folder(tree, tmp_path):
    with loaders.files.locked(tmp_path), pytest.raises(BlockingIOError, match="another build"):
        loaders.build_shards(tree, tmp_path, workers=1)
    loaders.build_shards(tree, tmp_path, workers=1)


def test_strict_stops_at_the_first_damaged_image_and_can_go_on_without(tree, expected, tmp_path):
    with pytest.raises(ValueError, match=r"class_0/010\.jpg cannot be decoded: cannot identify"):
        loaders.build_shards(tree, tmp_path, workers=1, strict=True, **OPTIONS)
    loaders.build_shards(tree, tmp_path, workers=1, **OPTIONS)
    assert contents(tmp_path) == expected
    with pytest.raises(ValueError, match="2 images could not be decoded"):
        loaders.build_shards(tree, tmp_path, workers=1, strict=True, **OPTIONS)


def test_a_source_without_a_single_image_is_an_error_with_a_report(tmp_path):
    make_tar(tmp_path / "bad.tar", {"a/1.jpg": b"x", "a/2.jpg": b"y"})
    with pytest.raises(ValueError, match=r"can be decoded \(2 skipped, .*; the first, a/1\.jpg: cannot identify"):
        loaders.build_shards(tmp_path / "bad.tar", tmp_path / "shards", workers=1)
    report = json.loads((tmp_path / "shards" / "report.json").read_text())
    assert (report["images_in"], report["written"], len(report["skipped"])) == (2, 0, 2)


def test_progress_counts_every_image_once_and_ends_at_the_total(tree, tmp_path):
    seen = []
    loaders.build_shards(tree, tmp_path, workers=1, progress=seen.append, **OPTIONS)
    assert (seen[-1].written, seen[-1].skipped) == (98, 2)
    assert seen[-1].position == seen[-1].total == 100
    assert all(earlier.position < later.position for earlier, later in pairwise(seen))


def limited(limit: int) -> str:
    return f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n" + SCRIPT


@pytest.mark.parametrize("limit", [3000, 5000, 9000, 12_000, "median"])
def test_a_full_disk_is_a_clear_error_and_earlier_shards_are_intact(tree, expected, tmp_path, limit):
    """A limit on the size of files makes the write fail as a full disk does, for any user."""
    target = tmp_path / "shards"
    sizes = sorted(len(data) for name, data in expected.items() if name.startswith("shard"))
    limit = sizes[len(sizes) // 2] - 1 if limit == "median" else limit
    process = subprocess.run(
        [sys.executable, "-c", limited(limit), str(tree), str(target), "1"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(loaders.__file__).parents[1])},
    )
    assert process.returncode == 1, process.stderr
    assert "OSError" in process.stderr
    assert "what was written before is intact" in process.stderr
    found = contents(target)
    assert not any(name.endswith(".partial") for name in found)
    assert all(data == expected[name] for name, data in found.items() if name != "build.json")
    loaders.build_shards(tree, target, workers=1, **OPTIONS)
    assert contents(target) == expected


def test_no_space_is_reported_with_its_errno(tree, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(loaders.files.os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write .*build\.json: No space left on device") as caught:
        loaders.build_shards(tree, tmp_path / "shards", workers=1)
    assert caught.value.errno == errno.ENOSPC
    assert list((tmp_path / "shards").iterdir()) == []


def test_an_unwritable_target_is_named(tree, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot create the folder"):
        loaders.build_shards(tree, tmp_path / "file" / "shards", workers=1)
    monkeypatch.setattr(loaders.shards.build.os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="not writable"):
        loaders.build_shards(tree, tmp_path / "shards", workers=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be an integer >= 1"),
        ({"size": 2.5}, "size must be an integer >= 1"),
        ({"layout": "zip"}, "layout must be"),
        ({"quality": 101}, "quality"),
        ({"quality": 90}, "nothing is resized into one here; give size"),
        ({"quality": 90, "size": 32, "layout": "raw"}, "leave quality out"),
        ({"value_range": 100}, "value_range must be an integer >= 255"),
        ({"shard_bytes": 0}, "shard_bytes"),
        ({"workers": 0}, "workers"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(tree, tmp_path, options, message):
    with pytest.raises(ValueError, match=f"build_shards: .*{message}"):
        loaders.build_shards(tree, tmp_path / "shards", **options)
    assert not (tmp_path / "shards").exists()


def test_what_arrays_have_no_use_for_is_refused(tmp_path):
    source = loaders.array_source(*make_arrays())
    for options, message in [
        ({"size": 8}, "arrays keep their own size"),
        ({"workers": 2}, "arrays need no decoding; leave workers out"),
        ({"value_range": 4095}, "arrays are uint8 already"),
        ({"quality": 90}, "quality is for JPEGs"),
    ]:
        with pytest.raises(ValueError, match=message):
            loaders.build_shards(source, tmp_path / "x", **options)
    assert not (tmp_path / "x").exists()


def test_other_things_than_sources_are_refused(tmp_path):
    with pytest.raises(TypeError, match="got tuple; arrays go to write_shards"):
        loaders.build_shards(make_arrays(), tmp_path / "x")
    with pytest.raises(TypeError, match=r"\(images, labels\), got ndarray"):
        loaders.write_shards(make_arrays()[0], tmp_path / "x")
    loaders.write_shards(make_arrays(channels=1), tmp_path / "grey")
    with pytest.raises(ValueError, match="stats_from must have 3 channels, got 1"):
        loaders.write_shards(make_arrays(), tmp_path / "x", stats_from=tmp_path / "grey")
    assert not (tmp_path / "x").exists()


def test_an_archive_that_goes_away_is_an_error_not_a_long_report(tmp_path):
    source = loaders.open_source(make_tar(tmp_path / "a.tar", {"a/1.jpg": b"x", "a/2.jpg": b"y"}))
    items = list(source.items())
    (tmp_path / "a.tar").unlink()
    with pytest.raises(FileNotFoundError):
        loaders.shards.encode.encode_items(items, loaders.shards.encode.Options(None, False, 90))


def test_one_image_larger_than_a_shard_gets_its_own(tree, tmp_path):
    index = loaders.build_shards(tree, tmp_path, workers=1, shard_bytes=1)
    assert {shard.records for shard in index.shards[:-1]} == {1}


def double_or_die(number: int) -> int:
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 17:
        raise FileNotFoundError("seventeen")
    if number == 18:  # it cannot be made again from its pickle
        raise HTTPError("http://here", 503, "Busy", {}, None)
    if number == 19:
        raise type("LocalError", (Exception,), {})("nineteen")
    return 2 * number


class Unreadable:
    """What pickles, and cannot be made again, as objects of a notebook's own classes."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("missing",)


def test_results_of_workers_come_in_order():
    assert list(map_ordered(double_or_die, range(12), workers=3)) == [2 * number for number in range(12)]


def test_an_error_in_a_worker_reaches_the_caller():
    with pytest.raises(FileNotFoundError, match="seventeen"):
        list(map_ordered(double_or_die, [1, 2, 17, 4], workers=2))


@pytest.mark.parametrize(
    ("task", "kind", "message"),
    [
        (18, OSError, "HTTPError: HTTP Error 503: Busy"),
        (19, RuntimeError, "LocalError: nineteen"),
        (Unreadable(), ValueError, "missing"),
    ],
)
def test_an_error_that_cannot_be_pickled_says_what_it_is(task, kind, message):
    with pytest.raises(kind, match=message) as caught:
        list(map_ordered(double_or_die, [1, task, 2], workers=2))
    assert "in _answer" in caught.value.__notes__[0]


def test_a_killed_worker_is_an_error_not_a_wait_for_ever():
    with pytest.raises(RuntimeError, match="a worker process ended abruptly"):
        list(map_ordered(double_or_die, range(100), workers=2))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_workers_do_not_outlive_a_killed_build(tmp_path):
    tree = make_tree(tmp_path / "large", classes=2, images=60, height=400, width=600)
    process = start(tmp_path, tree, tmp_path / "shards", 2)
    while not (tmp_path / "shards" / "shard-00000.h5").exists():
        time.sleep(0.001)
    assert len(members(process.pid)) > 2
    assert kill(process)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (left := members(process.pid)):
        time.sleep(0.05)
    assert not left


def test_shards_have_no_times_or_other_traces_of_when_and_where(tmp_path):
    arrays = make_arrays()
    loaders.write_shards(arrays, tmp_path / "a")
    time.sleep(1.1)
    loaders.write_shards(arrays, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
