"""Which images to label next: at the start centres of clusters without labels, later doubtful images that differ."""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans

from hebbcore.classify.linear import Floats
from hebbcore.classify.neighbours import Indices
from hebbcore.engine import backend

_MOST = 10_000  # images that clusters are made of
_POOL = 10  # doubtful images to choose from, for each that is chosen
_CENTRES = 32  # whose products with all images are made at once

Flags = npt.NDArray[np.bool_]


def cover(rows: Floats, labelled: Flags, count: int, seed: int) -> Indices:
    """Return images (count,) in the middle of as many clusters without labels, those of the largest first.

    As many clusters are made as there are labels and suggestions together, so that there are enough.

    References
    ----------
    Hacohen, Dekel, Weinshall 2022, "Active learning on a budget" (TypiClust); here the image nearest to the centre.
    """
    random = np.random.default_rng(seed)
    sample = random.choice(len(rows), min(_MOST, len(rows)), replace=False)
    clusters = min(int(labelled.sum()) + count, len(sample))
    model = _clusters(rows[sample], clusters, seed)
    member = model.predict(rows)
    sizes = np.bincount(member, minlength=clusters)
    taken = np.bincount(member[labelled], minlength=clusters) > 0
    free = [number for number in np.argsort(-sizes, kind="stable") if sizes[number] and not taken[number]]
    return _filled(_nearest_to(model.cluster_centers_[free], rows, ~labelled, count), ~labelled, count, random)


def doubt_and_cover(rows: Floats, likely: Floats, labelled: Flags, count: int, seed: int) -> Indices:
    """Return images (count,) that are doubtful but unlike each other, one of each cluster of the most doubtful.

    likely: (n, classes) probabilities; doubt is 1 − the difference of the two largest.

    References
    ----------
    Zhdanov 2019, "Diverse mini-batch active learning".
    """
    largest = np.concatenate([np.partition(block, -2, axis=1)[:, -2:] for block in backend.pieces(likely)])
    largest.sort(axis=1)
    doubt = np.where(labelled, -1, 1 - (largest[:, 1] - largest[:, 0]))
    size = min(max(_POOL * count, 100), int((~labelled).sum()))
    pool = np.argsort(-doubt, kind="stable")[:size]
    model = _clusters(rows[pool], min(count, size), seed, np.maximum(doubt[pool], 1e-6))
    allowed = np.zeros(len(rows), bool)
    allowed[pool] = True
    chosen = _nearest_to(model.cluster_centers_, rows, allowed, count)
    return _filled(chosen[np.argsort(-doubt[chosen], kind="stable")], ~labelled, count, np.random.default_rng(seed))


def _clusters(rows: Floats, count: int, seed: int, weights: Floats | None = None) -> Any:
    """Return a KMeans of rows (n, d). That duplicates make fewer clusters is no news to a user: others fill them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Number of distinct clusters")
        return KMeans(count, n_init=1, max_iter=30, random_state=seed).fit(rows, sample_weight=weights)


def _nearest_to(centres: Floats, rows: Floats, allowed: Flags, count: int) -> Indices:
    """Return the allowed row nearest to each centre, each once, for the first `count` centres."""
    candidates = np.flatnonzero(allowed)
    rows = rows[candidates]
    squares = np.einsum("ij,ij->i", rows, rows) / 2
    chosen: list[int] = []
    for start in range(0, min(count, len(centres)), _CENTRES):
        for products in (rows @ centres[start : min(start + _CENTRES, count)].T).T:
            place = int((squares - products).argmin())
            chosen.append(int(candidates[place]))
            squares[place] = np.inf
    return np.array(chosen, np.int64)


def _filled(chosen: Indices, allowed: Flags, count: int, random: np.random.Generator) -> Indices:
    """Return the chosen images, and others at random until there are `count`: duplicates make fewer clusters."""
    others = np.setdiff1d(np.flatnonzero(allowed), chosen)
    missing = min(count - len(chosen), len(others))
    return np.concatenate([chosen, random.choice(others, missing, replace=False)])
