"""The labelling page without a browser: its server, over a set of made-up photos, and a classifier of blobs."""

import http.client
import io
import json
import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the page needs the extra label: pip install 'hebbcore[label]'")
pytest.importorskip("uvicorn", reason="the page needs the extra label: pip install 'hebbcore[label]'")

from PIL import Image

from hebbcore.classify import FewLabelClassifier
from hebbcore.cli.label import Tables
from hebbcore.page.app import Page
from hebbcore.page.board import Board, Versions
from hebbcore.page.learner import Learner
from hebbcore.page.serve import Address, serving
from hebbcore.page.store import Store
from hebbcore.page.thumbs import Thumbs

NAMES = ["a.jpg", "b.jpg", "sub/c.jpg", "<script>alert(1)</script>.jpg", 'line\nbreak, "quote".jpg', "b\udce9.jpg"]
NAMES += [f"{number}.png" for number in range(54)]
TRUTH = np.arange(60) % 3


def blobs():
    """Return features (60, 8) of three classes."""
    random = np.random.default_rng(0)
    return (random.normal(size=(60, 8)) + 3 * np.eye(8)[TRUTH]).astype(np.float32)


class Teacher:
    """A classifier of blobs, and results that are only counted."""

    def __init__(self):
        self.results, self.problem, self.gate = [], None, threading.Event()
        self.gate.set()

    def fitted(self):
        self.gate.wait()
        if self.problem is not None:
            raise self.problem
        return FewLabelClassifier().fit(blobs(), np.full(60, -1))

    def write(self, classifier, labels):
        self.results.append((classifier.transduction_.copy(), labels))

    def written(self):
        return 1.5e9 if self.results else None


class Pictures:
    """A picture of each photo but the second one, which cannot be read."""

    def __init__(self):
        self.made = 0

    def version(self, photo):
        return f"{photo:032x}"

    def jpeg(self, photo, side):
        if photo == 1:
            raise ValueError("damaged")
        self.made += 1
        file = io.BytesIO()
        Image.new("RGB", (side, side // 2), (photo, 0, 0)).save(file, "JPEG")
        return file.getvalue()


@dataclass
class Answer:
    """What a server answered; names of headers are in lower case."""

    status_code: int
    headers: dict
    content: bytes

    @property
    def text(self):
        return self.content.decode()

    def json(self):
        return json.loads(self.content)


class Client:
    """Asks a server, with the paths and headers as they are given, and the cookies that it set."""

    def __init__(self, port):
        self.host, self._port, self.cookies = f"127.0.0.1:{port}", port, {}

    def request(self, method, path, headers=(), content=None):
        sent = {"Host": self.host, **dict(headers)}
        if self.cookies:
            sent.setdefault("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            body = b"" if content is None else content if isinstance(content, bytes) else content.encode()
            for name, value in {**sent, "Content-Length": str(len(body))}.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            found = connection.getresponse()
            answer = Answer(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())
        finally:
            connection.close()
        if "set-cookie" in answer.headers:
            name, _, value = answer.headers["set-cookie"].partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer

    def get(self, path, headers=()):
        return self.request("GET", path, headers)

    def post(self, path, data=None, headers=()):
        sent = {"Origin": f"http://{self.host}", "Content-Type": "application/json", **dict(headers)}
        return self.request("POST", path, sent, data if isinstance(data, bytes) else json.dumps(data or {}))


class Session:
    """A page with its parts, and a client that has the cookie."""

    def __init__(self, folder, names=NAMES, learn=True):
        self.board = Board(names, Store(folder / "labels.sqlite"), Versions())
        self.teacher, self.pictures = Teacher(), Pictures()
        self.learner = Learner(self.board, self.teacher)
        thumbs = Thumbs(folder / "thumbs", self.pictures)
        self.page = Page(self.board, self.learner, self.pictures, thumbs, Tables(names, folder / "photos"), "set")
        address = Address("127.0.0.1", 0)
        self._socket, self._serving = address.socket, serving(self.page.application(), address, self.page.end)
        url = self._serving.__enter__()
        self.token, self.port, self.cookie = url.partition("=")[2], address.port, f"hebbcore-{address.port}"
        self.client = self.anew()
        self.client.cookies[self.cookie] = self.token
        if learn:
            self.learner.start()

    def anew(self):
        """Return a client without the cookie."""
        return Client(self.port)

    def get(self, path):
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path, data=None, status=200, **headers):
        answer = self.client.post(path, data, headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    def label(self, photos, label, unsure=False, status=200):
        return self.post("/api/label", {"images": photos, "label": label, "unsure": unsure}, status)

    def table(self, data, status=200):
        answer = self.client.post(
            "/api/import", data if isinstance(data, bytes) else data.encode(), {"Content-Type": "text/csv"}
        )
        assert answer.status_code == status, answer.text
        return answer.json()

    def state_when(self, reached):
        """Return the state as soon as it is as wanted."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            state = self.get("/api/state")
            if reached(state):
                return state
            time.sleep(0.02)
        pytest.fail(f"the state is still {state}")

    def close(self):
        self.teacher.gate.set()
        self._serving.__exit__(None, None, None)
        self._socket.close()
        self.learner.end()
        if self.learner.ident is not None:
            self.learner.join(60)
        self.board.close()


@pytest.fixture
def session(tmp_path):
    """A page of 60 photos with the classes cat and dog."""
    session = Session(tmp_path)
    session.board.add_classes(["cat", "dog"])
    yield session
    session.close()
