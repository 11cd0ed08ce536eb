"""The download, against servers on this machine that do everything a server can do wrong."""

import gzip
import hashlib
import http.server
import io
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from jaxnn.data import DataError, load
from jaxnn.data.download import Remote, download, kept, of
from jaxnn.data.named import NAMED, File
from jaxnn.data.places import cache_dir
from jaxnn.data.roles import place

from ..data_files import IDX_NAMES, arrays, idx_bytes, write_idx

CONTENTS = {IDX_NAMES[name]: idx_bytes(array) for name, array in arrays().items()}
ZIPPED = {name: gzip.compress(content, mtime=0) for name, content in CONTENTS.items()}
FILES = tuple(File(f"{n}.gz", len(c), hashlib.sha256(c).hexdigest()) for n, c in ZIPPED.items())


def right(request, name):
    answer(request, ZIPPED[name])


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
    body = ZIPPED[name]
    answer(request, body[: len(body) // 2], length=len(body))


def half_without_length(request, name):
    body = ZIPPED[name]
    answer(request, body[: len(body) // 2])


def trickle(request, name):
    """The first byte of a header, then nothing until the test is over."""
    request.wfile.write(b"H")
    request.server.over.wait()


def trickle_in_body(request, name):
    answer(request, ZIPPED[name][:10], length=5000)
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
    answer(request, ZIPPED[name][:-1] + b"\x01")


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
    web_page: "bytes expected, found ",
    half: "bytes expected, found ",
    half_without_length: "bytes expected, found ",
    bomb: "sends more than the file can have",
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
    assert f"127.0.0.1:{server.server_port}/{FILES[0].name}: " in message
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
    first, second = (FILES[n].name.removesuffix(".gz") for n in (1, 2))
    (tmp_path / first).write_bytes(CONTENTS[first][:-1])
    (tmp_path / second).unlink()
    with serving(right) as server:
        download(tmp_path, remote(server))
    assert server.asked == [f"/{first}.gz", f"/{second}.gz"]
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
    (cache_dir() / FILES[0].name.removesuffix(".gz")).write_bytes(b"")
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


@pytest.mark.parametrize("name", NAMED)
def test_the_named_sets(name):
    """The mirrors speak https, and what is kept has the names that are read afterwards."""
    remote = of(name)
    assert all(mirror.startswith("https://") and mirror.endswith("/") for mirror in remote.mirrors)
    assert remote.plain_http == frozenset()
    names = [file for published in remote.files for file in kept(published)]
    places = sorted(place(file)[:2] for file in names)
    assert places == [("x", "test"), ("x", "train"), ("y", "test"), ("y", "train")]
    assert all(len(file.sha256) == 64 and file.size > 0 for file in remote.files)


@pytest.mark.parametrize("place", [1, 2, 3])
def test_genuine_mnist_is_what_the_download_expects(mnist_dir, place):
    """But for the training images, which people zip anew."""
    file = NAMED["mnist"].files[place]
    content = (mnist_dir / file.name).read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size, file.sha256)


def test_a_set_is_taken_out_of_its_archive(tmp_path, monkeypatch):
    """As EMNIST's: nothing of the others is kept, images are upright, letters have their names."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    members = NAMED["emnist-letters"].files[0].members
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("gzip/emnist-letters-mapping.txt", "1 65 97")
        for member in members:
            kind, part, *_ = place(member)
            array = arrays()[f"{kind}_{part}"]
            array = array.transpose(0, 2, 1) if kind == "x" else array + 1
            zipped.writestr(member, gzip.compress(idx_bytes(array)))
    content = archive.getvalue()
    published = File("gzip.zip", len(content), hashlib.sha256(content).hexdigest(), members)
    with serving(lambda request, name: answer(request, content)) as server:
        source = replace(remote(server), files=(published,))
        dataset = load("emnist-letters", remote=source)
        again = load("emnist-letters", remote=source)
    assert server.asked == ["/gzip.zip"]
    assert dataset.class_names == ("A", "B", "C")
    assert dataset.image_shape == arrays()["x_train"].shape[1:]
    np.testing.assert_array_equal(
        dataset.x_test, arrays()["x_test"].reshape(len(dataset.x_test), -1)
    )
    assert again.fingerprint() == dataset.fingerprint()
    names = {path.name for path in (tmp_path / "jaxnn" / "emnist-letters").iterdir()}
    assert names == {member[5:-3] for member in members}


def test_a_named_set_that_cannot_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"no fashion: download failed.*put its files into"):
        load("fashion", remote=Remote(mirrors=()))
