"""Do images without labels help? FewLabelClassifier beside ridge and LabelSpreading, on one set of features.

    python benchmarks/few_labels.py cifar10.h5 --json FILE [--images 5000] [--test 2000] [--units 32 64 64 25]
        [--labels 40 100 500] [--draws 5] [--skew 20] [--wrong 0.2]
    python benchmarks/few_labels.py train.h5 test.h5 --json FILE [--images 50000] [--test 10000] ...

Features of the first `--images` training images and the first `--test` test images, by a dictionary learned from these
training images; or those of two files of `hebbcore extract`, of training and test images. Of these, `--labels` have
labels: as many of each class ("stratified"), at random ("random"), or those that `suggest` names in rounds, from the
smallest number on ("suggested"; a draw is another seed of it). Accuracy on the test images in percent, mean and
standard deviation of `--draws` selections; seconds of the processor, of `relearn`. "ridge" is scikit-learn's RidgeCV
(leave-one-out) in the space that FewLabelClassifier predicts in. `--near` c looks for neighbours in the last c channels
of each position, as `hebbcore classify` does in those of the wide branch (twice its units). `--space` FILE keeps what
needs no labels, for later runs with the same features and `--near`. `--quick` leaves LabelSpreading out; `--guesses`
leaves out the cross-validation, and so estimates, calibration and doubts. `--skew` s leaves classes of falling sizes in
training and test, the first s times the last. `--wrong` p gives that part of the labels another class.
"""

import argparse
import contextlib
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.sparse import csr_array
from sklearn.neighbors import NearestNeighbors
from sklearn.semi_supervised import LabelSpreading

import hebbcore
from hebbcore.classify import FewLabelClassifier
from hebbcore.classify.linear import labelled_predictor
from hebbcore.classify.space import Columns, learned_space
from hebbcore.evaluation import labelled_subset
from hebbcore.evaluation.ridge.meter import Meter


def skewed(labels: Any, factor: float, seed: int = 0) -> Any:
    """Return which images to keep, so that class sizes fall from the first to the last by a factor."""
    classes, most = labels.max() + 1, np.bincount(labels).min()
    sizes = (most * factor ** (-np.arange(classes) / (classes - 1))).astype(int)
    random = np.random.default_rng(seed)
    return np.sort(
        np.concatenate([random.permutation(np.flatnonzero(labels == c))[: sizes[c]] for c in range(classes)])
    )


def features_of(args: argparse.Namespace) -> tuple[Any, ...]:
    """Return (features, labels) of the training images and of the test images, and the channels of features."""
    counts, ready = (args.images, args.test), len(args.data) == 2
    sets = {}
    for number, (part, count) in enumerate(zip(("train", "test"), counts, strict=True)):
        with h5py.File(args.data[number if ready else 0]) as file:
            group, name = (file, "features") if ready else (file[part], "images")
            needless = part == "train" and ready and args.space is not None and args.space.exists()
            sets[part] = (group[name][: 0 if needless else count], group["labels"][:count].astype(int))
    if args.skew > 1:
        for part, (images, labels) in sets.items():
            kept = skewed(labels, args.skew)
            sets[part] = (images[kept], labels[kept])
    if ready:
        flat = {part: x.reshape(len(x), np.prod(x.shape[1:])).astype(np.float32) for part, (x, _) in sets.items()}
        parts = (given for part, (_, labels) in sets.items() for given in (flat[part], labels))
        return (*parts, sets["train"][0].shape[-1])
    network = hebbcore.preset("dictionary", image_shape=sets["train"][0].shape[1:], units=args.units)
    hebbcore.fit(network, sets["train"][0])
    found = []
    for images, labels in sets.values():
        blocks = [network.transform(images[i : i + 500]) for i in range(0, len(images), 500)]
        found += [np.concatenate([block.reshape(len(block), -1) for block in blocks]), labels]
    return (*found, network.shapes[-1][-1])


def calibration_error(likely: Any, right: Any) -> float:
    """Return the expected calibration error of ten bins of confidence, in percent."""
    sure = likely.max(axis=1)
    bins = np.minimum((10 * sure).astype(int), 9)
    parts = [bins == number for number in np.unique(bins)]
    return float(100 * sum(abs(right[part].mean() - sure[part].mean()) * part.mean() for part in parts))


def nearest_for_spreading(features: Any, test: Any, near: Any) -> dict[str, Any]:
    """Return the ten nearest training images of each, itself the first, and of each test image.

    They are looked for where the classifier looks for neighbours: in the features `near`; None: in all.
    """
    columns = np.arange(features.shape[1]) if near is None else near
    own, other = Columns(features, columns), Columns(test, columns)
    space = learned_space(own, Meter(None, "components for LabelSpreading", len(own), "images"))
    rows = space.neighbour_rows(space.components(own))
    search = NearestNeighbors(n_neighbors=10).fit(rows)
    asked = {"near": rows, "near_test": space.neighbour_rows(space.components(other))}
    return {name: search.kneighbors(some, return_distance=False) for name, some in asked.items()}


def spread_guesses(labels: Any, near: Any, near_test: Any) -> Any:
    """Return what scikit-learn's LabelSpreading guesses of the test images; the neighbours are found once for all."""
    graph = csr_array((np.ones(near.size), (np.repeat(np.arange(len(near)), near.shape[1]), near.ravel())))
    spread = LabelSpreading(lambda *_: graph, alpha=0.9, max_iter=300).fit(np.zeros((len(labels), 1)), labels)
    return spread.classes_[spread.label_distributions_[near_test].sum(axis=1).argmax(axis=1)]


class Guessed(Exception):
    """There are guesses, and no more is wanted."""


