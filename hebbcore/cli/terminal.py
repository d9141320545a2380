"""The standard streams of the command, where one was closed or its terminal may go away."""

import errno
import io
import os
import sys
from typing import Any


def replace_streams() -> None:
    """Let what goes to a closed stream go nowhere, and what goes to a terminal until that is gone.

    A closed one's must go neither to another stream nor to a file that gets its number. A terminal that a command
    outlives, as one that ssh lost, fails all that is written, which must not end the work.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  # until the process ends
        elif mode == "w" and stream.isatty():
            stream.flush()
            lasting = io.BufferedWriter(_Lasting(stream.fileno(), "w", closefd=False))
            setattr(sys, name, io.TextIOWrapper(lasting, stream.encoding, stream.errors, line_buffering=True))


class _Lasting(io.FileIO):
    """A terminal that takes what is written to it also when it is gone."""

    def write(self, data: Any) -> int:
        """Write bytes, and return how many; all of them where the terminal is gone."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return memoryview(data).nbytes
