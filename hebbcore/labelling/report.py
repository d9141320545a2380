"""report.html: the guesses with their pictures, on a page that loads nothing from elsewhere."""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hebbcore.labelling.guesses import Guesses, Ints
from hebbcore.labelling.pictures import pictures_of
from hebbcore.texts import plain

_PICTURES, _MOST_A_CLASS, _LEAST_A_CLASS = 1_200, 24, 4  # of guesses, in all and of a class
_MOST_CLASSES = 200  # that have pictures
_LISTED = 48  # images in each of the other sections

_STYLE = (
    ":root{color-scheme:light dark}body{font-family:sans-serif;max-width:75em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}td,th{border:1px solid #8888;padding:.3em .6em;text-align:right}"
    "td:first-child,th:first-child{text-align:left}.images{display:flex;flex-wrap:wrap;gap:.6em}"
    "figure{margin:0;width:96px}figcaption{font-size:.75em;overflow-wrap:anywhere}"
    "img{width:96px;height:96px;object-fit:contain;image-rendering:pixelated}summary{cursor:pointer;margin:.6em 0}"
    ".mine{outline:3px solid #2a7}"
)
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


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
        Labelled images whose labels are likely wrong, the most doubtful first.
    accuracy : (value, low, high) or None
        Estimated share of right guesses, with an interval; None: too few labels tell.
    """

    names: Sequence[str]
    classes: Sequence[str]
    labels: Ints
    guesses: Guesses
    following: Sequence[int]
    doubts: Sequence[int]
    accuracy: tuple[float, float, float] | None


def page_of(findings: Findings, stream: Any) -> str:
    """Return the page as HTML. stream: gives the images in order, see pictures_of."""
    shown = _shown_by_class(findings)
    open_ones = np.flatnonzero(findings.labels < 0)
    doubtful = open_ones[np.argsort(findings.guesses.confidence[open_ones], kind="stable")][:_LISTED].tolist()
    following, doubts = findings.following[:_LISTED], findings.doubts[:_LISTED]
    wanted = [*doubtful, *following, *doubts, *(number for numbers in shown.values() for number in numbers)]
    page = _Page(findings, pictures_of(stream, wanted))
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>Labels for all images</title><style>{_STYLE}</style></head><body><h1>Labels for all images</h1>",
        f"<p>{_summary(findings)}</p>",
        "<h2>Classes</h2>", _shares(findings),
        "<h2>To label next</h2><p>Labels of these images help most; next.csv lists them.</p>", page.images(following),
        "<h2>Labels that are likely wrong</h2>", _wrong_text(findings), page.images(doubts, own=True),
        "<h2>Most doubtful guesses</h2>", page.images(doubtful),
        "<h2>Guesses by class</h2><p>The surest come first, and the least sure of the class last. A green frame: your "
        "label.</p>",
        *[
            f"<details{' open' if len(shown) <= 20 else ''}><summary>{_text(findings.classes[number])}</summary>"
            f"{page.images(numbers)}</details>"
            for number, numbers in shown.items()
        ],
        *([f"<p>{len(findings.classes) - len(shown)} more classes are in predictions.csv.</p>"]
          if len(findings.classes) > len(shown) else []),
    ]  # fmt: skip
    return "\n".join([*parts, "</body></html>\n"])


def _shown_by_class(findings: Findings) -> dict[int, list[int]]:
    """Return {class: images}: the surest guesses of each class, then its least sure ones."""
    count = min(len(findings.classes), _MOST_CLASSES)
    each = max(_LEAST_A_CLASS, min(_MOST_A_CLASS, _PICTURES // count))
    first, confidence = findings.guesses.first, findings.guesses.confidence
    shown = {}
    for number in range(count):
        mine = np.flatnonzero(first == number)
        mine = mine[np.argsort(-confidence[mine], kind="stable")]
        last = each // 3
        shown[number] = (mine if len(mine) <= each else np.r_[mine[: each - last], mine[-last:]]).tolist()
    return shown


class _Page:
    """Rows of pictures with captions. pictures: addresses that hold them, by number."""

    def __init__(self, findings: Findings, pictures: dict[int, str]) -> None:
        self._findings, self._pictures = findings, pictures

    def images(self, numbers: Iterable[int], own: bool = False) -> str:
        """Return pictures with what they are guessed to be; own: with the label, and the likeliest other class."""
        figures = "".join(self._figure(number, own) for number in numbers)
        return f'<div class="images">{figures}</div>' if figures else "<p>None.</p>"

    def _figure(self, number: int, own: bool) -> str:
        findings = self._findings
        guesses, name = findings.guesses, _text(findings.names[number])
        sure = f"{100 * guesses.confidence[number]:.0f} %"
        first, second = (_text(findings.classes[k]) for k in (guesses.first[number], guesses.second[number]))
        caption = f"labelled <b>{first}</b> ({sure}), or rather {second}?" if own else f"<b>{first}</b> {sure}"
        mark = ' class="mine"' if findings.labels[number] >= 0 else ""
        return (
            f'<figure title="{name}; second choice: {second}"><img{mark} alt="{name}" loading="lazy" '
            f'src="{self._pictures[number]}"><figcaption>{caption}<br>{name}</figcaption></figure>'
        )


def _summary(findings: Findings) -> str:
    known = int(np.count_nonzero(findings.labels >= 0))
    text = f"{len(findings.names):,} images, {known:,} with a label of yours, in {len(findings.classes):,} classes. "
    if findings.accuracy is None:
        return text + "The labels are too few to estimate how many guesses are right."
    value, low, high = (100 * float(share) for share in findings.accuracy)
    return text + f"Estimated share of right guesses: {value:.0f} % (95 % interval {low:.0f} to {high:.0f} %)."


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
        f"<tr><td>{_text(findings.classes[k])}</td><td>{own[k]:,}</td><td>{guessed[k]:,}</td>"
        f"<td>{100 * (own[k] + guessed[k]) / total:.1f} %</td>"
        f"<td>{f'{100 * sure[k]:.0f} %' if guessed[k] else '–'}</td></tr>"
        for k in range(count)
    ]
    head = "".join(f"<th>{text}</th>" for text in ("class", "labels", "guesses", "share of all", "mean confidence"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _text(name: object) -> str:
    """Return a name as HTML shows it: on one line, with no code for a browser or a terminal."""
    return html.escape(plain(name))
