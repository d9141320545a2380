"""report.html: the guesses with their pictures, on a page that loads nothing from elsewhere."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hebbcore.labelling.guesses import Guesses, Ints
from hebbcore.labelling.left_out import LeftOut
from hebbcore.labelling.page import contents, document, figure, figures, section, shown
from hebbcore.labelling.pictures import pictures_of

_PICTURES, _MOST_A_CLASS, _LEAST_A_CLASS = 1_200, 24, 4  # of guesses, in all and of a class
_MOST_CLASSES = 200  # that have pictures
_LISTED = 48  # images in each of the other sections


@dataclass(frozen=True)
class Findings:
    """What the report tells.

    Parameters
    ----------
    names : sequence of str
        Of the n images.
    classes : sequence of str
        Names of the classes.
    labels : array (n,), int
        What is known; -1: nothing.
    guesses : Guesses
        Of all images.
    following : sequence of int
        The images to label next.
    doubts : sequence of int
        Labelled images whose labels are likely wrong: equal ones with different labels, then the most doubtful first.
    accuracy : (value, low, high) or None
        Estimated share of right guesses, with an interval; None: too few labels tell.
    calibration : (error, by_chance) or None
        How far confidence and share of right guesses lie apart, and how far by chance alone; None as above.
    left_out : LeftOut
        Files and labels that are no part of all this.
    """

    names: Sequence[str]
    classes: Sequence[str]
    labels: Ints
    guesses: Guesses
    following: Sequence[int]
    doubts: Sequence[int]
    accuracy: tuple[float, float, float] | None
    calibration: tuple[float, float] | None = None
    left_out: LeftOut = field(default_factory=LeftOut)


def page_of(findings: Findings, stream: Any) -> str:
    """Return the page as HTML. stream: gives the images in order, see pictures_of."""
    by_class = _shown_by_class(findings)
    open_ones = np.flatnonzero(findings.labels < 0)
    doubtful = open_ones[np.argsort(findings.guesses.confidence[open_ones], kind="stable")][:_LISTED].tolist()
    following, doubts = findings.following[:_LISTED], findings.doubts[:_LISTED]
    wanted = [*doubtful, *following, *doubts, *(number for numbers in by_class.values() for number in numbers)]
    page = _Page(findings, pictures_of(stream, wanted))
    more = len(findings.classes) - len(by_class)
    parts = {
        "classes": ("Classes", _shares(findings)),
        "next": (
            "To label next",
            "<p>Labels of these images help most; next.csv lists them.</p>",
            page.images(following),
        ),
        "wrong": ("Labels that are likely wrong", _wrong_text(findings), page.images(doubts, own=True)),
        "doubtful": ("Most doubtful guesses", page.images(doubtful)),
        "guesses": (
            "Guesses by class",
            "<p>The surest come first, and the least sure of the class last. A green frame: your label.</p>",
            *(page.of_class(number, numbers, len(by_class) <= 20) for number, numbers in by_class.items()),
            *([f"<p>{more} more classes are in predictions.csv.</p>"] if more else []),
        ),
        **findings.left_out.parts(),
    }
    titles = {anchor: title for anchor, (title, *_) in parts.items()}
    sections = [section(anchor, *texts) for anchor, texts in parts.items()]
    return document("Labels for all images", [f"<p>{_summary(findings)}</p>", contents(titles), *sections])


def _shown_by_class(findings: Findings) -> dict[int, list[int]]:
    """Return {class: images}: the surest guesses of each class, then its least sure ones."""
    count = min(len(findings.classes), _MOST_CLASSES)
    each = max(_LEAST_A_CLASS, min(_MOST_A_CLASS, _PICTURES // count))
    first, confidence = findings.guesses.first, findings.guesses.confidence
    found = {}
    for number in range(count):
        mine = np.flatnonzero(first == number)
        mine = mine[np.argsort(-confidence[mine], kind="stable")]
        last = each // 3
        found[number] = (mine if len(mine) <= each else np.r_[mine[: each - last], mine[-last:]]).tolist()
    return found


class _Page:
    """Rows of pictures with captions. pictures: addresses that hold them, by number."""

    def __init__(self, findings: Findings, pictures: dict[int, str]) -> None:
        self._findings, self._pictures = findings, pictures

    def images(self, numbers: Iterable[int], own: bool = False) -> str:
        """Return pictures with what they are guessed to be; own: with the label, and the likeliest other class."""
        return figures(self._figure(number, own) for number in numbers)

    def of_class(self, number: int, images: Iterable[int], is_open: bool) -> str:
        """Return the pictures of a class, to be folded."""
        title = f"<summary><h3>{shown(self._findings.classes[number])}</h3></summary>"
        return f"<details{' open' if is_open else ''}>{title}{self.images(images)}</details>"

    def _figure(self, number: int, own: bool) -> str:
        findings, guesses = self._findings, self._findings.guesses
        sure = f"{100 * guesses.confidence[number]:.0f} %"
        first, second = (findings.classes[k] for k in (guesses.first[number], guesses.second[number]))
        mine = bool(findings.labels[number] >= 0)
        caption = f"<b>{shown(first)}</b> {sure}{', your label' if mine else ''}"
        if own:
            caption = f"labelled <b>{shown(first)}</b> ({sure}), or rather {shown(second)}?"
        return figure(findings.names[number], self._pictures[number], caption, second=second, own=mine)


def _summary(findings: Findings) -> str:
    known = int(np.count_nonzero(findings.labels >= 0))
    text = f"{len(findings.names):,} images, {known:,} with a label of yours, in {len(findings.classes):,} classes. "
    if findings.accuracy is None:
        return text + "The labels are too few to estimate how many guesses are right."
    value, low, high = (100 * float(share) for share in findings.accuracy)
    text += (
        f"Estimated share of right guesses: {value:.0f} % (95 % interval {low:.0f} to {high:.0f} %). It is measured on "
        "your labels, and counts a wrong label as a wrong guess: if some are, more guesses are right than it says."
    )
    if findings.calibration is None:
        return text
    error, chance = (100 * float(share) for share in findings.calibration)
    return text + (
        f" Confidence and share of right guesses differ by {error:.0f} points on the mean (expected calibration error, "
        f"measured on your labels by cross-validation); {chance:.0f} would be chance alone with so few labels."
    )


def _wrong_text(findings: Findings) -> str:
    more = len(findings.doubts) - _LISTED
    text = "These labels do not go with those of alike images; look at them again." if findings.doubts else ""
    return f"<p>{text}{f' {more} more are not shown.' if more > 0 else ''}</p>"


def _shares(findings: Findings) -> str:
    """Return a table of the classes: labels, guesses, share of all images and mean confidence."""
    count = len(findings.classes)
    own = np.bincount(findings.labels[findings.labels >= 0], minlength=count)
    open_ones = findings.labels < 0
    first, confidence = findings.guesses.first, findings.guesses.confidence
    guessed = np.bincount(first[open_ones], minlength=count)
    sure = np.bincount(first[open_ones], confidence[open_ones], minlength=count) / np.maximum(guessed, 1)
    total = len(findings.names)
    rows = [
        f'<tr><th scope="row">{shown(findings.classes[k])}</th>'
        f"<td>{own[k]:,}</td><td>{guessed[k]:,}</td>"
        f"<td>{100 * (own[k] + guessed[k]) / total:.1f} %</td>"
        f"<td>{f'{100 * sure[k]:.0f} %' if guessed[k] else '–'}</td></tr>"
        for k in range(count)
    ]
    names = ("class", "labels", "guesses", "share of all", "mean confidence")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="wide" role="region" aria-label="Table of classes" tabindex="0"><table>{body}</table></div>'
