"""The download, against servers on this machine that do everything a server can do wrong."""

import gzip
import hashlib
import http.server
import threading
from contextlib import contextmanager

import pytest

from jaxnn.data import DataError, load
from jaxnn.data.download import MNIST_FILES, File, Remote, download
from jaxnn.data.places import cache_dir

from ..data_files import IDX_NAMES, arrays, idx_bytes, write_idx

CONTENTS = {IDX_NAMES[name]: idx_bytes(array) for name, array in arrays().items()}
FILES = tuple(File(n, len(c), hashlib.sha256(c).hexdigest()) for n, c in CONTENTS.items())


def right(request, name):
    answer(request, gzip.compress(CONTENTS[name]))


def answer(request, body, status=200, length=None, **headers):
    request.send_response(status)
    request.send_header("Content-Length", str(len(body) if length is None else length))
    for header, value in headers.items():
        request.send_header(header, value)
    request.end_headers()
    request.wfile.write(body)


def status(code):
    return lambda request, name: answer(request, b"<html>no</html>", code)


def web_page(request, name):
    answer(request, b"<!doctype html><title>Sign in to the network</title>")


def half(request, name):
    body = gzip.compress(CONTENTS[name])
    answer(request, body[: len(body) // 2], length=len(body))


def half_without_length(request, name):
    body = gzip.compress(CONTENTS[name])
    answer(request, body[: len(body) // 2])


def trickle(request, name):
    """The first byte of a header, then nothing until the test is over."""
    request.wfile.write(b"H")
    request.server.over.wait()


def trickle_in_body(request, name):
    answer(request, gzip.compress(CONTENTS[name])[:10], length=5000)
    request.server.over.wait()


def endless_header(request, name):
    """One byte after the other, each well within a socket's time-out, and no end of line."""
    request.wfile.write(b"HTTP/1.0 200 OK\r\nX-Padding: ")
    while not request.server.over.wait(0.02):
        request.wfile.write(b"x")


def endless_body(request, name):
    """A gzip header whose file name arrives letter by letter."""
    answer(request, b"\x1f\x8b\x08\x08" + bytes(6), length=5000)
    for _ in range(100):
        request.wfile.write(b"n")
        request.server.over.wait(0.02)


def bomb(request, name):
    answer(request, gzip.compress(CONTENTS[name] + bytes(50_000_000)))


def flood(request, name):
    """More compressed bytes than the file can have, all of them gzip's own file name."""
    request.send_response(200)
    request.end_headers()
    request.wfile.write(b"\x1f\x8b\x08\x08" + bytes(6))
    while not request.server.over.is_set():
        request.wfile.write(b"n" * 100_000)


def other_contents(request, name):
    answer(request, gzip.compress(CONTENTS[name][:-1] + b"\x01"))


def to_plain_http(request, name):
    location = f"http://localhost:{request.server.server_port}/{name}.gz"
    answer(request, b"", 302, Location=location)


def to_itself(request, name):
    answer(request, b"", 302, Location=f"/{name}.gz")


def to_a_file(request, name):
    answer(request, b"", 302, Location="file:///etc/hostname")


def no_http(request, name):
    request.wfile.write(b"SSH-2.0-OpenSSH\r\n")


def hang_up(request, name):
    request.close_connection = True


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        try:
            self.server.behaviour(self, self.path.strip("/").removesuffix(".gz"))
        except OSError:
            self.close_connection = True

    def log_message(self, *_):
        pass


@contextmanager
def serving(behaviour):
    """A server on the loopback interface that answers every request by `behaviour`."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.behaviour, server.asked, server.over = behaviour, [], threading.Event()
        server.handle_error = lambda *_: None
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


def remote(*servers, **changes) -> Remote:
    hosts = [f"127.0.0.1:{server.server_port}" for server in servers]
    settings = {"connect": 5.0, "deadline": 5.0, "plain_http": frozenset(hosts)} | changes
    return Remote(tuple(f"http://{host}/" for host in hosts), FILES, **settings)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """Requests to this machine go to it, whatever proxy the environment names."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


FAILURES = {
    status(403): "answers 403",
    status(404): "answers 404",
    status(503): "answers 503",
    web_page: "incorrect header check",
    half: "bytes expected after decompression",
    half_without_length: "bytes expected after decompression",
    bomb: "after decompression, found more",
    flood: "sends more than the file can have",
    other_contents: "SHA-256 ",
    to_plain_http: "https expected, found http://localhost",
    to_a_file: "'file:///etc/hostname' is not allowed",
    to_itself: "infinite loop",
    no_http: "SSH-2.0",
    hang_up: "closed connection",
}


@pytest.mark.parametrize("behaviour", FAILURES, ids=lambda f: f.__qualname__)
def test_a_bad_answer_is_never_kept(behaviour, tmp_path):
    with serving(behaviour) as server, pytest.raises(DataError) as caught:
        download(tmp_path / "cache", remote(server))
    message = str(caught.value)
    assert f"127.0.0.1:{server.server_port}/{FILES[0].name}.gz: " in message
    assert FAILURES[behaviour] in message
    assert message.isprintable()
    assert list(tmp_path.rglob("*ubyte*")) == []


@pytest.mark.parametrize("behaviour", [trickle, trickle_in_body, endless_header])
def test_a_server_that_takes_too_long(behaviour, tmp_path):
    """Either limit ends it: that for one answer, and that for all of them."""
    for limits in ({"connect": 0.2}, {"deadline": 0.2}):
        with serving(behaviour) as server, pytest.raises(DataError, match="not answer in time"):
            download(tmp_path, remote(server, **limits))
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_slow_but_never_silent(tmp_path):
    with serving(endless_body) as server, pytest.raises(DataError, match="not answer in time"):
        download(tmp_path, remote(server, deadline=0.2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("behaviour", [status(503), web_page, half, trickle])
def test_the_next_mirror_goes_on(behaviour, tmp_path):
    with serving(behaviour) as bad, serving(right) as good:
        download(tmp_path, remote(bad, good, connect=1.0))
    assert len(bad.asked) == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == CONTENTS


def test_a_redirect_is_followed(tmp_path):
    def moved(request, name):
        if name.startswith("moved/"):
            right(request, name.removeprefix("moved/"))
        else:
            answer(request, b"", 302, Location=f"/moved/{name}.gz")

    with serving(moved) as server:
        download(tmp_path, remote(server))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == CONTENTS


def test_what_is_whole_is_not_fetched_again(tmp_path):
    write_idx(tmp_path, arrays())
    (tmp_path / FILES[1].name).write_bytes(CONTENTS[FILES[1].name][:-1] + b"\x09")
    (tmp_path / FILES[2].name).unlink()
    with serving(right) as server:
        download(tmp_path, remote(server))
    assert server.asked == [f"/{FILES[1].name}.gz", f"/{FILES[2].name}.gz"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == CONTENTS


def test_plain_http_is_refused(tmp_path):
    with serving(right) as server, pytest.raises(DataError, match="https expected"):
        download(tmp_path, remote(server, plain_http=frozenset()))
    assert server.asked == []


def test_a_server_that_is_not_there(tmp_path):
    with serving(right) as server:
        pass
    with pytest.raises(DataError, match="Connection refused"):
        download(tmp_path, remote(server))


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with serving(right) as server, pytest.raises(DataError, match="file/cache: Not a directory"):
        download(tmp_path / "file" / "cache", remote(server))


def test_load_downloads_into_the_cache(tmp_path, monkeypatch):
    for variable in ("JAXNN_DATA_DIR", "KERAS_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with serving(right) as server:
        first = load("auto", remote=remote(server))
        again = load("mnist", remote=remote(server))
    assert (first.name, first.source) == ("mnist", str(cache_dir()))
    assert first.fingerprint() == again.fingerprint()
    assert len(server.asked) == 4


def test_a_damaged_cache_is_mended(tmp_path, monkeypatch):
    for variable in ("JAXNN_DATA_DIR", "KERAS_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_idx(cache_dir(), arrays())
    (cache_dir() / FILES[0].name).write_bytes(b"")
    notices: list[str] = []
    with serving(right) as server:
        load("mnist", remote=remote(server), notify=notices.append)
        load("mnist", remote=remote(server), notify=notices.append)
    assert len(notices) == 1
    assert len(server.asked) == 1


def test_progress_is_reported(tmp_path):
    reports = []

    @contextmanager
    def progress():
        yield lambda *report: reports.append(report)
        reports.append("left")

    with serving(right) as server:
        download(tmp_path, remote(server), progress)
    assert reports == [*((f.name, f.size, f.size) for f in FILES), "left"]


def test_bars_are_drawn_on_a_terminal_only(tmp_path, capsys, monkeypatch):
    with serving(right) as server:
        download(tmp_path / "a", remote(server))
        assert capsys.readouterr() == ("", "")
        monkeypatch.setenv("FORCE_COLOR", "1")
        download(tmp_path / "b", remote(server))
    out, err = capsys.readouterr()
    assert out == ""
    assert FILES[0].name in err


def test_the_files_of_mnist():
    """The mirrors speak https, and the names are those that are read afterwards."""
    assert {file.name for file in MNIST_FILES} == set(IDX_NAMES.values())
    assert all(mirror.startswith("https://") for mirror in Remote().mirrors)
    assert len(Remote().mirrors) == 2
    assert Remote().plain_http == frozenset()


def test_genuine_mnist_is_what_the_download_expects(mnist_dir, tmp_path):
    for file in MNIST_FILES:
        content = gzip.decompress((mnist_dir / f"{file.name}.gz").read_bytes())
        assert (len(content), hashlib.sha256(content).hexdigest()) == file[1:]
