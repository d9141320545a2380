"""`hebbcore sweep`: train every combination of some settings, and tabulate how the runs ended."""

import argparse
import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import loaders
from hebbcore import checkpoint, checks, serialize
from hebbcore.checks import printable
from hebbcore.cli.networks import load_network, network_stream, side_of
from hebbcore.cli.options import add_import, add_set, require_own_files
from hebbcore.cli.photos import as_shards, is_photos, labelled_split, range_at, read_anew, require_apart, side_at
from hebbcore.cli.progress import Progress
from hebbcore.cli.sources import is_shards, labelled_stream
from hebbcore.cli.train import SameData, made_for_images, require_same, train_into
from hebbcore.evaluation.results import FINELY
from hebbcore.evaluation.selection import held_out_accuracy
from hebbcore.files import locked, make_folder
from hebbcore.network import Network
from hebbcore.presets import DERIVED
from hebbcore.runs.architecture import Architecture
from hebbcore.runs.book import TABLES, Book
from hebbcore.runs.changes import parse_change
from hebbcore.runs.config import Config, read_config
from hebbcore.runs.entries import RESULTS
from hebbcore.runs.sweep_tables import tables_of
from hebbcore.runs.sweeps import Planned, digest_of, plan, read_grid
from hebbcore.training.diagnostics import Record
from hebbcore.training.header import Position


