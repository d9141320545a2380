"""Tables of how the runs of a sweep ended."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hebbcore.evaluation.metrics import mean_interval
from hebbcore.runs.compare import FIGURES, Table, setting_text, text_of
from hebbcore.runs.entries import Entry
from hebbcore.runs.sweeps import Planned


@dataclass(frozen=True)
class _Setting:
    """Runs that differ in their seeds alone: the cells that tell their values, and what is known of those done."""

    cells: list[str]
    runs: int
    done: list[Entry]

    @property
    def layers(self) -> list[dict[str, Any]]:
        """The figures of each run that is done, by layer."""
        return [entry.figures.layers for entry in self.done if entry.figures is not None]


def tables_of(runs: Sequence[Planned], entries: Mapping[str, Entry]) -> list[tuple[str, Table]]:
    """Return tables, with their titles, of each setting (mean ± 95 % interval over its seeds) and of each run.

    entries: what is known of the runs, by name.
    """
    keys = [key for key in runs[0].values if key != "seed"]
    settings = []
    for group in dict.fromkeys(run.group for run in runs):
        members = [run for run in runs if run.group == group]
        cells = [setting_text(members[0].values[key]) for key in keys] or ["all"]
        settings.append(_Setting(cells, len(members), [entries[run.name] for run in _done(members, entries)]))
    head = keys or ["settings"]
    columns = [x for x in _COLUMNS if any(_figure(entry, x) is not None for entry in entries.values())]
    table = [[*head, "runs", *(_COLUMNS[column] for column in columns)]]
    for setting in settings:
        figures = [mean_text(_figure(entry, column) for entry in setting.done) for column in columns]
        table.append([*setting.cells, f"{len(setting.done)} of {setting.runs}", *figures])
    return [
        ("Settings", table),
        *_by_layer(head, settings),
        ("Runs", _by_run(runs, entries, columns)),
        *_equal(runs, entries),
    ]


_EQUAL = "The same weights to the bit: what differs here changed nothing that units learned"
_COLUMNS = {
    "accuracy": "accuracy on held-out images, %",
    "dead": "dead units",
    "images_per_second": "images a second",
    "seconds": "seconds",
}


def _done(runs: Iterable[Planned], entries: Mapping[str, Entry]) -> list[Planned]:
    """Return those of the runs that are done."""
    return [run for run in runs if run.name in entries and entries[run.name].done]


def _figure(entry: Entry | None, column: str) -> float | None:
    """Return a figure of a run, None if it has none."""
    if entry is None or entry.figures is None:
        return None
    found: float | None = getattr(entry if column == "accuracy" else entry.figures, column)
    return found


def _by_layer(head: list[str], settings: Sequence[_Setting]) -> list[tuple[str, Table]]:
    layers = list(dict.fromkeys(layer for setting in settings for figures in setting.layers for layer in figures))
    tables = []
    for key, title in FIGURES.items():
        table = [[*head, *layers]]
        for setting in settings:
            means = [mean_text(figures.get(layer, {}).get(key) for figures in setting.layers) for layer in layers]
            table.append([*setting.cells, *means])
        tables.append((title[0].upper() + title[1:], table))
    return tables


def mean_text(values: Iterable[float | None]) -> str:
    """Return the mean and its 95 % interval of the figures there are, as text."""
    found = [value for value in values if value is not None]
    if not found:
        return ""
    mean, half = mean_interval(found)
    return f"{mean:.4g} ± {half:.2g}" if math.isfinite(half) else f"{mean:.4g}"


def _by_run(runs: Sequence[Planned], entries: Mapping[str, Entry], columns: list[str]) -> Table:
    table = [["run", "state", *(_COLUMNS[column] for column in columns)]]
    for run in runs:
        entry = entries.get(run.name)
        state = "not trained yet" if entry is None else ": ".join(filter(None, [entry.state, entry.error]))
        table.append([run.name, state, *(text_of(_figure(entry, column)) for column in columns)])
    return table


def _equal(runs: Sequence[Planned], entries: Mapping[str, Entry]) -> list[tuple[str, Table]]:
    """Return a table of runs that ended with the same weights though their settings differ, if there are any.

    Their features may differ: linear, response, the pools and more change outputs alone.
    """
    same: dict[str | None, list[str]] = {}
    for run in _done(runs, entries):
        same.setdefault(entries[run.name].weights, []).append(run.name)
    rows = [[", ".join(names)] for names in same.values() if len(names) > 1]
    return [(_EQUAL, [["runs"], *rows])] if rows else []
