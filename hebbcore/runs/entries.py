"""What a sweep knows of each of its runs, and the file sweep.json that keeps it."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hebbcore.files import parse_json, write_text
from hebbcore.runs.compare import Figures

RESULTS = "sweep.json"
STATES = ("done", "diverged", "failed")


@dataclass(frozen=True)
class Entry:
    """How a run ended.

    Parameters
    ----------
    state : str
        One of STATES.
    settings : dict
        The values of the sweep's keys in this run, and its seed.
    epochs : int
        How many it was to be trained.
    figures, weights : Figures and str, or None
        How the training ended, and a digest of the weights; of a run that is done.
    error : str or None
        Why it is not done.
    accuracy, judge : float and list, or None
        Accuracy on held-out images, in %, and what tells the images and the layer from others.
    """

    state: str
    settings: dict[str, Any]
    epochs: int
    figures: Figures | None = None
    weights: str | None = None
    error: str | None = None
    accuracy: float | None = None
    judge: list[str | None] | None = None

    @property
    def done(self) -> bool:
        """True if the run was trained to its end."""
        return self.state == "done"

    def table(self) -> dict[str, Any]:
        """Return the entry as JSON types; what is not known is left out."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value is not None}


def write_entries(path: Path, entries: Mapping[str, Entry]) -> None:
    """Write sweep.json."""
    tables = {name: entry.table() for name, entry in entries.items()}
    write_text(path, json.dumps({"runs": tables, "digest": _digest(tables)}, indent=1) + "\n")


def read_entries(path: Path) -> dict[str, Entry]:
    """Return the entries of sweep.json by the names of the runs; none if there is no such file.

    Raises ValueError if it holds something else, or not what was written.
    """
    if not path.exists():
        return {}
    try:
        table = parse_json(path.read_text("utf-8"))
        if table["digest"] != _digest(table["runs"]):
            raise ValueError
        return {name: _entry(**entry) for name, entry in table["runs"].items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ValueError(
            f"sweep: {path} is damaged, or not what this version writes; remove it, and all runs are looked through."
        ) from None


def _digest(tables: Any) -> str:
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()


def _entry(figures: dict[str, Any] | None = None, **fields: Any) -> Entry:
    """Return the entry of a table. Raises ValueError or TypeError if it lacks what an entry of its state has."""
    entry = Entry(figures=None if figures is None else Figures(**figures), **fields)
    sound = entry.state in STATES and isinstance(entry.epochs, int)
    if entry.done:
        sound = sound and entry.figures is not None and isinstance(entry.figures.layers, dict)
        sound = sound and isinstance(entry.weights, str)
    else:
        sound = sound and isinstance(entry.error, str)
    if not sound:
        raise ValueError
    return entry
