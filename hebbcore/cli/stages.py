"""How far a command of several stages is: a line now and then, with the time that the stage still takes."""

import sys
import time

from hebbcore.checks import printable
from hebbcore.cli.progress import clock

_SECONDS = 5.0  # between two lines of a stage


class Stages:
    """Prints lines about stages, one after the other."""

    def __init__(self) -> None:
        self._name = ""
        self._began = self._told = 0.0
        self._first = 0

    def tell(self, name: str, done: int, total: int) -> None:
        """Take note of how far a stage is: done of total. What was done before its first call took no time."""
        now = time.monotonic()
        if name != self._name:
            self._name, self._began, self._told, self._first = name, now, now, done
            self.say(name, f"{done:,} of {total:,}" if done else "begun")
            return
        if done >= total:
            self.say(name, f"done in {clock(now - self._began)}")
            self._name = ""
        elif now - self._told >= _SECONDS:
            self._told = now
            new = done - self._first
            left = f", {clock((now - self._began) / new * (total - done))} left" if new > 0 else ""
            self.say(name, f"{done:,} of {total:,}{left}")

    def say(self, name: str, text: str) -> None:
        """Print a line about a stage."""
        print(printable(f"{name}: {text}"), file=sys.stderr, flush=True)
