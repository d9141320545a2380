"""Downloads from a local server that misbehaves in the ways real ones do."""

import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from loaders_helpers import contents

import loaders
import loaders.download as module

DATA = bytes(range(256)) * 4000


class Handler(BaseHTTPRequestHandler):
    """Serves DATA; server.plan says what to do with each request in turn, then it behaves."""

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        plan = server.plan.pop(0) if server.plan else "good"
        if plan in ("404", "503"):
            self.send_error(int(plan))
            return
        data, start = server.data, 0
        asked = self.headers.get("Range")
        if asked and plan != "no ranges":
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if plan != "no length":
            self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if plan == "break":
            self.wfile.write(data[start : start + 300_000])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
        elif plan != "break at once":
            self.wfile.write(data[start:])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    digest = hashlib.sha256(DATA).hexdigest()
    for name, files in [("cifar10", ["cifar.tar.gz"]), ("mnist", ["a.gz", "b.gz"])]:
        dataset = module.Dataset((), dict.fromkeys(files, f"sha256:{digest}"))
        monkeypatch.setitem(module.DATASETS, name, dataset)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.plan, server.requests, server.data = [], [], DATA
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def mirror(server):
    return f"http://127.0.0.1:{server.server_address[1]}/data"


def test_a_download_arrives_with_progress_and_is_not_repeated(server, mirror, tmp_path):
    seen = []
    path = loaders.download_dataset("cifar10", tmp_path, mirror=mirror, progress=lambda *step: seen.append(step))
    assert path == tmp_path / "cifar10" / "cifar.tar.gz"
    assert contents(path.parent) == {"cifar.tar.gz": DATA}
    assert seen[-1] == ("cifar.tar.gz", len(DATA), len(DATA))
    assert loaders.download_dataset("cifar10", tmp_path, mirror=mirror) == path
    assert server.requests == [("/data/cifar.tar.gz", None)]


def test_several_files_make_a_folder(server, mirror, tmp_path):
    path = loaders.download_dataset("mnist", tmp_path, mirror=mirror)
    assert path == tmp_path / "mnist"
    assert contents(path) == {"a.gz": DATA, "b.gz": DATA}


def test_a_broken_connection_is_resumed_where_it_broke(server, mirror, tmp_path):
    server.plan = ["break", "break", "503", "break at once", "break"]
    path = loaders.download_dataset("cifar10", tmp_path, mirror=mirror)
    assert path.read_bytes() == DATA
    starts = [asked for _, asked in server.requests]
    assert starts[0] is None
    assert starts[1] == "bytes=300000-"
    assert starts[2] == starts[3] == starts[4] == "bytes=600000-"


def test_a_server_without_ranges_sends_it_all_again(server, mirror, tmp_path):
    server.plan = ["break", "no ranges"]
    assert loaders.download_dataset("cifar10", tmp_path, mirror=mirror).read_bytes() == DATA


def test_a_server_that_does_not_tell_the_length(server, mirror, tmp_path):
    server.plan = ["no length"]
    assert loaders.download_dataset("cifar10", tmp_path, mirror=mirror).read_bytes() == DATA


def test_a_later_run_goes_on_with_what_an_earlier_one_left(server, mirror, tmp_path, monkeypatch):
    server.plan = ["break", "404"]
    with pytest.raises(ConnectionError, match=r"cifar\.tar\.gz could not be fetched .*404.*try again to go on"):
        loaders.download_dataset("cifar10", tmp_path, mirror=mirror)
    assert loaders.download_dataset("cifar10", tmp_path, mirror=mirror).read_bytes() == DATA
    assert server.requests[-1][1] == "bytes=300000-"


def test_a_wrong_checksum_is_an_error_and_leaves_nothing(server, mirror, tmp_path):
    server.data = b"wrong" + DATA[5:]
    with pytest.raises(ValueError, match="must have the checksum sha256:"):
        loaders.download_dataset("cifar10", tmp_path, mirror=mirror)
    assert contents(tmp_path / "cifar10") == {}
    server.data = DATA
    assert loaders.download_dataset("cifar10", tmp_path, mirror=mirror).read_bytes() == DATA


def test_a_damaged_file_is_fetched_again(server, mirror, tmp_path):
    path = loaders.download_dataset("cifar10", tmp_path, mirror=mirror)
    path.write_bytes(b"damaged")
    assert loaders.download_dataset("cifar10", tmp_path, mirror=mirror).read_bytes() == DATA


@pytest.mark.parametrize("left", [DATA, DATA + b"too much"])
def test_a_half_file_that_is_whole_or_too_long(server, mirror, tmp_path, left):
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / ".cifar.tar.gz.partial").write_bytes(left)
    assert loaders.download_dataset("cifar10", tmp_path, mirror=mirror).read_bytes() == DATA
    assert len(server.requests) == (0 if left == DATA else 2)


def test_a_server_that_gives_up_ends_in_an_error(server, mirror, tmp_path):
    server.plan = ["503"] * 20
    with pytest.raises(ConnectionError, match="HTTP status 503"):
        loaders.download_dataset("cifar10", tmp_path, mirror=mirror)
    assert len(server.requests) == module.ATTEMPTS


def test_the_next_address_is_tried(server, mirror, tmp_path, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    files = module.DATASETS["cifar10"].files
    monkeypatch.setitem(module.DATASETS, "cifar10", module.Dataset((closed, mirror + "/"), files))
    assert loaders.download_dataset("cifar10", tmp_path).read_bytes() == DATA


def test_an_unknown_data_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be one of cifar10, cifar100, mnist, fashion-mnist"):
        loaders.download_dataset("imagenet", tmp_path)