def add_sweep(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `sweep` command to a command line."""
    sweep = commands.add_parser(
        "sweep",
        description="Train a configuration with every combination of the grid's values and every seed, each into a "
        "folder of its own, and write sweep.json and sweep.md, which tell how the runs ended, with mean and 95 % "
        "interval over the seeds. When the same command is run again, finished runs stay, and an interrupted one goes "
        "on.",
    )
    sweep.add_argument("config", type=Path, help="TOML file; docs/reference/configuration.md tells the keys")
    sweep.add_argument(
        "--out", type=Path, metavar="FOLDER", help="folder for runs and tables (default: sweeps/ and the file's name)"
    )
    sweep.add_argument(
        "--grid", action="append", default=[], metavar="KEY=VALUE,…",
        help="values that a key takes, such as training.rate_factor=0.5,1,2 or network.rule=hpca,swta; may be repeated",
    )  # fmt: skip
    sweep.add_argument(
        "--seeds", type=int, metavar="COUNT", help="train with the seeds 0 … COUNT - 1 (default: the file's alone)"
    )
    sweep.add_argument(
        "--evaluate", type=Path, metavar="IMAGES",
        help="labelled training images (shards, an HDF5 file with the split train, a folder or an archive) to judge "
        "each run by: a fifth of each class is held out, and a ridge readout is fitted to the features of the others",
    )  # fmt: skip
    sweep.add_argument("--layer", help="layer whose features are judged (default: the last)")
    add_set(sweep)
    add_import(sweep)
    sweep.set_defaults(run=_sweep)


def _sweep(options: argparse.Namespace) -> int:
    folder = options.out or Path("sweeps", options.config.stem)
    runs = _made_for_images(_plan(options), folder)
    _require_judgeable(options, runs, folder)
    require_own_files(folder, (RESULTS, TABLES), (RESULTS, *(run.name for run in runs)))
    make_folder(folder)
    with locked(folder, "sweeping into"):
        judge = None if options.evaluate is None else _judge(options, runs, folder / "images")
        book = Book(folder, runs)
        for run in runs:
            if checkpoint.checkpoints(book.folder(run)):
                require_same("sweep", book.folder(run), run.config)
                _require_epochs(book.folder(run), run.config.training.epochs)
        same = SameData("sweep", folder)
        for run in filter(book.finished, runs):  # of the others fit compares them
            same.require(book.folder(run), run.config)
            book.take_figures(run)
        _train_all(book, judge)
        book.save()
    _tell(book)
    return 0 if any(book.entries[run.name].done for run in runs) else 1


def _require_epochs(run: Path, epochs: int) -> None:
    """Raise ValueError if a run has begun more epochs: what is known of it would give way to why it failed."""
    try:
        header = checkpoint.header_of("sweep", checkpoint.checkpoints(run)[-1])
        at = serialize.build(Position, header["position"], "position", "sweep")
    except (ValueError, TypeError, LookupError):
        return  # its training says what is wrong
    if (begun := at.epoch + bool(at.batch)) > epochs:
        raise ValueError(
            f"sweep: training.epochs is {epochs}, but {run} has begun epoch {begun}; give at least {begun}, name "
            "another --out, or move that run away, and it is trained anew."
        )


def _plan(options: argparse.Namespace) -> list[Planned]:
    """Return the runs of a command line. Raises ValueError for what would change nothing."""
    grid = read_grid(options.grid)
    if options.seeds is not None and options.seeds < 1:
        raise ValueError(f"sweep: --seeds must be at least 1, got {options.seeds}.")
    if not grid and (options.seeds or 1) < 2:
        raise ValueError("sweep: give --grid KEY=VALUE,VALUE,…, or --seeds of at least 2; `train` does a single run.")
    for key in [*grid, *(["seed"] if options.seeds is not None else [])]:
        if any(".".join(parse_change(change)[0]) == key for change in options.changes):
            raise ValueError(f"sweep: {key} has several values; leave out --set {key}.")

    def read(changes: list[str]) -> Config:
        return read_config(options.config, [*options.changes, *changes], options.imports)

    return plan(read, grid, None if options.seeds is None else range(options.seeds))


def _made_for_images(runs: list[Planned], folder: Path) -> list[Planned]:
    """Return the runs with networks for their images; see made_for_images. Those of runs that have begun decide."""
    made: dict[str, Architecture] = {}
    known: dict[str, list[int] | None] = {}
    for run in sorted(runs, key=lambda run: not checkpoint.checkpoints(folder / run.name)):
        network = run.config.network
        if network.preset == DERIVED and network.image_shape is None:
            data = str(replace(run.config.data, subset=None))
            if data not in known:
                known[data] = made_for_images(run.config, folder / run.name).network.image_shape
            network = replace(network, image_shape=known[data])
        made[run.name] = network
    return [replace(run, config=replace(run.config, network=made[run.name])) for run in runs]


def _require_judgeable(options: argparse.Namespace, runs: list[Planned], folder: Path) -> None:
    """Raise ValueError or FileNotFoundError for images and layers to judge by that there are not."""
    if options.evaluate is None:
        if options.layer is not None:
            raise ValueError("sweep: --layer is for --evaluate IMAGES; give both, or leave it out.")
        return
    for run in runs:
        names = [table["name"] for table in serialize.flat(run.config.layer_tables())]
        if options.layer is not None:
            checks.choice("sweep", f"--layer of {run.name}", options.layer, names)
    if is_photos(options.evaluate):
        require_apart(options.evaluate, folder / "images")
    else:
        labelled_stream(options.evaluate, "train", 1, None)


def _judge(options: argparse.Namespace, runs: list[Planned], folder: Path) -> "_Judge":
    """Return what judges the networks.

    Images of files are read as large as each run's, the largest into a folder, which the caller holds, and others
    beside it.
    """
    given = options.evaluate
    if not is_photos(given):
        places = dict.fromkeys((run.name for run in runs), given)
        return _Judge(given, places, {given: _content_of(given)}, options.layer)
    sides = {run.name: _side_of(run) for run in runs}
    largest = max(side or 0 for side in sides.values()) or None
    part = labelled_split(given, "train")
    whites = {range_at(Path(run.config.data.path), run.config.data.split) for run in runs}
    white = whites.pop() if len(whites) == 1 else None  # None: of runs that learn from unlike images
    read = {}
    for side in {side or largest for side in sides.values()}:
        place = folder if side == largest else folder.with_name(f"{folder.name}-{side}")
        read[side] = read_anew(place, partial(as_shards, given, place, side, part, value_range=white))
        labelled_stream(read[side], "train", 1, None)
    places = {name: read[side or largest] for name, side in sides.items()}
    return _Judge(given, places, {place: _content_of(place) for place in read.values()}, options.layer)


def _side_of(run: Planned) -> int | None:
    """Return the side of the images that a run trains on; None if they are not square."""
    data = run.config.data
    return side_of(run.config.make_network()) or data.image_size or side_at(Path(data.path), data.split)


def _content_of(images: Path) -> str:
    """Return what tells images from others, whatever their place."""
    if is_shards(images):
        index = loaders.read_index(images)
        return index.digest or index.identity
    with images.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class _Judge:
    """Accuracies of networks on held-out images.

    given: as which these were named. places: where they are for each run, by its name. contents: see _content_of, by
    place.
    """

    given: Path
    places: dict[str, Path]
    contents: dict[Path, str]
    layer: str | None

    def name(self, run: str) -> list[str | None]:
        """What tells it from others for a run, as JSON types: the images by their content too.

        Those of earlier versions say of no penalty, or of another way, how it is chosen.
        """
        return [str(self.given), self.contents[self.places[run]], self.layer, FINELY]

    @property
    def names(self) -> list[list[str | None]]:
        """Its names for all runs."""
        return [self.name(run) for run in self.places]

    def accuracy(self, run: str, network: Network) -> float:
        return held_out_accuracy(network, network_stream(network, self.places[run], "train", 256, None), self.layer)


def _train_all(book: Book, judge: _Judge | None) -> None:
    """Train what is not finished, and judge what is not judged."""
    runs = book.runs
    if judge is not None:
        book.forget_accuracies_but(judge.names)
    progress = Progress(len(runs), sum(not book.finished(run) for run in runs))
    for number, run in enumerate(runs, 1):
        network = None
        if not book.finished(run):
            network = _train(book, run, progress.of(number, run.name))
        entry = book.entries[run.name]
        if judge is not None and entry.done and entry.judge != judge.name(run.name):
            network = network or load_network(book.folder(run), run.config.imports, device=run.config.device)
            progress.say(number, f"{run.name}: features")
            book.note_accuracy(run, judge.accuracy(run.name, network), judge.name(run.name))


def _train(book: Book, run: Planned, callback: "Callable[[Record], None] | None") -> Network | None:
    """Train a run, or go on with it, and keep what came of it; None if it failed."""
    try:
        network = train_into(book.folder(run), run.config, False, callback is None, callback, book.out)
    except FloatingPointError as error:
        book.note(run, "diverged", error=str(error))
    except (ValueError, TypeError, MemoryError) as error:  # of these settings; the other runs may do
        book.note(run, "failed", error=str(error) or type(error).__name__)
    else:
        book.note_done(run, digest_of(network))
        return network
    return None


def _tell(book: Book) -> None:
    """Print the table of settings, and where the rest is."""
    rows = tables_of(book.runs, book.entries)[0][1]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    print(printable(f"{book.out / RESULTS}\n{book.out / TABLES}"))
    for run in book.runs:
        entry = book.entries[run.name]
        if not entry.done:
            print(printable(f"{entry.state}: {run.name}: {entry.error}"), file=sys.stderr)
