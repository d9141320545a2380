"""How good are the features? Every layer and every baseline, at several numbers of labels, in one pipeline."""

import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore import backend, checkpoint, checks, tables
from hebbcore.backend import Array
from hebbcore.data import require_stored_order
from hebbcore.evaluation.batches import Labels
from hebbcore.evaluation.metrics import confusion_matrix, top_k_accuracy
from hebbcore.evaluation.readouts import make_readout
from hebbcore.evaluation.retrieval import retrieval_scores
from hebbcore.evaluation.ridge import RidgeReadout
from hebbcore.evaluation.sources import BASELINES, OneSource, Source, baseline, collect
from hebbcore.evaluation.splits import FRACTIONS, drawn, rows_of
from hebbcore.evaluation.survey import class_names, labels_of, require_learned, require_possible, title
from hebbcore.files import locked, write_text
from hebbcore.layers import Learner
from hebbcore.network import Network

RESULTS = "results.json"

_log = logging.getLogger("hebbcore")
_BASELINE_IMAGES = 2_000  # that filters of baselines are learned from


def evaluate(
    network: Network,
    train: Any,
    test: Any,
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
        have `class_names`, a label must have the same name in both.
    folder: gets results.json after each figure; the same call goes on from there.
    layers: names; None: every learner's block, that is the last layer before the next learner.
    fractions: of the training labels, above 0, at most 1; repeated ones count once. seeds: selections of labelled
        images of each fraction below 1; all labels are one selection. how: "published" or "stratified", see
        labelled_subset; but a published selection may lack classes, whose test images then count as wrong.
    readout: see make_readout; fitted to the labelled part alone, its penalty chosen there. No test label decides
        anything.
    baselines: of BASELINES; by the same readout on the same rows. features: of an image, at most: outputs of layers
        are averaged over a grid of as many cells as make no more. A layer whose channels alone are more keeps them.
    mirror: average the features, baselines' too, over each image and its mirror image, see Network.transform.
    queries: test images that are looked up in the training images, 0: none. memory: for features kept at a time; if
        those of a single layer take more, a ridge readout is fitted to the stream instead, unless the selection fits.

    Returns {"settings", "classes", "sources": {name: {"features", "cells", "runs": [{"labels", "seed", "top1",
    "top5"}], "confusion", "retrieval"}}}, accuracies in percent. confusion counts the test images of each class (row)
    by the class they are taken for (column); classes are their names, or labels.
    Raises ValueError or TypeError, before any feature is computed, for bad arguments, shuffled streams, NaN and
    infinity, streams whose classes differ, test images of classes that train has not, fractions that are too few images
    to fit the readout to, and a folder that holds another evaluation; BlockingIOError while another process evaluates
    into the folder.
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
    require_stored_order(function, "train", train)
    require_stored_order(function, "test", test)
    make_readout(readout)  # an unknown one is refused before any work
    titles = class_names(function, train, test)
    labels, test_labels = labels_of(function, "train", train), labels_of(function, "test", test)
    require_learned(function, labels, test_labels, titles)
    require_possible(function, labels, shares, seeds, how, readout)
    settings = {
        "weights": checkpoint.digest_of(network), "train": _identity(train), "test": _identity(test),
        "readout": str(readout), "how": how, "features": most, "mirror": mirror, "queries": queries,
    }  # fmt: skip
    classes = np.unique(labels)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "evaluating into"):
        book = _Book(folder, settings, classes, [title(label, titles) for label in classes.tolist()])
        groups = _groups(
            [Source.of(name, network, name, most, mirror) for name in names], train.images + test.images, room
        )
        for name in baselines:
            if not book.complete(name, shares, seeds, queries):
                other, layer = baseline(name, network, _first_images(train), seed=0)
                groups.append([Source.of(name, other, layer, most, mirror)])
        for group in groups:
            if all(book.complete(source.name, shares, seeds, queries) for source in group):
                continue
            tell = progress or (lambda text: None)
            tell(f"features of {', '.join(source.name for source in group)}")
            if len(group) == 1 and _bytes(group, train.images) > room:
                _log.warning("evaluate: %s is fitted from the stream; retrieval is left out", group[0].name)
                _from_stream(group[0], train, test, shares, seeds, readout, how, room, book, tell)
                continue
            rows, labels = collect(group, train)  # the labels again, since a stream may leave out damaged images
            test_rows, test_labels = collect(group, test)
            for source in group:
                # popped, so that a source's features are gone when it is done
                _from_arrays(
                    source, (rows.pop(0), labels, test_rows.pop(0), test_labels), shares, seeds, readout, how, queries,
                    book, tell,
                )  # fmt: skip
    return book.results


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


def _identity(stream: Any) -> dict[str, Any]:
    """Return what tells a stream's images from others, whatever its batches and the place where it is."""
    state = {key: value for key, value in stream.state().items() if key not in ("epoch", "batch", "batch_size")}
    return {**state, "images": stream.images}


