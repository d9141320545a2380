"""Parts of a build of shards, which jobs make side by side, and the call that joins them."""

import io
import json
import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import loaders
from hebbcore.cli import main
from loaders.shards.verify import verify_shards

PARTS = 3


@pytest.fixture
def source(tmp_path):
    """Return a folder of class folders: 11 images, and a file that is none."""
    generator = np.random.default_rng(0)
    for i in range(11):
        path = tmp_path / "images" / f"class{i % 2}" / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (6, 6, 3), np.uint8)).save(path)
    (tmp_path / "images" / "class1" / "broken.png").write_bytes(b"none")
    return tmp_path / "images"


def build(source, folder, part=None):
    return loaders.build_shards(source, folder, workers=1, shard_bytes=400, part=part)


def build_parts(source, folder):
    for number in range(1, PARTS + 1):
        build(source, folder, (number, PARTS))


def images(folder):
    """Return labels, names and pixels of a set, in its order."""
    stream = loaders.ShardStream(folder, batch_size=4, threads=1)
    with stream:
        pixels = np.concatenate([batch for batch, _ in stream])
    return stream.labels.tolist(), list(stream.names), pixels


def assert_same(folder, other):
    for mine, theirs in zip(images(folder), images(other), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert not verify_shards(folder)
    assert (folder / "report.json").read_text() == (other / "report.json").read_text()


def test_joined_parts_hold_what_one_build_holds(source, tmp_path):
    whole = build(source, tmp_path / "whole")
    for number in (2, 3, 1):
        build(source, tmp_path / "joined", (number, PARTS))
    joined = build(source, tmp_path / "joined")
    assert (joined.identity, joined.records, joined.skipped) == (whole.identity, 11, 1)
    assert joined.mean == pytest.approx(whole.mean)
    assert_same(tmp_path / "joined", tmp_path / "whole")
    assert not list((tmp_path / "joined").glob("part-*"))
    assert build(source, tmp_path / "joined") == joined


def test_an_interrupted_join_goes_on(source, tmp_path, monkeypatch):
    build(source, tmp_path / "whole")
    replace, left = os.replace, [2]

    def fails(path, target):
        if "part-" in str(path) and "part-" not in str(target):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        replace(path, target)

    for number in range(1, PARTS + 1):
        for folder in ("joined", "at once"):
            build(source, tmp_path / folder, (number, PARTS))
    build(source, tmp_path / "at once")
    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(KeyboardInterrupt):
        build(source, tmp_path / "joined")
    monkeypatch.undo()
    build(source, tmp_path / "joined")
    assert_same(tmp_path / "joined", tmp_path / "whole")
    for path in (tmp_path / "at once").iterdir():
        assert path.read_bytes() == (tmp_path / "joined" / path.name).read_bytes()


def test_a_shard_that_a_join_cannot_read_is_named(source, tmp_path):
    build_parts(source, tmp_path / "joined")
    shard = tmp_path / "joined" / "part-2-of-3" / "shard-00000.h5"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(OSError, match=r"part-2-of-3/shard-00000.h5 does not open as HDF5 \(truncated"):
        build(source, tmp_path / "joined")


def test_a_join_that_was_killed_while_it_changed_a_shard_goes_on(source, tmp_path, monkeypatch):
    """Whatever part of the changes is on the disk then."""
    build(source, tmp_path / "whole")
    build_parts(source, tmp_path / "joined")
    shard = Path("part-1-of-3", "shard-00000.h5")
    before = (tmp_path / "joined" / shard).read_bytes()

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("loaders.shards.move.os.utime", killed)
        with pytest.raises(KeyboardInterrupt):
            build(source, tmp_path / "joined")
    with pytest.raises(ValueError, match="parts that are being joined"):
        build(source, tmp_path / "joined", (1, PARTS))
    pieces = json.loads((tmp_path / "joined" / "move.json").read_text())["pieces"]
    assert len(pieces) > 3
    for written in range(0, len(pieces), 4):
        place, piece = pieces[written]
        folder, torn = tmp_path / f"torn{written}", io.BytesIO(before)
        for at, data in [*pieces[:written], [place, piece[: len(piece) // 4 * 2]]]:
            torn.seek(at)
            torn.write(bytes.fromhex(data))
        shutil.copytree(tmp_path / "joined", folder)
        (folder / shard).write_bytes(torn.getvalue())
        build(source, folder)
        assert_same(folder, tmp_path / "whole")
        assert not (folder / "move.json").exists()


def test_a_join_on_a_full_disk_goes_on(source, tmp_path):
    build(source, tmp_path / "whole")
    build_parts(source, tmp_path / "joined")
    size = (tmp_path / "joined" / "part-1-of-3" / "shard-00000.h5").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (0, 1000, size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        try:
            with pytest.raises(OSError, match=r"cannot write .*run the same command again"):
                build(source, tmp_path / "joined")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    build(source, tmp_path / "joined")
    assert_same(tmp_path / "joined", tmp_path / "whole")


def test_an_image_that_changed_since_its_part_was_built_is_refused(source, tmp_path, monkeypatch):
    """Also where the digest of the source, which looks at a sample of many files, does not tell."""
    monkeypatch.setattr("loaders.sources.walk.files_digest", lambda *_: "of all sizes")
    build_parts(source, tmp_path / "joined")
    path = source / "class0" / "00.png"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match=r"class0/00.png has changed since \S+/part-1-of-3/shard-00000.h5 was written"):
        build(source, tmp_path / "joined")
    shutil.rmtree(tmp_path / "joined" / "part-1-of-3")
    build(source, tmp_path / "joined", (1, PARTS))
    build(source, tmp_path / "joined")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(ValueError, match=r"class0/00.png has changed since \S+/joined/shard-00000.h5 was written"):
        build(source, tmp_path / "joined")


@pytest.mark.parametrize("method", ["unlink", "rmdir"])
@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_join_that_was_killed_while_it_removed_a_part_goes_on(source, tmp_path, monkeypatch, method, left):
    build(source, tmp_path / "whole")
    build_parts(source, tmp_path / "joined")
    remove, calls = getattr(Path, method), []

    def killed(path, *args, **options):
        if "part-" in str(path) and path.exists():
            if len(calls) == left:
                raise KeyboardInterrupt
            calls.append(path)
        remove(path, *args, **options)

    monkeypatch.setattr(Path, method, killed)
    with pytest.raises(KeyboardInterrupt):
        build(source, tmp_path / "joined")
    monkeypatch.undo()
    build(source, tmp_path / "joined")
    assert_same(tmp_path / "joined", tmp_path / "whole")


def test_missing_unfinished_and_foreign_parts_are_refused(source, tmp_path):
    build(source, tmp_path / "set", (1, 2))
    with pytest.raises(ValueError, match="lacks part 2 of 2"):
        build(source, tmp_path / "set")
    (tmp_path / "set" / "part-2-of-2").mkdir()
    with pytest.raises(ValueError, match="is not complete"):
        build(source, tmp_path / "set")
    loaders.build_shards(source, tmp_path / "set", workers=1, shard_bytes=500, part=(2, 2))
    with pytest.raises(ValueError, match="part of another set"):
        build(source, tmp_path / "set")
    build(source, tmp_path / "set", (1, 3))
    with pytest.raises(ValueError, match="different numbers"):
        build(source, tmp_path / "set")


def test_a_part_of_a_set_that_is_there_is_the_set(source, tmp_path):
    for number in (1, 2):
        build(source, tmp_path / "set", (number, 2))
    whole = build(source, tmp_path / "set")
    before = sorted(path.name for path in (tmp_path / "set").iterdir())
    assert build(source, tmp_path / "set", (2, 2)) == whole  # a job that runs again
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == before
    with pytest.raises(ValueError, match="holds a set built differently"):
        loaders.build_shards(source, tmp_path / "set", workers=1, shard_bytes=500, part=(2, 2))
    with pytest.raises(ValueError, match="1 images could not be decoded"):
        loaders.build_shards(source, tmp_path / "set", workers=1, shard_bytes=400, strict=True, part=(2, 2))


class Killed(Exception):
    """What a kill is here."""


def interrupted(source, folder):
    """Leave a build without parts that wrote a shard."""

    def killed(progress):
        if (folder / "shard-00000.h5").exists():
            raise Killed

    with pytest.raises(Killed):
        loaders.build_shards(source, folder, workers=1, shard_bytes=150, progress=killed)


def test_no_image_comes_twice_where_a_build_was_interrupted(source, tmp_path, monkeypatch):
    monkeypatch.setattr("loaders.shards.job.CHUNK", 2)
    interrupted(source, tmp_path / "set")
    with pytest.raises(ValueError, match="holds a build without parts that was interrupted"):
        build(source, tmp_path / "set", (1, 2))
    loaders.build_shards(source, tmp_path / "set", workers=1, shard_bytes=150)
    assert len(set(images(tmp_path / "set")[1])) == 11


def test_shards_beside_parts_are_not_joined_with_them(source, tmp_path, monkeypatch):
    monkeypatch.setattr("loaders.shards.job.CHUNK", 2)
    interrupted(source, tmp_path / "set")
    for number in (1, 2):
        loaders.build_shards(source, tmp_path / "other", workers=1, shard_bytes=150, part=(number, 2))
        (tmp_path / "other" / f"part-{number}-of-2").rename(tmp_path / "set" / f"part-{number}-of-2")
    with pytest.raises(ValueError, match="holds shards that are of none of its parts"):
        loaders.build_shards(source, tmp_path / "set", workers=1, shard_bytes=150)
    assert len(list((tmp_path / "set").glob("part-*/shard-*"))) > 2


def test_a_set_into_which_an_earlier_join_put_images_twice_is_no_sound_one(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("loaders.shards.job.CHUNK", 2)
    monkeypatch.setattr("loaders.shards.parts._require_each_once", lambda *arguments: None)
    interrupted(source, tmp_path / "set")
    for number in (1, 2):
        loaders.build_shards(source, tmp_path / "other", workers=1, shard_bytes=150, part=(number, 2))
        (tmp_path / "other" / f"part-{number}-of-2").rename(tmp_path / "set" / f"part-{number}-of-2")
    monkeypatch.setattr("loaders.shards.parts._checked", lambda path, plan: loaders.read_index(path))
    loaders.build_shards(source, tmp_path / "set", workers=1, shard_bytes=150)
    twice = len(images(tmp_path / "set")[1]) - 11
    found = verify_shards(tmp_path / "set")
    assert twice > 0
    assert sum(int(damage.reason.split()[0]) for damage in found) == twice
    assert main(["shards", "verify", str(tmp_path / "set")]) == 1
    assert "of its images came before in this set; build it again" in "".join(capsys.readouterr())


def test_a_source_may_hold_an_image_twice(tmp_path):
    one = np.zeros((4, 4, 3), np.uint8)
    loaders.write_shards((np.stack([one, one]), np.zeros(2, np.int64)), tmp_path / "set")
    assert not verify_shards(tmp_path / "set")


def test_no_part_is_said_to_be_of_one_class(source, tmp_path, caplog):
    for number in (1, 2):
        build(source, tmp_path / "set", (number, 2))
    build(source, tmp_path / "set")
    assert "one class" not in caplog.text


@pytest.mark.parametrize("part", [(0, 2), (3, 2), (1.0, 2), (), 1])
def test_parts_that_there_are_not_are_refused(source, tmp_path, part):
    with pytest.raises(ValueError, match="part must be"):
        build(source, tmp_path / "set", part)


def test_arrays_have_no_parts(tmp_path):
    arrays = loaders.array_source(np.zeros((3, 4, 4, 3), np.uint8), np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="part is for images that are decoded"):
        loaders.build_shards(arrays, tmp_path / "set", part=(1, 2))


def test_the_command_builds_and_joins_parts(source, tmp_path, capsys):
    for part in ("1/2", "2/2"):
        assert main(["shards", "build", str(source), str(tmp_path / "set"), "--part", part, "--workers", "1"]) == 0
    assert main(["shards", "build", str(source), str(tmp_path / "set"), "--workers", "1"]) == 0
    assert "11 images in 2 shards, 1 skipped" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["shards", "build", str(source), str(tmp_path / "set"), "--part", "3/2"])
    assert "must be K/N with 1 <= K <= N" in capsys.readouterr().err
