"""The labelling page's server: what it tells, takes and learns."""

import csv
import io
import sqlite3
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_helpers import NAMES, TRUTH, Session, blobs, session

from hebbcore.classify import FewLabelClassifier, held_out
from hebbcore.labelling.guesses import Guesses
from hebbcore.page.learner import Found
from hebbcore.page.store import NO_LABEL, UNSURE
from hebbcore.page.thumbs import Thumbs
from hebbcore.page.told import in_words
from hebbcore.page.views import Query, curve_of, photos_of
from loaders.labels import parse_labels

__all__ = ["session"]
CLASSES = ["cat", "dog", "emu"]


def teach(session, each=5):
    """Label some of each class; returns the state after that."""
    if "emu" not in session.board.classes:
        session.post("/api/classes", {"name": "emu"})
    for number, name in enumerate(CLASSES):
        session.label(np.flatnonzero(number == TRUTH)[:each].tolist(), name)
    return session.state_when(lambda state: has_learned(state, 3 * each))


def has_learned(state, labels):
    """Return whether it knows so many labels, and also how good its guesses are."""
    return state["learning"]["labels"] == labels and not state["learning"]["running"]


def ids(session, query):
    return [item["id"] for item in session.get(f"/api/images?limit=1000&{query}")["items"]]


def test_before_there_are_labels_suggestions_cover_all(session):
    state = session.state_when(lambda state: state["guesses_version"])
    assert [item["name"] for item in state["classes"]] == ["cat", "dog"]
    assert (state["images"], state["labelled"], state["unsure"], state["can_undo"]) == (60, 0, 0, False)
    assert (state["estimate"], state["curve"]) == (None, [])
    assert state["learning"] == {"running": False, "error": None, "labels": 0}
    following = ids(session, "view=next")
    assert following[:60] == FewLabelClassifier().fit(blobs(), np.full(60, -1)).suggest(60).tolist()
    session.label([3, 6], "cat")
    state = session.state_when(lambda state: state["learning"]["labels"] == 2)
    assert all(item["guess"] is None for item in session.get("/api/images?view=all")["items"])
    assert ids(session, "view=doubtful") == []


def test_while_the_first_fit_lasts_photos_can_be_labelled(tmp_path):
    session = Session(tmp_path, learn=False)
    session.teacher.gate.clear()
    session.learner.start()
    session.board.add_class("cat")
    assert len(ids(session, "view=next")) == 60
    session.label([5], "cat")
    assert session.get("/api/state")["learning"] == {"running": True, "error": None, "labels": 0}
    session.teacher.gate.set()
    session.state_when(lambda state: state["learning"]["labels"] == 1)
    session.close()


def test_guesses_are_those_of_the_classifier(session):
    state = teach(session)
    y = np.full(60, -1)
    for number in range(3):
        y[np.flatnonzero(number == TRUTH)[:5]] = number
    model = FewLabelClassifier().fit(blobs(), y)
    expected = Guesses.of(model.label_distributions_)
    items = session.get("/api/images?view=all")["items"]
    assert [item["id"] for item in items] == list(range(60))
    assert [item["guess"] for item in items] == [CLASSES[k] for k in expected.first]
    assert [item["second"] for item in items] == [CLASSES[k] for k in expected.second]
    np.testing.assert_allclose([item["confidence"] for item in items], expected.confidence, atol=1e-4)
    assert tuple(state["estimate"].values()) == model.estimated_accuracy_
    assert [point["labels"] for point in state["curve"]] == [*{point["labels"] for point in state["curve"]}]
    assert state["curve"][-1] == {"labels": 15, **state["estimate"]}
    assert [item["guessed"] for item in state["classes"]] == np.bincount(expected.first[y < 0]).tolist()
    assert ids(session, "view=next") == model.suggest(60).tolist()


def test_guesses_are_shown_before_they_are_judged(session, monkeypatch):
    before, gate = teach(session), threading.Event()
    doubts = session.learner.found.doubts
    judged = held_out.held_out
    monkeypatch.setattr(held_out, "held_out", lambda *given: gate.wait(60) and judged(*given))
    session.label([30, 31], "dog")
    session.label([32], "emu")
    state = session.state_when(lambda state: state["learning"]["labels"] == 18)
    assert state["learning"]["running"]
    assert state["estimate"] == before["estimate"]
    items = session.get("/api/images?view=all")["items"]
    assert [item["guess"] for item in items] == [CLASSES[k] for k in session.learner.found.guesses.first]
    assert set(ids(session, "view=next")[-3:]) == {30, 31, 32}  # the suggestions are the earlier ones
    assert set(session.learner.found.doubts) <= set(doubts)
    gate.set()
    state = session.state_when(lambda state: not state["learning"]["running"])
    assert state["estimate"] != before["estimate"]
    assert state["curve"][-1] == {"labels": 18, **state["estimate"]}


