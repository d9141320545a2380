"""`hebbcore sweep`: train every combination of some settings, and tabulate how the runs ended."""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import loaders
from hebbcore import checkpoint, checks
from hebbcore.checks import printable
from hebbcore.cli.extract import load_network, network_stream
from hebbcore.cli.options import add_import, add_set
from hebbcore.cli.sources import is_shards, labelled_stream
from hebbcore.cli.train import clock, line_of, require_same, train_into
from hebbcore.evaluation.selection import held_out_accuracy
from hebbcore.files import locked, parse_json, write_text
from hebbcore.network import Network
from hebbcore.runs.compare import final_figures, markdown, records_of
from hebbcore.runs.config import Config, parse_change, read_config
from hebbcore.runs.sweeps import Planned, digest_of, plan, read_grid, tables_of
from hebbcore.training.diagnostics import Record

RESULTS, TABLES = "sweep.json", "sweep.md"


def add_sweep(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `sweep` command to a command line."""
    sweep = commands.add_parser(
        "sweep",
        description="Train a configuration with every combination of the grid's values and every seed, each into a "
        "folder of its own, and write sweep.json and sweep.md: how they ended, mean and 95 % interval over the seeds. "
        "When the same command is run again, finished runs stay, and an interrupted one goes on.",
    )
    sweep.add_argument("config", type=Path, help="TOML file; docs/reference/configuration.md tells the keys")
    sweep.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where runs and tables go (default: sweeps/ and the file's name)"
    )
    sweep.add_argument(
        "--grid", action="append", default=[], metavar="KEY=VALUE,…",
        help="values of a key, such as training.rate_factor=0.5,1,2 or network.rule=hpca,swta; may be repeated",
    )  # fmt: skip
    sweep.add_argument("--seeds", type=int, metavar="COUNT", help="seeds 0, 1, … (default: the file's alone)")
    sweep.add_argument(
        "--evaluate", type=Path, metavar="IMAGES",
        help="labelled training images (shards, or an HDF5 file, its split train): a fifth of each class is held out, "
        "and a ridge readout fitted to the features of the others",
    )  # fmt: skip
    sweep.add_argument("--layer", help="whose features are judged (default: the last)")
    add_set(sweep)
    add_import(sweep)
    sweep.set_defaults(run=_sweep)


def _sweep(options: argparse.Namespace) -> int:
    runs = _plan(options)
    judge = _judge(options, runs)
    folder = options.out or Path("sweeps", options.config.stem)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "sweeping into"):
        book = _Book(folder, runs)
        for run in runs:
            if checkpoint.checkpoints(book.folder(run)):
                require_same("sweep", book.folder(run), run.config)
        _train_all(book, judge)
        book.save()
    _tell(book)
    return 1 if all(book.entries[run.name]["state"] != "done" for run in runs) else 0


def _plan(options: argparse.Namespace) -> list[Planned]:
    """Return the runs of a command line. Raises ValueError for what would change nothing."""
    grid = read_grid(options.grid)
    if options.seeds is not None and options.seeds < 1:
        raise ValueError(f"sweep: --seeds must be at least 1, got {options.seeds}.")
    if not grid and (options.seeds or 1) < 2:
        raise ValueError("sweep: give --grid KEY=VALUE,VALUE,…, or --seeds of at least 2; a single run is `train`.")
    for key in [*grid, *(["seed"] if options.seeds is not None else [])]:
        if any(".".join(parse_change(change)[0]) == key for change in options.changes):
            raise ValueError(f"sweep: {key} has several values; leave out --set {key}.")

    def read(changes: list[str]) -> Config:
        return read_config(options.config, [*options.changes, *changes], options.imports)

    return plan(read, grid, None if options.seeds is None else range(options.seeds))


def _judge(options: argparse.Namespace, runs: list[Planned]) -> "_Judge | None":
    """Return what judges the networks, after a look at what it needs."""
    if options.evaluate is None:
        if options.layer is not None:
            raise ValueError("sweep: --layer is for --evaluate IMAGES; give both, or leave it out.")
        return None
    labelled_stream(options.evaluate, "train", 1, None)
    for run in runs:
        names = [table["name"] for table in run.config.layer_tables()]
        if options.layer is not None:
            checks.choice("sweep", f"--layer of {run.name}", options.layer, names)
    return _Judge(options.evaluate, options.layer)


@dataclass(frozen=True)
class _Judge:
    """Accuracies of networks on held-out images."""

    images: Path
    layer: str | None

    @cached_property
    def name(self) -> list[str | None]:
        """What tells it from others, as JSON types: the images by their content too."""
        if is_shards(self.images):
            content = loaders.read_index(self.images).identity
        else:
            with self.images.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        return [str(self.images), content, self.layer]

    def accuracy(self, network: Network) -> float:
        return held_out_accuracy(network, network_stream(network, self.images, "train", 256, None), self.layer)


class _Book:
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


def _train_all(book: _Book, judge: _Judge | None) -> None:
    """Train what is not finished, and judge what is not judged."""
    runs = book.runs
    if judge is not None:
        book.forget_accuracies_but(judge.name)
    progress = _Progress(len(runs), sum(not book.finished(run) for run in runs))
    for number, run in enumerate(runs, 1):
        network = None
        if not book.finished(run):
            network = _train(book, run, progress.of(number, run.name))
        entry = book.entries[run.name]
        if judge is not None and entry["state"] == "done" and entry.get("judge") != judge.name:
            network = network or load_network(book.folder(run), run.config.imports, device=run.config.device)
            progress.say(number, f"{run.name}: features")
            book.note(run, **{**entry, "accuracy": judge.accuracy(network), "judge": judge.name})


def _train(book: _Book, run: Planned, callback: "Callable[[Record], None] | None") -> Network | None:
    """Train a run, or go on with it, and keep what came of it; None if it failed."""
    try:
        network = train_into(book.folder(run), run.config, False, callback is None, callback)
    except FloatingPointError as error:
        book.note(run, "diverged", error=str(error))
    except (ValueError, TypeError, MemoryError) as error:  # of these settings; the other runs may do
        book.note(run, "failed", error=str(error) or type(error).__name__)
    else:
        figures = final_figures(records_of("sweep", book.folder(run)))
        book.note(run, "done", figures=figures, weights=digest_of(network))
        return network
    return None


class _Progress:
    """Says which run of how many is trained, and how long all will take if the others take as long."""

    def __init__(self, runs: int, left: int) -> None:
        self._runs, self._left = runs, left
        self._seconds: list[float] = []  # of the runs so far
        self._began: float | None = None

    def of(self, number: int, name: str) -> "Callable[[Record], None] | None":
        """Announce a run; returns what prints its records, None where a bar shows them."""
        now = time.monotonic()
        if self._began is not None:
            self._seconds.append(now - self._began)
        self._began, self._left = now, self._left - 1
        left = f", {clock(self._mean(0) * (self._left + 1))} left" if self._seconds else ""
        self.say(number, name + left)
        if sys.stderr.isatty():
            return None

        def tell(record: Record) -> None:
            own = record["seconds_left"]
            left = None if own is None else own + self._mean(record["seconds"] + own) * self._left
            self.say(number, line_of(record, left))

        return tell

    def say(self, number: int, text: str) -> None:
        """Print a line about a run."""
        print(printable(f"run {number} of {self._runs}: {text}"), file=sys.stderr, flush=True)

    def _mean(self, otherwise: float) -> float:
        return sum(self._seconds) / len(self._seconds) if self._seconds else otherwise


def _tell(book: _Book) -> None:
    """Print the table of settings, and where the rest is."""
    rows = tables_of(book.runs, book.entries)[0][1]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    print(printable(f"{book.out / RESULTS}\n{book.out / TABLES}"))
    for run in book.runs:
        entry = book.entries[run.name]
        if entry["state"] != "done":
            print(printable(f"{entry['state']}: {run.name}: {entry['error']}"), file=sys.stderr)
