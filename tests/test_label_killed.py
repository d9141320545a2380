"""`hebbcore label` killed, and beside what others do to its files meanwhile."""

import shutil
import time
from pathlib import Path

from classify_helpers import photos, rows_of, write_labels
from cli_helpers import ENVIRONMENT, call
from label_helpers import LINE, Server

from hebbcore.cli import classify, label

__all__ = ["call", "photos"]


def test_damaged_labels_are_no_reason_to_remove_the_work(photos, call):
    Path("work").mkdir()
    Path("work/labels.sqlite").write_bytes(b"no labels" * 99)
    last = call(LINE, 1)[1].splitlines()[-1]
    assert "work/labels.sqlite is damaged" in last
    assert "move it away to begin without labels" in last
    assert "--out" not in last


def test_a_table_that_changes_while_features_are_learned_is_taken_in_at_the_next_start(photos, call, monkeypatch):
    order, line = sorted(photos), LINE + " --labels labels.csv"
    write_labels(Path("labels.csv"), {order[0]: "one"})
    ready, taken = label._ready, []

    def slowly(*given):
        write_labels(Path("labels.csv"), {order[0]: "one", order[1]: "two"})
        return ready(*given)

    monkeypatch.setattr(label, "_ready", slowly)
    monkeypatch.setattr(label, "_serve", lambda options, address, board, *rest: taken.append(board.labelled()))
    call(line)
    call(line)
    assert taken == [[(order[0], "one")], [(order[0], "one"), (order[1], "two")]]


def test_photos_that_come_after_the_table_was_read_have_no_label(photos, call, monkeypatch):
    read = classify.read_photos

    def later(*given, **options):
        shutil.copy("photos/0000.png", "photos/9999.png")
        return read(*given, **options)

    monkeypatch.setattr(classify, "read_photos", later)
    call("classify photos --labels labels.csv --out work --features net.h5 --device cpu")
    assert {row["file"]: row["labelled"] for row in rows_of(Path("work/predictions.csv"))}["9999.png"] == "0"


def test_no_file_leads_to_a_server_that_was_killed(photos, monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, "BROWSER", "true")  # a program that does nothing
    entry, line = Path("work/open.html"), LINE.replace(" --no-browser", "")
    with Server(line) as server:  # whose client comes as a browser does
        until = time.monotonic() + 10
        while entry.exists() and time.monotonic() < until:
            time.sleep(0.01)
        assert not entry.exists()
        server.process.kill()
    for whole in ('<!doctype html><meta http-equiv="refresh" content="0; url=http://127.0.0.1:1/?token=x">', ""):
        entry.write_text(whole)  # of one that was killed before a browser came
        with Server():
            assert not entry.exists()
