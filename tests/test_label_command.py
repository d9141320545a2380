"""`hebbcore label`: the command around the page, killed and started again, and what it shares with `classify`."""

import http.client
import io
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from argparse import Namespace
from contextlib import closing
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from classify_helpers import CLASSES, digits, photos, rows_of, write_labels
from cli_helpers import ENVIRONMENT, call, fails, names
from label_helpers import LINE, Server
from PIL import Image

import hebbcore
import loaders
from hebbcore.classify import FewLabelClassifier
from hebbcore.cli import label
from hebbcore.cli.photos import Photos, read_photos
from hebbcore.cli.pictures import pictures_of
from hebbcore.cli.stages import Stages
from hebbcore.files import locked
from hebbcore.page.kept import write_kept
from hebbcore.page.store import NO_LABEL, UNSURE
from hebbcore.page.teacher import WorkTeacher
from hebbcore.page.thumbs import THUMB

__all__ = ["call", "fails", "photos"]
CLASSIFY = "classify photos --labels exported.csv --out work --features net.h5 --device cpu"


def label_some(server, truth, each=4):
    order = sorted(truth)
    for name in CLASSES:
        server.label([i for i, file in enumerate(order) if truth[file] == name][:each], name)


def test_labels_outlive_the_server_and_results_are_those_of_classify(photos, call):
    Path("photos/z.txt").touch()  # left out, as both reports tell
    with Server() as server:
        label_some(server, photos)
        server.post("/api/label", images=[59], label=None, unsure=True)
        photo_set = server.get("/api/state")["photo_set"]
        status, err = server.end(signal.SIGINT)
    assert (status, err.splitlines()[-1]) == (130, "hebbcore: interrupted")
    with Server() as server:
        state = server.get("/api/state")
        assert state["photo_set"] == photo_set != ""
        assert (state["labelled"], state["unsure"], state["can_undo"]) == (12, 1, True)
        assert [item["name"] for item in state["classes"]] == list(CLASSES)
        server.state_when(lambda state: state["learning"]["labels"] == 12)
        server.post("/api/results")
        state = server.state_when(lambda state: not state["results"]["running"])
        assert state["results"]["error"] is None
        assert state["results"]["written"] is not None
        Path("exported.csv").write_bytes(server.client.get("/api/export").content)
        assert "another process is working in work" in fails_beside()
        status, err = server.end()
    assert (status, err.splitlines()[-1]) == (143, "hebbcore: interrupted")
    assert Path("work/space.h5").exists()
    written = {name: Path("work", name).read_bytes() for name in ("predictions.csv", "next.csv", "report.html")}
    assert b": z.txt</li>" in written["report.html"]
    assert "nothing to do" in call(CLASSIFY)[0]
    call(CLASSIFY.replace("--out work", "--out other"))
    for name, data in written.items():
        assert Path("other", name).read_bytes() == data, name
    assert names("work/model") == names("other/model")
    assert sum(row["labelled"] == "1" for row in rows_of(Path("work/predictions.csv"))) == 12
    call(CLASSIFY.replace("--labels", "--suggestions 7 --labels"))  # after which the page goes on
    with Server() as server:
        assert server.get("/api/state")["labelled"] == 12


@pytest.mark.parametrize("damage", [None, "bytes", "features", "version", "disk"])
def test_what_was_learned_without_labels_is_kept_for_the_next_start(photos, call, tmp_path, monkeypatch, damage):
    call("classify photos --labels labels.csv --out work --features net.h5 --device cpu")
    said, network, stages = [], hebbcore.load("net.h5", device="cpu"), Stages()
    monkeypatch.setattr(stages, "say", lambda name, text: said.append(text))
    stream = partial(loaders.ShardStream, "work/images", batch_size=200)
    teacher = WorkTeacher(Path("work"), network, stream, 60, True, "labelled", 20, stages, lambda labels: None)
    if damage == "disk":
        monkeypatch.setattr("hebbcore.page.teacher.write_kept", cannot_write)
        teacher.fitted()
        assert said == ["the next start takes as long as this one: no room"]
        return
    first, path = teacher.fitted(), Path("work/space.h5")
    if damage == "bytes":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "features":
        write_kept(path, "0" * 32, first.images_state())
    elif damage == "version":
        monkeypatch.setattr("hebbcore.page.teacher.__version__", "9.9")
    fits = []
    monkeypatch.setattr(FewLabelClassifier, "fit", lambda model, *given: fits.append(model) or fit(model, *given))
    second, y = teacher.fitted(), np.where(np.arange(60) < 30, np.arange(60) % 3, -1)
    assert len(fits) == (damage is not None)
    np.testing.assert_array_equal(first.relearn(y).label_distributions_, second.relearn(y).label_distributions_)


