"""The `hebbcore` command.

Exit status: 0 done, 1 failed or something found wrong, 2 wrong usage, 128 + the signal if interrupted (130, 143, 129).
"""

import argparse
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Timer, main_thread
from typing import Any

from hebbcore import interrupts
from hebbcore.checks import printable
from hebbcore.cli import terminal, together

COMMANDS = {  # name: its module, imported when a line names the command and not before, and what it does
    "shards": ("loaders.commands", "sets of images as HDF5 shards"),
    "preset": ("hebbcore.cli.preset", "print a preset as a configuration"),
    "train": ("hebbcore.cli.train", "train a network from a configuration file"),
    "sweep": ("hebbcore.cli.sweep", "train every combination of some settings, and tabulate"),
    "extract": ("hebbcore.cli.extract", "write the features of images to an HDF5 file"),
    "evaluate": ("hebbcore.cli.evaluate", "judge the features of a run by classifiers and retrieval"),
    "classify": ("hebbcore.cli.classify", "give all images labels, from a few"),
    "label": ("hebbcore.cli.label", "label photos on a page in the browser, which learns meanwhile"),
    "predict": ("hebbcore.cli.predict", "give new images labels, by what classify learned"),
    "export": ("hebbcore.cli.export", "write a network or a few-label model for other programs: ONNX, safetensors"),
    "verify": ("hebbcore.cli.verify", "compare the files of runs and features with their digests"),
    "plot": ("hebbcore.cli.plot", "draw the filters and curves of a run, or compare several runs"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; arguments as in sys.argv[1:]. Returns the exit status."""
    line = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        terminal.replace_streams()
    debug = "--debug" in line
    try:
        return together.end(_run(line, debug))
    except KeyboardInterrupt as interrupt:
        text, number = interrupt.args if len(interrupt.args) == 2 else ("interrupted", signal.SIGINT)
        interrupts.end(number)
        if debug:
            raise
        if together.is_first():
            interrupts.tell(text)
        return together.end(128 + int(number), agreed=getattr(interrupt, "agreed", False))


def _run(line: list[str], debug: bool) -> int:
    """Run the command line; an interrupt at any moment of it, also while an error is told, is the caller's."""
    try:
        with _no_interrupt_is_lost(), warnings.catch_warnings():
            warnings.showwarning = _tell
            named = next((word for word in line if word != "--debug"), "")
            with together.quiet():
                options = _parser(named).parse_args(line)
            interrupts.work()
            together.require_alone(named)
            status: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except Exception as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # it came while a compiled module was imported
            raise error.__cause__ from None
        if debug:
            raise
        together.tell_failure(_message(error), error)
        status = 1
    interrupts.end()
    return status


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
        arguments: tuple[Any, ...] = getattr(dropped.exc_value, "args", ())
        number = arguments[1] if len(arguments) == 2 else signal.SIGINT
        # by then the callback is left
        again.append(Timer(0.01, signal.pthread_kill, (main_thread().ident, number)))
        again[-1].start()

    before, sys.unraisablehook = sys.unraisablehook, raise_again
    try:
        yield
    finally:
        sys.unraisablehook = before
        for timer in again:
            timer.cancel()


def _tell(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """Tell a warning in a line of its own, without the place in the code; called as warnings.showwarning."""
    if together.is_first():
        print(f"hebbcore: warning: {printable(str(message))}", file=sys.stderr)


def _message(error: Exception) -> str:
    """Return what to print: file names and other text from elsewhere may hold codes that a terminal acts on."""
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    return printable(text)
