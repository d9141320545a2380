"""Who may use a network while it is trained."""

import threading
from typing import Any

from hebbcore.engine.parallel import ForkedLock


class Trainable:
    """What one thread trains, and others may use between two steps. Copies and pickles are not being trained."""

    def __init__(self) -> None:
        self._lock = ForkedLock()
        self._trained_by: int | None = None  # the thread

    @property
    def lock(self) -> ForkedLock:
        """What to hold while `run` is at work and its result in use, or the arrays of layers are read or changed."""
        return self._lock

    def begin_training(self, function: str) -> None:
        """Mark the network as being trained.

        Raises
        ------
        RuntimeError
            If it is being trained already.
        """
        with self.lock:
            if self._trained_by is not None:
                raise RuntimeError(
                    f"{function}: the network is being trained already, by thread {self._trained_by}; wait for it, or "
                    "train a network of its own in each thread."
                )
            self._trained_by = threading.get_ident()

    def end_training(self) -> None:
        """Take the mark off again."""
        self._trained_by = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_trained_by": None}
