"""labels.sqlite and the board over it: every label is kept, undone as it was given, and found again."""

import errno
import os
import sqlite3
from contextlib import closing
from functools import partial
from unicodedata import normalize

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the page needs the extra label: pip install 'hebbcore[label]'")

from hypothesis import given, settings
from hypothesis import strategies as st

from hebbcore.page.board import MOST_CLASSES, Board, Versions
from hebbcore.page.store import NO_LABEL, UNSURE, Store, naming
from hebbcore.page.told import in_words

NAMES = ["a.jpg", "sub/b.jpg", "<script>.jpg", 'li\nne "q", \'.jpg', "n\udce9.jpg", "日本.jpg"]


def opened(path, names=NAMES):
    store = Store(path)
    try:
        return Board(names, store, Versions())
    except ValueError:
        store.close()
        raise


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.sqlite"


def test_labels_are_found_again_whatever_photos_are_called(path):
    with closing(opened(path)) as board:
        board.add_classes(["cat", "<b>", "cat"])
        board.give([0, 4], "cat")
        board.give([1, 2, 3], "<b>")
        board.give([5], None, unsure=True)
        board.give([1], None)
        codes = board.codes().tolist()
    assert codes == [1, NO_LABEL, 2, 2, 1, UNSURE]
    with closing(opened(path)) as board:
        assert board.codes().tolist() == codes
        assert board.classes == ["cat", "<b>"]
        assert board.labelled() == [(NAMES[0], "cat"), (NAMES[2], "<b>"), (NAMES[3], "<b>"), (NAMES[4], "cat")]


def test_photos_are_known_by_name(path):
    with closing(opened(path)) as board:
        board.add_class("cat")
        board.give([0, 4], "cat")
    grown = ["0.jpg", *reversed(NAMES[1:]), "z.jpg"]  # and a.jpg is gone
    with closing(opened(path, grown)) as board:
        assert board.elsewhere == ["a.jpg"]
        assert board.labelled() == [("n\udce9.jpg", "cat")]
        assert board.undo()[1] == [grown.index("n\udce9.jpg")]
    with pytest.raises(ValueError, match="different names"):
        opened(path, ["a", "a"])


def test_accents_may_be_composed_in_another_way(path):
    name, apart = "bücher.jpg", normalize("NFD", "bücher.jpg")
    with closing(opened(path, ["a.jpg", name, "gone.jpg", "also gone.jpg"])) as board:
        board.add_classes(["cat", "dog"])
        board.give([0, 1, 2, 3], "cat")
        board.give([1], "dog")
        board.give([3], None)
    with closing(opened(path, [apart, "a.jpg"])) as board:  # of a Mac, say
        assert board.elsewhere == ["gone.jpg"]
        assert board.labelled() == [(apart, "dog"), ("a.jpg", "cat")]
        board.give([0], "cat")
        assert board.undo()[1] == [0]
    with closing(opened(path, [apart, name])) as board:  # two photos
        assert board.labelled() == [(name, "dog")]


def test_labels_of_other_photos_are_refused(path):
    with closing(opened(path)) as board:
        board.add_class("cat")
        board.give([0], "cat")
    with pytest.raises(ValueError, match="labels are of other photos"):
        opened(path, ["x.jpg", "y.jpg"])


def test_names_of_classes_of_earlier_versions_are_made_tidy(path):
    with closing(Store(path)) as store:
        store.apply([("a.jpg", NO_LABEL, 1)], ["cafe\u0301", "dog", "do\u200bg"])
    with closing(opened(path)) as board:
        assert board.classes == ["caf\u00e9", "dog", "do\u200bg"]  # the last would be called like another
        assert board.labelled() == [("a.jpg", "caf\u00e9")]
        board.give([1], "cafe\u0301")  # of a page that was open
    with closing(opened(path)) as board:
        assert board.classes == ["caf\u00e9", "dog", "do\u200bg"]
        assert len(board.labelled()) == 2


