"""What is known of the runs of a sweep, in memory and in the files sweep.json and sweep.md."""

import dataclasses
from pathlib import Path
from typing import Any

from hebbcore import checkpoint
from hebbcore.files import write_text
from hebbcore.runs.compare import Figures, final_figures, markdown, records_of
from hebbcore.runs.entries import RESULTS, Entry, read_entries, write_entries
from hebbcore.runs.sweep_tables import tables_of
from hebbcore.runs.sweeps import Planned
from hebbcore.training.diagnostics import METRICS

TABLES = "sweep.md"


class Book:
    """What is known of the runs of a sweep, in memory and in its folder."""

    def __init__(self, out: Path, runs: list[Planned]) -> None:
        self.out, self.runs = out, runs
        self.entries = read_entries(out / RESULTS)

    def folder(self, run: Planned) -> Path:
        """Return the folder of a run."""
        return self.out / run.name

    def finished(self, run: Planned) -> bool:
        """Return True if a run need not be trained: it is done, or diverged, which it would do again.

        Raises ValueError if its checkpoint is damaged.
        """
        entry = self._entry(run)
        if entry is None or entry.state == "failed" or not (saved := checkpoint.checkpoints(self.folder(run))):
            return False
        training = checkpoint.header_of("sweep", saved[-1]).get("training")
        return isinstance(training, dict) and training.get("epochs") == entry.epochs  # else it was trained further

    def _entry(self, run: Planned) -> Entry | None:
        """Return how a run ended; None if that is not known, or was with other epochs."""
        entry = self.entries.get(run.name)
        return entry if entry is not None and entry.epochs == run.config.training.epochs else None

    def take_figures(self, run: Planned) -> None:
        """Take the figures of a finished run from its metrics: an earlier version may have counted otherwise."""
        entry = self.entries[run.name]
        if entry.done and (self.folder(run) / METRICS).exists():
            self.entries[run.name] = dataclasses.replace(entry, figures=self._figures(run))

    def _figures(self, run: Planned) -> Figures:
        return final_figures(records_of("sweep", self.folder(run)))

    def note_done(self, run: Planned, weights: str) -> None:
        """Keep that a run is trained to its end. weights: their digest."""
        self.note(run, "done", figures=self._figures(run), weights=weights)

    def note(self, run: Planned, state: str, **known: Any) -> None:
        """Keep what came of a run. known: fields of its Entry."""
        self.entries[run.name] = Entry(state, run.values, run.config.training.epochs, **known)
        self.save()

    def note_accuracy(self, run: Planned, accuracy: float, judge: list[str | None]) -> None:
        """Keep what a judge said of a run that is done."""
        self.entries[run.name] = dataclasses.replace(self.entries[run.name], accuracy=accuracy, judge=judge)
        self.save()

    def forget_accuracies_but(self, judges: list[list[str | None]]) -> None:
        """Leave out what other judges said: figures of two kinds must not meet in a table."""
        for name, entry in self.entries.items():
            if entry.judge not in judges:
                self.entries[name] = dataclasses.replace(entry, accuracy=None)

    def save(self) -> None:
        """Write sweep.json and sweep.md."""
        write_entries(self.out / RESULTS, self.entries)
        found = {run.name: entry for run in self.runs if (entry := self._entry(run)) is not None}
        write_text(self.out / TABLES, markdown("Sweep", tables_of(self.runs, found)))