def test_views_show_what_they_are_called(session):
    teach(session)
    session.label([30, 31], None, unsure=True)
    session.label([33], "cat")
    session.state_when(lambda state: has_learned(state, 16))
    labelled, unsure = set(ids(session, "view=labelled")), ids(session, "view=unsure")
    assert len(labelled) == 16
    assert unsure == [30, 31]
    open_ones = ids(session, "view=unlabelled")
    assert sorted([*labelled, *unsure, *open_ones]) == list(range(60))
    doubtful = session.get("/api/images?view=doubtful&limit=1000")["items"]
    assert sorted(item["id"] for item in doubtful) == open_ones
    sure = [item["confidence"] for item in doubtful]
    assert sure == sorted(sure)
    assert not set(ids(session, "view=next")) & {30, 31}
    cats = session.get("/api/images?view=all&class=cat&limit=1000")["items"]
    assert {item["label"] or item["guess"] for item in cats} == {"cat"}
    low, high = np.quantile(sure, (0.3, 0.7)).round(4)
    between = session.get(f"/api/images?view=doubtful&low={low}&high={high}&limit=1000")["items"]
    assert 10 < len(between) < len(doubtful)
    assert all(low - 1e-4 <= item["confidence"] <= high + 1e-4 for item in between)
    assert [item["id"] for item in session.get("/api/images?ids=7,0,7")["items"]] == [7, 0, 7]
    part = session.get("/api/images?view=doubtful&offset=5&limit=3")
    assert part["items"] == doubtful[5:8]
    assert part["total"] == len(doubtful)


def test_labels_in_doubt_are_shown_until_they_are_changed():
    learned, none = np.array([1, 2, 1, NO_LABEL]), np.zeros(0, np.int64)
    found = Found(1, learned, none, None, np.arange(4), np.array([2, 0]), None)
    assert photos_of(Query("wrong"), learned, found).tolist() == [2, 0]
    assert photos_of(Query("wrong"), np.array([1, 2, UNSURE, NO_LABEL]), found).tolist() == [0]
    assert photos_of(Query("wrong", place=1), learned, found).tolist() == []
    assert photos_of(Query("wrong"), learned, None).tolist() == []


def test_each_action_is_undone_whoever_made_it(session):
    other = session.anew()  # a second tab
    other.get(f"/?token={session.token}")
    first = session.label([0, 1, 2], "cat")
    answer = other.post("/api/label", {"images": [2, 3], "label": "dog", "unsure": False}).json()
    assert answer["action"] == first["action"] + 1
    assert answer["version"] > first["version"]
    assert other.get("/api/state").json()["labelled"] == 4
    assert session.post("/api/undo")["images"] == [2, 3]
    assert {item["id"]: item["label"] for item in session.get("/api/images?view=labelled")["items"]} == {
        0: "cat", 1: "cat", 2: "cat",
    }  # fmt: skip
    assert session.post("/api/undo")["images"] == [0, 1, 2]
    assert session.post("/api/undo", status=409) == {"error": "there is nothing to undo."}
    assert session.get("/api/state")["can_undo"] is False
    session.label([0], "dog")
    assert session.get("/api/state")["can_undo"] is True


def test_a_page_that_waits_is_told_of_what_another_does(session):
    version = session.state_when(lambda state: state["guesses_version"] and not state["learning"]["running"])["version"]
    told = []
    thread = threading.Thread(target=lambda: told.append(session.get(f"/api/state?after={version}")))
    thread.start()
    time.sleep(0.3)
    assert not told
    session.label([0], "cat")
    thread.join(10)
    assert told[0]["labelled"] == 1
    assert told[0]["version"] > version
    began = time.monotonic()
    session.get("/api/state?after=5")  # a version of a server before
    assert time.monotonic() - began < 5


def test_a_page_that_waits_is_answered_when_the_server_ends(session):
    version = session.state_when(lambda state: state["guesses_version"] and not state["learning"]["running"])["version"]
    threading.Timer(0.2, session.page.end).start()
    began = time.monotonic()
    session.get(f"/api/state?after={version}")
    assert time.monotonic() - began < 10


