"""The results of an evaluation in memory, and as the JSON that results.json holds and `evaluate` returns.

`from_json` takes what it is given apart and raises ValueError, LookupError, TypeError or OverflowError unless every
value is of the kind and in the range that readers of the results rely on; `as_json` writes the same names in the same
order again.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from hebbcore.evaluation.json_values import as_count, as_list, as_number, as_percent, as_text, as_title, require

Json = dict[str, Any]

SPLITS = ("train", "test")
HELD_OUT, LEFT_OUT = "held out", "left out in turn"  # what few labelled images are, to choose a readout's penalty
FINELY = f"{LEFT_OUT}; penalties half a decade apart"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What tells an evaluation from others.

    Parameters
    ----------
    weights : str
        Digest of the network.
    train, test : dict
        What the streams say of their images.
    readout, how : str
        Classifier, and the way in which labelled images are selected.
    features : int
        Most features of an image.
    mirror : bool
        Features are averaged over mirror images. A file that does not say it was written before there was a choice.
    shifts : int
        Features are averaged over images shifted by so many pixels. 0: they are not; earlier files do not say it.
    queries : int
        Test images that are looked up.
    penalty : str
        LEFT_OUT: all of few labelled images are left out in turn to choose the readout's penalty. FINELY: so they are,
        and it is one of RidgeReadout's own list, which had whole decades before. HELD_OUT: they are not; earlier files,
        which do not say it, held out a fifth.
    """

    weights: str
    train: Json
    test: Json
    readout: str
    how: str
    features: int
    mirror: bool = False
    shifts: int = 0
    queries: int
    penalty: str = HELD_OUT

    @classmethod
    def from_json(cls, table: Any) -> Self:
        """Return settings; those that this version does not know are refused."""
        found = cls(**table)
        as_list(as_text, [found.weights, found.readout, found.how])
        choices = HELD_OUT, LEFT_OUT, FINELY
        require(found.penalty in choices, f"one of {choices}", found.penalty)
        as_list(as_count, [found.features, found.shifts, found.queries])
        require(isinstance(found.mirror, bool), "true or false", found.mirror)
        for images in (found.train, found.test):
            require(isinstance(images, dict), "a table", images)
        return found

    def as_json(self) -> Json:
        """Return {"weights", "train", …}; without "shifts" where there are none, and without "penalty" where images are
        held out, as files of before there were any others.
        """
        table = asdict(self)
        if not self.shifts:
            del table["shifts"]
        if self.penalty == HELD_OUT:
            del table["penalty"]
        return table


@dataclass(frozen=True)
class Run:
    """What a classifier reached that was fitted to some of the labels.

    share: part of the labelled training images that it was fitted to, above 0, at most 1. seed: selected them.
    top1, top5: test images in percent whose class is the likeliest, or among the five likeliest.
    """

    share: float
    seed: int
    top1: float
    top5: float

    @classmethod
    def from_json(cls, table: Json) -> Self:
        """Take {"labels", "seed", "top1", "top5"}; "labels" is the share."""
        share = as_number(table["labels"])
        require(0 < share <= 1, "above 0 and at most 1", share)
        return cls(share, as_count(table["seed"]), as_percent(table["top1"]), as_percent(table["top5"]))

    def as_json(self) -> Json:
        """Return what from_json takes."""
        return {"labels": self.share, "seed": self.seed, "top1": self.top1, "top5": self.top5}


@dataclass(frozen=True)
class Neighbours:
    """How many of the k nearest training images share a test image's class, in percent, a figure for each k."""

    k: list[int]
    precision: list[float]
    mean_average_precision: list[float]

    @classmethod
    def from_json(cls, table: Json) -> Self:
        """Take {"k", "precision", "map"}."""
        k, figures = as_list(as_count, table["k"]), [as_list(as_percent, table[name]) for name in ("precision", "map")]
        for values in figures:
            require(len(values) == len(k), f"{len(k)} figures", values)
        return cls(k, *figures)

    def as_json(self) -> Json:
        """Return what from_json takes."""
        return {"k": self.k, "precision": self.precision, "map": self.mean_average_precision}