fit = FewLabelClassifier.fit


def cannot_write(*given):
    raise OSError("no room")


def fails_beside():
    done = subprocess.run(
        [sys.executable, "-m", "hebbcore", *LINE.split()], env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    return done.stderr


def test_a_table_is_taken_in_once(photos):
    order = sorted(photos)
    write_labels(Path("labels.csv"), {order[0]: "one", order[1]: "new"})
    line = LINE + " --labels labels.csv"
    with Server(line) as server:
        assert server.get("/api/state")["labelled"] == 2
        assert [item["name"] for item in server.get("/api/state")["classes"]] == [*CLASSES, "new"]
        server.label([0], "two")
    with Server(line) as server:
        assert server.get("/api/images?view=all&limit=1")["items"][0]["label"] == "two"
        assert "another label" not in server.end()[1]
        write_labels(Path("labels.csv"), {order[0]: "one"})
    with Server(line) as server:
        assert server.get("/api/images?view=all&limit=1")["items"][0]["label"] == "one"
        told = f"1 of the photos had another label on the page, such as {order[0]}; they have that of labels.csv"
        assert told in server.end()[1]


CLICKS, KILLS = int(os.environ.get("HEBBCORE_CLICKS", 300)), int(os.environ.get("HEBBCORE_KILLS", 3))


def test_no_click_that_was_answered_is_lost_by_kills(photos):
    """HEBBCORE_CLICKS and HEBBCORE_KILLS make it longer."""
    draw, kills = random.Random(0), set(random.Random(1).sample(range(1, CLICKS), KILLS))
    now, before = [NO_LABEL] * 60, []
    number, server = 0, Server()
    try:
        while number < CLICKS:
            number += 1
            undo, picked = before and draw.random() < 0.2, draw.sample(range(60), draw.choice([1, 1, 1, 5]))
            code = draw.choice([1, 1, 2, 2, 3, UNSURE, NO_LABEL])
            data = {"images": picked, "label": CLASSES[code - 1] if code > 0 else None, "unsure": code == UNSURE}
            expected = list(before[-1]) if undo else [code if i in picked else now[i] for i in range(60)]
            if number in kills:
                answered = ask_and_kill(server, "/api/undo" if undo else "/api/label", {} if undo else data)
                server.__exit__()
                server = Server()
                found = codes_of(server)
                assert found == expected if answered else found in (now, expected), number
                if found == now:
                    continue
            else:
                server.post("/api/undo" if undo else "/api/label", **({} if undo else data))
            if undo:
                now = before.pop()
            elif expected != now:
                before.append(now)
                now = expected
        assert codes_of(server) == now
        while before:
            server.post("/api/undo")
            before.pop()
        assert codes_of(server) == [NO_LABEL] * 60
        assert server.client.post("/api/undo", {}).status_code == 409
    finally:
        server.__exit__()
    with closing(sqlite3.connect("work/labels.sqlite")) as base:
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def ask_and_kill(server, path, data):
    """Kill the server at some moment of a request; returns whether it was answered."""
    delay = random.random() * 0.02
    killer = subprocess.Popen(["sh", "-c", f"sleep {delay:.4f}; kill -9 {server.process.pid}"])
    try:
        return server.client.post(path, data).status_code == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        killer.wait()


def codes_of(server):
    items = server.get("/api/images?view=all&limit=1000")["items"]
    return [
        UNSURE if item["unsure"] else NO_LABEL if item["label"] is None else CLASSES.index(item["label"]) + 1
        for item in items
    ]


def test_a_port_that_is_taken_and_other_mistakes_are_told_plainly(photos, call, fails, tmp_path, monkeypatch):
    call("classify photos --labels labels.csv --out work --features net.h5 --device cpu")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        error = fails(f"{LINE} --port {port}")
    assert error == (f"cannot serve on 127.0.0.1, port {port}: Address already in use; give another --port or --host.")
    assert fails(f"{LINE} --port 65536") == "--port must be from 0 to 65535, got 65536."
    assert "the name of a class must have at most" in fails(LINE.replace("none,one", "x" * 201))
    with locked(Path("work"), "working in"):
        assert "another process is working in work" in fails(LINE)
    digits(tmp_path / "others", 60, 20)
    assert "name another --out" in fails(LINE.replace("photos", "others"))
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert fails(LINE) == "hebbcore label needs uvicorn; pip install 'hebbcore[label]' installs it."


def test_photos_of_one_name_are_told_before_long_work(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with h5py.File("some.h5", "w") as file:
        file["train/images"] = np.zeros((5, 8, 8, 3), np.uint8)
        file["train/filenames"] = [b"a", b"b", b"c", b"b", b"b"]
    _, err = call("label some.h5 --out work --no-browser --device cpu", 1)
    assert "label: photos must have different names, and 3 are called b; give them others" in err
    assert not Path("work/network").exists()


def test_photos_of_any_name_are_labelled_and_come_out(photos, call):
    strange = ["<img src=x onerror=alert(1)>.png", 'a,"b"\'.png', "line\nbreak.png", "n\udce9.png", " .png", "ü.png"]
    for name, source in zip(strange, sorted(photos), strict=False):
        os.link(Path("photos", source), Path("photos", name))
    with Server() as server:
        items = server.get("/api/images?view=all&limit=1000")["items"]
        ids = {item["name"]: item["id"] for item in items}
        assert set(strange) < set(ids)
        for name in strange:
            server.label([ids[name]], "one")
            assert server.client.get(f"/thumb/{ids[name]}").headers["content-type"] == "image/jpeg"
        server.label([ids[sorted(photos)[0]]], "two")
        Path("exported.csv").write_bytes(server.client.get("/api/export").content)
        server.post("/api/undo")
    call(CLASSIFY)
    own = {row["file"]: row["label"] for row in rows_of(Path("work/predictions.csv")) if row["labelled"] == "1"}
    assert own == {**dict.fromkeys(strange, "one"), sorted(photos)[0]: "two"}


@pytest.fixture
def large(tmp_path):
    """Return a folder with photos in it and links out of it, and its shards of 8 pixels a side."""
    folder, random = tmp_path / "large", np.random.default_rng(0)
    (folder / "sub").mkdir(parents=True)
    for name in ("large/a.png", "large/sub/b.jpg", "secret.png"):
        Image.fromarray(random.integers(0, 256, (600, 900, 3), np.uint8)).save(tmp_path / name)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "own.png").symlink_to("a.png")
    read = read_photos(folder, tmp_path / "shards", size=8, split=None, without_labels=True, stages=Stages())
    with read.stream() as stream:
        return read, list(stream.names)


def test_pictures_come_from_the_files_of_the_folder_alone(large, tmp_path):
    read, found = large
    pictures = pictures_of(read, found)
    sizes = {name: opened(pictures.jpeg(number, THUMB)).size for number, name in enumerate(found)}
    assert sizes == {"a.png": (256, 171), "sub/b.jpg": (256, 171), "own.png": (256, 171), "link.png": (8, 8)}
    photo = found.index("a.png")
    before = pictures.version(photo)
    path = tmp_path / "large/a.png"
    path.unlink()
    path.symlink_to(tmp_path / "secret.png")  # put there later
    assert opened(pictures.jpeg(photo, THUMB)).size == (8, 8)
    path.unlink()
    path.write_bytes(b"no image")
    assert pictures.version(photo) != before
    with pytest.raises(ValueError, match="not an image"):
        pictures.jpeg(photo, THUMB)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="is no file"):
        pictures.jpeg(photo, THUMB)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        pictures.jpeg(photo, THUMB)
    Image.new("1", (11_000, 11_000)).save(path)
    with pytest.raises(ValueError, match="pixels are more than"):
        pictures.jpeg(photo, THUMB)


