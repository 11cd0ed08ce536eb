"""Named sets from the network, kept only if they are what was published, to the last bit.

What a server sends goes into a temporary file, at most the known size of it, and is compared with
the known SHA-256. Only then is it decompressed and kept, so that it is read in a moment ever
after.

This is not left to a library: pooch has no bound on what arrives nor on how long it takes, knows
one mirror, follows redirects to plain http, and brings requests and four other packages.
"""

import gzip
import hashlib
import http.client
import queue
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from jaxnn.data import idx
from jaxnn.data.blame import blame
from jaxnn.data.field import STEP
from jaxnn.data.named import NAMED, File
from jaxnn.data.progress import Progress, Report, bars
from jaxnn.errors import DataError
from jaxnn.io.files import write_bytes

#: Bytes in a second that a deadline allows for beside its own seconds.
SLOWEST = 1 << 20


@dataclass(frozen=True)
class Remote:
    """Where the files come from, and how long that may take.

    `connect` bounds the seconds from the look-up of a host's name to the first byte, and between
    two pieces; `deadline` those of one mirror altogether, besides a second for each MiB. Only https
    is spoken, and redirects to anything else are refused, except with the hosts in `plain_http`:
    "127.0.0.1:8000" in a test.
    """

    mirrors: tuple[str, ...] = NAMED["mnist"].mirrors
    files: tuple[File, ...] = NAMED["mnist"].files
    connect: float = 5.0
    deadline: float = 300.0
    plain_http: frozenset[str] = frozenset()


def of(name: str) -> Remote:
    """Where the set of that name comes from."""
    return Remote(NAMED[name].mirrors, NAMED[name].files)


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
    size = sum(file.size for file in remote.files)
    end = time.monotonic() + remote.deadline + size / SLOWEST
    for file in remote.files:
        if all(_is_whole(folder / name) for name in kept(file)):
            continue
        with blame(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
        url = urllib.parse.urljoin(mirror, file.name)
        with (
            blame(url, http.client.HTTPException, zipfile.BadZipFile, zlib.error, KeyError),
            tempfile.TemporaryFile(dir=folder) as arrived,
        ):
            _verified(file, _body(url, remote, end, file.size), arrived, report)
            arrived.seek(0)
            _keep(file, arrived, folder)


def kept(file: File) -> tuple[str, ...]:
    """The names of what a published file holds, decompressed."""
    names = file.members or (file.name,)
    return tuple(name.rsplit("/", 1)[-1].removesuffix(".gz") for name in names)


def _is_whole(path: Path) -> bool:
    """Whether an IDX file is there, of the size that its header says."""
    try:
        return path.is_file() and bool(idx.arrays(path))
    except DataError:
        return False


def _verified(file: File, body: Iterator[bytes], into: IO[bytes], report: Report) -> None:
    """Raises ValueError where what arrives is not the published file."""
    digest, size = hashlib.sha256(), 0
    for piece in body:
        into.write(piece)
        digest.update(piece)
        size += len(piece)
        report(file.name, size, file.size)
    if size < file.size:
        raise ValueError(f"{file.size:,} bytes expected, found {size:,}")
    if digest.hexdigest() != file.sha256:
        raise ValueError(f"SHA-256 {file.sha256} expected, found {digest.hexdigest()}")


def _keep(file: File, arrived: IO[bytes], folder: Path) -> None:
    """Its contents, which are known: it is what was published."""
    if not file.members:
        write_bytes(folder / kept(file)[0], gzip.decompress(arrived.read()))
        return
    with zipfile.ZipFile(arrived) as archive:
        for member, name in zip(file.members, kept(file), strict=True):
            write_bytes(folder / name, gzip.decompress(archive.read(member)))


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