def test_reading_waits_for_no_change(path):
    with closing(opened(path)) as board, board._changing:
        assert board.labelled() == []
        assert (board.codes() == NO_LABEL).all()
        assert (board.classes, board.curve(), board.can_undo()) == ([], [], False)


def test_files_that_are_none_of_labels_are_refused(path):
    path.write_bytes(b"not SQLite" * 100)
    with pytest.raises(ValueError, match=r"labels.sqlite is damaged or no file of labels"):
        Store(path)
    path.unlink()
    with closing(sqlite3.connect(path)) as base:
        base.execute("CREATE TABLE mine (x)")
    with pytest.raises(ValueError, match="is no file of labels"):
        Store(path)
    path.unlink()
    Store(path).close()
    with closing(sqlite3.connect(path)) as base:
        base.execute("PRAGMA user_version = 7")
    with pytest.raises(ValueError, match="has version 7"):
        Store(path)


def test_a_text_that_is_none_is_damage_and_a_closed_file_is_not(path):
    """Errors that Python's sqlite3 makes itself have no code of SQLite's."""
    store = Store(path)
    store.apply([], ["cat"])
    with closing(sqlite3.connect(path)) as base:
        base.execute("UPDATE classes SET name = CAST(X'FF' AS TEXT)")
        base.commit()
    with (
        pytest.raises(ValueError, match=r"labels.sqlite is damaged or no file of labels \(Could not decode"),
        naming(path),
    ):
        store.classes()
    store.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"), naming(path):
        store.classes()


def test_a_file_that_cannot_be_opened_or_written_is_not_called_damaged(path, monkeypatch):
    Store(path).close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, timeout=0))
        with pytest.raises(OSError, match=r"cannot write: database is locked.*labels.sqlite"):
            Store(path)
    with pytest.raises(OSError, match=r"cannot write: unable to open database file.*none/labels.sqlite"):
        Store(path.parent / "none" / path.name)
    board = opened(path)
    os.rename(path, path.with_name("moved"))
    with pytest.raises(sqlite3.OperationalError) as error:
        board.add_class("cat")
    assert "export the labels here, and start it again" in in_words(error.value)
    board.close()


def test_a_full_disk_is_told_as_that_when_the_command_starts(path):
    with closing(opened(path)) as board:
        board._store._base.execute("PRAGMA max_page_count = 1")
        with pytest.raises(OSError, match="make room, then run the same again") as error, naming(path):
            board.add_classes([str(number) * 20 for number in range(900)])
    assert error.value.filename == str(path)
    assert error.value.errno == errno.ENOSPC


def test_the_history_tells_what_was_and_what_was_undone(path):
    with closing(opened(path)) as board:
        board.add_class("cat")
        board.give([0, 1], "cat")
        board.give([1], None, unsure=True)
        board.undo()
        board.give([0], "cat")  # has it already: no action
    with closing(sqlite3.connect(path)) as base:
        rows = base.execute("SELECT action, image, before, after, undone_by FROM events ORDER BY number").fetchall()
        times = [time for (time,) in base.execute("SELECT time FROM events ORDER BY number")]
    assert times == sorted(times)
    assert all(time.endswith("+00:00") for time in times)
    (first, *row), _, (second, _, before, after, undone) = rows
    assert row == ["a.jpg", NO_LABEL, 1, None]
    assert rows[1] == (first, "sub/b.jpg", NO_LABEL, 1, None)
    assert (before, after, undone) == (1, UNSURE, second + 1)


@pytest.mark.parametrize("ask", ["last_action", "last_standing", "undo"])
def test_a_long_history_is_not_searched_for_each_click(path, ask):
    with closing(Store(path)) as store:
        for number in range(3):
            store.apply([("a.jpg", NO_LABEL, UNSURE)] * (number + 1))
        queries = []
        store._base.set_trace_callback(queries.append)
        getattr(store, ask)()
        store._base.set_trace_callback(None)
        plans = [
            row[3]
            for query in queries
            if query[0] in "SU"
            for row in store._base.execute(f"EXPLAIN QUERY PLAN {query}")
        ]
    assert plans
    assert not [plan for plan in plans if plan.startswith("SCAN events")], plans


