"""The `hebbcore` command. Exit status: 0 done, 1 failed or something found wrong, 2 wrong usage, 130 interrupted."""

import argparse
import os
import sys
from collections.abc import Sequence

from loaders.commands import add_shards

COMMANDS = (add_shards,)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; arguments as in sys.argv[1:]. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="hebbcore", description="Hebbian learning on raw arrays.")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    options = parser.parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        if options.debug:
            raise
        print("hebbcore: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if options.debug:
            raise
        print(f"hebbcore: {_message(error)}", file=sys.stderr)
        return 1


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    return str(error) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
