"""The labels of WebDataset's samples: numbers or texts in small files beside the images."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from loaders.doubtful import remarks_on
from loaders.shards.format import UNLABELLED, Ints
from loaders.sources.arrays import MAX_CLASSES
from loaders.sources.base import name_key
from loaders.sources.tar import Member
from loaders.text import printable

SUFFIXES = ("cls", "json", "txt")  # the first that a sample has tells its label
KEYS = ("label", "cls", "class", "class_id", "target")  # of a JSON object
MOST = 2**20  # bytes of a file that tells a label
LETTERS = 200  # of a class's name
FEW = 20  # texts that may all differ and be labels

Value = int | str | None


class SampleLabels:
    """Collects what samples say, one after the other, and numbers their classes. where: how errors begin."""

    def __init__(self, where: str) -> None:
        self._where = where
        self.remarks: list[str] = []
        self._values: list[Value] = []
        self._texts: list[Value] = []  # of .txt, which may be captions
        self._problems: dict[int, str] = {}

    def add(self, tar: str, files: Mapping[str, Member]) -> None:
        """Read what the files of a sample say, which lie in a tar."""
        value: Value = None
        text: Value = None
        try:
            if "cls" in files:
                value = _label(_read(tar, files["cls"]))
            elif "json" in files:
                value = _in_json(_read(tar, files["json"]))
            if value is None and "txt" in files:
                caption = _read(tar, files["txt"]).decode("utf-8-sig", "replace").strip()
                text = int(caption) if caption.isdecimal() and len(caption) < 10 else caption[: LETTERS + 1] or None
        except ValueError as error:
            self._problems[len(self._values)] = str(error)
        self._values.append(value)
        self._texts.append(text)

    def finished(self) -> tuple[Ints, dict[int, str], list[str]]:
        """The label of each sample, what is wrong with some by their numbers, and the names of the classes."""
        values = self._values
        if all(value is None for value in values):
            values = self._texts if self._are_labels() else values
        numbers = [value for value in values if isinstance(value, int)]
        if len(numbers) == sum(value is not None for value in values):
            highest = max(numbers, default=UNLABELLED)
            if highest >= MAX_CLASSES:
                raise ValueError(f"{self._where}: labels must be below {MAX_CLASSES}, got {highest}")
            labels = np.array([UNLABELLED if value is None else value for value in values], np.int64)
            return labels, self._problems, [str(number) for number in range(highest + 1)]
        names = sorted({str(value) for value in values if value is not None}, key=name_key)
        self.remarks += remarks_on(names)
        order = {name: number for number, name in enumerate(names)}
        labels = np.array([UNLABELLED if value is None else order[str(value)] for value in values], np.int64)
        return labels, self._problems, names

    def _are_labels(self) -> bool:
        """Whether the texts are labels, not captions, which are long or nearly all differ."""
        texts = [text for text in self._texts if isinstance(text, str)]
        long = any(len(text) > LETTERS or "\n" in text for text in texts)
        captions = long or len(set(texts)) > max(FEW, len(texts) // 2)
        if captions:
            self.remarks.append("the texts beside the images differ as captions do, and give no label")
        return not captions


def _read(tar: str, member: Member) -> bytes:
    if not member.plain or member.size > MOST:
        raise ValueError(f"{printable(member.name)} is no small file that could tell the label")
    with open(tar, "rb") as file:
        file.seek(member.offset)
        return file.read(member.size)


def _label(data: bytes) -> Value:
    """A number, the name of a class, or nothing. Raises ValueError if it is something else."""
    try:
        return _checked(data.decode("utf-8-sig").strip())
    except UnicodeDecodeError:
        raise ValueError("its .cls is damaged: not a text") from None


def _checked(value: Any) -> Value:
    if isinstance(value, str):
        number = value.removeprefix("-")
        if not (number.isascii() and number.isdecimal() and len(number) < 10):
            if len(value) > LETTERS or not value.isprintable():
                raise ValueError("its label is no number and no name of a class")
            return value or None
        value = int(value)
    if isinstance(value, float) and value.is_integer():  # as tables of numbers with gaps write them
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < UNLABELLED:
        raise ValueError(f"its label must be a number from 0, or {UNLABELLED} for none, or a text")
    return None if value == UNLABELLED else value


def _in_json(data: bytes) -> Value:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("its .json is damaged") from None
    if not isinstance(found, dict):
        return None
    value = next((found[key] for key in KEYS if found.get(key) is not None), None)
    return None if value is None else _checked(value)
