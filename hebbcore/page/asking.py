"""What a request asks for, checked: its body, and the values in its address."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from hebbcore.files import parse_json

MOST_JSON = 2**24  # bytes


async def body_of(request: Request, kind: str, most: int) -> bytes:
    """Return the body of a request. Raises HTTPException if it is too large, or of another kind."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != kind:
        raise HTTPException(415, f"The Content-Type must be {kind}.")
    data = bytearray()
    try:
        async for piece in request.stream():
            data += piece
            if len(data) > most:
                raise HTTPException(413, f"A request can have at most {most} bytes.")
    except ClientDisconnect:  # nobody hears it; without it the terminal would show a fault of the server
        raise HTTPException(400, "The request broke off.") from None
    return bytes(data)


async def json_of(request: Request, **kinds: type) -> dict[str, Any]:
    """Return the values of a JSON object that a request holds. kinds: their names and types; others are refused."""
    try:
        asked = parse_json(await body_of(request, "application/json", MOST_JSON))
    except ValueError as error:
        raise ValueError(f"the request is no JSON: {error}.") from None
    if not isinstance(asked, dict) or asked.keys() != kinds.keys():
        raise ValueError(f"the request must be a JSON object with {', '.join(kinds) or 'nothing in it'}.")
    for name, kind in kinds.items():
        if not isinstance(asked[name], kind):
            raise ValueError(f"{name} must be {kind.__name__}.")
    return asked


def integer(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.removeprefix("-").isdigit() or len(text) > 18:
        raise ValueError(f"{name} must be an integer.")
    return int(text)


def share(request: Request, name: str, default: float) -> float:
    try:
        value = float(request.query_params.get(name, default))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be a number from 0 to 1.")
    return value
