"""Who answers SIGINT and SIGTERM while a training with a folder runs: the step finishes, and the training is saved."""

import signal
import threading
from types import FrameType
from typing import Any


class Signals:
    """Notes SIGINT and SIGTERM while a training runs in the main thread; the second one stops it at once.

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
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as in a shell's background jobs: it stays ignored
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.got is None:
            self.got = number
        elif not self._stopped:  # a third one must not tear what the second one's interrupt puts in order
            self._stopped = True
            raise KeyboardInterrupt("stopped at once; the latest checkpoint holds", number)
