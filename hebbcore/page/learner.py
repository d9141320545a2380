"""The learner: a thread that learns from the newest labels, and writes the results when it is asked to."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np

from hebbcore.checks import printable
from hebbcore.labelling.guesses import Guesses
from hebbcore.labelling.work import Labels
from hebbcore.page.board import Board, Ints
from hebbcore.page.store import UNSURE
from hebbcore.page.told import in_words

SUGGESTIONS = 60  # about a screen of photos
_PAUSE = 0.5  # seconds without a click, after which it learns
_PATIENCE = 3.0  # seconds after which it learns though clicks go on
_LOOK = 0.1  # seconds

log = logging.getLogger(__name__)


class Teacher(Protocol):
    """What the learner works with: the classifier and the work folder behind it."""

    def fitted(self) -> Any:
        """Return a FewLabelClassifier, fitted to the features of all photos without labels."""

    def write(self, classifier: Any, labels: Labels) -> None:
        """Write the results of a classifier that has learned from labels."""

    def written(self) -> float | None:
        """Return when the results in the folder were written (Unix time); None if there are none."""


@dataclass(frozen=True)
class Found:
    """What was learned.

    version: of the board, when it was learned. codes: (n,) the labels, as Board.codes. suggested: photos, the most
    useful first. guesses: of all photos, as positions of classes; None before two classes have labels.
    by_doubt: (n,) photos, the least sure first. doubts: photos whose labels are likely wrong.
    estimate: (value, low, high) of the share of right guesses.
    """

    version: int
    codes: Ints
    suggested: Ints
    guesses: Guesses | None
    by_doubt: Ints
    doubts: Ints
    estimate: tuple[float, float, float] | None

    @property
    def labels(self) -> int:
        """How many labels it was learned from."""
        return int(np.count_nonzero(self.codes > UNSURE))


class Learner(threading.Thread):
    """Learns in the background whenever labels have changed; does one thing at a time.

    What it found, and what went wrong, other threads read from its attributes.
    """

    def __init__(self, board: Board, teacher: Teacher) -> None:
        super().__init__(name="learner", daemon=True)
        self._board, self._teacher = board, teacher
        self._wake = threading.Condition()
        self._asked = self._ended = False  # for results; for the end
        self._taken = -1.0  # when the labels were taken that were learned last
        self._classifier: Any = None
        self._learned: Labels | None = None
        self.found: Found | None = None
        self.running = self.writing = False
        self.error: str | None = None
        self.write_error: str | None = None

    def look(self) -> None:
        """Labels have changed."""
        with self._wake:
            self._wake.notify()

    def write(self) -> None:
        """Write the results, after learning from the newest labels."""
        with self._wake:
            self._asked = self.writing = True
            self.write_error = None  # which is of the time before
            self._wake.notify()
        self._board.versions.next()

    def end(self) -> None:
        """Begin nothing new."""
        with self._wake:
            self._ended = True
            self._wake.notify()

    def written(self) -> str | None:
        """Return when the results were written, ISO 8601; None if there are none."""
        when = self._teacher.written()
        return None if when is None else datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds")

    def run(self) -> None:
        """Learn from what is there, then whenever there is something to do."""
        while True:
            with self._wake:  # who asks while it learns has labels in mind that are not among those it learns from
                asked, self._asked = self._asked, False
            self.running = True
            self._board.versions.next()
            self.error = self._tried(self._learn)
            self.running = False
            if asked:
                self.write_error = self.error or self._tried(self._write, (ValueError, OSError))
                with self._wake:
                    self.writing = self._asked
            self._board.versions.next()
            if not self._waited():
                return

    def _tried(self, do: Callable[[], None], expected: tuple[type[Exception], ...] = ()) -> str | None:
        """Do something; returns what went wrong, for the page to show, None if all went well.

        expected: errors that say all there is to know, such as of a full disk.
        """
        try:
            do()
        except Exception as error:
            if isinstance(error, expected):
                log.warning("label: no results were written: %s", printable(in_words(error)))
            elif not self._ended:  # then the board is closed, and nobody asks any more
                log.exception("the learner failed")
            return in_words(error)
        return None

    def _waited(self) -> bool:
        """Wait until there is something to do; returns False at the end."""
        news = 0.0
        with self._wake:
            while not self._ended:
                now, changed = time.monotonic(), self._board.last_change
                if self._asked:
                    return True
                if changed <= self._taken:
                    self._wake.wait()
                    continue
                news = news or now
                if now - changed >= _PAUSE or now - news >= _PATIENCE:
                    return True
                self._wake.wait(_LOOK)
        return False

    def _learn(self) -> None:
        self._taken, codes, classes = time.monotonic(), self._board.codes(), self._board.classes
        if self._classifier is None:
            self._classifier = self._teacher.fitted()
        labels, numbers = sorted_labels(codes, classes)
        is_new = self._learned is None or not _same(labels, self._learned)
        if is_new:
            self._learned = None
            self._classifier.relearn(labels.numbers, lambda: self._show(codes, numbers))
        if is_new or self.found is None or (self.found.codes != codes).any():
            self.found = self._judged(codes, numbers)
        self._learned = labels  # only now: what failed is done again

    def _show(self, codes: Ints, numbers: Ints) -> None:
        """Show the guesses; what takes longer stays what it was, without doubts of labels that have changed."""
        if (before := self.found) is None:
            return
        guesses, by_doubt = self._guessed(len(codes), numbers)
        doubts = before.doubts[before.codes[before.doubts] == codes[before.doubts]]
        version = self._board.versions.next()
        self.found = Found(version, codes, before.suggested, guesses, by_doubt, doubts, before.estimate)

    def _guessed(self, photos: int, numbers: Ints) -> tuple[Guesses | None, Ints]:
        """Return the guesses, None before two classes have labels, and the photos by doubt. numbers: see _judged."""
        if len(numbers) < 2:
            return None, np.arange(photos)
        own = Guesses.of(self._classifier.label_distributions_)
        guesses = Guesses(numbers[own.first] - 1, own.confidence, numbers[own.second] - 1)
        return guesses, np.argsort(guesses.confidence, kind="stable")

    def _judged(self, codes: Ints, numbers: Ints) -> Found:
        """Return what the classifier says of labels. numbers: (classes,) on the board, of its classes."""
        model, (guesses, by_doubt) = self._classifier, self._guessed(len(codes), numbers)
        estimate = model.estimated_accuracy_
        suggested = model.suggest(SUGGESTIONS, codes == UNSURE)
        if estimate is not None:
            value, low, high = map(float, estimate)
            self._board.add_point((int(np.count_nonzero(codes > UNSURE)), value, low, high))
        return Found(self._board.versions.next(), codes, suggested, guesses, by_doubt, model.doubts_, estimate)

    def _write(self) -> None:
        if self._learned is None or len(self._learned.classes) < 2:
            raise ValueError("Results need labels of two classes or more.")
        self._teacher.write(self._classifier, self._learned)


def sorted_labels(codes: Ints, classes: Sequence[str]) -> tuple[Labels, Ints]:
    """Return the labels as `hebbcore classify` takes them from a table, and the numbers of their classes on the board.

    Only classes with labels count, sorted by their bytes.
    """
    used = sorted(np.unique(codes[codes > UNSURE]).tolist(), key=lambda number: classes[number - 1].encode())
    place = np.full(len(classes) + 2, -1)  # the last is that of NO_LABEL
    place[used] = np.arange(len(used))
    return Labels(place[codes], tuple(classes[number - 1] for number in used)), np.array(used, np.int64)


def _same(one: Labels, other: Labels) -> bool:
    return one.classes == other.classes and np.array_equal(one.numbers, other.numbers)
