"""FewLabelClassifier: labels for all images, and for new ones, from labels of a few."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from hebbcore import checks
from hebbcore.classify import storage
from hebbcore.classify.answers import Answers
from hebbcore.classify.approximate import library
from hebbcore.classify.checks import Labels, class_shares, columns, flags, labels_and_gaps
from hebbcore.classify.held_out import Judged, early_sharpness, judged
from hebbcore.classify.learn import REFIT_UNTIL, Images, regime
from hebbcore.classify.linear import Floats, scores_of
from hebbcore.classify.neighbours import Indices, search_for
from hebbcore.classify.suggest import Flags, cover, doubt_and_cover
from hebbcore.dispatch import of_any_library
from hebbcore.engine import backend
from hebbcore.engine.finite import faint_is_zero
from hebbcore.evaluation.metrics import labelled_accuracy
from hebbcore.evaluation.ridge.given import checked_features, learn_width
from hebbcore.fitted import require_unchanged, whole_or_not_at_all


class FewLabelClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Classifier for features of many images with labels for a few, which learns from those without labels too.

    Labels spread over a graph of images that share neighbours (Poisson learning). A bias for each class brings the
    guesses to the classes' shares. A ridge learns these guesses for all images. Twice, links between images of unlike
    scores then weigh less, and labels spread anew. Up to 16 labels a class, on the mean, that ridge is the predictor
    ("refit"), unless the labels are of skewed classes. Up to 350, a ridge on the labelled images alone sees its scores
    beside the features ("stack"), and is averaged with one that does not if more than 2 % of the images have labels;
    beyond, the features alone ("ridge"). New images need no graph: predictors are linear in whitened components.

    Features that are at most 64 first give way to how like an image is to each of at most 1,000 of those of fit,
    evenly spread: exp(−‖x − y‖² / (2 d)) of standardised features, d of which vary.

    Parameters
    ----------
    prior : str, dict or (classes,)
        Shares of the classes among all images: "labelled", estimated from the labels, and smoothed; "uniform"; or
        given, by label, or in the order of classes_, for the classes that have labels and no other. They serve the
        guesses of the regimes "refit" and "stack", and in all of them estimated_accuracy_.
    random_state : int, RandomState or None
        For suggestions, and for the parts of the cross-validation.
    progress : callable, optional
        Called with a line of text every ten seconds of the long parts.
    neighbours : {"auto", "exact", "approximate"}
        How the graph's neighbours are found. Approximate ones need faiss (the extra "neighbours") and the CPU, and
        miss some. "auto": exact for CuPy features and for up to 200,000 images, else approximate. Guesses of the regime
        "ridge" need no graph: neither this nor neighbour_features changes them.
    neighbour_features : (m,), optional
        Numbers of the features in which the graph's neighbours are looked for; None: all.

    Attributes
    ----------
    classes_ : (classes,)
        Sorted labels.
    n_features_in_ : int
        Features of an image.
    regime_ : str
        "refit", "stack" or "ridge".
    class_shares_ : (classes,)
        What `prior` came to.
    transduction_ : (n,)
        Labels of all images of fit: those given, and guesses.
    label_distributions_ : (n, classes)
        Calibrated probabilities for all images of fit, also for those with a label, which it may doubt.
    doubts_ : (m,)
        Images whose given labels the others contradict: wrong with a probability above a third, the most doubtful
        first.
    estimated_accuracy_ : tuple of float, or None
        (value, low, high): the share of right guesses in a cross-validation among the labelled images, where each
        class weighs as much as its share, and its 95 % interval. It holds for images like these: not, say, where only
        easy ones were labelled. A wrong label counts as a wrong guess, but doubted ones are left out where classes have
        more than 16 labels on the mean. A class with a single label takes no part, and the interval leaves room for
        its share: all of it may be guessed wrong, or right. None for fewer than 10 labels of classes with at least two.
    calibration_error_ : tuple of float, or None
        (error, by_chance): how far confidence and share of right guesses lie apart in that cross-validation, the
        expected calibration error, and what chance alone makes of it with so many labels. None as above.

    Any number of threads may predict at once, also while another one calls relearn: each answer is by the labels of
    before, or by the new ones, as a whole. What else there is, and fit and set_params, are for one thread at a time.

    References
    ----------
    Calder, Cook, Thorpe, Slepčev 2020, "Poisson learning: graph based semi-supervised learning at very low label
    rates". Differences: links follow shared neighbours, not distances; the rounds after the first refit; parts of the
    graph without links get one to the nearest image; the balance of more than ten classes takes longer steps.
    """

    classes_: Labels
    n_features_in_: int
    _answers: Answers

    def __init__(
        self,
        prior: Any = "labelled",
        random_state: Any = 0,
        progress: Callable[[str], None] | None = None,
        neighbours: str = "auto",
        neighbour_features: Any = None,
    ) -> None:
        self.prior = prior
        self.random_state = random_state
        self.progress = progress
        self.neighbours = neighbours
        self.neighbour_features = neighbour_features

    @of_any_library
    @whole_or_not_at_all
    @faint_is_zero
    def fit(self, X: Any, y: Any) -> Self:
        """Learn from features of images and the labels of some.

        Parameters
        ----------
        X : (n, features)
            Features, NumPy or CuPy, or a numpy.memmap, read some rows at a time. Exact neighbours are looked for on
            their device.
        y : (n,)
            Labels; −1 where there is none, or None, NaN or an empty text among texts, or a missing value of pandas'
            nullable numbers. Numbers below −1 are refused. Without any label, only `suggest` and `relearn` work.

        Returns
        -------
        FewLabelClassifier
            Itself.

        Raises
        ------
        ValueError, TypeError
            For bad arguments or parameters.
        ModuleNotFoundError
            If approximate neighbours are to be found without faiss.
        """
        function = "FewLabelClassifier.fit"
        checks.callback(function, "progress", self.progress)
        if y is None:
            raise ValueError(f"{function}: it requires y to be passed, but the target y is None.")
        features = checked_features(function, self, X, reset=True, least=2)
        labels, known = labels_and_gaps(function, y, len(features))  # before long work
        near = columns(function, "neighbour_features", self.neighbour_features, features.shape[1])
        device = backend.device_of(features)
        search = search_for(function, self.neighbours, len(features), device)
        if search == "approximate" and regime(np.unique(labels[known], return_counts=True)[1]) != "ridge":
            library(function)
        self._seed = int(check_random_state(self.random_state).randint(2**31))
        self._images: Images | None = Images.of(features, near, search, device, self.progress)
        self._note_parameters()
        return self._learn(function, labels, known)

    @whole_or_not_at_all
    @faint_is_zero
    def fit_state(self, arrays: Any, y: Any) -> Self:
        """Fit to the images of another fit, which images_state tells of, without their features.

        Parameters
        ----------
        arrays : mapping
            What `images_state` gave.
        y : (n,)
            Labels, as for fit.

        Returns
        -------
        FewLabelClassifier
            Itself, as after fit.

        Raises
        ------
        ValueError, TypeError
            As fit; and for arrays that are no such state.
        """
        function = "FewLabelClassifier.fit_state"
        arrays = storage.images_of(function, arrays)
        self._seed = int(check_random_state(self.random_state).randint(2**31))
        self._images = Images.from_state(arrays, self.progress)
        learn_width(self, self._images.space.features)
        self._note_parameters()
        return self._learn(function, *labels_and_gaps(function, y, len(self._images.rows)))

    @faint_is_zero
    def images_state(self) -> dict[str, Any]:
        """Return what fit has learned from the images without labels, for fit_state; makes the graph if need be.

        Returns
        -------
        dict of NumPy arrays
            Some 3,300 bytes for each image.
        """
        check_is_fitted(self)
        return self._require_images("images_state").state()

    @faint_is_zero
    def relearn(self, y: Any, early: Callable[[], None] | None = None) -> Self:
        """Learn from other labels of the images of the last fit; the graph and what else needs no labels is kept.

        Parameters
        ----------
        y : (n,)
            Labels, as for fit.
        early : callable, optional
            Called as soon as there are guesses, before the cross-validation, which takes several times as long. Until
            that is done, transduction_ and label_distributions_ are of the new labels, the latter about as sure as
            those before, and there are neither doubts nor an estimate.

        Returns
        -------
        FewLabelClassifier
            Itself.

        Raises
        ------
        ValueError, TypeError
            As fit; and for a parameter of the graph, or random_state, that was set since.
        """
        check_is_fitted(self)
        checks.callback("FewLabelClassifier.relearn", "early", early)
        images = self._require_images("relearn")
        function, made_with = "FewLabelClassifier.relearn", getattr(self, "_made_with", {})  # earlier pickles have none
        require_unchanged(function, "graph", made_with, self.get_params())
        try:
            return self._learn(function, *labels_and_gaps(function, y, len(images.rows)), early)
        finally:
            if not hasattr(self, "label_distributions_"):  # it was interrupted
                self.label_distributions_ = _likely(self._answers, self._own_scores(self._answers))

    def _note_parameters(self) -> None:
        self._made_with = {name: getattr(self, name) for name in ("random_state", "neighbours", "neighbour_features")}

    def _learn(self, function: str, labels: Labels, known: Flags, early: Callable[[], None] | None = None) -> Self:
        images = self._require_images("fit")
        where = np.flatnonzero(known)
        classes, firsts, codes = np.unique(labels[where], return_index=True, return_inverse=True)
        # learned in the order of their first labels, so that ties, draws and rounding do not depend on names
        order = np.argsort(firsts)
        place = np.argsort(order)
        codes = place[codes]
        counts = np.bincount(codes, minlength=len(classes))
        given = np.zeros(0)
        if len(classes):
            given = class_shares(
                function, self.prior, classes, lambda: images.shares(where, codes, len(classes))[place]
            )
        shares = given[order]
        kind, predictor = regime(counts), (np.zeros((images.rows.shape[1], len(classes))), np.zeros(len(classes)))
        if len(classes) > 1:
            predictor = images.predictor(where, codes, shares, kind)
        answers = Answers(images.space, classes, predictor[0][:, place], predictor[1][place])
        if early is not None:
            scores = self._own_scores(answers)
            sharpness = self._answers.sharpness
            if len(classes) != len(self._answers.classes):
                sharpness = early_sharpness(scores, None) if len(classes) > 1 else 1.0
            self._take(answers, Judged(sharpness), given, kind, labels, known, scores)
            early()
        scores = self._own_scores(answers)
        # shares that follow the labels follow those that each predictor sees
        follows = isinstance(self.prior, str) and self.prior == "labelled"
        found = judged(images, where, codes, None if follows else shares, shares, kind, self._seed, scores)
        return self._take(answers, found, given, kind, labels, known, scores)

    def _own_scores(self, answers: Answers) -> Floats:
        self.__dict__.pop("label_distributions_", None)  # so that the old and the new are not in memory together
        return scores_of(self._require_images("fit").rows, answers.predictor)

    def _take(
        self, answers: Answers, found: Judged, shares: Floats, kind: str, labels: Labels, known: Flags, scores: Floats
    ) -> Self:
        """Have learned all this. scores: of all images, which become probabilities."""
        answers = answers._replace(sharpness=found.sharpness)
        guesses = np.where(known, labels, answers.labels(scores)) if len(answers.classes) else labels
        self.classes_, self.class_shares_, self.regime_, self._known = answers.classes, shares, kind, known
        self.estimated_accuracy_, self.calibration_error_, self.doubts_ = found.accuracy, found.error, found.doubts
        self.transduction_, self.label_distributions_ = guesses, _likely(answers, scores)
        self._answers = answers
        return self

    @of_any_library
    @faint_is_zero
    def predict(self, X: Any) -> Labels:
        """Return the most likely labels (n,) of features (n, features)."""
        answers, scores = self._scores("predict", X)
        return answers.labels(scores)

    @of_any_library
    @faint_is_zero
    def predict_proba(self, X: Any) -> Floats:
        """Return the probability of each class (n, classes), NumPy: the softmax of scores times a factor.

        The factor makes the labels most likely in a cross-validation. With too few labels for that, guesses are as
        sure, on the mean, as the labels that could be held out were guessed right, with two more guessed by chance; and
        hardly surer than chance where no class has two labels.
        """
        answers, scores = self._scores("predict_proba", X)
        return answers.likely(scores)

    @of_any_library
    @faint_is_zero
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy on features (n, features), weighted if weights (n,) are given.

        Rows without a label, as in fit, count for nothing. Raises ValueError if none has one.
        """
        function, predicted = "FewLabelClassifier.score", self.predict(X)
        labels, known = labels_and_gaps(function, y, len(predicted))
        return labelled_accuracy(function, labels, predicted, known, sample_weight)

    @faint_is_zero
    def suggest(self, n: int = 10, skip: Any = None) -> Indices:
        """Return which images of fit to label next.

        Up to 16 labels a class, they are centres of clusters without labels; then doubtful images unlike each other.

        Parameters
        ----------
        n : int
            How many; fewer if fewer have no label.
        skip : (images of fit,) of bool, optional
            Images that are not suggested, such as those that a person was unsure about. They count as covered.

        Returns
        -------
        (n,)
            Numbers of images, the most useful first.
        """
        check_is_fitted(self)
        images = self._require_images("suggest")
        done = (
            self._known if skip is None else self._known | flags("FewLabelClassifier.suggest", skip, len(self._known))
        )
        count = min(checks.integer("FewLabelClassifier.suggest", "n", n, 1), int((~done).sum()))
        if not count:
            return np.zeros(0, np.int64)
        labels = int(self._known.sum())
        if len(self.classes_) < 2 or labels <= REFIT_UNTIL * len(self.classes_):
            return cover(images.cluster_rows, done, count, self._seed)
        return doubt_and_cover(images.neighbour_rows, self.label_distributions_, done, count, self._seed)

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return (arrays, settings) that predict: NumPy arrays and what JSON can hold, without the images of fit.

        Returns
        -------
        tuple of dict
            For from_state; classes_ that are texts are an array of text.
        """
        check_is_fitted(self)
        return storage.state_of(self)

    @classmethod
    def from_state(cls, arrays: Any, settings: Any) -> Self:
        """Return a classifier that predicts as the one whose state it is; it can be fitted anew.

        Parameters
        ----------
        arrays, settings : mapping
            What `state` gave.

        Returns
        -------
        FewLabelClassifier
            Without what belongs to the images of fit: transduction_, label_distributions_, doubts_, and suggest.
        """
        model = cls()
        storage.restore(model, arrays, settings)
        return model

    def _scores(self, method: str, X: Any) -> tuple[Answers, Floats]:
        check_is_fitted(self)
        function, answers = f"FewLabelClassifier.{method}", self._answers  # once: another thread may learn anew
        return answers, answers.scores(function, checked_features(function, self, X))

    def _require_images(self, method: str) -> Images:
        if self._images is None:
            raise ValueError(f"FewLabelClassifier.{method}: a classifier from a state has no images; fit it to them.")
        self._images.tell(self.progress)
        return self._images

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "progress": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(storage.with_answers(state))


def _likely(answers: Answers, scores: Floats) -> Floats:
    """Return the probabilities (n, classes) of scores, in whose memory they are made."""
    for block in backend.pieces(scores) if len(answers.classes) else ():
        block[:] = answers.likely(block)
    return scores
