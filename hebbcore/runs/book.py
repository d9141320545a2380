"""What is known of the runs of a sweep, and the files sweep.json and sweep.md that keep it."""

import hashlib
import json
from pathlib import Path
from typing import Any

from hebbcore import checkpoint
from hebbcore.files import parse_json, write_text
from hebbcore.runs.compare import markdown
from hebbcore.runs.sweep_tables import tables_of
from hebbcore.runs.sweeps import Planned

RESULTS, TABLES = "sweep.json", "sweep.md"


class Book:
    """What is known of the runs of a sweep, in memory and in its folder."""

    def __init__(self, out: Path, runs: list[Planned]) -> None:
        self.out, self.runs = out, runs
        self.entries: dict[str, dict[str, Any]] = read_entries(out / RESULTS)

    def folder(self, run: Planned) -> Path:
        return self.out / run.name

    def finished(self, run: Planned) -> bool:
        """Return True if a run need not be trained: it is done, or diverged, which it would do again."""
        entry = self.entries.get(run.name, {})
        same = entry.get("epochs") == run.config.training.epochs and checkpoint.checkpoints(self.folder(run))
        return bool(same and entry["state"] in ("done", "diverged"))

    def note(self, run: Planned, state: str, **figures: Any) -> None:
        """Keep what came of a run."""
        settings = {"settings": run.values, "epochs": run.config.training.epochs}
        self.entries[run.name] = {"state": state, **settings, **figures}
        self.save()

    def forget_accuracies_but(self, judge: list[str | None]) -> None:
        """Leave out what another judge said: figures of two kinds must not meet in a table."""
        for entry in self.entries.values():
            if entry.get("judge") != judge:
                entry.pop("accuracy", None)

    def save(self) -> None:
        """Write sweep.json and sweep.md."""
        table = {"runs": self.entries, "digest": _digest(self.entries)}
        write_text(self.out / RESULTS, json.dumps(table, indent=1) + "\n")
        write_text(self.out / TABLES, markdown("Sweep", tables_of(self.runs, self.entries)))


def _digest(entries: dict[str, dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def read_entries(path: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of sweep.json; none if there is none.

    Raises ValueError if it holds something else, or not what was written.
    """
    if not path.exists():
        return {}
    try:
        table = parse_json(path.read_text("utf-8"))
        entries = table["runs"]
        if table["digest"] != _digest(entries):
            raise ValueError
        for entry in entries.values():
            sound = entry["state"] in ("done", "diverged", "failed") and isinstance(entry["epochs"], int)
            if entry["state"] == "done":
                sound = sound and isinstance(entry["figures"]["layers"], dict) and isinstance(entry["weights"], str)
            elif sound:
                sound = isinstance(entry["error"], str)
            if not sound:
                raise ValueError
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ValueError(
            f"sweep: {path} is damaged, or not what this version writes; remove it, and all runs are looked through."
        ) from None
    return dict(entries)
