"""The server: a socket, and a thread that answers on it until the command ends."""

import ipaddress
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from hebbcore.page.guard import Guard

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_ENDING = 2  # seconds for answers under way when the server ends


class Address:
    """A socket that is bound, but does not listen yet, and what it is called.

    host: a name or an IP address; port: 0 is any that is free. Raises OSError if it cannot be had.
    """

    def __init__(self, host: str, port: int) -> None:
        try:
            self.socket = _bound(host, port)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OSError(f"cannot serve on {host}, port {port}: {reason}; give another --port or --host.") from None
        self.ended = threading.Event()  # when nobody answers on it any more
        self._host = f"[{host}]" if ":" in host else host
        self.port: int = self.socket.getsockname()[1]
        self._bound = ipaddress.ip_address(self.socket.getsockname()[0])

    @property
    def origin(self) -> str:
        """What a browser opens."""
        return f"http://{socket.gethostname() if self._bound.is_unspecified else self._host}:{self.port}"

    def is_host(self, header: str) -> bool:
        """Return whether a Host header names this server: a page under another name, led here by DNS, is refused."""
        name, _, port = header.lower().rpartition(":")
        if not port.isdigit():  # browsers leave out 80
            name, port = header.lower(), "80"
        if not name or port != str(self.port):
            return False
        if self._bound.is_loopback:
            return name in (*_LOOPBACK, self._host.lower())
        if not self._bound.is_unspecified:
            return name == self._host.lower()
        return name in (*_LOOPBACK, socket.gethostname().lower(), socket.getfqdn().lower()) or _is_number(name)


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(place)
    except OSError:
        found.close()
        raise
    return found


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


@contextmanager
def serving(
    application: ASGIApp, address: Address, end: Callable[[], None], entered: Callable[[], None] = lambda: None
) -> Iterator[str]:
    """Answer requests in a thread; yields the address to open, with its token, once the server listens.

    end: called before the server ends; lets answers that wait come back. entered: called whenever a browser has come by
    the address with its token. Raises OSError if it cannot listen.
    """
    token = secrets.token_urlsafe(24)
    guard = Guard(application, token, address.is_host, f"hebbcore-{address.port}", entered)
    settings = uvicorn.Config(
        guard, lifespan="off", ws="none", http="h11", loop="asyncio", log_config=None, log_level="error",
        access_log=False, server_header=False, proxy_headers=False, timeout_graceful_shutdown=_ENDING,
    )  # fmt: skip
    server = uvicorn.Server(settings)
    failures: list[OSError] = []

    def run() -> None:
        try:
            server.run(sockets=[address.socket])
        except OSError as error:
            failures.append(error)
        finally:
            address.ended.set()

    thread = threading.Thread(target=run, name="server", daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            thread.join(0.02)
        if not server.started:
            reason = failures[0].strerror if failures else "see above"
            raise OSError(f"cannot serve on {address.origin}: {reason}; give another --port.")
        yield f"{address.origin}/?token={token}"
    finally:
        end()
        server.should_exit = True
        thread.join()
