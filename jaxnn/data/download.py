"""MNIST from the network, kept only if it is MNIST to the last bit.

What a server sends is decompressed as it arrives, at most to the known size, and compared with the
known SHA-256. Only then is it written, uncompressed, so that it is read in a moment ever after.
"""

import hashlib
import http.client
import queue
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jaxnn.data.blame import blame
from jaxnn.data.deflate import GZIP, inflate
from jaxnn.data.field import STEP
from jaxnn.data.progress import Progress, Report, bars
from jaxnn.errors import DataError
from jaxnn.io.files import write_bytes


class File(NamedTuple):
    """A file as it must be after decompression. On a mirror `.gz` is added to its name."""

    name: str
    size: int
    sha256: str


MNIST_FILES = (
    File(
        "train-images-idx3-ubyte",
        47_040_016,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    File(
        "train-labels-idx1-ubyte",
        60_008,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    File(
        "t10k-images-idx3-ubyte",
        7_840_016,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    File(
        "t10k-labels-idx1-ubyte",
        10_008,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)


@dataclass(frozen=True)
class Remote:
    """Where the files come from, and how long that may take.

    `connect` bounds the seconds from the look-up of a host's name to the first byte, and between
    two pieces; `deadline` those of one mirror altogether. Only https is spoken, and redirects to
    anything else are refused, except with the hosts in `plain_http`: "127.0.0.1:8000" in a test.
    """

    mirrors: tuple[str, ...] = (
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    )
    files: tuple[File, ...] = MNIST_FILES
    connect: float = 5.0
    deadline: float = 300.0
    plain_http: frozenset[str] = frozenset()


def download(folder: Path, remote: Remote = Remote(), progress: Progress = bars) -> None:
    """Fetch into `folder` every file that it does not hold yet. Raises DataError.

    If a mirror fails, the next one goes on with the files that are left.
    """
    problems = []
    with progress() as report:
        for mirror in remote.mirrors:
            try:
                _from_mirror(mirror, folder, remote, report)
            except DataError as error:
                problems.append(str(error))
            else:
                return
    raise DataError(f"download failed: {'; '.join(problems) or 'no mirror is known'}")


def _from_mirror(mirror: str, folder: Path, remote: Remote, report: Report) -> None:
    end = time.monotonic() + remote.deadline
    for file in remote.files:
        if not _is_whole(folder / file.name, file):
            url = urllib.parse.urljoin(mirror, f"{file.name}.gz")
            with blame(url, http.client.HTTPException):
                content = _content(file, _body(url, remote, end, 2 * file.size + STEP), report)
            with blame(str(folder)):
                folder.mkdir(parents=True, exist_ok=True)
                write_bytes(folder / file.name, content)


def _is_whole(path: Path, file: File) -> bool:
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256


def _content(file: File, body: Iterator[bytes], report: Report) -> bytes:
    """The decompressed file. Raises ValueError or zlib.error if it is not what it must be."""
    content = bytearray()
    for piece in inflate(body, file.size, GZIP):
        content += piece
        report(file.name, len(content), file.size)
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise ValueError(f"SHA-256 {file.sha256} expected, found {found}")
    return bytes(content)


def _body(url: str, remote: Remote, end: float, limit: int) -> Iterator[bytes]:
    """What the server sends, piece by piece, at most `limit` bytes. Raises ValueError or OSError.

    Neither the look-up of a name nor a header that trickles in obeys a socket's time-out. Therefore
    a thread talks to the server, and this side stops waiting for it when its time is over; the
    socket's own time-out, twice as long, only ends the thread.
    """
    arrived: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
    stop = threading.Event()
    threading.Thread(target=_receive, args=(url, remote, limit, arrived, stop), daemon=True).start()
    try:
        wait = remote.connect
        while piece := _next(arrived, min(wait, end - time.monotonic())):
            yield piece
            wait = remote.connect
    finally:
        stop.set()


def _next(arrived: "queue.SimpleQueue[bytes | Exception]", seconds: float) -> bytes:
    try:
        piece = arrived.get(timeout=max(0.0, seconds))
    except queue.Empty:
        raise ValueError("the server does not answer in time") from None
    if isinstance(piece, Exception):
        raise piece
    return piece


def _receive(
    url: str,
    remote: Remote,
    limit: int,
    arrived: "queue.SimpleQueue[bytes | Exception]",
    stop: threading.Event,
) -> None:
    """Put the pieces of the body into the queue, and at the end b"" or what went wrong."""
    try:
        with _open(url, remote) as response:
            while not stop.is_set() and (piece := response.read1(STEP)):
                limit -= len(piece)
                if limit < 0:
                    raise ValueError("the server sends more than the file can have")
                arrived.put(piece)
        arrived.put(b"")
    except Exception as error:  # whatever it is, it is raised where the pieces are awaited
        arrived.put(error)


def _open(url: str, remote: Remote) -> http.client.HTTPResponse:
    _check_scheme(url, remote)
    opener = urllib.request.build_opener(_Redirect(remote))
    request = urllib.request.Request(url, headers={"User-Agent": "jaxnn"})
    try:
        response: http.client.HTTPResponse = opener.open(request, timeout=2 * remote.connect)
    except urllib.error.HTTPError as error:
        error.close()
        raise ValueError(f"the server answers {error.code} ({error.reason})") from None
    except urllib.error.URLError as error:
        raise ValueError(getattr(error.reason, "strerror", None) or str(error.reason)) from error
    return response


class _Redirect(urllib.request.HTTPRedirectHandler):
    def __init__(self, remote: Remote) -> None:
        self.remote = remote

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        with fp:
            _check_scheme(newurl, self.remote)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_scheme(url: str, remote: Remote) -> None:
    parts = urllib.parse.urlsplit(url)
    plain = parts.scheme == "http" and parts.netloc in remote.plain_http
    if parts.scheme != "https" and not plain:
        raise ValueError(f"https expected, found {url}")
