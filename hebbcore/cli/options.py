"""Options that several commands have."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from hebbcore.engine import devices

RESULTS = "results.json"  # of an evaluation: evaluation.book, which says so too, loads scikit-learn


def add_network(command: argparse.ArgumentParser) -> None:
    """Add the network that a command uses."""
    command.add_argument("network", type=Path, metavar="run", help="folder of a run, or a file of hebbcore.save")


def add_mirror(command: argparse.ArgumentParser) -> None:
    """Add --mirror to a command that computes features."""
    command.add_argument("--mirror", action="store_true", help="average over each image and its mirror image")


def add_shifts(command: argparse.ArgumentParser) -> None:
    """Add --shifts to a command that computes features."""
    command.add_argument(
        "--shifts", type=int, default=0, metavar="PIXELS",
        help="average over each image and the same shifted by PIXELS left, right, up and down (default: 0, none)",
    )  # fmt: skip


def add_image_size(command: argparse.ArgumentParser) -> None:
    """Add --image-size to a command that reads images for a network."""
    command.add_argument(
        "--image-size", type=int, help="cut this many central pixels (default: what the network takes)"
    )


def add_batches(command: argparse.ArgumentParser, size: int) -> None:
    """Add --batch-size, with its default, and --device to a command that computes features."""
    command.add_argument("--batch-size", type=int, default=size, help=f"images at a time (default: {size})")
    command.add_argument(
        "--device", choices=devices.CHOICES, default="auto", help="where to compute (default: CUDA if it works)"
    )


def add_previous(command: argparse.ArgumentParser) -> None:
    """Add --previous to a command that reads the checkpoints of a run."""
    command.add_argument("--previous", action="store_true", help="take the checkpoint before a damaged one")


def add_import(command: argparse.ArgumentParser) -> None:
    """Add --import to a command."""
    command.add_argument(
        "--import", action="append", default=[], metavar="MODULE", dest="imports",
        help="a module, or a .py file, with rules, layers or presets of your own; may be repeated",
    )  # fmt: skip


def add_set(command: argparse.ArgumentParser) -> None:
    """Add --set to a command that reads a configuration."""
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
        help="a value that replaces the file's, such as training.epochs=2 or network.layers.conv1.units=64; may be "
        "repeated",
    )  # fmt: skip


def require_own_files(out: Path, written: Sequence[str], signs: Iterable[str]) -> None:
    """Raise ValueError for a folder in which files of others would be replaced.

    written: what a command writes into it. signs: one of them at least, or all of the former, lie there where it has
    done so before.
    """
    others = [name for name in written if (out / name).exists()]
    if 0 < len(others) < len(written) and not any((out / name).exists() for name in signs):
        raise ValueError(
            f"--out must be a new folder, or one that this command has written; {out} is none, and holds {others[0]}, "
            "which would be replaced: name another, or move the file."
        )
