"""The `hebbcore` command.

Exit status: 0 done, 1 failed or something found wrong, 2 wrong usage, 128 + the signal if interrupted (130, 143).
"""

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Timer, main_thread

from hebbcore.cli.evaluate import add_evaluate
from hebbcore.cli.extract import add_extract
from hebbcore.cli.plot import add_plot
from hebbcore.cli.train import add_train
from loaders.commands import add_shards

COMMANDS = (add_shards, add_train, add_extract, add_evaluate, add_plot)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; arguments as in sys.argv[1:]. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="hebbcore", description="Hebbian learning on raw arrays.")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    options = parser.parse_args(arguments)
    try:
        with _no_interrupt_is_lost():
            status: int = options.run(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as interrupt:
        if options.debug:
            raise
        text, number = interrupt.args if len(interrupt.args) == 2 else ("interrupted", signal.SIGINT)
        print(f"hebbcore: {text}", file=sys.stderr)
        return 128 + int(number)
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if options.debug:
            raise
        print(f"hebbcore: {_message(error)}", file=sys.stderr)
        return 1


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