def test_pictures_of_shards_are_those_they_hold(large):
    read, found = large
    pictures = pictures_of(Photos(read.shards, read.shards, None), found)
    with read.stream() as stream:
        images, _ = next(iter(stream))
    for number, image in enumerate(images):
        shown = np.array(opened(pictures.jpeg(number, THUMB)), float)
        assert np.abs(shown - image).mean() < 12  # JPEG
    assert len({pictures.version(number) for number in range(len(found))}) == len(found)


@pytest.mark.parametrize("size", [None, 8])
def test_pictures_of_12_bit_photos_are_as_bright_as_what_is_learned_from(size, tmp_path):
    folder, wide = tmp_path / "wide", np.full((20, 20), 4095, np.uint16)
    folder.mkdir()
    for number in range(3):
        Image.fromarray(wide // (number + 1)).save(folder / f"{number}.png")
    if size is None:  # shards that hold the files as they are
        index = loaders.build_shards(loaders.ImageFiles(folder), tmp_path / "shards")
        read = Photos(tmp_path / "shards", tmp_path / "shards", 8)
        assert index.settings["range"] == 4095
    else:
        read = read_photos(folder, tmp_path / "shards", size=size, split=None, without_labels=True, stages=Stages())
    pictures = pictures_of(read, ["0.png", "1.png", "2.png"])
    for side in (THUMB, 8):
        shown = [int(np.asarray(opened(pictures.jpeg(number, side)))[4, 4, 0]) for number in range(3)]
        np.testing.assert_allclose(shown, [255, 127, 85], atol=3)


def opened(data):
    return Image.open(io.BytesIO(data))


def test_the_browser_gets_a_file_that_others_cannot_read(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    label._open("http://127.0.0.1:1/?token=x", tmp_path / "open.html")
    until = time.monotonic() + 10
    while not opened and time.monotonic() < until:
        time.sleep(0.01)
    assert opened == [(tmp_path / "open.html").as_uri()]
    assert (tmp_path / "open.html").stat().st_mode & 0o777 == 0o600
    assert "http://127.0.0.1:1/?token=x" in (tmp_path / "open.html").read_text()
    label._forget(tmp_path / "open.html")
    assert not (tmp_path / "open.html").exists()
    (tmp_path / "open.html").write_text("<!doctype html><p>a page of the user's")
    label._forget(tmp_path / "open.html")
    with pytest.raises(FileExistsError, match=r"open\.html"):
        label._open("http://127.0.0.1:1/?token=x", tmp_path / "open.html")
    assert "the user's" in (tmp_path / "open.html").read_text()


def test_labels_of_photos_that_are_gone_are_told(tmp_path, capsys):
    options = Namespace(out=tmp_path, labels=None)

    def board_of(*names):
        return closing(label._board(options, ["cat"], (None, ""), None, names, Stages()))

    with board_of("a", "b", "c\x1b") as board:
        board.give([0, 1, 2], "cat")
    assert capsys.readouterr().err == ""
    with board_of("a", "d"):
        told = f"labels: 2 in {tmp_path}/labels.sqlite are of photos that are not among these, such as b; they are kept"
        assert told in capsys.readouterr().err


def test_photos_of_the_same_names_are_another_set(tmp_path):
    sets = []
    for number in range(2):
        folder = tmp_path / f"set{number}"
        folder.mkdir()
        for name in ("a.png", "b.png"):
            Image.new("RGB", (8, 8), (50 * number, 9, 9)).save(folder / name)
        shards = tmp_path / f"shards{number}"
        found = read_photos(folder, shards, size=None, split=None, without_labels=True, stages=Stages())
        sets += [label._identity(found, names) for names in ("ab", "ac", "ab")]
    assert len(set(sets)) == 4
