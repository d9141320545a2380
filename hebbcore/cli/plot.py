"""`hebbcore plot`: pictures of a run."""

import argparse
import os
import sys
from pathlib import Path

from hebbcore import plots
from hebbcore.checks import printable
from hebbcore.cli.networks import load_network
from hebbcore.cli.options import RESULTS, add_import, add_previous, require_own_files
from hebbcore.files import make_folder, write_text
from hebbcore.runs.compare import comparison, markdown
from hebbcore.training.diagnostics import METRICS


def add_plot(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `plot` command to a command line."""
    plot = commands.add_parser(
        "plot",
        description="Draw filters.png, which shows what the first layer that sees images or their patches learned, "
        'and curves.png, which shows how the training went, into the folder of the run (this needs the extra "plot"). '
        "For several runs, draw their curves into one curves.png, and write table.md, which tells how their settings "
        "differ and how they ended.",
    )
    plot.add_argument("folders", type=Path, nargs="+", metavar="run", help="folder of a run, or several")
    plot.add_argument(
        "--out", type=Path, metavar="FOLDER", help="folder to write to (default: the run's, or the one with all runs)"
    )
    add_previous(plot)
    add_import(plot)
    plot.set_defaults(run=_plot)


def _plot(options: argparse.Namespace) -> int:
    if len(options.folders) > 1:
        return _compare(options)
    run = options.folders[0]
    if run.is_file():
        raise NotADirectoryError(f"plot: {run} is a file; give the folder of a run.")
    network = load_network(run, options.imports, options.previous, "cpu", finished=False)
    folder = options.out or run
    if options.out is not None and (folder / RESULTS).exists():
        raise ValueError(
            f"plot: {folder} is the folder of a report, whose filters.png would be replaced; name another --out."
        )
    filters = plots.first_filters(network)
    if options.out is not None:
        written = ("curves.png",) if filters is None else ("filters.png", "curves.png")
        require_own_files(folder, written, ("table.md", METRICS))
    make_folder(folder)
    if filters is None:
        print("no filters to draw: no layer that learns sees images of 1 or 3 channels or their patches")
    else:
        plots.save_filters(filters, folder / "filters.png")
        print(printable(str(folder / "filters.png")))
    plots.save_curves(run, folder / "curves.png")
    print(printable(str(folder / "curves.png")))
    return 0


def _compare(options: argparse.Namespace) -> int:
    """Draw several runs. A path that is no run, such as a file beside them, is left out with a word."""
    for name, given in (("--previous", options.previous), ("--import", options.imports)):
        if given:
            raise ValueError(
                f"plot: {name} is for one run; the checkpoints of several runs are not read, so leave it out."
            )
    found = []
    for path in dict.fromkeys(options.folders):
        if (path / METRICS).is_file():
            found.append(path)
        elif path.exists():
            print(printable(f"left out: {path} has no {METRICS}"), file=sys.stderr)
        else:
            raise FileNotFoundError(f"plot: {path} does not exist.")
    if not found:
        raise ValueError("plot: none of these is the folder of a run with metrics; train first.")
    names = [path.resolve().name for path in found]
    runs = dict(zip(names if len(set(names)) == len(names) else map(str, found), found, strict=True))
    table = markdown("Runs side by side", comparison(runs))
    parents = [path.parent for path in found]
    if any(parent.is_absolute() for parent in parents):  # with others that are not, they have nothing in common
        parents = [parent.absolute() for parent in parents]
    folder: Path = options.out or Path(os.path.commonpath(parents) or ".")
    require_own_files(folder, ("table.md", "curves.png"), ("filters.png",))
    make_folder(folder)
    plots.save_comparison(runs, folder / "curves.png")
    write_text(folder / "table.md", table)
    print(printable(table))
    print(printable(str(folder / "curves.png")))
    print(printable(str(folder / "table.md")))
    return 0