def relearned(model: Any, labels: Any, is_judged: bool) -> dict[str, float]:
    """Let the model learn from labels, with or without the cross-validation; return the seconds it took."""
    began, guessed = time.process_time(), []

    def early() -> None:
        guessed.append(time.process_time() - began)
        if not is_judged:
            raise Guessed

    with contextlib.suppress(Guessed):
        model.relearn(labels, early)
    found = {"seconds to guesses": guessed[0]}
    return found | {"seconds": time.process_time() - began} if is_judged else found


def judgement(model: Any, likely: Any, right: Any, wrong: Any) -> dict[str, float]:
    """Return how far what the cross-validation tells is true. wrong: images whose labels are."""
    found = {"calibration error": calibration_error(likely, right)}
    if model.estimated_accuracy_:
        value, low, high = model.estimated_accuracy_
        found["estimated accuracy"] = 100 * value
        found["intervals that hold"] = 100.0 * (low <= right.mean() <= high)
    return found | {"doubted": len(model.doubts_), "doubted and wrong": len(np.intersect1d(wrong, model.doubts_))}


def figures(
    model: Any, labels: Any, data: Sequence[Any], spreading: dict[str, Any] | None, is_judged: bool
) -> dict[str, float]:
    """Return the figures of one selection: labels (n,), −1 where there is none."""
    _, true, test, answers = data
    found = relearned(model, labels, is_judged)
    likely = model.predict_proba(test)
    right = model.classes_[likely.argmax(axis=1)] == answers
    hidden, known = labels < 0, np.flatnonzero(labels >= 0)
    found["few labels"] = 100 * right.mean()
    found["few labels, images of fit"] = 100 * np.mean(model.transduction_[hidden] == true[hidden])
    if is_judged:
        found |= judgement(model, likely, right, known[labels[known] != true[known]])
    space = model._images
    classes, codes = np.unique(labels[known], return_inverse=True)
    coef, intercept = labelled_predictor(space.rows[known], codes, len(classes))
    own = space.space.ridge_rows(test) @ coef + intercept
    found["ridge"] = 100 * np.mean(classes[own.argmax(axis=1)] == answers)
    if spreading is not None:
        found["LabelSpreading"] = 100 * np.mean(spread_guesses(labels, **spreading) == answers)
    return found


def chosen(select: str, count: int, draw: int, model: Any, before: Any, true: Any) -> Any:
    """Return which images have labels. before: labels of the number before, for suggestions."""
    if select == "stratified":
        return labelled_subset(true, count, draw, "stratified")
    if select == "random":
        return np.random.default_rng(draw).permutation(len(true))[:count]
    known = np.flatnonzero(before >= 0)
    if not len(known):
        model.relearn(before)  # else it has learned from these labels last
    model._seed = draw
    return np.concatenate([known, model.suggest(count - len(known))])


def main() -> None:
    """Measure, and write a row for each way of selecting and each number of labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--json", required=True)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--units", type=int, nargs=4, default=(32, 64, 64, 25))
    parser.add_argument("--labels", type=int, nargs="+", default=(40, 100, 500))
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--near", type=int, default=0)
    parser.add_argument("--space", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--guesses", action="store_true")
    parser.add_argument("--skew", type=float, default=1)
    parser.add_argument("--wrong", type=float, default=0)
    parser.add_argument("--select", nargs="+", default=("stratified", "random", "suggested"))
    args = parser.parse_args()
    if args.space is not None and args.skew > 1:
        parser.error("--space is of all images: leave out --skew")
    *data, channels = features_of(args)
    features, true, *_ = data
    near = np.arange(features.shape[1]).reshape(-1, channels)[:, -args.near :].ravel() if args.near else None
    model, none = FewLabelClassifier(neighbour_features=near), np.full(len(true), -1)
    spreading: dict[str, Any] | None = None
    if args.space is not None and args.space.exists():
        state = dict(np.load(args.space))
        model.fit_state(state, none)
        if not args.quick and "near" not in state:
            parser.error("--space was written with --quick and lacks the neighbours for LabelSpreading: add --quick")
        spreading = {name: state[name] for name in ("near", "near_test") if name in state}
    else:
        model.fit(features, none)
        spreading = {} if args.quick else nearest_for_spreading(features, data[2], near)
        if args.space is not None:
            np.savez(args.space, **model.images_state(), **spreading)
    unsaid = {"data", "json", "space", *(["units"] if len(args.data) == 2 else [])}  # given features have others
    results = {key: value for key, value in vars(args).items() if key not in unsaid}
    results |= {"machine": platform.machine(), "hebbcore": hebbcore.__version__, "numpy": np.__version__, "rows": []}
    for select in args.select:
        found: dict[int, list[dict[str, float]]] = {count: [] for count in args.labels}
        for draw in range(args.draws):
            labels = np.full(len(true), -1)
            for count in args.labels:
                where, random = chosen(select, count, draw, model, labels, true), np.random.default_rng(draw)
                labels = np.full(len(true), -1)
                labels[where] = true[where]
                flipped = where[random.random(count) < args.wrong]
                labels[flipped] = (true[flipped] + random.integers(1, 10, len(flipped))) % 10
                given = None if args.quick else spreading
                found[count].append(figures(model, labels, data, given, not args.guesses))
        for count, draws in found.items():
            row: dict[str, Any] = {"select": select, "labels": count}
            for name in draws[0]:
                values = [draw[name] for draw in draws if name in draw]
                row[name] = [round(float(np.mean(values)), 2), round(float(np.std(values, ddof=1)), 2)]
            results["rows"].append(row)
            print(json.dumps(row), flush=True)
            Path(args.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
