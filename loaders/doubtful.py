"""Labels of tables, and names of folders, that are classes of their own, and may be meant otherwise."""

import re
from collections.abc import Collection
from decimal import Decimal
from typing import Any
from unicodedata import normalize

from loaders.text import printable, tidy

# how programs write that there is no label: those that pandas.read_csv takes for missing, and R's
_MISSING = ("#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "N/A", "NA", "None")
_MISSING_IN_ANY_CASE = ("nan", "null", "<na>", "n/a")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d{1,3})?", re.ASCII)
_SHOWN = 5  # groups of labels that a remark lists


def remarks_on(labels: Collection[str]) -> list[str]:
    """Return what to tell of labels in a column of texts; "" is no label."""
    found = sorted(set(labels) - {""})
    remarks = []
    if none := _like_none(found):
        remarks.append(f"{_are_classes(none)}; where {_it(none)} that there is none, leave the cell empty")
    remarks += remarks_on_alike(found)
    if quoted := [label for label in found if len(label) > 1 and label[0] == label[-1] == '"']:
        remarks.append(
            f"{_are_classes(quoted)}, quotes included; these count as quotes where nothing, not even a space, is "
            "before them"
        )
    return remarks


def remarks_on_alike(names: Collection[str]) -> list[str]:
    """Return what to tell of the names of classes, such as those of folders, if some are nearly alike."""
    groups = _nearly_alike(sorted(names))
    if not groups:
        return []
    listed = "; ".join(map(_enumerated, groups[:_SHOWN])) + "; …" * (len(groups) > _SHOWN)
    return [f"these labels are classes of their own: {listed}; where they mean one, write them alike"]


def _like_none(labels: list[str]) -> list[str]:
    """Return those that may be meant as none: −1 among numbers, and missing values of programs."""
    are_numbers = all(re.fullmatch(r"-?\d+", label) for label in labels)
    return [
        label
        for label in labels
        if label in _MISSING or label.lower() in _MISSING_IN_ANY_CASE or (label == "-1" and are_numbers)
    ]


def _nearly_alike(labels: list[str]) -> list[list[str]]:
    """Return groups of labels that differ only in what is hard to see: case, width, spaces, how a number is written."""
    groups: dict[Any, list[str]] = {}
    for label in labels:
        plain = normalize("NFKC", tidy(label)).casefold()
        groups.setdefault(Decimal(plain) if _NUMBER.fullmatch(plain) else plain, []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def _are_classes(labels: list[str]) -> str:
    return (
        f"the labels {_enumerated(labels)} are classes of their own"
        if len(labels) > 1
        else f"the label {_enumerated(labels)} is a class of its own"
    )


def _it(labels: list[str]) -> str:
    return "they mean" if len(labels) > 1 else "it means"


def _enumerated(labels: list[str]) -> str:
    shown = [printable(label) if label == tidy(label) else ascii(label) for label in labels[:_SHOWN]]
    if len(labels) > _SHOWN:
        return f"{', '.join(shown)} and {len(labels) - _SHOWN} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
