"""The guard before the application: who may ask, from where, for how much; and the headers of every answer."""

import hmac
import json
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_LEADS_ON = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=/"><a href="/">Go on</a>'
_WHO = "Open the address that hebbcore label printed, with its token."


class Guard:
    """Lets requests through to an application that come from its own page.

    is_host: tells whether a Host header names this server. token: the cookie holds it, which the address with ?token=…
    sets. cookie: its name. entered: called whenever a browser has come by that address.
    """

    def __init__(
        self,
        application: ASGIApp,
        token: str,
        is_host: Callable[[str], bool],
        cookie: str,
        entered: Callable[[], None],
    ) -> None:
        self._application, self._token, self._is_host, self._cookie = application, token.encode(), is_host, cookie
        self._entered = entered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            raise ValueError(f"the server takes HTTP only, got {scope['type']}")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._refusal(scope)
        await (answer or self._application)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that goes no further, None if it does."""
        headers, method = Headers(scope=scope), scope["method"]
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_host(hosts[0]):
            return refused(421, "This server is not called so; open the address that hebbcore label printed.")
        given = QueryParams(scope["query_string"]).getlist("token") if scope["path"] == "/" else []
        if given and method in ("GET", "HEAD"):
            if not self._is_token(given[0]):
                return Response(_WHO, 403, media_type="text/plain")
            self._entered()
            return self._leading_on(headers)
        if not self._is_token(cookie_parser("; ".join(headers.getlist("cookie"))).get(self._cookie, "")):
            return Response(_WHO, 403, media_type="text/plain")
        if method in ("GET", "HEAD"):
            return None
        if method != "POST":
            return refused(405, f"There is no {method} here.")
        if headers.getlist("origin") != [f"http://{hosts[0]}"]:
            return refused(403, "Changes are taken from the page of this server alone.")
        return None

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode("utf-8", "replace"), self._token)

    def _leading_on(self, headers: Headers) -> Response:
        """Return the answer that sets the cookie, and leads on to the page.

        A redirect on the way from another site would not bring a strict cookie along: then a page leads on.
        """
        if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
            answer = Response(status_code=303, headers={"Location": "/"})
        else:
            answer = Response(_LEADS_ON, media_type="text/html")
        answer.set_cookie(self._cookie, self._token.decode(), path="/", httponly=True, samesite="strict")
        return answer


def told(data: Any, status: int = 200) -> Response:
    """Return an answer in JSON. Names that are no Unicode are escaped: they have no UTF-8."""
    return Response(json.dumps(data, allow_nan=False, separators=(",", ":")), status, media_type="application/json")


def refused(status: int, text: str) -> Response:
    """Return an answer that says what is wrong."""
    return told({"error": text}, status)
