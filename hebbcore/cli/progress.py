"""How far a training is, and a sweep of many: lines of text."""

import math
import sys
import time
from collections.abc import Callable

from hebbcore.checks import printable
from hebbcore.training.diagnostics import Record

_REMEMBERED = 20.0  # seconds, after which an estimate of the time left counts a third


def line_of(record: Record, left: float | None) -> str:
    """Return a record as a line; left: seconds of all that is to come, if known."""
    layers, rate = record["layers"].items(), record["images_per_second"]
    speed = f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
    changes = ", ".join(f"{name} {layer['change']:.1e}" for name, layer in layers if layer["change"] is not None)
    return (
        f"epochs done: {record['epoch']}, {record['images']:,} images, {speed} img/s"
        + ("" if left is None else f", {clock(left)} left")
        + (f"; accuracy {record['accuracy']:.1%} of {record['labelled']:,} labels" if "accuracy" in record else "")
        + (f"; change {changes}" if changes else "")
    )


def clock(seconds: float) -> str:
    """Return a time as hours:minutes:seconds."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


class Left:
    """Seconds left, as a user can believe them: the rate of the last seconds alone jumps with all that runs besides.

    An estimate counts the less, the shorter it comes after the one before. Ratios are averaged, not seconds, so that
    one estimate of hours is forgotten soon.
    """

    def __init__(self) -> None:
        self._left = self._when = 0.0

    def smoothed(self, left: float) -> float:
        """Return the seconds left, from a new estimate and those before."""
        now = time.monotonic()
        if self._left:
            passed = now - self._when
            before = max(1.0, self._left - passed)
            weight = 1 - math.exp(-passed / _REMEMBERED)
            left = before * (max(1.0, left) / before) ** weight
        self._left, self._when = left, now
        return left


class Progress:
    """Says which run of how many is trained, and how long all will take if the others take as long."""

    def __init__(self, runs: int, left: int) -> None:
        self._runs, self._left = runs, left
        self._seconds: list[float] = []  # of the runs so far
        self._began: float | None = None

    def of(self, number: int, name: str) -> "Callable[[Record], None] | None":
        """Announce a run; returns what prints its records, None where a bar shows them."""
        now = time.monotonic()
        if self._began is not None:
            self._seconds.append(now - self._began)
        self._began, self._left = now, self._left - 1
        left = f", {clock(self._mean(0) * (self._left + 1))} left" if self._seconds else ""
        self.say(number, name + left)
        if sys.stderr.isatty():
            return None

        def tell(record: Record) -> None:
            own = record["seconds_left"]
            left = None if own is None else own + self._mean(record["seconds"] + own) * self._left
            self.say(number, line_of(record, left))

        return tell

    def say(self, number: int, text: str) -> None:
        """Print a line about a run."""
        print(printable(f"run {number} of {self._runs}: {text}"), file=sys.stderr, flush=True)

    def _mean(self, otherwise: float) -> float:
        return sum(self._seconds) / len(self._seconds) if self._seconds else otherwise
