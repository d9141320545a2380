"""What the labels say of each other: scores of labelled images by predictors that never saw their labels."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from hebbcore.classify.learn import REFIT_UNTIL, Images
from hebbcore.classify.linear import Floats
from hebbcore.classify.neighbours import Indices
from hebbcore.engine import backend
from hebbcore.evaluation.ridge.calibration import calibration_error, probabilities, sharpness

LEAST = 10  # held-out labels that tell how right guesses are
_BY_CHANCE = 2  # labels guessed by chance, added to fewer than LEAST
_HINT = 0.005  # of the way from chance to certainty: what keeps the order of guesses of which nothing else is known
_MANY_CLASSES = 100
_MOST_SHARP = 20.0  # logarithm of a factor
_Z = 1.959964  # of a 95 % interval
_DEPENDENCE = 1.5  # labels that say as much of the accuracy as an independent one
_DOUBTED = 1 / 3  # probability of being wrong
_RIGHT = 10  # right labels added
_TINY = float(np.finfo(float).tiny)


class HeldOut(NamedTuple):
    """positions: (h,) among the labelled. codes: (h,) their classes. scores: (h, classes) without their own labels."""

    positions: Indices
    codes: Indices
    scores: Floats


class Judged(NamedTuple):
    """What a cross-validation says: sharpness of scores, accuracy and calibration error, and doubted images (m,)."""

    sharpness: float
    accuracy: tuple[float, float, float] | None = None
    error: tuple[float, float] | None = None
    doubts: Indices = np.zeros(0, np.int64)


def judged(
    images: Images, where: Indices, codes: Indices, given: Floats | None, shares: Floats, kind: str, seed: int,
    scores: Floats,
) -> Judged:  # fmt: skip
    """Return what the labels say of guesses of these scores (n, classes). given: see shares of held_out."""
    classes = len(shares)
    held = held_out(images, where, codes, given, kind, classes, seed)
    if held is None or len(held.codes) < LEAST:
        return Judged(early_sharpness(scores, held) if classes > 1 else 1.0)
    doubts = doubted(held)
    doubtful, held = where[doubts], trusted(held, doubts)
    factor, right = fitted_sharpness(held), held.scores.argmax(axis=1) == held.codes
    error = calibration_error(probabilities(held.scores, factor).max(axis=1), right)
    return Judged(factor, accuracy_interval(held, shares), error, doubtful)


def held_out(
    images: Images, where: Indices, codes: Indices, shares: Floats | None, kind: str, classes: int, seed: int
) -> HeldOut | None:
    """Return scores of each labelled image by predictors that learned from the labels of other parts; None: no label.

    The only label of a class is never held out. shares: None: those of the labels that a predictor sees.
    """
    counts = np.bincount(codes, minlength=classes)
    positions = np.flatnonzero(counts[codes] > 1)
    if not len(positions) or classes < 2:
        return None
    parts = _parts(codes, classes, 3 if classes > _MANY_CLASSES else 10 if kind == "refit" else 5, seed)
    scores = np.zeros((len(where), classes))
    for part in np.unique(parts[positions]):
        held = (parts == part) & (counts[codes] > 1)
        seen = images.shares(where[~held], codes[~held], classes) if shares is None else shares
        coef, intercept = images.predictor(where[~held], codes[~held], seen, kind)
        scores[held] = images.rows[where[held]] @ coef + intercept
    return HeldOut(positions, codes[positions], scores[positions])


def _parts(codes: Indices, classes: int, count: int, seed: int) -> Indices:
    """Return the part (m,) of each label: those of a class are dealt out in turn, after a shuffle."""
    random = np.random.default_rng(seed)
    parts, following = np.empty(len(codes), np.int64), 0
    for number in range(classes):
        own = random.permutation(np.flatnonzero(codes == number))
        parts[own] = (following + np.arange(len(own))) % count
        following += len(own)
    return parts


def fitted_sharpness(held: HeldOut) -> float:
    """Return the factor of scores whose softmax makes the held-out labels most likely."""
    return sharpness(lambda: [(held.scores, held.codes, np.ones(len(held.codes)))])


def early_sharpness(scores: Floats, held: HeldOut | None) -> float:
    """Return the factor under which guesses are as sure, on the mean, as few held-out labels give reason to be.

    That is the share of those guessed right, with two more that are guessed by chance. Where no label can be held out,
    as none of a class may, nothing is known: guesses are hardly surer than chance then.
    """
    classes = scores.shape[1]
    right, count = (0, 0) if held is None else (np.sum(held.scores.argmax(axis=1) == held.codes), len(held.codes))
    wanted = max((right + _BY_CHANCE / classes) / (count + _BY_CHANCE), (1 + _HINT * (classes - 1)) / classes)
    low, high, factor = 1e-3, 1e6, 1.0
    for _ in range(60):
        factor = (low * high) ** 0.5
        sure = sum(float(probabilities(block, factor).max(axis=1).sum()) for block in backend.pieces(scores)) / len(
            scores
        )
        low, high = (low, factor) if sure > wanted else (factor, high)
    return factor


def accuracy_interval(held: HeldOut, shares: Floats) -> tuple[float, float, float]:
    """Return the share of right guesses and its 95 % interval (Wilson's).

    shares: (classes,) of all images. Each class weighs as much as its share: classes that happen to have more labels
    are guessed more often too. Labels count as two thirds of what independent ones would, since they were guessed from
    each other: measured, so that about 95 % of the intervals hold the accuracy on new images. Of classes without a
    held-out label nothing is known: the interval reaches from none of their images to all.
    """
    counts = np.bincount(held.codes, minlength=len(shares))
    weights = (shares / np.maximum(counts, 1))[held.codes]
    weights /= weights.sum()
    share = min(1.0, float(weights @ (held.scores.argmax(axis=1) == held.codes)))
    n = 1 / (float(weights @ weights) * _DEPENDENCE)
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * (share * (1 - share) / n + _Z**2 / (4 * n**2)) ** 0.5
    told = float(shares[counts > 0].sum() / shares.sum())
    return share, told * max(0.0, middle - half), told * min(1.0, middle + half) + (1 - told)


def doubted(held: HeldOut) -> Indices:
    """Return the positions of labels that are wrong with a probability above a third, the most doubtful first.

    A label is thought to be right with probability 1 − ε, and else any other class: with p of its class under the
    softmax of its scores times a factor, it is seen with (1 − ε) p + ε (1 − p)/(classes − 1). Factor and ε make all
    labels together most likely. One right label and a ninth of a wrong one are added, for few labels; ten right ones
    where most guesses are not the labels: few labels of hard images look like wrong ones.
    """
    classes = held.scores.shape[1]
    added = 1 if np.mean(held.scores.argmax(axis=1) == held.codes) > 0.5 else _RIGHT

    def parts(parameters: Floats) -> tuple[Floats, Floats, float]:
        wrong = float(expit(parameters[1]))
        factor = np.exp(min(parameters[0], _MOST_SHARP))
        own = probabilities(held.scores, factor)[np.arange(len(held.codes)), held.codes]
        return (1 - wrong) * own, wrong * (1 - own) / (classes - 1), wrong

    def cost(parameters: Floats) -> float:
        right, other, wrong = parts(parameters)
        seen = np.log(right + other + _TINY).sum()
        return -float(seen + added * np.log(1 - wrong + _TINY) + np.log(wrong + _TINY) / 9)

    plain = fitted_sharpness(held)
    starts = [(np.log(plain) + sharper, np.log(1 / 9)) for sharper in (0.5, 2.5)]  # wrong labels make it blunt
    found = min((minimize(cost, start, method="Nelder-Mead") for start in starts), key=lambda result: result.fun)
    right, other, _ = parts(found.x)
    doubtful = np.flatnonzero(other > _DOUBTED * (other + right))
    order: Indices = np.argsort((right / np.maximum(other, _TINY))[doubtful], kind="stable")
    return held.positions[doubtful[order]]


def trusted(held: HeldOut, doubts: Indices) -> HeldOut:
    """Return the labels by which guesses are judged: those not doubted, where classes have more than 16 on the mean.

    doubts: positions. Of fewer labels all count: there, some that are right are doubted too, and without them guesses
    would look better than they are.
    """
    kept = ~np.isin(held.positions, doubts)
    if len(kept) <= REFIT_UNTIL * held.scores.shape[1] or kept.sum() < LEAST:
        return held
    return HeldOut(held.positions[kept], held.codes[kept], held.scores[kept])