class _Book:
    """The results so far, in memory and in a file."""

    def __init__(self, folder: Path, settings: dict[str, Any], classes: Labels, titles: list[Any]) -> None:
        self._path, self.classes = folder / RESULTS, classes
        settings = json.loads(json.dumps(settings))
        self.results: dict[str, Any] = {"settings": settings, "classes": titles, "sources": {}}
        if self._path.exists():
            before = _read(self._path)
            different = tables.differences(settings, before["settings"])
            if different:
                raise ValueError(
                    f"evaluate: {folder} holds another evaluation: {'; '.join(different)}; name another folder, or "
                    "remove it."
                )
            self.results = before

    def source(self, source: Source) -> dict[str, Any]:
        """Return the results of a source, to be changed."""
        new: dict[str, Any] = {
            "features": source.size,
            "cells": source.cells,
            "runs": [],
            "confusion": None,
            "retrieval": None,
        }
        entry: dict[str, Any] = self.results["sources"].setdefault(source.name, new)
        return entry

    def missing(self, name: str, shares: list[float], seeds: int) -> list[tuple[float, int]]:
        """Return the (fraction, seed) that a source has no figure for."""
        entry = self.results["sources"].get(name, {"runs": []})
        done = {(run["labels"], run["seed"]) for run in entry["runs"]}
        wanted = [(share, seed) for share in shares for seed in range(1 if share == 1 else seeds)]
        return [key for key in wanted if key not in done]

    def complete(self, name: str, shares: list[float], seeds: int, queries: int) -> bool:
        """Return True if nothing is left to do for a source."""
        entry = self.results["sources"].get(name)
        looked_up = entry is not None and (not queries or entry["retrieval"] is not None)
        return looked_up and not self.missing(name, shares, seeds)

    def save(self) -> None:
        """Write the file."""
        write_text(self._path, json.dumps(self.results, indent=1) + "\n")


def _read(path: Path) -> dict[str, Any]:
    """Return the results of a file. Raises ValueError if it holds something else."""
    try:
        results = json.loads(path.read_text("utf-8"))
        kinds: list[tuple[Any, Any]] = [(results[key], dict) for key in ("settings", "sources")]
        kinds.append((results["classes"], list))
        for entry in results["sources"].values():
            kinds += [(entry["runs"], list), (entry["confusion"], list | None), (entry["retrieval"], dict | None)]
        sound = all(isinstance(value, kind) for value, kind in kinds)
    except (ValueError, LookupError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise ValueError(
            f"evaluate: {path} is damaged, or not what this version writes; name another folder, or remove the file."
        )
    return dict(results)


def _from_arrays(
    source: Source,
    data: tuple[Array, Any, Array, Any],
    shares: list[float],
    seeds: int,
    readout: Any,
    how: str,
    queries: int,
    book: _Book,
    tell: Callable[[str], None],
) -> None:
    """Measure a source whose features are in memory."""
    rows, labels, test_rows, test_labels = data
    entry = book.source(source)
    for share, seed in book.missing(source.name, shares, seeds):
        tell(f"{source.name}: {100 * share:g} % of the labels, seed {seed}")
        chosen = drawn(labels, rows_of(share, len(labels)), seed, how)
        model = make_readout(readout, seed).fit(rows[chosen], labels[chosen])
        scores = _scores(model, test_rows)
        _note(entry, share, seed, scores, test_labels, model.classes_, book.classes)
        book.save()
    if queries and entry["retrieval"] is None:
        tell(f"{source.name}: retrieval")
        asked = np.random.default_rng(0).permutation(len(test_rows))[:queries]
        entry["retrieval"] = {
            metric: {
                "k": list(found.k),
                "precision": [100 * value for value in found.precision],
                "map": [100 * value for value in found.mean_average_precision],
            }
            for metric in ("euclidean", "hamming")
            for found in [retrieval_scores(rows, labels, test_rows[asked], test_labels[asked], metric=metric)]
        }
        book.save()


def _from_stream(
    source: Source,
    train: Any,
    test: Any,
    shares: list[float],
    seeds: int,
    readout: Any,
    how: str,
    room: int,
    book: _Book,
    tell: Callable[[str], None],
) -> None:
    """Measure a source whose features are made again for each readout."""
    if readout != "ridge":
        raise ValueError(
            f'evaluate: the features of {source.name} do not fit memory, which only readout="ridge" can do without; '
            "raise memory, or lower features."
        )
    labels = np.concatenate([classes for _, classes in train])
    entry = book.source(source)
    for share, seed in book.missing(source.name, shares, seeds):
        tell(f"{source.name}: {100 * share:g} % of the labels, seed {seed}, from the stream")
        keep = np.zeros(len(labels), bool)
        keep[drawn(labels, rows_of(share, len(labels)), seed, how)] = True
        batches = OneSource(source, train, keep)
        model: RidgeReadout = make_readout("ridge", seed)
        if 2 * _bytes([source], int(keep.sum())) <= room:  # while the batches are joined they are there twice
            # of few rows a stream's holdout, which takes every fifth of a class, may be empty
            parts = [(backend.to_device(rows, "cpu"), classes) for rows, classes in batches]
            model.fit(*(np.concatenate(part) for part in zip(*parts, strict=True)))
        else:
            model.fit_stream(batches)
        pairs = [(_scores(model, rows), classes) for rows, classes in OneSource(source, test)]
        scores, classes = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        _note(entry, share, seed, scores, classes, model.classes_, book.classes)
        entry["retrieval"] = {}
        book.save()


def _scores(model: Any, rows: Array) -> Array:
    """Return the score of each class (n, classes)."""
    scores = model.decision_function(rows) if hasattr(model, "decision_function") else model.predict_proba(rows)
    scores = backend.to_device(scores, "cpu")
    return np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores


def _note(
    entry: dict[str, Any], share: float, seed: int, scores: Array, labels: Labels, learned: Labels, classes: Labels
) -> None:
    """Note the figures of a classifier. learned: the classes (columns,) of scores; classes: all there are."""
    top1, top5 = (_accuracy(scores, labels, k, learned) for k in (1, 5))
    entry["runs"].append({"labels": share, "seed": seed, "top1": top1, "top5": top5})
    if share == max(other["labels"] for other in entry["runs"]):
        entry["confusion"] = confusion_matrix(labels, learned[scores.argmax(axis=1)], labels=classes).tolist()


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
