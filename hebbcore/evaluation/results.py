"""The results of an evaluation, in memory and in a file that is checked before it is believed."""

import hashlib
import json
import logging
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hebbcore import serialize
from hebbcore.evaluation.sources import Source
from hebbcore.files import parse_json, write_text

RESULTS = "results.json"

_log = logging.getLogger("hebbcore")


class Book:
    """The results so far: those of a folder's file, if it has one, and what is added to them.

    settings: what tells this evaluation from others; titles: of the classes. Raises ValueError for a file that is
    damaged or of another evaluation.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], titles: list[Any]) -> None:
        self._path = folder / RESULTS
        settings = json.loads(json.dumps(settings))
        self.results: dict[str, Any] = {"settings": settings, "classes": titles, "sources": {}}
        if self._path.exists():
            before = read_results(self._path)
            different = serialize.differences(settings, before["settings"])
            different = different or serialize.differences(titles, before["classes"], "classes")
            if different:
                raise ValueError(
                    f"evaluate: {folder} holds another evaluation: {'; '.join(different)}; name another folder, or "
                    "remove it."
                )
            self.results = before

    def source(self, source: Source) -> dict[str, Any]:
        """Return the results of a source, to be changed."""
        new: dict[str, Any] = {
            "features": source.features.size,
            "cells": source.features.grid,
            "runs": [],
            "confusion": None,
            "retrieval": None,
        }
        entry: dict[str, Any] = self.results["sources"].setdefault(source.name, new)
        return entry

    def missing(self, name: str, shares: list[float], seeds: int) -> list[tuple[float, int]]:
        """Return the (fraction, seed) that a source has no figure for."""
        entry = self.results["sources"].get(name, {"runs": []})
        done = {(run["labels"], run["seed"]) for run in entry["runs"]}
        wanted = [(share, seed) for share in shares for seed in range(1 if share == 1 else seeds)]
        return [key for key in wanted if key not in done]

    def complete(self, name: str, shares: list[float], seeds: int, queries: int) -> bool:
        """Return True if nothing is left to do for a source."""
        entry = self.results["sources"].get(name)
        looked_up = entry is not None and (not queries or entry["retrieval"] is not None)
        return looked_up and not self.missing(name, shares, seeds)

    def note_images(self, images: dict[str, Any], shared: dict[str, Any]) -> None:
        """Note what the first pass over the images found. Raises ValueError if earlier figures are of other images."""
        for name, found in self.results.get("images", {}).items():
            if found != images[name]:
                raise ValueError(
                    f"evaluate: {self._path} holds figures of other images of {name}, under the same names and "
                    "settings; name another folder, or remove the file."
                )
        self.results |= {"images": images, "shared": shared}
        self.save()

    def save(self) -> None:
        """Write the file."""
        self.results.pop("digest", None)
        self.results["digest"] = _digest(self.results)
        text = json.dumps(self.results, indent=1) + "\n"
        write_text(self._path, text)


def read_results(path: Path) -> dict[str, Any]:
    """Return the results of a file. Raises ValueError if it holds something else, or not what was written."""
    try:
        results = parse_json(path.read_bytes())
        sound = _is_sound(results)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        sound = False
    if not sound:
        raise ValueError(
            f"evaluate: {path} is damaged, or not what this version writes; name another folder, or remove the file."
        )
    if "digest" not in results:
        _log.info("evaluate: %s has no digest of itself, as earlier versions wrote it; damage would not show", path)
    elif results["digest"] != _digest({key: value for key, value in results.items() if key != "digest"}):
        raise ValueError(
            f"evaluate: {path} is damaged: its figures are not those whose digest it holds; name another folder, or "
            "remove the file."
        )
    return dict(results)


def _digest(results: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(results, sort_keys=True).encode()).hexdigest()


def _is_sound(results: Any) -> bool:
    """Return whether every value is of the kind and in the range that readers of the results rely on.

    May raise what a missing key or a value of another kind raises.
    """
    classes, images, shared = results["classes"], results.get("images", {}), results.get("shared")
    mistakes = results.get("mistakes", {}).values()
    return (
        isinstance(results["settings"], dict)
        and _are(_is_name, classes)
        and all(_is_entry(entry, len(classes)) for entry in results["sources"].values())
        and all(_are(partial(_is_mistake, classes=len(classes)), some) for some in mistakes)
        and (not images or (set(images) == {"train", "test"} and all(map(_is_part, images.values()))))
        and (shared is None or (bool(images) and _is_shared(shared)))
    )


def _are(is_one: Callable[[Any], bool], values: Any) -> bool:
    """Return whether values are a list of such."""
    return isinstance(values, list) and all(map(is_one, values))


def _is_entry(entry: Any, classes: int) -> bool:
    confusion, retrieval = entry["confusion"], entry["retrieval"]
    return (
        _is_count(entry["features"])
        and (entry["cells"] is None or _is_count(entry["cells"]))
        and _are(_is_run, entry["runs"])
        and (confusion is None or _is_matrix(confusion, classes))
        and (retrieval is None or all(_is_retrieval(found) for found in retrieval.values()))
    )


def _is_run(run: Any) -> bool:
    figures = _is_figure(run["top1"]) and _is_figure(run["top5"])
    return figures and _is_number(run["labels"]) and 0 < run["labels"] <= 1 and _is_count(run["seed"])


def _is_matrix(rows: Any, size: int) -> bool:
    return _are(lambda row: _are(_is_count, row) and len(row) == size, rows) and len(rows) == size


def _is_retrieval(found: Any) -> bool:
    k, figures = found["k"], [found["precision"], found["map"]]
    return _are(_is_count, k) and all(_are(_is_figure, values) and len(values) == len(k) for values in figures)


def _is_mistake(mistake: Any, classes: int) -> bool:
    places = [mistake["true"], mistake["predicted"]]
    return _is_who(mistake) and _are(_is_count, places) and max(places) < classes and _is_number(mistake["margin"])


def _is_part(part: Any) -> bool:
    return _are(_is_count, [part["labelled"], part["unlabelled"]]) and isinstance(part["digest"], str)


def _is_shared(shared: Any) -> bool:
    pairs = _are(lambda pair: _is_who(pair["test"]) and _is_who(pair["train"]), shared["pairs"])
    return pairs and _is_count(shared["images"]) and _is_count(shared["contradictions"])


def _is_who(who: Any) -> bool:
    return _is_count(who["image"]) and isinstance(who.get("name", ""), str)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_figure(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 100


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
