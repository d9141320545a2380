"""The work folder: what the stages of `hebbcore classify` leave there, each of which is done once."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hebbcore import checkpoint, streams
from hebbcore.features.choice import Features
from hebbcore.files import write_text
from hebbcore.labelling.done import DONE, read_done, require_as_written, write_done
from hebbcore.labelling.features import chosen, extracted, neighbour_features, placed
from hebbcore.labelling.guesses import Guesses, Ints
from hebbcore.labelling.left_out import LeftOut
from hebbcore.labelling.model import FOLDER, NETWORK, Model, read_note, save_model
from hebbcore.labelling.page import first_page
from hebbcore.labelling.pictures import pictures_of
from hebbcore.labelling.report import Findings, page_of
from hebbcore.labelling.tables import NEXT, PREDICTIONS, write_table
from hebbcore.labelling.twins import told, unlike_twins
from hebbcore.network import Network
from hebbcore.texts import plain
from hebbcore.version import __version__

FEATURES = "features.h5"
IMAGES, LEARNED = "images", "network"  # folders: shards of the images, and the run that learned from them
OUTPUTS = (PREDICTED, FOLLOWING, REPORT) = ("predictions.csv", "next.csv", "report.html")
_NOT_FOR_USERS = (PREDICTED, REPORT)  # unlike the one that they write labels into


class Listener(Protocol):
    """Who is told how far the stages are."""

    def tell(self, name: str, done: int, total: int) -> None:
        """Take note that a stage is done so far."""

    def say(self, name: str, text: str) -> None:
        """Take note of a line about a stage."""


@dataclass(frozen=True)
class Labels:
    """The labels that are known.

    Parameters
    ----------
    numbers : array (n,), int
        For each image its class; -1: none.
    classes : sequence of str
        What the numbers 0, 1, … mean.
    unused : sequence of (str, str)
        Files that were left out, and the labels that they were given.
    """

    numbers: Ints
    classes: tuple[str, ...]
    unused: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, numbers: Ints, classes: Sequence[str]) -> "Labels":
        """Return labels whose classes are those that some image has.

        With less than two classes nothing can be guessed, see `are_few`.
        """
        known = np.unique(numbers[numbers >= 0])
        place = np.full(len(classes) + 1, -1)  # the last is that of -1
        place[known] = np.arange(len(known))
        return cls(place[numbers], tuple(classes[number] for number in known))

    @property
    def are_few(self) -> bool:
        """Whether they are of less than two classes: then only which images to label first can be told."""
        return len(self.classes) < 2

    @property
    def state(self) -> str:
        """What labels of less than two classes there are, in words."""
        if not self.classes:
            return "no image has a label yet"
        count = np.count_nonzero(self.numbers >= 0)
        return f"{count:,} have a label, {plain(self.classes[0])}, the only class"


def require_search(numbers: Ints, device: str) -> None:
    """Raise ModuleNotFoundError if the neighbours of so many images need a library that is not there.

    To be known before long work. numbers: (n,), for each image its class; -1: none. device: where is computed.
    """
    from hebbcore.classify.approximate import library
    from hebbcore.classify.learn import regime
    from hebbcore.classify.neighbours import search_for

    approximate = search_for("classify", "auto", len(numbers), device) == "approximate"
    if approximate and regime(np.bincount(numbers[numbers >= 0])) != "ridge":
        library("classify")


def classified(
    work: Path,
    network: Network,
    stream: Any,
    labels: Labels,
    *,
    mirror: bool,
    prior: str,
    suggestions: int,
    listener: Listener,
    skipped: Sequence[tuple[str, str]] = (),
) -> Model | None:
    """Give all images of a stream labels, from those that are known, and write the results and the model.

    If the labels are of less than two classes, only next.csv and report.html are written: the images to label first.

    Parameters
    ----------
    work : Path
        The folder; the caller holds it.
    network : Network
        Makes the features.
    stream : Stream
        Images (H, W, C) in order, with names and batch_size.
    labels : Labels
        One for each image.
    mirror : bool
        Features are averaged over each image and its mirror image.
    prior : str
        See FewLabelClassifier.
    suggestions : int
        How many images next.csv names.
    listener : Listener
        Told how far it is.
    skipped : sequence of (str, str)
        Files that are not among the images, and why, for the report.

    Returns
    -------
    Model or None
        None if the folder holds all that already, or the labels are of less than two classes.

    Raises
    ------
    ValueError
        If they are, and the folder holds predictions, which would not be theirs; and as write_results.
    """
    if labels.are_few and (work / PREDICTED).exists():
        raise ValueError(
            f"classify: {work} holds predictions from labels of before, and now {labels.state}; give --labels the "
            "table of before."
        )
    features = chosen(network, stream.images, mirror)
    rows = extracted(features, stream, work / FEATURES, lambda done: listener.tell("features", done, stream.images))
    left_out = LeftOut(skipped, labels.unused)
    if _is_done(work, _digest(features, stream, labels, prior, suggestions, left_out), labels):
        return None
    require_as_written(work, _NOT_FOR_USERS)  # before long work
    from hebbcore.classify import FewLabelClassifier

    listener.tell("labels", 0, 1)
    near = neighbour_features(features)
    classifier = FewLabelClassifier(prior, 0, lambda line: listener.say("labels", line), neighbour_features=near)
    classifier.fit(placed(features, rows), labels.numbers)
    listener.tell("labels", 1, 1)
    tell_of_prior(classifier, listener)
    return write_results(work, features, stream, labels, classifier, suggestions, listener, skipped)


def tell_of_prior(classifier: Any, listener: Listener) -> None:
    """Say if a prior that was chosen decides no guess, since there are many labels."""
    if classifier.prior != "labelled" and classifier.regime_ == "ridge":
        listener.say(
            "labels",
            f"--prior {classifier.prior} changes no guess from more than 350 labels a class, only the estimate of "
            "their accuracy",
        )


def write_results(
    work: Path,
    features: Features,
    stream: Any,
    labels: Labels,
    classifier: Any,
    suggestions: int,
    listener: Listener,
    skipped: Sequence[tuple[str, str]] = (),
) -> Model | None:
    """Write the results and the model of a classifier that has learned the labels; see classified.

    Parameters
    ----------
    work, stream, labels, suggestions, listener, skipped
        As for classified.
    features : Features
        What the classifier was fitted to.
    classifier : FewLabelClassifier
        Its `prior` is a word.

    Returns
    -------
    Model or None
        None if the labels are of less than two classes.

    Raises
    ------
    ValueError
        If a user has changed predictions.csv or report.html.
    """
    require_as_written(work, _NOT_FOR_USERS)
    left_out = LeftOut(skipped, labels.unused)
    made_from = _digest(features, stream, labels, classifier.prior, suggestions, left_out)
    (work / DONE).unlink(missing_ok=True)
    following = classifier.suggest(suggestions).tolist()
    if labels.are_few:
        _write_first(work, stream, labels, following, left_out)
        write_done(work, made_from, (FOLLOWING, REPORT))
        return None
    _write(work, stream, labels, classifier, following, listener, left_out)
    model = Model(features, classifier, labels.classes, streams.range_of(stream))
    save_model(work / FOLDER, model, made_from)
    write_done(work, made_from, OUTPUTS)
    return model


def _write_first(work: Path, stream: Any, labels: Labels, following: Sequence[int], left_out: LeftOut) -> None:
    """Write which images to label first."""
    names = _names_of(stream)
    write_table(work / FOLLOWING, NEXT, [(names[i], "", "", "") for i in following])
    some = {number: names[number] for number in following}
    page = first_page(some, pictures_of(stream, following), stream.images, labels.state, left_out.sections())
    write_text(work / REPORT, page)


def _write(
    work: Path,
    stream: Any,
    labels: Labels,
    classifier: Any,
    following: Sequence[int],
    listener: Listener,
    left_out: LeftOut,
) -> None:
    """Write what the classifier found out about the images."""
    names = _names_of(stream)
    guesses = Guesses.of(classifier.label_distributions_, labels.numbers)
    rows = guesses.rows(names, labels.classes)
    labelled = (labels.numbers >= 0).astype(int).tolist()
    write_table(work / PREDICTED, PREDICTIONS, [(*row, own) for row, own in zip(rows, labelled, strict=True)])
    write_table(work / FOLLOWING, NEXT, [(rows[i][0], "", *rows[i][1:3]) for i in following])
    twins = unlike_twins(stream, labels.numbers)
    if twins:
        listener.say("labels", told(twins, names, labels.numbers, labels.classes))
    doubts = list(dict.fromkeys([*chain(*twins), *classifier.doubts_.tolist()]))
    findings = Findings(
        names, labels.classes, labels.numbers, guesses, following, doubts,
        classifier.estimated_accuracy_, classifier.calibration_error_, left_out,
    )  # fmt: skip
    write_text(work / REPORT, page_of(findings, stream))


def _names_of(stream: Any) -> list[str]:
    return list(streams.names_of(stream) or map(str, range(stream.images)))


def _digest(features: Features, stream: Any, labels: Labels, prior: str, suggestions: int, left_out: LeftOut) -> str:
    """Return a digest of all that decides the results."""
    described = {
        "hebbcore": __version__, "network": checkpoint.digest_of(features.network), "prior": prior,
        "layer": features.layer, "pool": features.grid, "mirror": features.mirror,
        "data": streams.identity_of(stream), "classes": labels.classes, "suggestions": suggestions,
        **({"left out": [list(left_out.files), list(left_out.labels)]} if left_out else {}),
    }  # fmt: skip
    digest = hashlib.blake2b(json.dumps(described).encode(), digest_size=16)
    digest.update(labels.numbers.astype(np.int64).tobytes())
    return digest.hexdigest()


def _is_done(work: Path, made_from: str, labels: Labels) -> bool:
    """Return whether the folder holds the results of a digest."""
    try:
        done, _ = read_done(work)
        needed = [FOLLOWING, REPORT]
        if not labels.are_few:
            classifier = read_note("classify", work / FOLDER)["classifier"]
            needed += [PREDICTED, f"{FOLDER}/{NETWORK}", f"{FOLDER}/{classifier}"]
    except (FileNotFoundError, ValueError):
        return False
    return done == made_from and all((work / name).is_file() for name in needed)