def test_what_is_committed_is_synced(path):
    store = Store(path)
    assert store._one("PRAGMA synchronous") == 2
    store.close()


@pytest.mark.parametrize("name", ["", "  ", "a\x07b", "a\0b", "\x1b[31m", "\ud800", "x" * 201, 7, None])
def test_bad_names_of_classes_are_refused(path, name):
    with closing(opened(path)) as board, pytest.raises(ValueError, match="the name of a class must"):
        board.add_class(name)


def test_classes_are_renamed_with_their_labels(path):
    with closing(opened(path)) as board:
        board.add_classes([" cat ", "dog"])
        board.give([0], "cat")
        board.rename("cat", "lynx")
        with pytest.raises(ValueError, match="there is a class “dog” already"):
            board.rename("lynx", "dog")
        with pytest.raises(ValueError, match="there is no class “cat”"):
            board.give([0], "cat")
        board.rename("lynx", "lynx")
        with pytest.raises(ValueError, match="at most 1,000 classes"):
            board.add_classes(map(str, range(MOST_CLASSES - 1)))
    with closing(opened(path)) as board:
        assert board.labelled() == [("a.jpg", "lynx")]
        assert board.classes == ["lynx", "dog"]


def test_a_table_is_undone_as_one_and_known_again(path):
    with closing(opened(path)) as board:
        board.take_in({0: "cat", 5: "dog"}, "digest")
        assert board.has_imported("digest")
        assert not board.has_imported("other")
        assert sorted(board.undo()[1]) == [0, 5]
        assert board.classes == ["cat", "dog"]
        with pytest.raises(LookupError, match="nothing to undo"):
            board.undo()


def test_a_table_tells_which_labels_it_replaces(path):
    with closing(opened(path)) as board:
        board.add_class("cat")
        board.give([0, 1], "cat")
        board.give([2], None, unsure=True)
        _, replaced = board.take_in({0: "cat", 1: "dog", 2: "dog", 3: "dog"}, "digest")
        assert replaced == [1, 2]
        board.undo()
        assert board.labelled() == [("a.jpg", "cat"), (board.names[1], "cat")]


def test_a_full_disk_loses_nothing_that_was_answered(path):
    with closing(opened(path)) as board:
        board.add_class("cat")
        board.give([0], "cat")
        pages = board._store._one("PRAGMA page_count")
        board._store._base.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(sqlite3.OperationalError, match="full"):
            board.take_in(dict.fromkeys(range(6), "dog") | {0: "d"}, "x" * 100_000)
        before = board.codes().tolist(), board.classes
    with closing(opened(path)) as board:
        assert (board.codes().tolist(), board.classes) == before


ACTIONS = st.one_of(
    st.tuples(st.lists(st.integers(0, 5), min_size=1), st.sampled_from(["cat", "dog", None, "unsure"])),
    st.just("undo"),
    st.just("reopen"),
)


@settings(max_examples=25)
@given(st.lists(ACTIONS, max_size=25))
def test_the_board_is_what_a_list_of_actions_says(tmp_path_factory, actions):
    path = tmp_path_factory.mktemp("board") / "labels.sqlite"
    board, done, now = opened(path), [], [NO_LABEL] * 6
    board.add_classes(["cat", "dog"])
    codes = {"cat": 1, "dog": 2, None: NO_LABEL, "unsure": UNSURE}
    for action in actions:
        if action == "undo":
            if done:
                now = done.pop()
                board.undo()
        elif action == "reopen":
            board.close()
            board = opened(path)
        else:
            photos, label = action
            board.give(photos, None if label == "unsure" else label, label == "unsure")
            after = [codes[label] if i in photos else now[i] for i in range(6)]
            done += [now] if after != now else []
            now = after
        assert board.codes().tolist() == now
        assert board.can_undo() == bool(done)
    board.close()
    with closing(opened(path)) as again:
        np.testing.assert_array_equal(again.codes(), now)
    assert os.listdir(path.parent) == ["labels.sqlite"]
