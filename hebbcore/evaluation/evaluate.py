"""How good are the features? Every layer and every baseline, at several numbers of labels, in one pipeline."""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore import checkpoint, checks, streams
from hebbcore.engine import devices
from hebbcore.engine.backend import Array
from hebbcore.evaluation.batches import Labels
from hebbcore.evaluation.metrics import confusion_matrix, top_k_accuracy
from hebbcore.evaluation.passes import LabelledStream, doubts, shared_images, unlabelled, who
from hebbcore.evaluation.readouts import make_readout
from hebbcore.evaluation.results import Book
from hebbcore.evaluation.retrieval import retrieval_scores
from hebbcore.evaluation.ridge.readout import RidgeReadout
from hebbcore.evaluation.sources import BASELINES, OneSource, Source, baseline, collect
from hebbcore.evaluation.splits import FRACTIONS, drawn, rows_of
from hebbcore.evaluation.survey import class_names, labels_of, require_learned, require_possible, title
from hebbcore.files import locked
from hebbcore.layers import Learner
from hebbcore.network import Network
from hebbcore.streams import Stream

_log = logging.getLogger("hebbcore")
_BASELINE_IMAGES = 2_000  # that filters of baselines are learned from
_MISTAKES = 50  # that results list of each source


def evaluate(
    network: Network,
    train: Stream,
    test: Stream,
    folder: str | os.PathLike[str],
    *,
    layers: Sequence[str] | None = None,
    fractions: Iterable[float] = FRACTIONS,
    seeds: int = 5,
    readout: Any = "ridge",
    how: str = "published",
    baselines: Sequence[str] = BASELINES,
    features: int = 5_000,
    mirror: bool = False,
    queries: int = 1_000,
    memory: int | str = "4 GiB",
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measure a network's features by classifiers and retrieval, and return the results.

    train, test: unshuffled streams of (images, labels), such as loaders.ShardStream; `images` says how many. If both
        have `class_names`, a label must have the same name in both. Images whose label is below 0 have none: all is
        as if they were not there, and results and progress say how many they are. Their `names`, if they have them,
        go into the results.
    folder: gets results.json after each figure; the same call goes on from there.
    layers: names; None: every learner's block, that is the last layer before the next learner.
    fractions: of the labelled training images, above 0, at most 1; repeated ones count once. seeds: selections of
        labelled images of each fraction below 1; all labels are one selection. how: "published" or "stratified", see
        labelled_subset; but a published selection may lack classes, whose test images then count as wrong.
    readout: see make_readout; fitted to the labelled part alone, its penalty chosen there. No test label decides
        anything.
    baselines: of BASELINES; by the same readout on the same rows. features: of an image, at most: outputs of layers
        are averaged over a grid of as many cells as make no more. A layer whose channels alone are more keeps them.
    mirror: average the features, baselines' too, over each image and its mirror image, see Network.transform.
    queries: test images that are looked up in the training images, 0: none. memory: for features kept at a time; if
        those of a single layer take more, a ridge readout is fitted to the stream instead, unless the selection fits.

    Returns {"settings", "classes", "sources": {name: {"features", "cells", "runs": [{"labels", "seed", "top1",
    "top5"}], "confusion", "retrieval"}}, "mistakes", "images", "shared", "digest"}, accuracies in percent. confusion
    counts the test images of each class (row) by the class they are taken for (column); classes are their names, or
    labels. mistakes: of each source, the test images that are taken for another class by the largest margin. images:
    how many of train and test are labelled and unlabelled, and a digest of them. shared: images of test that equal one
    of train in every pixel, which a warning tells of, see passes.shared_images. digest: of all else.
    Raises ValueError or TypeError, before any feature is computed, for bad arguments, shuffled streams, NaN and
    infinity, streams whose classes differ, test images of classes that train has not, fractions that are too few images
    to fit the readout to, and a folder that holds another evaluation or damaged results; later, if earlier figures of
    the folder are of other images under the same names; BlockingIOError while another process evaluates into the
    folder.
    Source: the protocol of FastHebb (Lagani et al. 2022).
    """
    function = "evaluate"
    checks.integer(function, "seeds", seeds, 1)
    checks.integer(function, "queries", queries, 0)
    most = checks.integer(function, "features", features, 1)
    room = checks.byte_size(function, "memory", memory)
    shares = list(dict.fromkeys(_fraction(function, share) for share in fractions))
    checks.choice(function, "how", how, ("published", "stratified"))
    if checks.boolean(function, "mirror", mirror):
        network.require_mirror(function)
    names = block_ends(network) if layers is None else list(layers)
    for name in names:
        network.index_of(function, name)
    for name in baselines:
        checks.choice(function, "baselines", name, BASELINES)
    streams.require_stream(function, "train", train, ("images", "state"))
    streams.require_stream(function, "test", test, ("images", "state"))
    make_readout(readout)  # an unknown one is refused before any work
    titles = class_names(function, train, test)
    mine, theirs = (
        LabelledStream(stream, labels_of(function, name, stream), network.site.dtype)
        for name, stream in (("train", train), ("test", test))
    )
    labels = mine.labels[mine.numbers]
    require_learned(function, labels, theirs.labels[theirs.numbers], titles)
    require_possible(function, labels, shares, seeds, how, readout)
    settings = {
        "weights": checkpoint.digest_of(network),
        "train": streams.identity_of(train), "test": streams.identity_of(test),
        "readout": str(readout), "how": how, "features": most, "mirror": mirror, "queries": queries,
    }  # fmt: skip
    classes = np.unique(labels)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "evaluating into"):
        book = Book(folder, settings, [title(label, titles) for label in classes.tolist()])
        job = _Job(
            mine, theirs, classes, shares, seeds, readout, how, queries, room, book,
            progress or (lambda text: None),
        )  # fmt: skip
        for name, stream in (("train", mine), ("test", theirs)):
            for line in unlabelled(name, stream.images, stream.unlabelled):
                _log.info("evaluate: %s", line)
                job.tell(line)
        job.tell_doubts()
        groups = _groups(
            [Source.of(name, network, name, most, mirror) for name in names], mine.images + theirs.images, room
        )
        for name in baselines:
            if not book.complete(name, shares, seeds, queries):
                other, layer = baseline(name, network, _first_images(mine), seed=0)
                groups.append([Source.of(name, other, layer, most, mirror)])
        for group in groups:
            if not all(book.complete(source.name, shares, seeds, queries) for source in group):
                job.tell(f"features of {', '.join(source.name for source in group)}")
                _measure(group, job)
        if "shared" not in book.results:  # of an earlier version, with nothing left to do
            mine.read()
            theirs.read()
            job.note_images()
    return book.results


@dataclass
class _Job:
    """What is measured of each source, on which images, and where it is noted.

    classes: all there are, (classes,).
    """

    train: LabelledStream
    test: LabelledStream
    classes: Labels
    shares: list[float]
    seeds: int
    readout: Any
    how: str
    queries: int
    room: int
    book: Book
    tell: Callable[[str], None]
    noted: bool = False

    def note_images(self) -> None:
        """Note, once, what the first pass over the images found."""
        if self.noted:
            return
        self.noted, known = True, "shared" in self.book.results
        images = {
            name: {
                "labelled": len(stream.numbers),
                "unlabelled": len(stream.labels) - len(stream.numbers),
                "digest": stream.identity(),
            }
            for name, stream in (("train", self.train), ("test", self.test))
        }
        self.book.note_images(images, shared_images(self.train, self.test))
        if not known:
            self.tell_doubts()

    def tell_doubts(self) -> None:
        """Say what is known of the images that makes the figures doubtful."""
        for line in doubts(self.book.results):
            _log.warning("evaluate: %s", line)


def _measure(group: list[Source], job: _Job) -> None:
    """Measure sources of one network, whose features fit the memory together, or a single one whatever it takes."""
    if len(group) == 1 and _bytes(group, job.train.images) > job.room:
        _log.warning("evaluate: %s is fitted from the stream; retrieval is left out", group[0].name)
        job.train.read()
        job.test.read()
        job.note_images()
        _from_stream(group[0], job)
        return
    rows, labels = collect(group, job.train)  # the labels again, since a stream may leave out damaged images
    test_rows, test_labels = collect(group, job.test)
    job.note_images()
    for source in group:
        # popped, so that a source's features are gone when it is done
        _from_arrays(source, (rows.pop(0), labels, test_rows.pop(0), test_labels), job)


def block_ends(network: Network) -> list[str]:
    """Return the names of the layers at the end of each learner's block: what the next learner sees."""
    places = [i for i, layer in enumerate(network.layers) if isinstance(layer, Learner)]
    starts = [*places[1:], len(network.layers)]
    # a batch norm or whitening before a learner is part of what the block before hands on
    return [network.names[i - 1] for i in starts]


def _fraction(function: str, share: float) -> float:
    if checks.positive(function, "fractions", share) > 1:
        raise ValueError(f"{function}: fractions must be above 0 and at most 1, got {share}; 0.01 is 1 %.")
    return float(share)


def _from_arrays(source: Source, data: tuple[Array, Any, Array, Any], job: _Job) -> None:
    """Measure a source whose features are in memory."""
    rows, labels, test_rows, test_labels = data
    entry = job.book.source(source)
    for share, seed in job.book.missing(source.name, job.shares, job.seeds):
        job.tell(f"{source.name}: {100 * share:g} % of the labels, seed {seed}")
        chosen = drawn(labels, rows_of(share, len(labels)), seed, job.how)
        model = make_readout(job.readout, seed).fit(rows[chosen], labels[chosen])
        scores = _scores(model, test_rows)
        _note(source.name, share, seed, scores, test_labels, model.classes_, job)
        job.book.save()
    if job.queries and entry["retrieval"] is None:
        job.tell(f"{source.name}: retrieval")
        asked = np.random.default_rng(0).permutation(len(test_rows))[: job.queries]
        entry["retrieval"] = {
            metric: {
                "k": list(found.k),
                "precision": [100 * value for value in found.precision],
                "map": [100 * value for value in found.mean_average_precision],
            }
            for metric in ("euclidean", "hamming")
            for found in [retrieval_scores(rows, labels, test_rows[asked], test_labels[asked], metric=metric)]
        }
        job.book.save()


def _from_stream(source: Source, job: _Job) -> None:
    """Measure a source whose features are made again for each readout."""
    if job.readout != "ridge":
        raise ValueError(
            f'evaluate: the features of {source.name} do not fit memory, which only readout="ridge" can do without; '
            "raise memory, or lower features."
        )
    labels = job.train.labels[job.train.numbers]
    entry = job.book.source(source)
    for share, seed in job.book.missing(source.name, job.shares, job.seeds):
        job.tell(f"{source.name}: {100 * share:g} % of the labels, seed {seed}, from the stream")
        keep = np.zeros(len(labels), bool)
        keep[drawn(labels, rows_of(share, len(labels)), seed, job.how)] = True
        batches = OneSource(source, job.train, keep)
        model: RidgeReadout = make_readout("ridge", seed)
        if 2 * _bytes([source], int(keep.sum())) <= job.room:  # while the batches are joined they are there twice
            # of few rows a stream's holdout, which takes every fifth of a class, may be empty
            parts = [(devices.to_device(rows, "cpu"), classes) for rows, classes in batches]
            model.fit(*(np.concatenate(part) for part in zip(*parts, strict=True)))
        else:
            model.fit_stream(batches)
        pairs = [(_scores(model, rows), classes) for rows, classes in OneSource(source, job.test)]
        scores, classes = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        _note(source.name, share, seed, scores, classes, model.classes_, job)
        entry["retrieval"] = {}
        job.book.save()


def _scores(model: Any, rows: Array) -> Array:
    """Return the score of each class (n, classes)."""
    scores = model.decision_function(rows) if hasattr(model, "decision_function") else model.predict_proba(rows)
    scores = devices.to_device(scores, "cpu")
    return np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores


def _note(name: str, share: float, seed: int, scores: Array, labels: Labels, learned: Labels, job: _Job) -> None:
    """Note the figures of a classifier of a source. learned: the classes (columns,) of scores of labelled images."""
    entry = job.book.results["sources"][name]
    top1, top5 = (_accuracy(scores, labels, k, learned) for k in (1, 5))
    entry["runs"].append({"labels": share, "seed": seed, "top1": top1, "top5": top5})
    if share == max(other["labels"] for other in entry["runs"]):
        entry["confusion"] = confusion_matrix(labels, learned[scores.argmax(axis=1)], labels=job.classes).tolist()
        job.book.results.setdefault("mistakes", {})[name] = _mistakes(scores, labels, learned, job)


def _mistakes(scores: Array, labels: Labels, learned: Labels, job: _Job) -> list[dict[str, Any]]:
    """Return the test images that are taken for another class by the largest margin over their own, such as the report
    shows: {"image": number in the stream, "name" where it is known, "true" and "predicted": places in the results'
    classes, "margin" of the scores}.
    """
    taken = scores.argmax(axis=1)
    places = np.minimum(np.searchsorted(learned, labels), len(learned) - 1)
    own = np.where(learned[places] == labels, scores[np.arange(len(scores)), places], scores.min(axis=1))
    margins = np.round(scores.max(axis=1) - own, 2)  # what rounding decides must not decide the order
    wrong = np.flatnonzero(learned[taken] != labels)
    worst = wrong[np.argsort(-margins[wrong], kind="stable")][:_MISTAKES]
    return [
        {
            **who(job.test, int(job.test.numbers[row])),
            "true": int(np.searchsorted(job.classes, labels[row])),
            "predicted": int(np.searchsorted(job.classes, learned[taken[row]])),
            "margin": float(margins[row]),
        }
        for row in worst
    ]


def _accuracy(scores: Array, labels: Any, k: int, classes: Any) -> float:
    """Return the share of rows in percent whose class is among the best k; a class that was not learned never is."""
    known = np.isin(labels, classes)
    if not known.any():
        return 0.0
    return float(100 * known.mean() * top_k_accuracy(scores[known], labels[known], min(k, len(classes)), classes))


def _first_images(train: Any) -> Array:
    """Return the first images of the stream, however it cuts them into batches."""
    found, count = [], 0
    for images, _ in train:
        found.append(images)
        count += len(images)
        if count >= _BASELINE_IMAGES:
            break
    return np.concatenate(found)[:_BASELINE_IMAGES]


def _bytes(sources: Sequence[Source], images: int) -> int:
    return sum(source.size * source.network.site.dtype.itemsize * images for source in sources)


def _groups(sources: list[Source], images: int, room: int) -> list[list[Source]]:
    """Return the sources of one network in groups whose features fit the memory together."""
    groups: list[list[Source]] = []
    for source in sources:
        if groups and _bytes([*groups[-1], source], images) <= room:
            groups[-1].append(source)
        else:
            groups.append([source])
    return groups
