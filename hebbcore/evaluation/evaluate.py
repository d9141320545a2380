"""How good are the features? Every layer and every baseline, at several numbers of labels, in one pipeline."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore import checkpoint, checks, streams
from hebbcore.engine.backend import Array
from hebbcore.engine.finite import faint_is_zero
from hebbcore.evaluation.book import Book
from hebbcore.evaluation.measure import Job, Plan, grouped, measure
from hebbcore.evaluation.passes import LabelledStream
from hebbcore.evaluation.readouts import chooses_finely, described, few_labels
from hebbcore.evaluation.results import FINELY, HELD_OUT, LEFT_OUT, Settings
from hebbcore.evaluation.sources import BASELINES, Source, baseline, most_features
from hebbcore.evaluation.splits import FRACTIONS
from hebbcore.evaluation.survey import class_names, labels_of, require_learned, require_possible, title
from hebbcore.features.choice import require_views
from hebbcore.files import locked, make_folder
from hebbcore.layers import Branches, Learner
from hebbcore.network import Network
from hebbcore.streams import Stream

_BASELINE_IMAGES = 2_000  # that filters of baselines are learned from


@faint_is_zero
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
    features: int | None = None,
    mirror: bool = False,
    shifts: int = 0,
    queries: int = 1_000,
    memory: int | str = "4 GiB",
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measure a network's features by classifiers and retrieval, and return the results.

    No test label decides anything: a readout is fitted to the labelled part of the training images alone, and its
    penalty chosen there.

    Parameters
    ----------
    network : Network
        Built; its weights stay as they are.
    train, test : Stream
        Unshuffled streams of (images, labels), such as loaders.ShardStream; `images` says how many. If both have
        `class_names`, a label must have the same name in both. Images whose label is below 0 have none: all is as if
        they were not there, and results and progress say how many they are. Their `names`, if they have them, go into
        the results.
    folder : str or path
        Gets results.json after each figure; the same call goes on from there.
    layers : sequence of str, optional
        Names; by default every learner's block, that is the last layer before the next learner.
    fractions : iterable of float
        Parts of the labelled training images, above 0, at most 1; repeated ones count once.
    seeds : int
        Selections of labelled images of each fraction below 1; all labels are one selection.
    readout : str or classifier
        See make_readout. A classifier of one's own has a score for each class (decision_function or predict_proba);
        top-1 accuracy, confusion and mistakes are of its `predict`.
    how : {"published", "stratified"}
        How labelled images are selected, see labelled_subset; but a published selection may lack classes, whose test
        images then count as wrong.
    baselines : sequence of str
        Names in BASELINES; measured by the same readout on the same rows.
    features : int or None
        Most features of an image: outputs of layers are averaged over a grid of as many cells as make no more. A layer
        whose channels alone are more keeps them. None: 5,000; but where branches end the network, what they join, which
        they have pooled to cells already, is kept whole.
    mirror : bool
        Average the features, baselines' too, over each image and its mirror image, see Network.transform.
    shifts : int
        Average the features, baselines' too, over each image and the same shifted by so many pixels left, right, up and
        down, its outermost pixels repeated: five views, with mirror ten. 0: none.
    queries : int
        Test images that are looked up in the training images; 0: none.
    memory : int or str
        Bytes, or text like "4 GiB", for features kept at a time, of training and test images. The rows that a readout
        is fitted to are copied besides, and a ridge readout may take as much again. If the features of a single layer
        take more, a ridge readout is fitted to the stream instead, unless the selection fits. What the readout then has
        no room for goes to the folder's disk, see RidgeReadout.
    progress : callable, optional
        Called with a line of text at each step, and every ten seconds of a long one.

    Returns
    -------
    dict
        What results.json holds (see hebbcore.evaluation.results, whose Results.from_json gives the fields types):
        {"settings", "classes", "sources": {name: {"features", "cells", "gflop", "runs": [{"labels", "seed", "top1",
        "top5"}], "confusion", "retrieval"}}, "mistakes", "images", "shared", "digest"}, accuracies in percent. "gflop":
        what the features of an image cost, see Network.gflop. "labels" is the part of the labels. "confusion" counts
        the test images of each class (row) by the class they are taken for (column); "classes" are their names, or
        labels. "mistakes": for each source, the test images that are taken for another class by the largest margin.
        "images": how many of train and test are labelled and unlabelled, and a digest of them. "shared": images of test
        that equal one of train in every pixel, which a warning tells of, see passes.shared_images. "digest": of all
        else.

    Raises
    ------
    ValueError, TypeError
        Before any feature is computed, for bad arguments, shuffled streams, NaN and infinity, streams whose classes
        differ, test images of classes that train has not, fractions that are too few images to fit the readout to, and
        a folder that holds another evaluation or damaged results; later, if earlier figures of the folder are of other
        images under the same names.
    BlockingIOError
        While another process evaluates into the folder.

    References
    ----------
    The protocol of FastHebb (Lagani et al. 2022).
    """
    function = "evaluate"
    checks.callback(function, "progress", progress)
    baselines = tuple(baselines)  # which are looked at twice
    plan, names, most = asked(
        function, network, layers=layers, fractions=fractions, seeds=seeds, readout=readout, how=how,
        baselines=baselines, features=features, mirror=mirror, shifts=shifts, queries=queries, memory=memory,
    )  # fmt: skip
    mirror, shifts = bool(mirror), int(shifts)  # NumPy's too
    mine, theirs, titles = _surveyed(function, network, train, test, plan)
    settings = Settings(
        weights=checkpoint.digest_of(network), train=streams.identity_of(train), test=streams.identity_of(test),
        readout=described(readout), how=how, features=most or most_features(network, network.names[-1]), mirror=mirror,
        shifts=shifts, queries=queries, penalty=_choice(readout),
    )  # fmt: skip
    classes = np.unique(mine.labels[mine.numbers])
    make_folder(folder := Path(folder))
    with locked(folder, "evaluating into"):
        labels = classes.tolist()
        book = Book(folder, settings, [title(label, titles) for label in labels], labels)
        book.forget_older(few_labels(readout), len(mine.numbers))
        job = Job(mine, theirs, classes, plan, book, progress or (lambda text: None))
        job.tell_unlabelled()
        job.tell_doubts()
        groups = grouped(
            [Source.of(name, network, name, most, mirror, shifts) for name in names],
            mine.images + theirs.images,
            plan.room,
        )
        for name in baselines:
            if not job.complete(name):
                other, layer = baseline(name, network, _first_images(mine), seed=0)
                groups.append([Source.of(name, other, layer, most, mirror, shifts)])
        for group in groups:
            if not all(job.complete(source.name) for source in group):
                job.tell(f"features of {', '.join(source.name for source in group)}")
                measure(group, job)
        # where nothing was left to do: of an earlier version, and of streams that do not say which images they are
        if book.results.shared is None or {"images"} in (settings.train.keys(), settings.test.keys()):
            job.read_images()
    return book.results.as_json()


