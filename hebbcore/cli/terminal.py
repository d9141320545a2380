"""The standard streams of the command, where one was closed, or who reads it may go away."""

import errno
import io
import os
import sys
from typing import Any


def replace_streams() -> None:
    """Let what goes to a closed stream go nowhere, and what goes to standard error or a terminal until nobody reads it.

    A closed one's must go neither to another stream nor to a file that gets its number. A terminal that a command
    outlives, as one that ssh lost, fails all that is written, and so does a pipe to a program such as tee, which Ctrl-C
    ends too: that must not end work which is yet to be saved.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  # until the process ends
        elif mode == "w" and (name == "stderr" or stream.isatty()):
            stream.flush()
            lasting = io.BufferedWriter(_Lasting(stream.fileno(), "w", closefd=False))
            setattr(sys, name, io.TextIOWrapper(lasting, stream.encoding, stream.errors, line_buffering=True))


class _Lasting(io.FileIO):
    """A stream that takes what is written to it also when nobody reads it any more."""

    def write(self, data: Any) -> int:
        """Write bytes, and return how many; all of them where nobody reads them."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EPIPE):
                raise
            return memoryview(data).nbytes