def test_classes_are_added_and_renamed(session):
    assert session.post("/api/classes", {"name": " emu "})["version"] > 0
    for name, why in (("emu", "already"), ("", "not empty"), ("a\x07b", "control"), ("x" * 201, "at most 200")):
        error = session.post("/api/classes", {"name": name}, 400)["error"]
        assert why in error
    session.label([0], "emu")
    session.post("/api/classes/rename", {"old": "emu", "new": "<img src=x>"})
    session.post("/api/classes/rename", {"old": "emu", "new": "y"}, 400)
    session.post("/api/classes/rename", {"old": "cat", "new": "dog"}, 400)
    assert session.get("/api/images?view=labelled")["items"][0]["label"] == "<img src=x>"
    assert [item["name"] for item in session.get("/api/state")["classes"]] == ["cat", "dog", "<img src=x>"]


def test_a_table_comes_in_as_one_action_and_out_again(session):
    table = "file,label\na.jpg,cat\n./sub/c.jpg,horse\nnone.jpg,cat\n0.png,\n"
    answer = session.table(table)
    assert (answer["labelled"], answer["unknown"]) == (2, ["none.jpg"])
    for number, label in ((3, "cat"), (4, 'a, "b"'), (5, "dog")):
        if label not in session.board.classes:
            session.post("/api/classes", {"name": label})
        session.label([number], label)
    session.label([7], None, unsure=True)
    exported = session.client.get("/api/export")
    assert exported.headers["content-disposition"] == 'attachment; filename="labels.csv"'
    rows = dict(parse_labels(exported.content, "labels.csv"))
    assert rows == {NAMES[0]: "cat", NAMES[2]: "horse", NAMES[3]: "cat", NAMES[4]: 'a, "b"', NAMES[5]: "dog"}
    before = session.board.codes()
    for _ in range(5):
        session.post("/api/undo")
    assert session.get("/api/state")["labelled"] == 0
    assert session.table(exported.content)["labelled"] == 5
    np.testing.assert_array_equal(np.maximum(before, 0), np.maximum(session.board.codes(), 0))
    session.post("/api/undo")
    assert session.get("/api/state")["labelled"] == 0


def test_what_a_table_may_mean_otherwise_is_told_on_the_page(session):
    guessed = "file,label,confidence,second,labelled\na.jpg,cat,0.9,Cat,1\nsub/c.jpg,Cat,0.6,cat,0\n"
    told = session.table(guessed)["remarks"]
    assert told[0] == "1 of its 2 labels are guesses of hebbcore, and count as right"
    assert told[1].startswith("these labels are classes of their own: Cat and cat;")
    assert session.table('file,label\na.jpg,"big\ncat"\n')["remarks"] == []
    assert "big cat" in session.board.classes


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"", "is empty"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"a.jpg,cat\na.jpg,dog\n", "must have one label"),
        (b"x.jpg,cat\ny.jpg,dog\n", "2 of 2 rows name a file that is not among"),
        (b'a.jpg,"c\x07at"\n', "without control characters"),
        (b"a.jpg," + b"x" * 201 + b"\n", "at most 200 letters"),
        (b"a,b,c\n", "3 fields"),
    ],
)
def test_tables_that_are_wrong_change_nothing(session, table, message):
    error = session.table(table, 400)["error"]
    assert message in error
    assert "_labels" not in error  # names of functions say nothing to those who read the page
    assert session.get("/api/state")["can_undo"] is False


CELLS = st.sampled_from(
    ["a.jpg", "0.png", "x", "cat", "", '"', '"a', "\ud800", "é", "\0", "\n", "<b>", "../a.jpg", "=1+1"]
)
TABLES = st.lists(st.lists(CELLS, max_size=4).map(",".join), max_size=6).map("\n".join)


