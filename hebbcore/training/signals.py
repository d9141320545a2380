"""Who answers signals while a training with a folder runs: the step finishes, and the training is saved."""

import signal
import threading
from types import FrameType
from typing import Any

from hebbcore import interrupts


class Signals:
    """Notes SIGINT, SIGTERM and SIGHUP while a training runs in the main thread; a second one stops it at once.

    SIGHUP is none but the first: a closed terminal sends it twice. A program that answers it itself keeps its handler.

    Attributes
    ----------
    got : int or None
        The number of the first signal; None before there is one.
    """

    def __init__(self) -> None:
        self.got: int | None = None
        self._stopped = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in interrupts.SIGNALS:
                if _ends(number):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.got is None:
            self.got = number
        elif not self._stopped and interrupts.is_second(number):
            # a third one must not tear what the second one's interrupt puts in order
            self._stopped = True
            raise KeyboardInterrupt("stopped at once; the latest checkpoint holds", number)


def _ends(number: int) -> bool:
    """Return whether a signal would end what is done now: ignored ones, as in background jobs, stay so.

    Daemons take SIGHUP as the wish to read their settings anew.
    """
    handler = signal.getsignal(number)
    if number == signal.SIGHUP:
        return handler in (signal.SIG_DFL, interrupts.answer)
    return handler is not signal.SIG_IGN
