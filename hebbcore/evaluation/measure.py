"""What is measured of features: classifiers for shares of the labels, retrieval, and the images that are mistaken."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hebbcore import checks
from hebbcore.engine import devices
from hebbcore.engine.backend import Array
from hebbcore.evaluation.batches import Labels
from hebbcore.evaluation.book import Book
from hebbcore.evaluation.metrics import confusion_matrix, top_k_accuracy
from hebbcore.evaluation.passes import LabelledStream, doubts, shared_images, unlabelled
from hebbcore.evaluation.readouts import make_readout
from hebbcore.evaluation.results import Mistake, Neighbours, Run
from hebbcore.evaluation.retrieval import retrieval_scores
from hebbcore.evaluation.sources import OneSource, Source, collect
from hebbcore.evaluation.splits import drawn, rows_of

_log = logging.getLogger("hebbcore")
_MISTAKES = 50  # that results list of each source


@dataclass(frozen=True)
class Plan:
    """What is measured of each source.

    Parameters
    ----------
    shares : list of float
        Parts of the labelled training images.
    seeds : int
        Selections of each share below 1.
    readout, how : str or classifier, str
        See make_readout and labelled_subset.
    queries : int
        Test images that are looked up.
    room : int
        Bytes for features at a time.
    """

    shares: list[float]
    seeds: int
    readout: Any
    how: str
    queries: int
    room: int

    @classmethod
    def checked(
        cls, function: str, fractions: Any, seeds: int, readout: Any, how: str, queries: int,
        memory: int | str,
    ) -> Self:  # fmt: skip
        """Return what a user asks for. Raises ValueError or TypeError for what cannot be."""
        checks.integer(function, "seeds", seeds, 1)
        checks.integer(function, "queries", queries, 0)
        room = checks.byte_size(function, "memory", memory)
        if not isinstance(fractions, Iterable):
            problem = f"must be some numbers above 0, at most 1, got {fractions!r}; write one as [1.0]."
            raise checks.wrong(TypeError, function, "fractions", problem)
        shares = list(dict.fromkeys(_share(function, fraction) for fraction in fractions))
        if not shares and not queries:
            raise ValueError(f"{function}: fractions is empty and queries 0: nothing is measured; give one of them.")
        checks.choice(function, "how", how, ("published", "stratified"))
        make_readout(readout)  # an unknown one is refused before any work
        return cls(shares, seeds, readout, how, queries, room)


def _share(function: str, fraction: float) -> float:
    if checks.positive(function, "fractions", fraction) > 1:
        raise ValueError(f"{function}: fractions must be above 0 and at most 1, got {fraction}; 0.01 is 1 %.")
    return float(fraction)


@dataclass
class Job:
    """What is measured, on which images, and where it is noted. classes: all labels there are, (classes,)."""

    train: LabelledStream
    test: LabelledStream
    classes: Labels
    plan: Plan
    book: Book
    tell: Callable[[str], None]
    noted: bool = False

    def complete(self, name: str) -> bool:
        """Return True if nothing is left to do for a source."""
        numbers = self.plan.room // self.train.dtype.itemsize
        return self.book.complete(name, self.plan.shares, self.plan.seeds, self.plan.queries, numbers)

    def missing(self, name: str) -> list[tuple[float, int]]:
        """Return the (share, seed) of the labels that a source has no figure for."""
        return self.book.missing(name, self.plan.shares, self.plan.seeds)

    def read_images(self) -> None:
        """Read both streams through, unless that was done, and note what they showed."""
        self.train.read()
        self.test.read()
        self.note_images()

    def note_images(self) -> None:
        """Note, once, what the first pass over the images found."""
        if self.noted:
            return
        self.noted, known = True, self.book.results.shared is not None
        images = {"train": self.train.counted(), "test": self.test.counted()}
        self.book.note_images(images, shared_images(self.train, self.test))
        if not known:
            self.tell_doubts()

    def tell_unlabelled(self) -> None:
        """Say how many images are left out."""
        for split, stream in (("train", self.train), ("test", self.test)):
            for line in unlabelled(split, stream.images, stream.unlabelled):
                _log.info("evaluate: %s", line)
                self.tell(line)

    def tell_doubts(self) -> None:
        """Say what is known of the images that makes the figures doubtful."""
        for line in doubts(self.book.results):
            _log.warning("evaluate: %s", line)


def grouped(sources: list[Source], images: int, room: int) -> list[list[Source]]:
    """Return the sources of one network in groups for whose features of so many images there is room together."""
    groups: list[list[Source]] = []
    for source in sources:
        if groups and _bytes([*groups[-1], source], images) <= room:
            groups[-1].append(source)
        else:
            groups.append([source])
    return groups


def _bytes(sources: Sequence[Source], images: int) -> int:
    return sum(source.row_bytes * images for source in sources)


def measure(group: list[Source], job: Job) -> None:
    """Measure sources of one network for whose features there is room together, or a single one whatever it takes."""
    if len(group) == 1 and _bytes(group, job.train.images + job.test.images) > job.plan.room:
        _log.warning("evaluate: %s is fitted from the stream; retrieval is left out", group[0].name)
        job.read_images()
        _from_stream(group[0], job)
        return
    rows, labels = collect(group, job.train)  # the labels again, since a stream may leave out damaged images
    test_rows, test_labels = collect(group, job.test)
    job.note_images()
    for source in group:
        # popped, so that a source's features are gone when it is done
        _from_arrays(source, (rows.pop(0), labels, test_rows.pop(0), test_labels), job)


def _from_arrays(source: Source, data: tuple[Array, Any, Array, Any], job: Job) -> None:
    """Measure a source whose features are in memory."""
    rows, labels, test_rows, test_labels = data
    entry, plan = job.book.source(source), job.plan
    for share, seed in job.missing(source.name):
        job.tell(f"{source.name}: {100 * share:g} % of the labels, seed {seed}")
        chosen = drawn(labels, rows_of(share, len(labels)), seed, plan.how)
        model = _readout(seed, job).fit(rows[chosen], labels[chosen])
        scores = _scores(model, test_rows, plan.readout)
        _note(source.name, share, seed, scores, test_labels, model.classes_, job)
        job.book.save()
    if plan.queries and not entry.retrieval:  # empty: there was no room for the features then
        job.tell(f"{source.name}: retrieval")
        asked = np.random.default_rng(0).permutation(len(test_rows))[: plan.queries]
        entry.retrieval = {
            metric: Neighbours(
                list(found.k),
                [100 * value for value in found.precision],
                [100 * value for value in found.mean_average_precision],
            )
            for metric in ("euclidean", "hamming")
            for found in [retrieval_scores(rows, labels, test_rows[asked], test_labels[asked], metric=metric)]
        }
        job.book.save()


def _from_stream(source: Source, job: Job) -> None:
    """Measure a source whose features are made again for each readout."""
    plan = job.plan
    if not hasattr(make_readout(plan.readout), "fit_stream"):
        raise ValueError(
            f'evaluate: the features of {source.name} do not fit memory, which only readout="ridge" can do without; '
            "raise memory, or lower features."
        )
    labels = job.train.labels[job.train.numbers]
    entry = job.book.source(source)
    for share, seed in job.missing(source.name):
        job.tell(f"{source.name}: {100 * share:g} % of the labels, seed {seed}, from the stream")
        keep = np.zeros(len(labels), bool)
        keep[drawn(labels, rows_of(share, len(labels)), seed, plan.how)] = True
        batches = OneSource(source, job.train, keep)
        model = _readout(seed, job)
        if 2 * _bytes([source], int(keep.sum())) <= plan.room:  # while the batches are joined they are there twice
            # a stream's holdout, which takes every fifth row of a class, may be empty where rows are few
            parts = [(devices.to_device(rows, "cpu"), classes) for rows, classes in batches]
            model.fit(*(np.concatenate(part) for part in zip(*parts, strict=True)))
        else:
            model.fit_stream(batches)
        pairs = [(_scores(model, rows, plan.readout), classes) for rows, classes in OneSource(source, job.test)]
        scores, classes = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        _note(source.name, share, seed, scores, classes, model.classes_, job)
        entry.retrieval = {}
        job.book.save()


def _readout(seed: int, job: Job) -> Any:
    """Return a new readout; the library's own ridge keeps to the memory beside the features, and says how far it is."""
    model = make_readout(job.plan.readout, seed)
    if job.plan.readout == "ridge":
        model.set_params(memory=job.plan.room, folder=job.book.folder, progress=job.tell)
    return model


