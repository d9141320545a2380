"""What an evaluation looks at before it computes any feature."""

import bisect
import math
from typing import Any

import numpy as np

from hebbcore import streams
from hebbcore.engine.finite import first_not_finite
from hebbcore.evaluation.batches import Labels, as_labels, has_label
from hebbcore.evaluation.readouts import why_unfit
from hebbcore.evaluation.splits import drawn, rows_of
from hebbcore.pairs import pairs_of
from hebbcore.streams import Stream
from hebbcore.texts import plain


def class_names(function: str, train: Stream, test: Stream) -> tuple[str, ...]:
    """Return the names of the classes 0, 1, … as far as the streams' `class_names` know them.

    Raises ValueError if they give one number to different classes. One of them may know more classes than the other,
    and may call all of them by their numbers, as shards of arrays without names do.
    """
    mine, theirs = (streams.class_names_of(stream) for stream in (train, test))
    unnamed = [names for names in (mine, theirs) if all(name == str(label) for label, name in enumerate(names))]
    for label, (here, there) in enumerate(zip(mine, theirs, strict=False)):
        if here != there and not (unnamed and _may_be(label, there if unnamed[0] is mine else here)):
            raise ValueError(
                f"{function}: train and test must number their classes alike, but class {label} is {here!r} in train "
                f"and {there!r} in test; build the test set with the training set's classes (of class folders: with an "
                "empty folder for each class that has no image)."
            )
    named = [names for names in (mine, theirs) if names not in unnamed]
    return max(named or unnamed, key=len)


def _may_be(label: int, name: str) -> bool:
    """Return whether a class of this number may be called so: not if that is another number."""
    return not name.isdecimal() or int(name) == label


def labels_of(function: str, name: str, stream: Stream) -> Labels:
    """Return the labels (n,) of a stream, int64, those below 0 too: its `labels`, or what a pass over it yields.

    Images of integers need no pass. Raises ValueError for floating ones that hold NaN or infinity, and if no image has
    a label.
    """
    labels, parts, done = streams.labels_of(stream), [], 0
    for images, classes in pairs_of(stream):
        if labels is not None and images.dtype.kind != "f":
            break
        row = first_not_finite(images)
        if row is not None:
            raise ValueError(
                f"{function}: the images of {name} must be finite, but {streams.image_at(stream, done + row)} holds "
                "NaN or infinity; clean it."
            )
        parts.append(classes)
        done += len(classes)
    if labels is None:
        labels = np.concatenate(parts) if parts else np.empty(0, np.int64)
        if done > stream.images:  # fewer may be: damaged ones are left out
            raise ValueError(f"{function}: {name} gives more images than the {stream.images} that it says.")
    if not len(labels):
        raise ValueError(f"{function}: {name} gave no image; pass a stream that can be iterated again.")
    found = as_labels(function, f"the labels of {name}", labels, len(labels), name)
    if found.dtype.kind not in "biuf":
        raise TypeError(f"{function}: the labels of {name} must be numbers of classes, got {found.dtype}.")
    if not has_label(found).any():
        raise ValueError(
            f"{function}: no image of {name} has a label: all {len(found)} are below 0; "
            "label some (hebbcore shards build --labels)."
        )
    if found.dtype.kind in "fu" and not (np.abs(found) < 2.0**63).all():  # else they wrap
        raise ValueError(f"{function}: the labels of {name} must be below 2**63, got {found.min()} to {found.max()}.")
    return found.astype(np.int64)


def require_learned(function: str, labels: Labels, test_labels: Labels, names: tuple[str, ...]) -> None:
    """Raise ValueError if the test images have classes that no training image has; names: see class_names."""
    strange, counts = np.unique(test_labels[~np.isin(test_labels, labels)], return_counts=True)
    if len(strange):
        listed = ", ".join(plain(title(label, names)) for label in strange[:5].tolist())
        raise ValueError(
            f"{function}: {counts.sum()} images of test are of classes that no image of train has: {listed}"
            f"{', …' if len(strange) > 5 else ''}; leave them out, or add such images to train."
        )


def title(label: int, names: tuple[str, ...]) -> str | int:
    """Return the name of a class if there is one, else its label."""
    return names[label] if 0 <= label < len(names) else label


def require_possible(function: str, labels: Labels, shares: list[float], seeds: int, how: str, readout: Any) -> None:
    """Raise ValueError if a selection of labelled images cannot teach the readout.

    It lists all shares of the labels for which that is so, and says from which on all selections can.
    """
    images, classes = len(labels), len(np.unique(labels))

    def why_not(count: int) -> str:
        if how == "stratified" and count < classes:
            return f"a stratified selection has at least one of each of {classes} classes"
        some = range(seeds if count < images else 1)
        reasons = ((seed, why_unfit(readout, labels[drawn(labels, count, seed, how)])) for seed in some)
        return next((why + f" with seed {seed}" * (count < images) for seed, why in reasons if why), "")

    found = [(share, why_not(rows_of(share, images))) for share in shares]
    lines = [f"{100 * share:g} % ({rows_of(share, images)}: {why})" for share, why in found if why]
    if not lines:
        return
    least = bisect.bisect_left(range(images + 1), True, key=lambda count: not why_not(count))
    percent = math.ceil(1e4 * least / images) / 100
    advice = f"{percent:g} % or more are enough" if least <= images else "add images to train"
    raise ValueError(
        f"{function}: too few of the {images} training images have labels to fit a classifier: {'; '.join(lines)}; "
        f"{advice}."
    )
