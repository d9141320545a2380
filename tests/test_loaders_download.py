"""Downloads from a local server that misbehaves in the ways real ones do, and in some that only a hostile one does."""

import contextlib
import errno
import hashlib
import logging
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from loaders_helpers import contents

import loaders
import loaders.download as module
from loaders import transfer

DATA = bytes(range(256)) * 4000


class Handler(BaseHTTPRequestHandler):
    """Serves DATA; server.plan says what to do with each request in turn, then it behaves."""

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        plan = server.plan.pop(0) if server.plan else server.always
        if plan in ("404", "416", "503"):
            self.send_error(int(plan))
            return
        if plan == "to itself":
            self.send_response(302)
            self.send_header("Location", f"{self.path}?{len(server.requests)}")
            self.end_headers()
            return
        data, start = server.data, 0
        asked = self.headers.get("Range")
        if asked and plan != "no ranges":
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if plan == "drip headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            self.drip()
            return
        self.send_response(206 if start else 200)
        if start:
            first = start if plan != "other range" else start - 1
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        if plan == "gzip":
            self.send_header("Content-Encoding", "gzip")
        if isinstance(plan, tuple):
            self.send_header(*plan)
        elif plan not in ("no length", "endless", "drip"):
            self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if plan == "break":
            self.wfile.write(data[start : start + 300_000])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
        elif plan == "one byte":
            self.wfile.write(data[start : start + 1])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
        elif plan == "endless":
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(data)
        elif plan == "drip":
            self.drip()
        elif plan == "slow":
            for at in range(start, len(data), 100_000):
                time.sleep(0.02)
                self.wfile.write(data[at : at + 100_000])
        elif plan != "break at once":
            self.wfile.write(data[start:])

    def drip(self):
        with contextlib.suppress(OSError):
            while not self.server.over:
                self.wfile.write(b"a")
                time.sleep(0.01)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(transfer, "time", SimpleNamespace(sleep=lambda seconds: None))
    digest = hashlib.sha256(DATA).hexdigest()
    for name, files in [("cifar10", ["cifar.tar.gz"]), ("mnist", ["a.gz", "b.gz"])]:
        dataset = module.Dataset((), dict.fromkeys(files, module.File(len(DATA), f"sha256:{digest}")))
        monkeypatch.setitem(module.DATASETS, name, dataset)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.plan, server.always, server.requests, server.data, server.over = [], "good", [], DATA, False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.over = True
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
    assert [asked for _, asked in server.requests] == ([] if left == DATA else [None])


def test_a_server_that_gives_up_ends_in_an_error(server, mirror, tmp_path):
    server.plan = ["503"] * 20
    with pytest.raises(ConnectionError, match="HTTP status 503"):
        loaders.download_dataset("cifar10", tmp_path, mirror=mirror)
    assert len(server.requests) == transfer.ATTEMPTS


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


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (10**15, f"says '{10**15}' bytes come where there must be {len(DATA)}"),
        (-1, "says '-1' bytes come where"),
        ("\x1b[31m9", "says '\\x1b[31m9' bytes come where"),
        (len(DATA) - 1, f"says '{len(DATA) - 1}' bytes come where"),
    ],
)
def test_a_wrong_length_is_refused_at_once(server, mirror, tmp_path, length, message):
    server.always = "Content-Length", str(length)
    with pytest.raises(ConnectionError) as caught:
        loaders.download_dataset("cifar10", tmp_path, mirror=mirror)
    assert message in str(caught.value)
    assert len(server.requests) == 1
    server.always = "good"
    assert loaders.download_dataset("cifar10", tmp_path, mirror=mirror).read_bytes() == DATA


@pytest.mark.parametrize("plan", ["endless", "gzip"])
def test_what_comes_decides_and_not_what_is_said_of_it(server, mirror, tmp_path, plan):
    server.always = plan  # an endless body begins with the file
    assert loaders.download_dataset("cifar10", tmp_path, mirror=mirror).read_bytes() == DATA


def test_an_endless_body_that_is_not_the_file_ends_at_its_size(server, mirror, tmp_path):
    server.always, server.data = "endless", b"no" * 1000
    with pytest.raises(ValueError, match="must have the checksum"):
        loaders.download_dataset("cifar10", tmp_path, mirror=mirror)
    assert contents(tmp_path / "cifar10") == {}


