"""The learner behind the page: what comes while it is at work, and what fails."""

import threading

import numpy as np
from page_helpers import session

from hebbcore.classify import FewLabelClassifier

__all__ = ["session"]


def learned_from(session, labels):
    """Wait until it has learned from so many labels; returns the state."""
    return session.state_when(lambda state: state["learning"]["labels"] == labels and not state["learning"]["running"])


def test_results_hold_labels_that_were_given_while_it_learned(session, monkeypatch):
    session.label([0, 3], "cat")
    session.label([1, 4], "dog")
    learned_from(session, 4)
    relearn, inside, gate = FewLabelClassifier.relearn, threading.Event(), threading.Event()
    slow = lambda *given: (inside.set(), gate.wait(60), relearn(*given))  # noqa: E731
    monkeypatch.setattr(FewLabelClassifier, "relearn", slow)
    session.label([6], "cat")
    assert inside.wait(60)
    session.label([7], "dog")
    session.post("/api/results")
    gate.set()
    state = session.state_when(lambda state: not state["results"]["running"])
    assert state["results"]["error"] is None
    [(_, labels)] = session.teacher.results
    assert np.flatnonzero(labels.numbers >= 0).tolist() == [0, 1, 3, 4, 6, 7]


def test_what_could_not_be_judged_is_judged_with_the_next_results(session, monkeypatch):
    session.label([0, 3, 6, 9, 12, 15], "cat")
    session.label([1, 4, 7, 10, 13], "dog")
    before = learned_from(session, 11)
    add_point = session.board.add_point

    def full(point):
        raise OSError(28, "cannot write: No space left on device", "labels.sqlite")

    monkeypatch.setattr(session.board, "add_point", full)
    session.label([2, 5, 8], "cat")
    assert "No space left" in session.state_when(lambda state: state["learning"]["error"])["learning"]["error"]
    monkeypatch.setattr(session.board, "add_point", add_point)
    session.post("/api/results")
    state = session.state_when(lambda state: state["results"]["written"])
    assert state["learning"]["error"] is None
    assert state["curve"][-1] == {"labels": 14, **state["estimate"]}
    assert state["estimate"] != before["estimate"]