def _scores(model: Any, rows: Array, readout: Any) -> Array:
    """Return the score of each class (n, classes), that of a row's guess the largest. readout: as of Plan."""
    given = next((name for name in ("decision_function", "predict_proba") if hasattr(model, name)), None)
    scores = devices.to_device(getattr(model, given)(rows), "cpu") if given else np.empty((len(rows), 0))
    scores = np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores
    if scores.shape[1:] != (len(model.classes_),):
        what = f"{given} of shape {scores.shape}" if given else "neither decision_function nor predict_proba"
        raise ValueError(
            f"evaluate: readout must give a score for each of {len(model.classes_)} classes, by which top-5 accuracy "
            f"goes, but {type(model).__name__} has {what}; take one that does, such as "
            'SVC with decision_function_shape="ovr" or VotingClassifier with voting="soft".'
        )
    return (
        scores
        if isinstance(readout, str)
        else _with_guesses(scores, np.searchsorted(model.classes_, model.predict(rows)))
    )


def _with_guesses(scores: Array, guesses: npt.NDArray[np.int64]) -> Array:
    """Return scores (n, classes) of which those of the guesses (n,) are the largest.

    Those of some classifiers of scikit-learn, such as SVC and NearestCentroid, are not always.
    """
    scores = scores.astype(np.float64)
    rows = np.flatnonzero(scores.argmax(axis=1) != guesses)
    scores[rows, guesses[rows]] = np.nextafter(scores[rows].max(axis=1), np.inf)
    return scores