@dataclass
class SourceResults:
    """What was measured of the features of one layer or baseline.

    Parameters
    ----------
    features : int
        Number of features of an image.
    grid : int or None
        They are averages over grid × grid cells; None: over none.
    runs : list of Run
        In the order in which they were made.
    confusion : list of lists of int, or None
        Test images of each class (row) by the class that they are taken for (column), with the most labels.
    retrieval : dict of Neighbours, or None
        One for each metric; none where features were too many to keep. None: not measured.
    gflop : float or None
        GFLOP that the features of an image cost, see Features.gflop. None: the file is of an earlier version.
    """

    features: int
    grid: int | None
    runs: list[Run] = field(default_factory=list)
    confusion: list[list[int]] | None = None
    retrieval: dict[str, Neighbours] | None = None
    gflop: float | None = None

    @property
    def shares(self) -> list[float]:
        """The shares of the labels that there are runs of, each once, ascending."""
        return sorted({run.share for run in self.runs})

    def runs_at(self, share: float) -> list[Run]:
        """Return the runs with this share of the labels."""
        return [run for run in self.runs if run.share == share]

    @classmethod
    def from_json(cls, table: Json, classes: int) -> Self:
        """Take {"features", "cells", "gflop", "runs", "confusion", "retrieval"}; "cells" is the grid.

        Earlier versions wrote no "gflop".
        """
        confusion, retrieval, gflop = table["confusion"], table["retrieval"], table.get("gflop")
        if confusion is not None:
            confusion = as_list(lambda row: as_list(as_count, row), confusion)
            require({len(confusion), *map(len, confusion)} == {classes}, f"{classes} × {classes}", confusion)
        if retrieval is not None:
            retrieval = {metric: Neighbours.from_json(found) for metric, found in retrieval.items()}
        if gflop is not None:
            require(as_number(gflop) >= 0, "at least 0", gflop)
        grid = table["cells"]
        runs = as_list(Run.from_json, table["runs"])
        grid = None if grid is None else as_count(grid)
        return cls(as_count(table["features"]), grid, runs, confusion, retrieval, gflop)

    def as_json(self) -> Json:
        """Return what from_json takes."""
        found = self.retrieval
        return {
            "features": self.features,
            "cells": self.grid,
            **({} if self.gflop is None else {"gflop": self.gflop}),
            "runs": [run.as_json() for run in self.runs],
            "confusion": self.confusion,
            "retrieval": None if found is None else {metric: one.as_json() for metric, one in found.items()},
        }


@dataclass(frozen=True)
class Image:
    """Which image of a stream: its number, counted from 0, and its name where that is known."""

    number: int
    name: str | None = None

    @property
    def title(self) -> str:
        """Its name, or its number."""
        return str(self.number) if self.name is None else self.name

    @classmethod
    def from_json(cls, table: Json) -> Self:
        """Take {"image", "name"}, the latter only where it is known."""
        return cls(as_count(table["image"]), as_text(table["name"]) if "name" in table else None)

    def as_json(self) -> Json:
        """Return what from_json takes."""
        return {"image": self.number} if self.name is None else {"image": self.number, "name": self.name}


@dataclass(frozen=True)
class Mistake:
    """A test image that is taken for another class. true, predicted: numbers of classes in the results' list of them.

    margin: how far the score of the class that it is taken for is above that of its own.
    """

    image: Image
    true: int
    predicted: int
    margin: float

    @classmethod
    def from_json(cls, table: Json, classes: int) -> Self:
        """Take an image's table with "true", "predicted" and "margin"."""
        true, predicted = as_count(table["true"]), as_count(table["predicted"])
        require(max(true, predicted) < classes, f"below {classes}", max(true, predicted))
        return cls(Image.from_json(table), true, predicted, as_number(table["margin"]))

    def as_json(self) -> Json:
        """Return what from_json takes."""
        return {**self.image.as_json(), "true": self.true, "predicted": self.predicted, "margin": self.margin}


