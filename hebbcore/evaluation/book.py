"""results.json: the results of an evaluation so far, in a file that is checked before it is believed."""

import json
import logging
from dataclasses import replace
from pathlib import Path

from hebbcore import serialize
from hebbcore.evaluation.results import FINELY, Counted, Results, Settings, Shared, SourceResults, digest_of
from hebbcore.evaluation.sources import Source
from hebbcore.evaluation.splits import rows_of
from hebbcore.files import parse_json, write_text

RESULTS = "results.json"

_log = logging.getLogger("hebbcore")


class Book:
    """The results so far: those of a folder's file, if it has one, and what is added to them.

    settings: what tells this evaluation from others. titles: names of the classes, labels: their numbers. Raises
    ValueError for a file that is damaged or of another evaluation.
    """

    def __init__(self, folder: Path, settings: Settings, titles: list[str | int], labels: list[int]) -> None:
        self.folder, self._path = folder, folder / RESULTS
        settings = Settings.from_json(json.loads(json.dumps(settings.as_json())))  # as a file gives them back
        self.results, self._older = Results(settings, titles), False
        if self._path.exists():
            before = read_results(self._path)
            self._older = before.settings.penalty != settings.penalty
            before.settings = replace(before.settings, penalty=settings.penalty)
            if before.classes == labels:  # of an earlier version, which did not read the names in HDF5 files
                before.classes = titles
            different = serialize.differences(settings.as_json(), before.settings.as_json())
            different = different or serialize.differences(titles, before.classes, "classes")
            if different:
                raise ValueError(
                    f"evaluate: {folder} holds another evaluation: {'; '.join(different)}; name another folder, or "
                    "remove it."
                )
            self.results = before

    def forget_older(self, few: int, labelled: int) -> None:
        """Take out an earlier version's figures for which a penalty was chosen in another way.

        few: up to so many labels a fifth of them was held out. labelled: how many training images have a label.
        """
        forgotten, finely = 0, self.results.settings.penalty == FINELY
        for name, entry in self.results.sources.items() if self._older else ():
            most, runs = entry.shares[-1:], entry.runs
            entry.runs = [run for run in runs if not finely and rows_of(run.share, labelled) > few]
            forgotten += len(runs) - len(entry.runs)
            if entry.shares[-1:] != most:  # these were of the run with the most labels
                entry.confusion = None
                self.results.mistakes.pop(name, None)
        if forgotten and finely:
            _log.warning(
                "evaluate: %s holds %d figures of an earlier version, whose readout chose among other penalties; they "
                "are measured again", self.folder, forgotten,
            )  # fmt: skip
        elif forgotten:
            _log.warning(
                "evaluate: %s holds %d figures of an earlier version for up to %d labels, a fifth of which chose the "
                "readout's penalty; they are measured again, and all labels choose", self.folder, forgotten, few,
            )  # fmt: skip

    def source(self, source: Source) -> SourceResults:
        """Return the results of a source, to be changed."""
        features = source.features
        entry = self.results.sources.setdefault(source.name, SourceResults(features.size, features.grid))
        entry.gflop = features.gflop
        return entry

    def missing(self, name: str, shares: list[float], seeds: int) -> list[tuple[float, int]]:
        """Return the (share, seed) of the labels that a source has no figure for."""
        entry = self.results.sources.get(name)
        done = {(run.share, run.seed) for run in entry.runs} if entry is not None else set()
        wanted = [(share, seed) for share in shares for seed in range(1 if share == 1 else seeds)]
        return [key for key in wanted if key not in done]

    def complete(self, name: str, shares: list[float], seeds: int, queries: int, numbers: int) -> bool:
        """Return True if nothing is left to do for a source.

        numbers: of features there is room for; retrieval that was left out for want of room may have it now.
        """
        entry = self.results.sources.get(name)
        if entry is None or self.missing(name, shares, seeds):
            return False
        images = sum(found.labelled for found in (self.results.images or {}).values())
        fits = 0 < entry.features * images <= numbers
        return not queries or bool(entry.retrieval) or (entry.retrieval is not None and not fits)

    def note_images(self, images: dict[str, Counted], shared: Shared) -> None:
        """Note what the first pass over the images found. Raises ValueError if earlier figures are of other images."""
        for split, found in (self.results.images or {}).items():
            if found != images[split]:
                raise ValueError(
                    f"evaluate: {self._path} holds figures of other images of {split}, under the same names and "
                    "settings; name another folder, or remove the file."
                )
        self.results.images, self.results.shared = images, shared
        self.save()

    def save(self) -> None:
        """Write the file."""
        write_text(self._path, json.dumps(self.results.as_json(), indent=1) + "\n")


def read_results(path: Path) -> Results:
    """Return the results of a file. Raises ValueError if it holds something else, or not what was written."""
    try:
        table = parse_json(path.read_bytes())
        results = Results.from_json(table)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        raise ValueError(
            f"evaluate: {path} is damaged, or not what this version writes; name another folder, or remove the file."
        ) from None
    if "digest" not in table:
        _log.info("evaluate: %s has no digest of itself, as earlier versions wrote it; damage would not show", path)
    elif results.digest != digest_of({key: value for key, value in table.items() if key != "digest"}):
        raise ValueError(
            f"evaluate: {path} is damaged: its figures are not those whose digest it holds; name another folder, or "
            "remove the file."
        )
    return results