def _note(name: str, share: float, seed: int, scores: Array, labels: Labels, learned: Labels, job: Job) -> None:
    """Note the figures of a classifier of a source. learned: the classes (columns,) of scores of labelled images."""
    entry = job.book.results.sources[name]
    top1, top5 = (_accuracy(scores, labels, k, learned) for k in (1, 5))
    entry.runs.append(Run(share, seed, top1, top5))
    if share == entry.shares[-1]:
        entry.confusion = confusion_matrix(labels, learned[scores.argmax(axis=1)], labels=job.classes).tolist()
        job.book.results.mistakes[name] = _mistakes(scores, labels, learned, job)


def _mistakes(scores: Array, labels: Labels, learned: Labels, job: Job) -> list[Mistake]:
    """Return the test images that are taken for another class by the largest margin over their own, the largest first.

    Margins are rounded as the report shows them.
    """
    taken = scores.argmax(axis=1)
    columns = np.minimum(np.searchsorted(learned, labels), len(learned) - 1)
    own = np.where(learned[columns] == labels, scores[np.arange(len(scores)), columns], scores.min(axis=1))
    margins = np.round(scores.max(axis=1) - own, 2)  # what rounding decides must not decide the order
    wrong = np.flatnonzero(learned[taken] != labels)
    worst = wrong[np.argsort(-margins[wrong], kind="stable")][:_MISTAKES]
    return [
        Mistake(
            job.test.image(int(job.test.numbers[row])),
            int(np.searchsorted(job.classes, labels[row])),
            int(np.searchsorted(job.classes, learned[taken[row]])),
            float(margins[row]),
        )
        for row in worst
    ]


def _accuracy(scores: Array, labels: Any, k: int, classes: Any) -> float:
    """Return the share of rows in percent whose class is among the best k; a class that was not learned never is."""
    known = np.isin(labels, classes)
    if not known.any():
        return 0.0
    return float(100 * known.mean() * top_k_accuracy(scores[known], labels[known], min(k, len(classes)), classes))
