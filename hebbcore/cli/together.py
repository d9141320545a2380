"""The processes of a command that mpiexec or srun started: who writes and prints, and how all of them end."""

import argparse
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from hebbcore.checks import printable
from hebbcore.engine.group.groups import Group, joined, launched, world

T = TypeVar("T")

COMMANDS = ("train", "extract", "evaluate")  # that several processes can do together
_PATIENCE = 5.0  # seconds that rank 0 has to say what went wrong, and to end all
_FORWARDING = 0.3  # seconds that the launcher has to pass on what was printed
_LAST = 10  # seconds that MPI has to end all


def group() -> Group | None:
    """Return the processes of this command; None: it is one alone."""
    if not launched():
        return None
    found = world()
    return found if found.size > 1 else None


def is_first() -> bool:
    """Return whether this process is the one that writes and prints."""
    found = group()
    return found is None or found.rank == 0


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Print nothing meanwhile, in a process that is not the first."""
    if is_first():
        yield
        return
    logging.disable(logging.CRITICAL)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        try:
            yield
        except SystemExit:  # a wrong line, which the first process tells of before all end
            time.sleep(_PATIENCE)
            raise


def require_alone(command: str) -> None:
    """Raise ValueError for several processes of a command that is for one."""
    found = group()
    if found is not None and command not in COMMANDS:
        raise ValueError(
            f"{command}: {found.size} processes were started, but this command is for one: start it without mpiexec or "
            f"srun. For several are: {', '.join(COMMANDS)}."
        )


def given(options: argparse.Namespace) -> dict[str, str]:
    """Return what a command was given, which all processes must be given alike."""
    return {name: str(value) for name, value in vars(options).items() if name != "run"}


def by_first(function: str, make: Callable[[], T]) -> T:
    """Return what make() returns in the first process, which alone calls it, in all processes."""
    with joined(group(), function, "cpu") as team:
        if team is None:
            return make()
        found: T = team.broadcast(make() if team.rank == 0 else None)
        return found


def tell_failure(text: str, error: BaseException) -> None:
    """Print why a command failed, in the first process; in another one only if the first does not end all soon."""
    found = group()
    if found is not None and found.rank:
        time.sleep(_PATIENCE)
    if found is not None and getattr(error, "failed_rank", found.rank) == found.rank:
        text = f"rank {found.rank} on {socket.gethostname()} failed: {text}"
    print(f"hebbcore: {printable(text)}", file=sys.stderr, flush=True)


def end(status: int, agreed: bool = False) -> int:
    """End all processes with a status, which is returned if this one may end as it likes.

    agreed: all of them end with it. Otherwise the others are ended too, if the status is not 0.
    """
    if group() is None or not status:
        return status
    from mpi4py import MPI

    sys.stdout.flush()
    sys.stderr.flush()
    if agreed:
        MPI.Finalize()
        return status
    time.sleep(_FORWARDING)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # whatever keeps MPI from ending all, the launcher then does
    signal.alarm(_LAST)
    MPI.COMM_WORLD.Abort(status)
