"""The `hebbcore` command.

Exit status: 0 done, 1 failed or something found wrong, 2 wrong usage, 128 + the signal if interrupted (130, 143).
"""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Timer, main_thread

COMMANDS = {  # name: its module, imported when a line names the command and not before, and what it does
    "shards": ("loaders.commands", "sets of images as HDF5 shards"),
    "preset": ("hebbcore.cli.preset", "print a published network as a configuration"),
    "train": ("hebbcore.cli.train", "train a network from a configuration file"),
    "sweep": ("hebbcore.cli.sweep", "train every combination of some settings, and tabulate"),
    "extract": ("hebbcore.cli.extract", "write the features of images to an HDF5 file"),
    "evaluate": ("hebbcore.cli.evaluate", "judge the features of a run by classifiers and retrieval"),
    "plot": ("hebbcore.cli.plot", "draw the filters and curves of a run, or several side by side"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; arguments as in sys.argv[1:]. Returns the exit status."""
    line = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in line
    try:
        with _no_interrupt_is_lost():
            options = _parser(next((word for word in line if word != "--debug"), "")).parse_args(line)
            status: int = options.run(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as interrupt:
        if debug:
            raise
        text, number = interrupt.args if len(interrupt.args) == 2 else ("interrupted", signal.SIGINT)
        print(f"hebbcore: {text}", file=sys.stderr)
        return 128 + int(number)
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        print(f"hebbcore: {_message(error)}", file=sys.stderr)
        return 1


def _parser(named: str) -> argparse.ArgumentParser:
    """Return the parser of a line that names a command; it knows of the other commands what they are for."""
    parser = argparse.ArgumentParser(prog="hebbcore", description="Hebbian learning on raw arrays.", allow_abbrev=False)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, purpose) in COMMANDS.items():
        if name == named:
            getattr(importlib.import_module(module), f"add_{name}")(commands)
        else:
            commands.add_parser(name, help=purpose)
    return parser


@contextmanager
def _no_interrupt_is_lost() -> Iterator[None]:
    """Raise an interrupt again that came in a callback, such as a weak reference's, where Python drops it."""
    again: list[Timer] = []

    def raise_again(dropped: "sys.UnraisableHookArgs") -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            before(dropped)
            return
        # by then the callback is left
        again.append(Timer(0.01, signal.pthread_kill, (main_thread().ident, signal.SIGINT)))
        again[-1].start()

    before, sys.unraisablehook = sys.unraisablehook, raise_again
    try:
        yield
    finally:
        sys.unraisablehook = before
        for timer in again:
            timer.cancel()


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    return str(error) or type(error).__name__
