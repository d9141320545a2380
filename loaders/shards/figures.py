"""What the shards of a set add up to: the figures of its index, and its report."""

import json
from typing import Any

import numpy as np

from loaders.shards.format import UNLABELLED, PixelSums, ShardTable


class Figures:
    """Sums over tables of shards. classes: number of classes; a record without a label counts in none."""

    def __init__(self, classes: int) -> None:
        self._counts = np.zeros(classes, np.int64)
        self._sums = PixelSums()
        self.records, self.skipped = 0, list[tuple[str, str]]()

    def add(self, table: ShardTable) -> None:
        self._counts += np.bincount(table.labels[table.labels != UNLABELLED], minlength=len(self._counts))
        self._sums += table.sums
        self.records += len(table.labels)
        self.skipped += table.skipped

    @property
    def class_counts(self) -> tuple[int, ...]:
        return tuple(self._counts.tolist())

    def mean_std(self, white: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        mean, std = self._sums.mean_std(white)
        return tuple(mean), tuple(std)

    def report(self) -> str:
        """report.json: what became of every item of the source."""
        skipped = [{"path": name, "reason": reason} for name, reason in self.skipped]
        report: dict[str, Any] = {"images_in": self.records + len(skipped), "written": self.records, "skipped": skipped}
        return json.dumps(report, indent=1) + "\n"