def test_a_byte_a_request_is_no_progress(server, mirror, tmp_path):
    server.always = "one byte"
    with pytest.raises(ConnectionError, match="the connection broke"):
        loaders.download_dataset("cifar10", tmp_path, mirror=mirror)
    assert len(server.requests) == transfer.ATTEMPTS


@pytest.mark.parametrize("plan", ["drip", "drip headers"])
def test_a_server_that_sends_for_ever_too_slowly(server, mirror, tmp_path, plan, monkeypatch):
    monkeypatch.setattr(transfer, "PERIOD", 0.1)
    server.always = plan
    with pytest.raises(ConnectionError, match="less than 1024 bytes a second"):
        loaders.download_dataset("cifar10", tmp_path, mirror=mirror)
    assert len(server.requests) == transfer.ATTEMPTS


def test_a_server_that_is_only_slow(server, mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "PERIOD", 0.1)
    server.always = "slow"
    assert loaders.download_dataset("cifar10", tmp_path, mirror=mirror).read_bytes() == DATA


@pytest.mark.parametrize("plan", ["other range", "416"])
def test_another_part_than_was_asked_for_is_not_taken(server, mirror, tmp_path, plan):
    server.plan = ["break", plan, "break"]
    assert loaders.download_dataset("cifar10", tmp_path, mirror=mirror).read_bytes() == DATA
    assert [asked for _, asked in server.requests] == [None, "bytes=300000-", None, None]


def test_redirections_without_an_end(server, mirror, tmp_path):
    server.always = "to itself"
    with pytest.raises(ConnectionError, match="HTTP status 302"):
        loaders.download_dataset("cifar10", tmp_path, mirror=mirror)
    assert len(server.requests) < 20


def test_the_next_address_after_a_wrong_file(server, mirror, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "cifar.tar.gz").write_bytes(b"w" * len(DATA))
    files = module.DATASETS["cifar10"].files
    addresses = f"file://{tmp_path}/there/", mirror + "/"
    monkeypatch.setitem(module.DATASETS, "cifar10", module.Dataset(addresses, files))
    assert loaders.download_dataset("cifar10", tmp_path).read_bytes() == DATA


@pytest.mark.parametrize("mirror", ["nonsense", "http://[", "file:///nowhere"])
def test_an_address_that_is_none(tmp_path, mirror, monkeypatch):
    monkeypatch.setattr(transfer, "time", SimpleNamespace(sleep=lambda seconds: None))
    with pytest.raises(ConnectionError, match=r"cifar-10-python\.tar\.gz could not be fetched"):
        loaders.download_dataset("cifar10", tmp_path, mirror=mirror)


def test_two_downloads_at_once_fetch_it_once(server, mirror, tmp_path, caplog):
    server.always, paths = "slow", []

    def download():
        paths.append(loaders.download_dataset("cifar10", tmp_path, mirror=mirror))

    threads = [threading.Thread(target=download) for _ in range(3)]
    with caplog.at_level(logging.WARNING):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [path.read_bytes() == DATA for path in paths] == [True] * 3
    assert len(server.requests) == 1
    assert [record.message for record in caplog.records] == [
        f"another process is downloading into {tmp_path / 'cifar10'}; waiting for it"
    ] * 2


def test_a_full_disk_is_said_with_the_file(server, mirror, tmp_path, monkeypatch):
    class Full:
        name = "half"

        def tell(self):
            return 0

        def seek(self, place):
            pass

        def write(self, block):
            raise OSError(errno.ENOSPC, "No space left on device")

    with transfer._Watch() as watch, pytest.raises(OSError, match="cannot write half: No space left on device; run"):
        transfer._transfer(f"{mirror}/x", Full(), 0, len(DATA), watch, None)


def test_the_sizes_and_checksums_are_of_whole_files():
    for dataset in module.DATASETS.values():
        for file in dataset.files.values():
            kind, _, digest = file.checksum.partition(":")
            assert len(digest) == 2 * hashlib.new(kind).digest_size
            assert 4000 < file.size < 2**28
