"""Files that are either the old ones or the new ones, never half of each."""

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content` atomically and durably, keeping its mode bits.

    Written under a temporary name beside it, flushed to the disk, renamed, and the folder flushed:
    after a crash at any point the file holds its old content or the new one. Raises OSError and
    leaves the old file alone when the disk is full or the folder cannot be written.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        try:
            _write(descriptor, content)
            os.fchmod(descriptor, _mode(path))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _flush_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` of `value` as indented JSON; NaN and infinities raise ValueError."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def append_line(path: Path, line: str) -> None:
    """Add a line to a file, on the disk before this returns. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        _write(descriptor, f"{line}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _mode(path: Path) -> int:
    """The mode bits of `path`; those that a new file would get, where there is none."""
    if path.exists():
        return path.stat().st_mode & 0o7777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
