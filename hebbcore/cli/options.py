"""Options that several commands have."""

import argparse


def add_import(command: argparse.ArgumentParser) -> None:
    """Add --import to a command."""
    command.add_argument(
        "--import", action="append", default=[], metavar="MODULE", dest="imports",
        help="a module, or a .py file, with rules or layers of your own; may be repeated",
    )  # fmt: skip


def add_set(command: argparse.ArgumentParser) -> None:
    """Add --set to a command that reads a configuration."""
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
        help="a value in place of the file's, such as training.epochs=2 or network.layers.conv1.units=64; may be "
        "repeated",
    )  # fmt: skip