@settings(max_examples=60)
@given(data=st.one_of(st.binary(max_size=80), TABLES.map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_any_table_is_taken_or_refused(fuzzed, data):
    answer = fuzzed.client.post("/api/import", data, {"Content-Type": "text/csv"})
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 400:
        assert answer.json()["error"]
        return
    rows = list(csv.reader(io.StringIO(fuzzed.client.get("/api/export").text)))
    assert rows[0] == ["file", "label"]
    assert fuzzed.get("/api/state")["labelled"] == len(fuzzed.board.labelled())


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    session = Session(tmp_path_factory.mktemp("fuzzed"), learn=False)
    yield session
    session.close()


def test_thumbnails_are_made_once(session):
    answer = session.client.get("/thumb/0")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "private, no-cache"  # the next set at this port has other photos
    assert session.client.get("/thumb/0").content == answer.content
    assert session.pictures.made == 1
    again = session.client.get("/thumb/0", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    (file,) = session.page._thumbs._folder.glob("*/*.jpg")
    file.write_bytes(file.read_bytes()[:-100])  # torn by a power cut
    assert session.client.get("/thumb/0").content == answer.content
    (file.parent / f".{file.stem}.140.partial").touch()  # as a kill leaves it
    Thumbs(session.page._thumbs._folder, session.pictures)  # at the next start
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    session.page._thumbs._folder = file / "no folder"  # as on a full disk
    assert session.client.get("/thumb/0").content == answer.content
    photo = session.client.get("/photo/0")
    assert (photo.status_code, photo.headers["cache-control"]) == (200, "no-store")
    assert len(photo.content) > len(answer.content)


def test_photos_that_cannot_be_read_have_a_placeholder(session):
    answer = session.client.get("/thumb/1")
    assert (answer.status_code, answer.headers["x-hebbcore-broken"]) == (200, "1")
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert answer.headers["cache-control"] == "no-store"
    assert session.client.get("/photo/1").status_code == 404


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("FewLabelClassifier.relearn: y must be all texts"), "y must be all texts"),
        (ValueError("extract: work/features.h5 is damaged"), "work/features.h5 is damaged"),
        (OSError(28, "cannot write: No space left", "work/next.csv"), "work/next.csv: cannot write: No space left."),
        (sqlite3.OperationalError("disk I/O error"), "the labels cannot be written (disk I/O error); what was saved"),
        (MemoryError(), "not enough memory"),
        (KeyError("axes"), "nobody foresaw (KeyError)"),
        (ValueError("x.h5: has no axes"), "x.h5: has no axes"),
    ],
)
def test_errors_are_told_in_words_for_users(error, said):
    told = in_words(error)
    assert said in told
    assert "relearn" not in told


def test_classes_that_look_alike_are_one(session):
    session.post("/api/classes", {"name": "cafe\u0301"})
    assert "already" in session.post("/api/classes", {"name": "caf\u00e9\u200b"}, 400)["error"]
    session.label([0], "cafe\u0301")
    session.table("file,label\nb.jpg,caf\u00e9\nsub/c.jpg,cafe\u0301\u200d\n0.png, caf\u00e9\u00a0\n")
    classes = session.get("/api/state")["classes"]
    assert [(one["name"], one["labelled"]) for one in classes][2:] == [("caf\u00e9", 4)]


def test_names_that_are_no_unicode_reach_the_page(session):
    items = session.get("/api/images?view=all&limit=6")["items"]
    assert [item["name"] for item in items] == NAMES[:6]


def test_an_error_of_learning_is_told_and_the_next_labels_try_again(tmp_path):
    session = Session(tmp_path, learn=False)
    session.teacher.problem = RuntimeError("no memory")
    session.learner.start()
    state = session.state_when(lambda state: state["learning"]["error"])
    assert state["learning"] == {"running": False, "error": "no memory", "labels": 0}
    session.post("/api/results")
    assert session.state_when(lambda state: state["results"]["error"])["results"]["error"] == "no memory"
    session.teacher.problem = None
    session.board.add_class("cat")
    session.label([0], "cat")
    assert session.state_when(lambda state: state["learning"]["labels"] == 1)["learning"]["error"] is None
    session.close()


def test_results_are_written_from_the_newest_labels(session, caplog):
    session.post("/api/results")
    state = session.state_when(lambda state: state["results"]["error"])
    refused = [record for record in caplog.records if record.name == "hebbcore.page.learner"]
    assert [record.getMessage() for record in refused] == [
        "label: no results were written: Results need labels of two classes or more."
    ]
    assert not refused[0].exc_info  # the terminal shows no traceback of what the page says
    assert state["results"] == {
        "running": False,
        "error": "Results need labels of two classes or more.",
        "written": None,
    }
    teach(session)
    session.label([20], "emu")
    session.post("/api/results")
    state = session.state_when(lambda state: state["results"]["written"])
    assert state["results"] == {"running": False, "error": None, "written": "2017-07-14T02:40:00+00:00"}
    found, labels = session.teacher.results[0]
    assert labels.classes == ("cat", "dog", "emu")
    assert (labels.numbers >= 0).sum() == 16
    assert found[20] == 2


def test_the_curve_stays_short():
    points = [(number, 0.5, 0.4, 0.6) for number in range(1, 1001)]
    kept = curve_of(points, 20)
    assert len(kept) == 20
    assert (kept[0]["labels"], kept[-1]["labels"]) == (1, 1000)
    assert len(curve_of(points[:3], 20)) == 3
    assert curve_of([]) == []
