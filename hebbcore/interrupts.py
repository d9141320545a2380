"""SIGINT, SIGTERM and SIGHUP in a process of the `hebbcore` command; in any other one nothing here has an effect.

Imported before everything else, as an early signal meets the slow imports. Until the command begins its work a signal
ends the process at once: nothing is written yet, and an import must not be torn. From then on it raises
KeyboardInterrupt("interrupted", number) once, and what was begun is put in order; a thread ends the process where that
takes too long, such as in a call that never returns. `hebbcore.fit` has handlers of its own while it trains.

A terminal that is closed sends SIGHUP, often twice, and fails all that is written to it from then on.
"""

import atexit
import contextlib
import os
import signal
import sys
from types import FrameType

if not hasattr(signal, "SIGHUP"):
    raise ImportError(
        "hebbcore needs signals and locks of files as Linux and macOS have them; on Windows install it in the Windows "
        "Subsystem for Linux (wsl --install)."
    )

PATIENCE = 5.0  # seconds from the signal that asks for the end to the end
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # which ask for the end

_wake = -1  # end of a pipe: what is written there, _watch takes for signals
_stage = "elsewhere"  # then in a process of the command: "starting", "working", "ending"
_status: int | None = None  # with which an interrupted command ends
_told: list[str] = ["nothing yet"]  # empty: the line that says why the command ended is written


def is_command(arguments: list[str], original: list[str]) -> bool:
    """Return whether sys.argv and sys.orig_argv are those of `hebbcore …` or, early, of `python -m hebbcore …`."""
    if arguments[:1] == ["-m"]:  # Python is finding the module that it is to run
        return original[-len(arguments) :][:1] in (["hebbcore"], ["-mhebbcore"])
    return os.path.basename("".join(arguments[:1])) == "hebbcore"


def is_second(number: int) -> bool:
    """Return whether a signal that is not the first is one more wish for the end: a closed terminal's is not."""
    return number != signal.SIGHUP


def start() -> None:
    """Answer signals from now on, except those that whoever started the process lets it ignore."""
    global _stage
    _stage = "starting"
    atexit.register(_finish)  # the first one to be registered is the last one to be called
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, answer)


def work() -> None:
    """The command begins its work."""
    global _stage, _wake
    if _stage != "starting":
        return
    import threading

    read, _wake = os.pipe()
    os.set_blocking(_wake, False)
    signal.set_wakeup_fd(_wake, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read,), daemon=True).start()
    _stage = "working"


def end(interrupt: int | None = None) -> None:
    """The command has done its work, or was interrupted by a signal; no other one is raised."""
    global _stage, _status
    if _stage == "elsewhere":
        return
    _stage = "ending"
    if interrupt is not None:
        _status = 128 + interrupt
        for number in SIGNALS:  # or Python would let the last ones kill the process, with another status
            signal.signal(number, signal.SIG_IGN)
        if _wake >= 0:
            os.write(_wake, bytes([interrupt, signal.SIGTERM]))


def _finish() -> None:
    """End an interrupted command with its status: Python ends by SIGINT if one came while it ran a text as code."""
    if _status is not None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # none, closed, or nobody reads it
                stream.flush()
        os._exit(_status)


def tell(text: str) -> None:
    """Write why the command ended to standard error, once in a process of the command."""
    if _stage == "elsewhere" or _first_to_tell():
        with contextlib.suppress(OSError):  # nobody reads it, as after SIGHUP
            print(f"hebbcore: {text}", file=sys.stderr, flush=True)


def _first_to_tell() -> bool:
    try:
        _told.pop()
    except IndexError:
        return False
    return True


def answer(number: int, frame: FrameType | None) -> None:
    """Answer a signal; the handler of all SIGNALS that are not ignored."""
    if _stage == "starting":
        _leave(number)
    # while one interrupt is being answered, another would tear what it puts in order
    if _stage == "working" and not isinstance(sys.exc_info()[1], KeyboardInterrupt):
        raise KeyboardInterrupt("interrupted", number)


def _leave(number: int) -> None:
    global _stage
    _stage = "ending"  # or the next signal's handler, in the midst of this one, would leave before a word is written
    try:
        if sys.stderr is not None and _first_to_tell():
            os.write(sys.stderr.fileno(), b"hebbcore: interrupted\n")  # 2 is a file of the command if it was closed
    finally:  # also if nobody reads it
        os._exit(128 + number)


def _watch(numbers: int) -> None:
    """End the process PATIENCE after a signal that asks for its end; one that fit answers is a request to save."""
    import select
    import time

    first, until = 0, None
    while until is None or select.select([numbers], [], [], max(0.0, until - time.monotonic()))[0]:
        for number in os.read(numbers, 64):
            if number in SIGNALS:
                again = first and is_second(number)
                if until is None and (again or signal.getsignal(number) is answer):
                    until = time.monotonic() + PATIENCE
                first = first or number
    _leave(first)


if is_command(getattr(sys, "argv", []), sys.orig_argv):
    start()
