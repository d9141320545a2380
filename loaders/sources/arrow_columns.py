"""Which columns of an Arrow table hold images and labels, and what the labels are called."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from loaders.doubtful import remarks_on
from loaders.shards.format import UNLABELLED, Ints
from loaders.sources.arrays import MAX_CLASSES
from loaders.sources.base import name_key
from loaders.text import printable

IMAGES = ("image", "img", "images", "jpg", "png", "webp", "picture", "photo")
LABELS = ("label", "labels", "fine_label", "class", "target", "cls", "category")


def import_arrow(caller: str) -> Any:
    """pyarrow. Raises ImportError with advice if it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ImportError(f"{caller} needs pyarrow; pip install 'hebbcore[parquet]' installs it") from None
    return pyarrow


@dataclass(frozen=True)
class Columns:
    """What is read of a table.

    image: a column of bytes, or of a struct of bytes and path. is_struct: whether it is one; has_path: whether that has
    a path. label: a column of numbers or texts, if there is one. class_names: those that the table says, if it does.
    """

    image: str
    is_struct: bool
    has_path: bool
    label: str | None
    class_names: list[str] | None


def columns_of(where: str, schema: Any, image: str | None, label: str | None) -> Columns:
    """Choose the columns of a table, by what datasets notes in its schema, or by their types and names.

    where: how errors begin. Raises ValueError if there is no column of images, or several and none is called so.
    """
    arrow = import_arrow(where)
    features = features_of(schema)
    noted = [name for name in schema.names if _type_of(features, name) == "Image"]
    found = noted or [field.name for field in schema if _holds_bytes(arrow, field.type)]
    chosen = _named(where, "image", image, schema.names) or _chosen(where, "image", found, IMAGES)
    if chosen is None:
        listed = ", ".join(f"{printable(field.name)} ({printable(field.type)})" for field in list(schema)[:10])
        raise ValueError(f"{where} must have a column of images, as bytes or struct of bytes and path; it has {listed}")
    _check_once(where, chosen, schema.names)
    kind = schema.field(chosen).type
    if not _holds_bytes(arrow, kind):
        raise ValueError(f"{where}: the column {printable(chosen)} must hold bytes of images, got {printable(kind)}")
    is_struct = arrow.types.is_struct(kind)
    has_path = is_struct and any(_is_text(arrow, field.type) for field in kind if field.name == "path")
    named = [name for name in schema.names if _type_of(features, name) == "ClassLabel"]
    others = [name for name in schema.names if name in LABELS and name != chosen]
    chosen_label = _named(where, "label", label, schema.names) or _chosen(where, "label", named or others, LABELS)
    class_names = None
    if chosen_label is not None:
        _check_once(where, chosen_label, schema.names)
        kind = schema.field(chosen_label).type
        tells = (arrow.types.is_integer, arrow.types.is_boolean, arrow.types.is_null)  # null: no row has a label
        if not (any(told(kind) for told in tells) or _is_text(arrow, kind)):
            raise ValueError(
                f"{where}: the column {printable(chosen_label)} must hold labels, whole numbers or texts, got "
                f"{printable(kind)}"
            )
        class_names = _names_of(features, chosen_label)
    return Columns(chosen, is_struct, has_path, chosen_label, class_names)


def features_of(schema: Any) -> dict[str, Any]:
    """The types of columns that datasets notes in a schema, as it stores them; none if it did not write it."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _type_of(features: Mapping[str, Any], name: str) -> Any:
    feature = features.get(name)
    return feature.get("_type") if isinstance(feature, dict) else None


def _names_of(features: Mapping[str, Any], name: str) -> list[str] | None:
    names = features[name].get("names") if _type_of(features, name) == "ClassLabel" else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return names[:MAX_CLASSES]


def _holds_bytes(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    if types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(arrow, field.type) for field in kind)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _is_text(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _named(where: str, what: str, wanted: str | None, names: list[str]) -> str | None:
    """The column that is wanted, if one is. Raises ValueError if there is none of this name."""
    if wanted is not None and wanted not in names:
        listed = ", ".join(map(printable, names)) or "none"
        raise ValueError(f"{where}: the column of {what}s must be one of {listed}, got {printable(wanted)}")
    return wanted


def _check_once(where: str, name: str, names: list[str]) -> None:
    """Raise ValueError if several columns of a table have a name: nothing tells them apart."""
    if names.count(name) > 1:
        raise ValueError(
            f"{where} has {names.count(name)} columns called {printable(name)}, which nothing tells apart; write the "
            "file anew with another name for each"
        )


def _chosen(where: str, what: str, found: list[str], usual: Iterable[str]) -> str | None:
    """The only column that is found, or the one of several that is called as usual."""
    found = list(dict.fromkeys(found))
    if len(found) < 2:
        return found[0] if found else None
    called = next((name for name in usual if name in found), None)
    if called is None:
        raise ValueError(
            f"{where} has several columns of {what}s ({', '.join(map(printable, found))}); name one, as {what}_column "
            f"(--{what}-column)"
        )
    return called


class Labels:
    """Collects the labels of a table, piece after piece, and numbers their classes."""

    def __init__(self, where: str, class_names: list[str] | None) -> None:
        self._where, self._given = where, class_names
        self.remarks: list[str] = []
        self._pieces: list[Any] = []
        self._texts: dict[str, int] = {}
        self._highest = UNLABELLED  # of labels that are numbers

    def add(self, values: Any) -> None:
        """Take an Arrow array of numbers or texts; nulls, -1 and empty texts are no label."""
        found = values.to_pylist()
        if any(isinstance(value, str) for value in found):
            found = [self._texts.setdefault(value, len(self._texts)) if value else None for value in found]
            highest = UNLABELLED
        else:
            highest = max((int(value) for value in found if value is not None), default=UNLABELLED)
        self._highest = max(self._highest, highest)
        if self._texts and self._highest > UNLABELLED:
            raise ValueError(
                f"{self._where}: labels must be all texts or all whole numbers, got {self._highest} and "
                f"{printable(next(iter(self._texts)))!r}; write the files anew with labels of one kind"
            )
        numbers = [UNLABELLED if value is None else value for value in found]
        if numbers and not (min(numbers) >= UNLABELLED and max(numbers) < MAX_CLASSES):
            raise ValueError(
                f"{self._where}: labels must be from 0 to {MAX_CLASSES - 1}, or {UNLABELLED} for none, got "
                f"{min(numbers)} to {max(numbers)}"
            )
        self._pieces.append(np.array(numbers, np.int32))

    def finished(self) -> tuple[Ints, list[str]]:
        """All labels, as positions in the names of the classes, and these."""
        labels = np.concatenate([np.empty(0, np.int32), *self._pieces]).astype(np.int64)
        highest = int(labels.max(initial=UNLABELLED))
        if self._texts:
            names = sorted(self._texts, key=name_key)
            self.remarks += remarks_on(names)
            order = {name: number for number, name in enumerate(names)}
            new = np.array([order[name] for name in self._texts] + [UNLABELLED])
            return new[labels], names
        if self._given is None:
            return labels, [str(number) for number in range(highest + 1)]
        if highest >= len(self._given):
            raise ValueError(f"{self._where}: label {highest} has no name among the {len(self._given)} that it says")
        return labels, self._given
