"""python browser_server.py FOLDER PORT: the labelling page's server on made photos, which learns at once.

FOLDER/set.json: {"names": of the photos, "classes": to begin with, "photo_set": their identity, or without it}. Photo n
is red, green or blue as n % 3 is, which is all that the classifier sees. The address goes to stdout; the server ends
with stdin.
"""

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from hebbcore.page.app import Page
from hebbcore.page.board import Board, Versions
from hebbcore.page.learner import Learner
from hebbcore.page.serve import Address, serving
from hebbcore.page.store import Store
from hebbcore.page.thumbs import Thumbs

COLOURS = ((190, 60, 50), (60, 150, 80), (70, 90, 190))


class Classifier:
    """Gives each photo the class that most labelled photos of its colour have."""

    def __init__(self, count):
        self._colours = np.arange(count) % len(COLOURS)
        self.relearn(np.full(count, -1))

    def relearn(self, labels, early=None):
        """Learn from labels; −1: none."""
        known, classes = labels >= 0, int(labels.max()) + 1
        votes = np.full((len(COLOURS), max(classes, 1)), 0.2)
        np.add.at(votes, (self._colours[known], labels[known]), 1.0)
        self.label_distributions_ = (votes / votes.sum(axis=1, keepdims=True))[self._colours]
        self.estimated_accuracy_ = (0.8, 0.7, 0.9) if known.sum() >= 10 else None
        self.doubts_ = np.flatnonzero(known & (votes.argmax(axis=1)[self._colours] != labels))
        self._open = ~known

    def suggest(self, count, leave):
        """Return the first photos without labels, but for those to leave out (a mask)."""
        return np.flatnonzero(self._open & ~leave)[:count]


class Teacher:
    """Keeps the classifier; the results are an empty file."""

    def __init__(self, folder, count):
        self._classifier, self._results = Classifier(count), folder / "results"

    def fitted(self):
        """Return the classifier."""
        return self._classifier

    def write(self, classifier, labels):
        """Write the results, anew from nothing; on a disk that a file `full` says is full, there are none then."""
        self._results.unlink(missing_ok=True)
        if self._results.with_name("full").exists():
            raise OSError(28, "cannot write: No space left on device", "predictions.csv")
        self._results.write_text("")

    def written(self):
        """Return when the results were written."""
        return self._results.stat().st_mtime if self._results.exists() else None


class Pictures:
    """Draws the photos."""

    def version(self, photo):
        """Return a name for a photo's colour."""
        return f"{photo % len(COLOURS):08x}"

    def jpeg(self, photo, side):
        """Return a photo's picture."""
        data = io.BytesIO()
        Image.new("RGB", (side, side * 3 // 4), COLOURS[photo % len(COLOURS)]).save(data, "JPEG")
        return data.getvalue()


class Tables:
    """Reads tables of file and label."""

    def __init__(self, names):
        self._numbers = {name: number for number, name in enumerate(names)}

    def read(self, data):
        """Return ({photo: class}, how many rows are of other files, which, remarks on the labels)."""
        rows = list(csv.reader(io.StringIO(data.decode())))[1:]
        found = {self._numbers[name]: label for name, label in rows if name in self._numbers}
        unknown = [name for name, _ in rows if name not in self._numbers]
        return found, len(unknown), unknown, ["'NA' is a class"] if "NA" in found.values() else []


def main(folder, port):
    """Serve until stdin ends."""
    made = json.loads((folder / "set.json").read_text())
    names = made["names"]
    board = Board(names, Store(folder / "labels.sqlite"), Versions())
    if not board.classes:
        board.add_classes(made["classes"])
    learner = Learner(board, Teacher(folder, len(names)))
    learner.start()
    pictures = Pictures()
    page = Page(board, learner, pictures, Thumbs(folder / "thumbs", pictures), Tables(names), made.get("photo_set", ""))
    with serving(page.application(), Address("127.0.0.1", port), page.end) as address:
        print(address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
