"""Downloads from a server on 127.0.0.1 that is good, slow, silent, dead, cut short, corrupt, or deaf to Range."""

import hashlib
import http.server
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from pynn.data import DataNotFound, load_mnist
from pynn.data.download import Patience, download
from pynn.data.locate import RemoteFile

CONTENT = bytes(range(256)) * 400  # 102,400 bytes
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
PATIENCE = Patience(connect=0.3, speed=100_000, window=0.4)


class Handler(http.server.BaseHTTPRequestHandler):
    """The first part of the path says how the server behaves."""

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        getattr(self, self.path.split("/")[1])(CONTENT)

    def good(self, content, *, sent=None, pause=0.0, headers=()):
        offset = int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.send_response(206 if offset else 200)
        self.send_header("Content-Length", str(len(content) - offset))
        if offset:
            self.send_header("Content-Range", f"bytes {offset}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.write(content[offset : sent and offset + sent], pause)

    def write(self, content, pause):
        for start in range(0, len(content), 1024):
            if self.server.closing.wait(pause):
                return
            try:
                self.wfile.write(content[start : start + 1024])
            except OSError:  # the client has gone, as it should
                return

    def slow(self, content):
        self.good(content, pause=0.02)  # 50 kB/s

    def trickling(self, content):
        self.good(content, pause=0.3)  # 3 kB/s

    def truncating(self, content):
        self.good(content, sent=40_000)

    def corrupt(self, content):
        self.good(content[:-1] + b"?")

    def page(self, content):
        self.good(b"<html>Please log in</html>")

    def deaf(self, content):
        del self.headers["Range"]
        self.good(content)

    def elsewhere(self, content):
        self.send_response(206)
        self.send_header("Content-Range", f"bytes 1-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[1:])

    def endless(self, content):
        self.send_response(200)
        self.end_headers()
        self.write(content[:-1] + b"?" + content, 0.0)

    def boundless(self, content):
        self.send_response(200)
        self.end_headers()
        while not self.server.closing.is_set():
            try:
                self.wfile.write(content[::-1])
            except OSError:
                return

    def lying(self, content):
        self.send_response(200)
        self.send_header("Content-Length", "9" * 5000)
        self.end_headers()
        self.wfile.write(content)

    def unnumbered(self, content):
        self.send_response(200)
        self.send_header("Content-Length", "many")
        self.end_headers()
        self.wfile.write(content[:-1] + b"?")

    def going_round(self, content):
        self.send_response(302)
        self.send_header("Location", self.path)
        self.end_headers()

    def local(self, content):
        self.send_response(302)
        self.send_header("Location", "file:///etc/hostname")
        self.end_headers()

    def silent(self, content):
        self.server.closing.wait(5)

    def stalling(self, content):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:5000])
        self.server.closing.wait(5)

    def missing(self, content):
        self.send_error(404)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests, server.closing = [], threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


def dead_url():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/file"


@pytest.fixture
def fetch(server, tmp_path):
    """Downloads from mirrors that behave as named; returns the path of the file."""

    def fetch(*behaviours, checksum=MD5):
        mirrors = [dead_url() if name == "dead" else f"{server.url}/{name}/file" for name in behaviours]
        download(RemoteFile("file", len(CONTENT), checksum, tuple(mirrors)), tmp_path / "sub" / "file", PATIENCE)
        return tmp_path / "sub" / "file"

    return fetch


def left(tmp_path):
    return sorted(path.name for path in (tmp_path / "sub").iterdir())


@pytest.mark.parametrize("checksum", [MD5, f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"])
def test_good(fetch, tmp_path, checksum):
    assert fetch("good", checksum=checksum).read_bytes() == CONTENT
    assert left(tmp_path) == ["file"]


BAD = ["dead", "missing", "silent", "stalling", "slow", "truncating", "corrupt", "page", "endless", "elsewhere"]


@pytest.mark.parametrize("bad", BAD)
def test_the_next_mirror_takes_over(fetch, tmp_path, bad):
    start = time.monotonic()
    assert fetch(bad, "good").read_bytes() == CONTENT
    assert left(tmp_path) == ["file"]
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("dead", r"Connection refused\)$"),
        ("missing", "404"),
        ("silent", "no answer within 0.3 s"),
        ("stalling", "broke off after 5,000 of 102,400 bytes"),
        ("trickling", r"slow \(.* kB/s\)"),
        ("corrupt", r"not the official file's \(MD5 differs\)"),
        ("page", "it has 26 bytes, the official file 102,400"),
        ("endless", "MD5 differs"),
    ],
)
def test_without_a_good_mirror_no_file_appears(fetch, tmp_path, bad, reason):
    with pytest.raises(DataNotFound, match=rf"^file could not be downloaded \(127\.0\.0\.1: .*{reason}"):
        fetch(bad)
    assert "file" not in left(tmp_path)


def test_every_mirror_is_named_with_its_reason(fetch):
    with pytest.raises(DataNotFound, match=r"refused.*; 127\.0\.0\.1: .*404.*; 127\.0\.0\.1: .*MD5 differs"):
        fetch("dead", "missing", "corrupt")