def asked(
    function: str,
    network: Network,
    *,
    layers: Sequence[str] | None,
    fractions: Iterable[float],
    seeds: int,
    readout: Any,
    how: str,
    baselines: Sequence[str],
    features: int | None,
    mirror: bool,
    shifts: int,
    queries: int,
    memory: int | str,
) -> tuple[Plan, list[str], int | None]:
    """Return what is measured, on which layers, and the most features of an image, if a number is given; see evaluate.

    Raises ValueError or TypeError for what evaluate refuses whatever the images are.
    """
    plan = Plan.checked(function, fractions, seeds, readout, how, queries, memory)
    most = None if features is None else checks.integer(function, "features", features, 1)
    require_views(function, network, mirror, shifts)
    names = block_ends(network) if layers is None else list(layers)
    for name in names:
        network.index_of(function, name)
    for name in baselines:
        checks.choice(function, "baselines", name, BASELINES)
        if name in names:
            raise ValueError(
                f"{function}: baselines must not name {name!r}, which layers does too: their figures would be one row; "
                "leave one out, or give the layer another name."
            )
    if not names and not baselines:
        raise ValueError(f"{function}: neither layers nor baselines names anything to evaluate; name one at least.")
    return plan, names, most


def _choice(readout: Any) -> str:
    """Return how a readout's penalty is chosen, as Settings has it."""
    if chooses_finely(readout):
        return FINELY
    return LEFT_OUT if few_labels(readout) else HELD_OUT


def _surveyed(
    function: str, network: Network, train: Stream, test: Stream, plan: Plan
) -> tuple[LabelledStream, LabelledStream, tuple[str, ...]]:
    """Return the labelled images of both streams, and the names of their classes, after a look at what can be done."""
    streams.require_stream(function, "train", train, ("images", "state"))
    streams.require_stream(function, "test", test, ("images", "state"))
    titles = class_names(function, train, test)
    mine, theirs = (
        LabelledStream(stream, labels_of(function, name, stream), network.site.dtype)
        for name, stream in (("train", train), ("test", test))
    )
    labels = mine.labels[mine.numbers]
    require_learned(function, labels, theirs.labels[theirs.numbers], titles)
    require_possible(function, labels, plan.shares, plan.seeds, plan.how, plan.readout)
    return mine, theirs, titles


def block_ends(network: Network) -> list[str]:
    """Return the names of the layers at the end of each learner's block: what the next learner sees.

    A branch ends a block, and Branches begin one.
    """
    found = []
    for i, layer in enumerate(network.layers):
        if isinstance(layer, Learner | Branches):
            end, after = i, network.graph.follows(i + 1)
            # a batch norm or whitening before a learner is part of what the block before hands on
            while after is not None and not isinstance(network.layers[after], Learner):
                end, after = after, network.graph.follows(after + 1)
            found.append(network.names[end])
    return found


def _first_images(train: LabelledStream) -> Array:
    """Return the first images of the stream, however it cuts them into batches."""
    found, count = [], 0
    for images, _ in train:
        found.append(images.copy())  # the next ones may take their place
        count += len(images)
        if count >= _BASELINE_IMAGES:
            break
    return np.concatenate(found)[:_BASELINE_IMAGES]
