"""One file of a known size over HTTP, in as many requests as it takes, whatever the server says or does.

What decides are the bytes that came, and never what a server says about them: each request must bring bytes at a least
rate, and the number of requests is bounded.
"""

import http.client
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

ATTEMPTS = 5  # in a row of which none brings a hundredth of the file
BLOCK = 2**18
TIMEOUT = 30.0  # seconds without a byte
PERIOD, RATE = 60.0, 1024  # every so many seconds a connection must bring so many bytes a second

Progress = Callable[[int, int], object]


class _RefusedError(Exception):
    """What the server answers is not the file, and to ask it again would not help."""


class _WrongRangeError(Exception):
    """The server does not send the part that it was asked for."""


class _UnwritableError(OSError):
    """The file cannot be written."""


def complete(url: str, half: Path, size: int, progress: Progress | None = None) -> str | None:
    """Append to half until it has `size` bytes. None, or why it has not. Raises OSError if it cannot be written.

    It gives up after ATTEMPTS requests in a row that bring less than a hundredth of the file.
    """
    best, failures, ranges, reason = _length(half), 0, True, ""
    while best < size and failures < ATTEMPTS:
        if failures:
            time.sleep(min(0.1 * 2**failures, 5))
        try:
            reason = _attempt(url, half, size, ranges, progress)
        except _RefusedError as refused:
            reason, failures = str(refused), ATTEMPTS
        except _WrongRangeError as wrong:
            reason, ranges = str(wrong), False
        failures += 1
        length = _length(half)
        if length >= min(best + max(1, size // 100), size):
            best, failures = length, 0
    return None if best >= size else "".join(c if c.isprintable() else "?" for c in reason[:200])


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _attempt(url: str, half: Path, size: int, ranges: bool, progress: Progress | None) -> str:
    """Make one request, and return why it ended early, if it did."""
    start = _length(half) if ranges else 0
    with open(half, "r+b" if half.exists() else "wb") as file, _Watch() as watch:
        try:
            _transfer(url, file, start, size, watch, progress)
            reason = "the connection broke"
        except _UnwritableError:
            raise
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"HTTP status {error.code}"
            if error.code == 416:
                raise _WrongRangeError(reason) from None
            if error.code < 500 and error.code not in (408, 429):
                raise _RefusedError(reason) from None
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
        except ValueError as error:  # an address, perhaps one that it was redirected to
            raise _RefusedError(str(error)) from None
    return f"less than {RATE} bytes a second" if watch.slow else reason


def _transfer(url: str, file: IO[bytes], start: int, size: int, watch: "_Watch", progress: Progress | None) -> None:
    """Write what one request brings, from byte `start` on if the server does that."""
    headers = {"User-Agent": "hebbcore", **({"Range": f"bytes={start}-"} if start else {})}
    with watch.open(urllib.request.Request(url, headers=headers)) as response:
        file.seek(_start_of(response, start, size))
        while (left := size - file.tell()) and (block := response.read1(min(BLOCK, left))):
            watch.received += len(block)
            try:
                file.write(block)
            except OSError as error:
                raise _UnwritableError(
                    error.errno, f"cannot write {file.name}: {error.strerror}; run the same command again to go on"
                ) from error
            if progress:
                progress(file.tell(), size)


def _start_of(response: Any, start: int, size: int) -> int:
    """Return which byte of the file comes first. Raises _RefusedError if it cannot be this file."""
    if response.status == 206:
        span = response.headers.get("Content-Range", "")
        found = re.fullmatch(r"bytes ([0-9]+)-[0-9]+/([0-9]+|\*)", span)
        if not found or found[1] != str(start) or found[2] not in ("*", str(size)):
            raise _WrongRangeError(f"bytes {start} to {size} were asked for, but the server sends {span!r}")
    else:  # everything, whatever was asked
        start = 0
    length = response.headers.get("Content-Length")
    if length is not None and length.strip() != str(size - start):
        raise _RefusedError(f"the server says {length!r} bytes come where there must be {size - start}")
    return start


class _Watch:
    """Opens addresses, and breaks their connections when they bring too little, whatever is being waited for.

    A time limit for each read is not enough: a byte now and then, in a header or in the body, holds every read.
    """

    def __init__(self) -> None:
        self.received, self.slow = 0, False
        self._sockets: list[socket.socket] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="loaders-watch", daemon=True)

    def open(self, request: urllib.request.Request) -> Any:
        """Return the response to a request."""
        sockets = self._sockets

        class Plain(http.client.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                sockets.append(self.sock)

        class Secure(http.client.HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                sockets.append(self.sock)

        class Http(urllib.request.HTTPHandler):
            def http_open(self, request: urllib.request.Request) -> Any:
                return self.do_open(Plain, request)

        class Https(urllib.request.HTTPSHandler):
            def https_open(self, request: urllib.request.Request) -> Any:
                return self.do_open(Secure, request)

        return urllib.request.build_opener(Http, Https).open(request, timeout=TIMEOUT)

    def _look(self) -> None:
        before = 0
        while not self._over.wait(PERIOD):
            if self.received - before < PERIOD * RATE:
                self.slow = True
                for connection in self._sockets:
                    with suppress(OSError):
                        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # of TLS too, in the middle of a read
            before = self.received

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
