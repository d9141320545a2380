"""How far a long part of a fit is: lines of text, some seconds apart, with the rate and the time that is left."""

import time
from collections.abc import Callable

_SECONDS = 10.0  # between two lines
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


class Meter:
    """Counts what is done of a whole.

    tell: gets the lines; None: nobody does. what: names the work. total: how much it is, None: unknown.
    unit: of the work.
    """

    def __init__(self, tell: Callable[[str], None] | None, what: str, total: float | None, unit: str = "FLOP") -> None:
        self._tell, self._what, self._total, self._unit = tell, what, total, unit
        self._done, self._began = 0.0, time.monotonic()
        self._told = self._began

    def add(self, done: float) -> None:
        """Count work that was done."""
        self._done += done
        now = time.monotonic()
        if self._tell is not None and now - self._told >= _SECONDS:
            self._told = now
            self._tell(self._line(now - self._began))

    def expect(self, more: float) -> None:
        """Count work that is to be done besides; below 0: that is spared."""
        if self._total is not None:
            self._total += more

    def _line(self, seconds: float) -> str:
        rate = self._done / seconds
        if self._total is None:
            return f"{self._what}: {_short(self._done)}{self._unit}, {_short(rate)}{self._unit}/s"
        left = max(0, int((self._total - self._done) / rate))  # a stream may give more than it said
        clock = f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
        return f"{self._what}: {100 * self._done / self._total:.0f} %, {_short(rate)}{self._unit}/s, {clock} left"


SILENT = Meter(None, "", None)


def _short(number: float) -> str:
    """Return a number with three digits and the prefix of its unit."""
    factor, prefix = next(((factor, prefix) for factor, prefix in _PREFIXES if number >= factor), (1.0, ""))
    return f"{number / factor:.3g} {prefix}"
