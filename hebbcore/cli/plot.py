"""`hebbcore plot`: pictures of a run."""

import argparse
from pathlib import Path

from hebbcore import plots
from hebbcore.cli.extract import load_network
from hebbcore.cli.options import add_import


def add_plot(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `plot` command to a command line."""
    plot = commands.add_parser(
        "plot",
        description="Draw filters.png, what the first layer learned, and curves.png, how the training went (needs the "
        'extra "plot"), into the folder of the run.',
    )
    plot.add_argument("folder", type=Path, metavar="run", help="folder of a run")
    plot.add_argument("--out", type=Path, metavar="FOLDER", help="where the pictures go (default: the run's folder)")
    plot.add_argument("--previous", action="store_true", help="take the checkpoint before a damaged one")
    add_import(plot)
    plot.set_defaults(run=_plot)


def _plot(options: argparse.Namespace) -> int:
    if options.folder.is_file():
        raise NotADirectoryError(f"plot: {options.folder} is a file; give the folder of a run.")
    network = load_network(options.folder, options.imports, options.previous, "cpu")
    folder = options.out or options.folder
    folder.mkdir(parents=True, exist_ok=True)
    filters = plots.first_filters(network)
    if filters is None:
        print("no filters to draw: the first layer that learns sees no plain images of 1 or 3 channels")
    else:
        plots.save_filters(filters, folder / "filters.png")
        print(folder / "filters.png")
    plots.save_curves(options.folder, folder / "curves.png")
    print(folder / "curves.png")
    return 0
