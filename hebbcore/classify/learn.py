"""From labels of few images to a linear predictor for all: the regimes, and which of them is taken."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hebbcore.classify.approximate import nearest_approximately
from hebbcore.classify.balance import balanced_guesses, balancing_bias, evenness, smoothed_shares
from hebbcore.classify.graph import CANDIDATES, joined, neighbour_graph
from hebbcore.classify.linear import AllRows, Predictor, labelled_predictor, scores_of
from hebbcore.classify.neighbours import Indices, nearest
from hebbcore.classify.poisson import Poisson
from hebbcore.classify.space import Columns, Space, learned_space, scaled
from hebbcore.engine import devices
from hebbcore.engine.backend import Array
from hebbcore.evaluation.ridge.meter import Meter

REFIT_UNTIL, STACK_UNTIL = 16, 350  # labels a class; fixed by experiments on CIFAR-10
_ROUNDS = 2  # in which links between unlike images weigh less; two more give a tenth of a point
_CLUSTER_COMPONENTS = 100  # centres of clusters in more of them are worse to label
_EVEN = 0.5  # smoothing below which labels are of skewed classes
_SCORES_WEIGH = 0.3  # against the rows, in squares
_STACK_PENALTY = 0.3  # at least; below, the scores of labelled images, which their labels made, would be believed
_MANY = 0.02  # of the images: so many labels know as much alone as beside the images without
_BALANCED = 2**16  # rows at most that the last balance sees

Floats = npt.NDArray[Any]


def regime(counts: npt.NDArray[np.int64]) -> str:
    """Return what labels, so many of each class, are learned by: "refit", "stack" or "ridge"."""
    labels, classes = int(counts.sum()), max(1, len(counts))
    if labels <= REFIT_UNTIL * classes and not _skewed(counts):
        return "refit"
    return "stack" if labels <= STACK_UNTIL * classes else "ridge"


def _skewed(counts: npt.NDArray[np.int64]) -> bool:
    return len(counts) > 1 and evenness(counts, counts / counts.sum()) < _EVEN


class Images:
    """What is learned from all images without labels: the space, and when needed the graph and a factorised ridge.

    rows: (n, p), what the ridge sees. search: "exact" or "approximate" neighbours; device: where exact ones are
    looked for. own: (n, q), what neighbours are looked for in, where that is not made of rows.
    """

    def __init__(
        self,
        space: Space,
        rows: Floats,
        search: str,
        device: str,
        progress: Callable[[str], None] | None,
        own: Floats | None = None,
    ) -> None:
        self.space, self.rows, self._own = space, rows, own
        self._progress, self._search, self._device = progress, search, device

    @classmethod
    def of(
        cls,
        features: Array,
        near: Indices | None,
        search: str,
        device: str,
        progress: Callable[[str], None] | None,
    ) -> Self:
        """Return what features (n, d) say. near: which of them neighbours are looked for in; None: all."""
        own = None
        if near is not None:
            columns = Columns(features, near)
            meter = Meter(progress, "components for neighbours", len(features), "images")
            space = learned_space(columns, meter)
            own = space.neighbour_rows(space.components(columns))
        space = learned_space(features, Meter(progress, "components", len(features), "images"))
        return cls(space, space.ridge_rows(features), search, device, progress, own)

    @classmethod
    def from_state(cls, arrays: Mapping[str, Any], progress: Callable[[str], None] | None) -> Self:
        """Return the images whose state it is."""
        images = cls(Space.of(arrays), arrays["rows"], "exact", "cpu", progress)
        images.poisson = Poisson.from_state(arrays)
        return images

    def state(self) -> dict[str, Any]:
        """Return all that took long, the graph included, as NumPy arrays."""
        return {**self.space.arrays, "rows": self.rows, **self.poisson.state()}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_progress": None}

    def tell(self, progress: Callable[[str], None] | None) -> None:
        """Tell of what takes long from now on to another function; None: to nobody."""
        self._progress = progress

    @property
    def neighbour_rows(self) -> Floats:
        """What images are compared in (n, p), made anew of rows: λ^(−1/4) · λ^(−1/8) is λ^(−3/8)."""
        return self._whitened(self.rows.shape[1])

    @property
    def cluster_rows(self) -> Floats:
        """What clusters are looked for in (n, at most 100)."""
        return self._whitened(_CLUSTER_COMPONENTS)

    def _whitened(self, count: int) -> Floats:
        return scaled(self.rows[:, :count], self.space.eigenvalues[:count], -1 / 8)

    @functools.cached_property
    def poisson(self) -> Poisson:
        """Poisson learning on the graph of neighbours, which is made at its first use."""
        rows = self.neighbour_rows if self._own is None else self._own
        count = min(CANDIDATES, len(rows) - 1)
        if self._search == "approximate":
            found, _ = nearest_approximately(rows, count, self._progress)
        else:
            meter = Meter(self._progress, "neighbours", len(rows), "images")
            found, _ = nearest(devices.to_device(rows, self._device), count, meter)
        made = Poisson(joined(neighbour_graph(found), rows))
        self._own = None  # serves nothing else
        return made

    @functools.cached_property
    def all_rows(self) -> AllRows:
        """The ridge on guesses for all images."""
        return AllRows(self.rows)

    def shares(self, where: Indices, codes: Indices, classes: int) -> Floats:
        """Return the shares (classes,) of the classes among all images, estimated from labels `codes` of `where`.

        They are the mean over all images of what a ridge on the labelled ones says (the regression estimator of
        survey sampling), smoothed: labels of images that are no fair sample mislead it less than they do their counts.
        """
        if classes < 2:
            return np.ones(classes)
        counts = np.bincount(codes, minlength=classes)
        coef, intercept = labelled_predictor(self.rows[where], codes, classes)
        found = np.maximum(self._mean @ coef + intercept, 1 / (4 * len(where)))
        return smoothed_shares(counts, found / found.sum())

    @functools.cached_property
    def _mean(self) -> Floats:
        return self.rows.mean(axis=0, dtype=np.float64)  # type: ignore[no-any-return]

    def predictor(self, where: Indices, codes: Indices, shares: Floats, kind: str) -> Predictor:
        """Return coefficients (p, classes) and intercepts (classes,) on rows, learned from labels `codes` of `where`.

        shares: (classes,) that the guesses shall have. kind: see regime.
        """
        classes = len(shares)
        if kind == "ridge":
            return labelled_predictor(self.rows[where], codes, classes)
        potentials = self.poisson.potentials(where, codes, classes)
        refitted, scores, agreed = self._refitted(potentials, where, codes, shares)
        for _ in range(_ROUNDS):
            potentials = self.poisson.among_alike(where, codes, scores, potentials)
            following, scores, agree = self._refitted(potentials, where, codes, shares)
            if agree < agreed:  # as where clusters that hardly a link joins come apart
                break
            refitted, agreed = following, agree
        if kind == "refit":
            return refitted
        coef, intercept = self._stacked(refitted, where, codes)
        if len(where) > _MANY * len(self.rows):
            alone = labelled_predictor(self.rows[where], codes, classes)
            coef, intercept = (coef + alone[0]) / 2, (intercept + alone[1]) / 2
        some = self.rows[:: -(-len(self.rows) // _BALANCED)]
        # halfway to the shares: the whole way costs right guesses where they are misjudged
        return coef, intercept + balancing_bias(scores_of(some, (coef, intercept)), shares) / 2

    def _refitted(
        self, potentials: Floats, where: Indices, codes: Indices, shares: Floats
    ) -> tuple[Predictor, Floats, float]:
        """Return the ridge of the balanced guesses that potentials make, its scores, and the share of guesses it has.

        potentials, scores: (n, classes), float32.
        """
        guesses = balanced_guesses(potentials, shares)
        guesses[where] = codes
        coef, intercept = self.all_rows.predictor(guesses, len(shares))
        scores = self.rows @ coef.astype(np.float32)  # which only compare: in float64 it takes several times as long
        scores += intercept.astype(np.float32)
        return (coef, intercept), scores, float(np.mean(scores.argmax(axis=1) == guesses))

    def _stacked(self, refitted: Predictor, where: Indices, codes: Indices) -> Predictor:
        """Return the ridge of the labelled rows beside the refitted scores, as one predictor on rows.

        The scores of a labelled row are those of a ridge without it: else its label, which its own score has learned,
        would be trusted more than it is worth where images are few.
        """
        coef, intercept = refitted
        mean, spread = self.all_rows.mean_and_spread(refitted)
        factor = np.sqrt(_SCORES_WEIGH / max(spread, np.finfo(float).tiny))
        both = np.hstack([self.rows[where], factor * (self.all_rows.unseen_scores(refitted, where, codes) - mean)])
        stacked, constant = labelled_predictor(both, codes, len(intercept), _STACK_PENALTY)
        own, of_scores = np.split(stacked, [len(coef)])
        return own + factor * coef @ of_scores, constant + factor * (intercept - mean) @ of_scores