@dataclass(frozen=True)
class Counted:
    """How many images of a split have a label and how many have none, and a digest of all of them.

    largest: the largest magnitude in them, as it is read: uint8 is 0…1; None: not known, as of earlier versions.
    """

    labelled: int
    unlabelled: int
    digest: str
    largest: float | None = field(default=None, compare=False)

    @classmethod
    def from_json(cls, table: Json) -> Self:
        """Take {"labelled", "unlabelled", "digest"}, and "largest" if it is there."""
        largest = None if table.get("largest") is None else as_number(table["largest"])
        return cls(as_count(table["labelled"]), as_count(table["unlabelled"]), as_text(table["digest"]), largest)

    def as_json(self) -> Json:
        """Return what from_json takes."""
        return asdict(self)


@dataclass(frozen=True)
class Shared:
    """Images that are in both splits, pixel for pixel.

    count: how many of test are in train. pairs: the first of them, each with one of train that it equals.
    contradictions: how many images of train equal another one of another label.
    """

    count: int
    pairs: list[tuple[Image, Image]]
    contradictions: int

    @classmethod
    def from_json(cls, table: Json) -> Self:
        """Take {"images", "pairs": [{"test", "train"}], "contradictions"}."""
        pairs = as_list(lambda pair: (Image.from_json(pair["test"]), Image.from_json(pair["train"])), table["pairs"])
        return cls(as_count(table["images"]), pairs, as_count(table["contradictions"]))

    def as_json(self) -> Json:
        """Return what from_json takes."""
        pairs = [{"test": test.as_json(), "train": train.as_json()} for test, train in self.pairs]
        return {"images": self.count, "pairs": pairs, "contradictions": self.contradictions}


@dataclass
class Results:
    """All that an evaluation found.

    Parameters
    ----------
    settings : Settings
        What tells it from others.
    classes : list of str or int
        A name of each class, or its label.
    sources : dict of SourceResults
        Keys are names of layers and baselines.
    images : dict of Counted, or None
        What "train" and "test" hold; None before the first pass over them.
    shared : Shared or None
        Images that both hold; None before the first pass over them.
    mistakes : dict of lists of Mistake
        For each source the test images that are taken for another class by the largest margin.
    digest : str or None
        What a file says of itself; None where it does not.
    """

    settings: Settings
    classes: list[str | int]
    sources: dict[str, SourceResults] = field(default_factory=dict)
    images: dict[str, Counted] | None = None
    shared: Shared | None = None
    mistakes: dict[str, list[Mistake]] = field(default_factory=dict)
    digest: str | None = None

    @property
    def shares(self) -> list[float]:
        """The shares of the labels that any source has runs of, ascending."""
        return sorted({run.share for source in self.sources.values() for run in source.runs})

    @classmethod
    def from_json(cls, table: Json) -> Self:
        """Take what `evaluate` returns or results.json holds; earlier versions wrote no digest, images and mistakes."""
        classes, images, shared = (
            as_list(as_title, table["classes"]),
            table.get("images"),
            table.get("shared"),
        )
        require(not images or set(images) == set(SPLITS), "of train and test", images)
        require(shared is None or bool(images), "left out without images", shared)
        return cls(
            Settings.from_json(table["settings"]),
            classes,
            {name: SourceResults.from_json(entry, len(classes)) for name, entry in table["sources"].items()},
            {split: Counted.from_json(images[split]) for split in images} if images else None,
            None if shared is None else Shared.from_json(shared),
            {
                name: as_list(lambda one: Mistake.from_json(one, len(classes)), some)
                for name, some in table.get("mistakes", {}).items()
            },
            table.get("digest"),
        )

    def as_json(self) -> Json:
        """Return what from_json takes, with a digest of all else."""
        table: Json = {
            "settings": self.settings.as_json(),
            "classes": self.classes,
            "sources": {name: entry.as_json() for name, entry in self.sources.items()},
        }
        if self.images is not None:
            table["images"] = {split: found.as_json() for split, found in self.images.items()}
        if self.shared is not None:
            table["shared"] = self.shared.as_json()
        if self.mistakes:
            table["mistakes"] = {name: [one.as_json() for one in some] for name, some in self.mistakes.items()}
        return {**table, "digest": digest_of(table)}


def digest_of(table: Json) -> str:
    """Return the digest of results as JSON that do not hold one."""
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()
