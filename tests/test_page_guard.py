"""Who may ask the labelling page's server, and what it takes: tokens, hosts, origins, sizes, numbers, headers."""

import socket
import time

import pytest
from page_helpers import Session

from hebbcore.page import app, asking
from hebbcore.page.guard import HEADERS, POLICY
from hebbcore.page.serve import Address

PATHS = ["/", "/static/index.html", "/api/state", "/api/images", "/thumb/0", "/photo/0", "/api/export", "/nowhere"]
POSTS = ["/api/label", "/api/undo", "/api/classes", "/api/classes/rename", "/api/import", "/api/results"]


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A page that many tests share, of which none changes anything."""
    session = Session(tmp_path_factory.mktemp("guarded"), learn=False)
    session.board.add_classes(["cat", "dog"])
    yield session
    session.close()


def require_headers(answer):
    assert {name: answer.headers.get(name.lower()) for name in HEADERS} == HEADERS
    assert "cache-control" in answer.headers
    assert "server" not in answer.headers


@pytest.mark.parametrize("path", PATHS + POSTS)
@pytest.mark.parametrize("cookie", [None, "", "guessed", "{token}", "{token}~", "é"])
def test_without_the_cookie_nothing_is_told_or_taken(session, path, cookie):
    client = session.anew()
    value = (cookie or "").format(token=session.token[:-1])
    headers = {} if cookie is None else {"Cookie": f"other=1; {session.cookie}={value}"}
    for answer in (client.get(path, headers), client.post(path, {}, headers)):
        assert answer.status_code == 403
        assert answer.text == "Open the address that hebbcore label printed, with its token."
        assert answer.headers["content-type"].startswith("text/plain")
        require_headers(answer)


def test_the_token_in_the_address_sets_the_cookie(session):
    client = session.anew()
    for wrong in ("", "x", session.token[:-1], "%00", "%ff"):
        assert client.get(f"/?token={wrong}").status_code == 403
    assert client.get(f"/api/state?token={session.token}").status_code == 403  # it belongs to the first address alone
    answer = client.get(f"/?token={session.token}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert answer.headers["set-cookie"] == f"{session.cookie}={session.token}; HttpOnly; Path=/; SameSite=strict"
    require_headers(answer)
    assert client.get("/").status_code == 200
    linked = session.anew().get(f"/?token={session.token}", {"Sec-Fetch-Site": "cross-site"})
    assert linked.status_code == 200  # a redirect from another site would lose the cookie
    assert 'content="0; url=/"' in linked.text
    assert "set-cookie" in linked.headers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1", "127.0.0.1:80", "", "localhost"])
def test_another_host_is_refused(session, host):
    answer = session.client.get("/api/state", {"Host": host})
    assert answer.status_code == 421
    assert "error" in answer.json()
    require_headers(answer)


@pytest.mark.parametrize(
    "origin", ["null", "http://evil.example", "https://{host}", "http://127.0.0.1", "", "http://{host}/"]
)
@pytest.mark.parametrize("path", POSTS)
def test_changes_from_another_origin_are_refused(session, origin, path):
    asked = {"images": [0], "label": "cat", "unsure": False}
    answer = session.client.post(path, asked, {"Origin": origin.format(host=session.client.host)})
    assert answer.status_code == 403
    require_headers(answer)
    assert session.client.request("POST", path, {"Content-Type": "application/json"}, "{}").status_code == 403
    assert session.get("/api/state")["labelled"] == 0


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
def test_bodies_of_another_type_are_refused(session, kind):
    answer = session.client.post("/api/undo", {}, {"Content-Type": kind})
    assert answer.status_code == 415
    require_headers(answer)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(session, method):
    answer = session.client.request(method, "/api/label", {"Origin": f"http://{session.client.host}"})
    assert answer.status_code == 405
    require_headers(answer)
    assert session.client.get("/api/label").status_code == 405


def test_bodies_are_bounded(session, monkeypatch):
    monkeypatch.setattr(asking, "MOST_JSON", 1_000)
    monkeypatch.setattr(app, "MOST_TABLE", 1_000)
    for path, kind in (("/api/label", "application/json"), ("/api/import", "text/csv")):
        answer = session.client.post(path, b"x" * 1_001, {"Content-Type": kind})
        assert (answer.status_code, answer.json()) == (413, {"error": "A request can have at most 1000 bytes."})
        require_headers(answer)


@pytest.mark.parametrize("sent", ["POST /api/label HTTP/1.1\r\n{}Content-Length: 9\r\n\r\n{{", "no HTTP\r\n\r\n"])
def test_what_clients_do_wrong_is_no_news_in_the_terminal(session, caplog, sent):
    client, cookie = session.client, f"{session.cookie}={session.token}"
    headers = {
        "Host": client.host, "Origin": f"http://{client.host}", "Cookie": cookie, "Content-Type": "application/json",
    }  # fmt: skip
    with socket.create_connection(("127.0.0.1", session.port), timeout=60) as connection:
        connection.sendall(sent.format("".join(f"{name}: {value}\r\n" for name, value in headers.items())).encode())
        time.sleep(0.2)  # the server has begun to read
    time.sleep(0.2)
    session.get("/api/state")
    assert [record.getMessage() for record in caplog.records] == []


@pytest.mark.parametrize(
    "path",
    [
        "/thumb/60", "/thumb/-1", "/thumb/../../etc/passwd", "/thumb/..%2f..%2fetc%2fpasswd", "/photo/0x1",
        "/photo/1e1",
        "/photo/%2e%2e/x", "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e%2fapp.py", "/static//etc/passwd",
        "/static/%2fetc%2fpasswd", "/static/", "/static/none.js", "/thumb/99999999999999999999999999", "/static/%00.js",
    ],
)  # fmt: skip
def test_paths_lead_to_photos_of_the_set_and_files_of_the_page_alone(session, path):
    answer = session.client.get(path)
    assert answer.status_code == 404
    assert set(answer.json()) == {"error"}
    require_headers(answer)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"{}", b"[" * 100_000, b'{"images": [0], "label": "cat"}', b"\xff",
        b'{"images": [], "label": "cat", "unsure": false}', b'{"images": [60], "label": "cat", "unsure": false}',
        b'{"images": [-1], "label": "cat", "unsure": false}', b'{"images": [true], "label": "cat", "unsure": false}',
        b'{"images": [0.0], "label": "cat", "unsure": false}', b'{"images": ["0"], "label": "cat", "unsure": false}',
        b'{"images": [[0]], "label": "cat", "unsure": false}', b'{"images": [0], "label": "emu", "unsure": false}',
        b'{"images": [0], "label": 1, "unsure": false}', b'{"images": [0], "label": "cat", "unsure": true}',
        b'{"images": [0], "label": "cat", "unsure": 0}', b'{"images": [0], "label": "\\ud800", "unsure": false}',
        b'{"images": [1' + b"0" * 5_000 + b'], "label": null, "unsure": false}',
        b'{"images":0,"label":null,"unsure":true}', b'{"images": [0], "label": "cat", "unsure": false, "more": 1}',
        b'{"images": [NaN], "label": "cat", "unsure": false}',
    ],
)  # fmt: skip
def test_bad_requests_change_nothing_and_are_told_why(session, body):
    answer = session.client.post("/api/label", body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    require_headers(answer)
    assert session.get("/api/state")["can_undo"] is False


@pytest.mark.parametrize(
    "query",
    [
        "view=none", "offset=-1", "limit=-1", "limit=1001", "limit=x", "offset=1e9", "offset=--1", "low=2", "high=nan",
        "low=x", "class=emu", "offset=" + "9" * 30, "limit=%C2%B2", "ids=", "ids=1,x", "ids=-1", "ids=9999",
        "ids=" + "9" * 30,
    ],
)  # fmt: skip
def test_bad_questions_are_refused(session, query):
    answer = session.client.get(f"/api/images?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_a_fault_of_the_server_has_the_headers_too(session, monkeypatch):
    monkeypatch.setattr(session.board, "curve", lambda: 1 / 0)
    answer = session.client.get("/api/state")
    assert answer.status_code == 500
    assert "ZeroDivisionError" in answer.json()["error"]
    require_headers(answer)


def test_no_script_but_the_pages_own_runs():
    assert "default-src 'none'" in POLICY
    assert "unsafe" not in POLICY


@pytest.mark.parametrize(
    ("host", "names", "others"),
    [
        ("127.0.0.1", ["127.0.0.1", "localhost", "LocalHost", "[::1]"], ["0.0.0.0", "10.0.0.1", "evil.example", "::1"]),
        ("localhost", ["127.0.0.1", "localhost"], ["10.0.0.1", "evil.example"]),
        ("0.0.0.0", ["127.0.0.1", "10.0.0.1", "localhost", "[fe80::1]"], ["evil.example", "a.10.0.0.1", "[evil]"]),
    ],
)
def test_a_server_answers_to_its_own_names(host, names, others):
    address = Address(host, 0)
    port = address.port
    with address.socket:
        assert all(address.is_host(f"{name}:{port}") for name in names)
        assert not any(address.is_host(f"{name}:{port}") for name in others)
        assert not any(address.is_host(f"{name}:{port + 1}") or address.is_host(name) for name in names)
        assert address.origin.endswith(f":{port}")
        address.port = 80  # which browsers leave out
        assert all(address.is_host(name) and address.is_host(f"{name}:80") for name in names)
        assert not any(address.is_host(name) for name in (*others, "", ":", "80"))
    with pytest.raises(OSError, match=r"cannot serve on 192.0.2.1, port 0: .*; give another --port or --host"):
        Address("192.0.2.1", 0)
