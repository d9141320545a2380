"""Which photos a view of the page shows, in which order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hebbcore.page.board import Ints
from hebbcore.page.learner import Found
from hebbcore.page.store import NO_LABEL, UNSURE

_SPREAD = 200  # photos to begin with, until there are suggestions

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Query:
    """What a page asks for.

    view: one of VIEWS. place: position of a class, None: all. low, high: bounds of the confidence of guesses.
    """

    view: str
    place: int | None = None
    low: float = 0.0
    high: float = 1.0


def photos_of(query: Query, codes: Ints, found: Found | None) -> Ints:
    """Return the photos that a query means, in its order. codes: (n,) labels now, as Board.codes."""
    photos = VIEWS[query.view](codes, found)
    guesses = None if found is None else found.guesses
    if query.place is not None:
        shown = codes[photos] - 1
        if guesses is not None:
            shown = np.where(shown >= 0, shown, guesses.first[photos])
        photos = photos[shown == query.place]
    if query.low > 0 or query.high < 1:
        if guesses is None:
            return photos[:0]
        sure = guesses.confidence[photos]
        photos = photos[(sure >= query.low) & (sure <= query.high)]
    return photos


def _next(codes: Ints, found: Found | None) -> Ints:
    if found is None:
        photos: Ints = np.random.default_rng(0).permutation(len(codes))
        begin: Ints = photos[codes[photos] == NO_LABEL][:_SPREAD]
        return begin
    done = codes[found.suggested] != NO_LABEL
    return np.concatenate([found.suggested[~done], found.suggested[done]])


def _doubtful(codes: Ints, found: Found | None) -> Ints:
    if found is None or found.guesses is None:
        return np.zeros(0, np.int64)
    photos: Ints = found.by_doubt[codes[found.by_doubt] == NO_LABEL]
    return photos


def _wrong(codes: Ints, found: Found | None) -> Ints:
    if found is None:
        return np.zeros(0, np.int64)
    photos: Ints = found.doubts[codes[found.doubts] == found.codes[found.doubts]]  # not those corrected since
    return photos


VIEWS: dict[str, Callable[[Ints, Found | None], Ints]] = {
    "next": _next,
    "all": lambda codes, found: np.arange(len(codes)),
    "unlabelled": lambda codes, found: np.flatnonzero(codes == NO_LABEL),
    "labelled": lambda codes, found: np.flatnonzero(codes > UNSURE),
    "unsure": lambda codes, found: np.flatnonzero(codes == UNSURE),
    "doubtful": _doubtful,
    "wrong": _wrong,
}


def described(
    photos: Ints, names: Sequence[str], codes: Ints, classes: Sequence[str], found: Found | None
) -> list[Any]:
    """Return what the page is told about photos, as JSON types."""
    guesses = None if found is None else found.guesses
    items = []
    for photo in photos.tolist():
        code = int(codes[photo])
        sure: dict[str, Any] = {"guess": None, "confidence": None, "second": None}
        if guesses is not None:
            sure = {
                "guess": classes[guesses.first[photo]],
                "confidence": round(float(guesses.confidence[photo]), 4),
                "second": classes[guesses.second[photo]],
            }
        label = classes[code - 1] if code > UNSURE else None
        items.append({"id": photo, "name": names[photo], "label": label, "unsure": code == UNSURE, **sure})
    return items


def curve_of(points: Sequence[tuple[int, float, float, float]], most: int = 200) -> list[dict[str, float]]:
    """Return estimates by the number of labels, at most so many, spread over all and with the last."""
    kept = [points[i] for i in np.unique(np.linspace(0, len(points) - 1, most).round().astype(int))] if points else []
    return [{"labels": labels, "value": value, "low": low, "high": high} for labels, value, low, high in kept]
