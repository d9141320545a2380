"""`hebbcore label` killed, and what it says of labels that cannot be read or written."""

import time
from pathlib import Path

from classify_helpers import photos
from cli_helpers import ENVIRONMENT, call
from label_helpers import LINE, Server

__all__ = ["call", "photos"]


def test_damaged_labels_are_no_reason_to_remove_the_work(photos, call):
    Path("work").mkdir()
    Path("work/labels.sqlite").write_bytes(b"no labels" * 99)
    last = call(LINE, 1)[1].splitlines()[-1]
    assert "work/labels.sqlite is damaged" in last
    assert "move it away to begin without labels" in last
    assert "--out" not in last


def test_no_file_leads_to_a_server_that_was_killed(photos, monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, "BROWSER", "true")  # a program that does nothing
    entry, line = Path("work/open.html"), LINE.replace(" --no-browser", "")
    with Server(line) as server:  # whose client comes as a browser does
        until = time.monotonic() + 10
        while entry.exists() and time.monotonic() < until:
            time.sleep(0.01)
        assert not entry.exists()
        server.process.kill()
    entry.write_text("of one that was killed before a browser came")
    with Server():
        assert not entry.exists()
