"""The application: what the page asks for, and what it is answered."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from hebbcore.labelling.tables import lines_of
from hebbcore.page.asking import body_of, integer, json_of, share
from hebbcore.page.board import Board, Ints
from hebbcore.page.guard import refused, told
from hebbcore.page.learner import Learner
from hebbcore.page.store import UNSURE
from hebbcore.page.thumbs import PHOTO, Pictures, Thumbs
from hebbcore.page.told import in_words
from hebbcore.page.views import VIEWS, Query, curve_of, described, photos_of

STATIC = Path(__file__).parent / "static"
MOST_TABLE = 2**26  # bytes
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_MOST_ITEMS = 1_000  # of an answer
_POLL_SECONDS, _LOOK = 20.0, 0.05
_MAKERS = 2  # threads that make pictures: a large photo takes hundreds of megabytes while it is decoded


class Tables(Protocol):
    """What reads tables of labels."""

    def read(self, data: bytes) -> tuple[dict[int, str], int, list[str], list[str]]:
        """Return {photo: class}, how many rows name no photo, some of their files, and remarks on the labels.

        It may take long, but must not hold Python's lock: requests are answered meanwhile. Raises ValueError for what
        is no table.
        """


class Page:
    """The answers. end(): lets those that wait come back.

    photo_set: tells the photos from those of another set, which may have the same names.
    """

    def __init__(
        self, board: Board, learner: Learner, pictures: Pictures, thumbs: Thumbs, tables: Tables, photo_set: str
    ) -> None:
        self._board, self._learner, self._tables, self._photo_set = board, learner, tables, photo_set
        self._pictures, self._thumbs = pictures, thumbs
        self._makers, self._turns = ThreadPoolExecutor(_MAKERS, "pictures"), asyncio.Semaphore(_MAKERS)
        self._ended = False

    def end(self) -> None:
        self._ended = True
        self._makers.shutdown(wait=False, cancel_futures=True)

    def application(self) -> Starlette:
        """Return the application."""
        gets: dict[str, Callable[..., Any]] = {
            "/": self.index, "/static/{name}": self.static, "/api/state": self.state, "/api/images": self.images,
            "/thumb/{photo:int}": self.thumb, "/photo/{photo:int}": self.photo, "/api/export": self.export,
        }  # fmt: skip
        posts: dict[str, Callable[..., Any]] = {
            "/api/label": self.label, "/api/undo": self.undo, "/api/classes": self.add_class,
            "/api/classes/rename": self.rename_class, "/api/import": self.take_table, "/api/results": self.results,
        }  # fmt: skip
        routes = [Route(path, answer) for path, answer in gets.items()]
        routes += [Route(path, answer, methods=["POST"]) for path, answer in posts.items()]
        handlers: dict[Any, Any] = {HTTPException: _wrong, ValueError: _bad, sqlite3.Error: _failed, Exception: _failed}
        return Starlette(routes=routes, exception_handlers=handlers)

    # What lies ready

    def index(self, request: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers=_NO_STORE)

    def static(self, request: Request) -> Response:
        path = STATIC / request.path_params["name"]
        if path.suffix not in _TYPES or path not in STATIC.iterdir():
            raise HTTPException(404, "There is no such file.")
        return FileResponse(path, media_type=_TYPES[path.suffix], headers=_NO_STORE)

    # What is known

    async def state(self, request: Request) -> Response:
        """Answer at once, or wait for another version than `after`."""
        after, until = integer(request, "after", -1), time.monotonic() + _POLL_SECONDS
        while self._board.versions.value == after and time.monotonic() < until and not self._ended:
            await asyncio.sleep(_LOOK)  # simpler than to be woken by other threads, and as good for a few pages
        return told(await asyncio.to_thread(self._state))

    def _state(self) -> dict[str, Any]:
        version, learner, found = self._board.versions.value, self._learner, self._learner.found
        codes, classes = self._board.codes(), self._board.classes
        given = np.bincount(codes[codes > UNSURE] - 1, minlength=len(classes)).tolist()
        guessed, estimate = [0] * len(classes), None
        if found is not None and found.guesses is not None:
            guessed = np.bincount(found.guesses.first[codes <= UNSURE], minlength=len(classes)).tolist()
        if found is not None and found.estimate is not None:
            estimate = dict(zip(("value", "low", "high"), map(float, found.estimate), strict=True))
        return {
            "version": version,
            "photo_set": self._photo_set,
            "guesses_version": 0 if found is None else found.version,
            "images": len(codes),
            "labelled": sum(given),
            "unsure": int(np.count_nonzero(codes == UNSURE)),
            "classes": [
                {"name": name, "labelled": own, "guessed": other}
                for name, own, other in zip(classes, given, guessed, strict=True)
            ],
            "learning": {
                "running": learner.running, "error": learner.error, "labels": 0 if found is None else found.labels,
            },
            "estimate": estimate,
            "curve": curve_of(self._board.curve()),
            "can_undo": self._board.can_undo(),
            "results": {"running": learner.writing, "error": learner.write_error, "written": learner.written()},
        }  # fmt: skip

    def images(self, request: Request) -> Response:
        version, found = self._board.versions.value, self._learner.found
        codes, classes = self._board.codes(), self._board.classes
        asked, name = request.query_params, request.query_params.get("class")
        if (view := asked.get("view", "next")) not in VIEWS:
            raise ValueError(f"view must be one of {', '.join(VIEWS)}.")
        if name is not None and name not in classes:
            raise ValueError("there is no such class.")
        place = None if name is None else classes.index(name)
        low, high = share(request, "low", 0.0), share(request, "high", 1.0)
        photos = self._named(asked["ids"]) if "ids" in asked else photos_of(Query(view, place, low, high), codes, found)
        first, count = integer(request, "offset", 0), integer(request, "limit", 200)
        if first < 0 or not 0 <= count <= _MOST_ITEMS:
            raise ValueError(f"offset must be at least 0, and limit from 0 to {_MOST_ITEMS}.")
        items = described(photos[first : first + count], self._board.names, codes, classes, found)
        return told({"version": version, "total": len(photos), "items": items})

    def _named(self, text: str) -> Ints:
        """Return the photos that a page asks for by their numbers, such as 3,14,15."""
        numbers = text.split(",")
        most = len(self._board.names)
        if not all(n.isascii() and n.isdigit() and len(n) < 19 and int(n) < most for n in numbers):
            raise ValueError("ids must be numbers of photos of this set.")
        return np.array(numbers, np.int64)

    # Pictures

    async def thumb(self, request: Request) -> Response:
        """Answer with a thumbnail, or a placeholder for a photo that cannot be read."""
        photo = self._photo_of(request)

        def made() -> Response:
            version = self._pictures.version(photo)
            headers = {"ETag": f'"{version}"', "Cache-Control": "private, no-cache"}
            if request.headers.get("if-none-match") == headers["ETag"]:
                return Response(status_code=304, headers=headers)
            return Response(self._thumbs.of(photo, version), media_type="image/jpeg", headers=headers)

        try:
            return await self._made(request, made)
        except (ValueError, OSError):
            return Response(_BROKEN, media_type="image/svg+xml", headers={"X-Hebbcore-Broken": "1"})

    async def photo(self, request: Request) -> Response:
        """Answer with a larger picture."""
        photo = self._photo_of(request)
        try:
            return await self._made(
                request, lambda: Response(self._pictures.jpeg(photo, PHOTO), media_type="image/jpeg")
            )
        except (ValueError, OSError):
            raise HTTPException(404, "This photo cannot be read.") from None

    def _photo_of(self, request: Request) -> int:
        photo: int = request.path_params["photo"]
        if photo >= len(self._board.names):
            raise HTTPException(404, "There is no such photo.")
        return photo

    async def _made(self, request: Request, make: Callable[[], Response]) -> Response:
        """Return a picture, made when it is its turn; nothing for a page that has scrolled on meanwhile."""
        async with self._turns:
            if await request.is_disconnected():
                return Response(status_code=204)
            return await asyncio.get_running_loop().run_in_executor(self._makers, make)

    # What the page does

    async def label(self, request: Request) -> Response:
        """Give photos a label."""
        asked = await json_of(request, images=list, unsure=bool, label=object)
        photos, label, unsure = asked["images"], asked["label"], asked["unsure"]
        if not photos or not all(type(photo) is int and 0 <= photo < len(self._board.names) for photo in photos):
            raise ValueError("images must be numbers of photos of this set.")
        if label is not None and (unsure or not isinstance(label, str)):
            raise ValueError("label must be the name of a class, or null; and null where unsure is true.")
        version, action = await self._changed(lambda: self._board.give(photos, label, unsure))
        return told({"version": version, "action": action})

    async def undo(self, request: Request) -> Response:
        """Take back the last action."""
        await json_of(request)
        try:
            version, photos = await self._changed(self._board.undo)
        except LookupError as error:
            return refused(409, str(error.args[0]))
        return told({"version": version, "images": photos})

    async def add_class(self, request: Request) -> Response:
        """Add a class."""
        asked = await json_of(request, name=str)
        return told({"version": await self._changed(lambda: self._board.add_class(asked["name"]))})

    async def rename_class(self, request: Request) -> Response:
        """Give a class another name."""
        asked = await json_of(request, old=str, new=str)
        return told({"version": await self._changed(lambda: self._board.rename(asked["old"], asked["new"]))})

    async def take_table(self, request: Request) -> Response:
        """Take in the labels of a table."""
        data = await body_of(request, "text/csv", MOST_TABLE)

        def take() -> dict[str, Any]:
            labels, unknowns, some, remarks = self._tables.read(data)
            version, replaced = self._board.take_in(labels)
            found = {"labelled": len(labels), "replaced": len(replaced), "unknown": some, "unknowns": unknowns}
            return {"version": version, **found, "remarks": remarks}

        return told(await self._changed(take))

    async def results(self, request: Request) -> Response:
        """Begin to write the results."""
        await json_of(request)
        self._learner.write()
        return told({"version": self._board.versions.value})

    def export(self, request: Request) -> Response:
        data = lines_of([("file", "label"), *self._board.labelled()])
        headers = {"Content-Disposition": 'attachment; filename="labels.csv"'}
        return Response(data, media_type="text/csv; charset=utf-8", headers=headers)

    async def _changed(self, change: Callable[[], Any]) -> Any:
        """Make a change in a thread, as it waits for the disk, and let the learner know."""
        found = await asyncio.to_thread(change)
        self._learner.look()
        return found


_NO_STORE = {"Cache-Control": "no-store"}
_BROKEN = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="256" height="256"><rect width="256" height="256" fill="#8884"/>'
    '<path d="M64 64 192 192M192 64 64 192" stroke="#888" stroke-width="12"/></svg>'
)


def _wrong(request: Request, error: HTTPException) -> Response:
    answer = refused(error.status_code, error.detail)
    answer.headers.update(error.headers or {})
    return answer


def _bad(request: Request, error: ValueError) -> Response:
    return refused(400, in_words(error))


def _failed(request: Request, error: Exception) -> Response:
    return refused(500, in_words(error))