def test_what_a_mirror_sent_is_resumed_by_the_next(fetch, server):
    fetch("truncating", "good")
    assert server.requests == [("/truncating/file", None), ("/good/file", "bytes=40000-")]


def test_a_part_left_by_a_kill_is_resumed(fetch, server, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file.part").write_bytes(CONTENT[:70_000])
    assert fetch("good").read_bytes() == CONTENT
    assert server.requests == [("/good/file", "bytes=70000-")]


def test_a_part_that_is_whole_needs_no_request(fetch, server, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file.part").write_bytes(CONTENT)
    assert fetch("good").read_bytes() == CONTENT
    assert server.requests == []


@pytest.mark.parametrize("part", [b"?" * 70_000, b"?" * len(CONTENT), CONTENT + b"?"], ids=["few", "all", "more"])
def test_a_part_that_is_wrong_is_fetched_anew(fetch, tmp_path, part):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file.part").write_bytes(part)
    assert fetch("good").read_bytes() == CONTENT


def test_a_server_deaf_to_range_sends_all(fetch, server):
    assert fetch("truncating", "deaf").read_bytes() == CONTENT
    assert server.requests[1] == ("/deaf/file", "bytes=40000-")


def test_a_part_survives_a_mirror_with_something_else(fetch, server):
    assert fetch("truncating", "page", "good").read_bytes() == CONTENT
    assert server.requests[2] == ("/good/file", "bytes=40000-")


def test_a_part_survives_a_mirror_that_answers_another_range(fetch, server):
    assert fetch("truncating", "elsewhere", "good").read_bytes() == CONTENT
    assert [range_ for _, range_ in server.requests] == [None, "bytes=40000-", "bytes=40000-"]


def test_what_came_is_kept_for_the_next_call(fetch, tmp_path):
    with pytest.raises(DataNotFound):
        fetch("stalling")
    assert left(tmp_path) == ["file.part"]
    assert (tmp_path / "sub" / "file.part").read_bytes() == CONTENT[:5000]


def test_nothing_is_left_where_nothing_came(fetch, tmp_path):
    with pytest.raises(DataNotFound):
        fetch("missing")
    assert left(tmp_path) == []


def test_where_all_are_slow_the_slow_one_serves(fetch, server):
    assert fetch("dead", "slow").read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["/slow/file"] * 2


def test_one_that_breaks_off_is_asked_again(fetch, server):
    assert fetch("truncating", "truncating").read_bytes() == CONTENT
    assert [range_ for _, range_ in server.requests] == [None, "bytes=40000-", "bytes=80000-"]


def test_a_data_set_comes_into_the_cache_once(server, cache, tmp_path, monkeypatch, write_mnist):
    """load_mnist from a mirror: files land in the cache's folder of the set; the next load needs no request."""
    write_mnist(tmp_path)
    contents = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(
        Handler,
        "do_GET",
        lambda self: (self.server.requests.append(self.path), self.good(contents[self.path.split("/")[-1]])),
    )
    files = tuple(
        RemoteFile(name, len(content), f"md5:{hashlib.md5(content).hexdigest()}", (f"{server.url}/{name}",))
        for name, content in contents.items()
    )
    monkeypatch.setattr("pynn.data.mnist.MNIST_FILES", files)
    monkeypatch.delenv("PYNN_OFFLINE")
    for _ in range(2):
        assert len(load_mnist().y_test) == 12
        assert len(server.requests) == 4
    assert sorted(path.name for path in (cache / "mnist").iterdir()) == sorted(contents)


@pytest.mark.parametrize("bad", ["boundless", "lying", "unnumbered", "going_round", "local"])
def test_lies_and_redirections(fetch, tmp_path, bad):
    assert fetch(bad, "good").read_bytes() == CONTENT
    assert left(tmp_path) == ["file"]


@pytest.mark.parametrize("bad", ["boundless", "lying", "unnumbered", "going_round", "local"])
def test_lies_leave_nothing_behind(fetch, tmp_path, bad):
    start = time.monotonic()
    with pytest.raises(DataNotFound, match="could not be downloaded") as caught:
        fetch(bad)
    assert left(tmp_path) == []
    assert time.monotonic() - start < 5
    assert len(str(caught.value)) < 300


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
def test_a_full_disk_is_no_fault_of_the_mirror(fetch, server, monkeypatch):
    real = Path.open

    def full(path, mode="r", *args, **kwargs):
        return real(Path("/dev/full") if path.suffix == ".part" and mode != "rb" else path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DataNotFound, match="sub/file cannot be written: No space left on device"):
        fetch("good", "good", "good")
    assert len(server.requests) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_part_that_is_no_file(fetch, server, tmp_path):
    (tmp_path / "sub").mkdir()
    os.mkfifo(tmp_path / "sub" / "file.part")
    with pytest.raises(DataNotFound, match=r"cannot be written: file\.part is no regular file"):
        fetch("good")
    assert not server.requests
