"""A file is the old one or the new one: every operation that can fail is made to fail in turn."""

import errno
import json
import os
import stat

import pytest

from jaxnn.io.files import append_line, write_bytes, write_json

OPERATIONS = ["write", "fchmod", "fsync", "replace"]


def test_a_new_file_has_the_content_and_the_usual_mode(tmp_path):
    path = tmp_path / "new"
    write_bytes(path, b"content")
    (tmp_path / "usual").touch()
    assert path.read_bytes() == b"content"
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_the_mode_of_an_old_file_is_kept(tmp_path):
    path = tmp_path / "old"
    path.write_bytes(b"old")
    path.chmod(0o640)
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_json_refuses_what_json_does_not_have(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_failure_leaves_the_old_file_and_nothing_beside_it(
    tmp_path, monkeypatch, operation, error
):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, operation, fail)
    with pytest.raises(OSError, match=os.strerror(error)):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_content_is_flushed_before_the_rename_and_the_folder_after_it(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os,
        "fsync",
        lambda d: (
            calls.append("folder" if stat.S_ISDIR(os.fstat(d).st_mode) else "file"),
            fsync(d),
        ),
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b)))
    write_bytes(tmp_path / "file", b"content")
    assert calls == ["file", "rename", "folder"]


def test_a_write_that_takes_only_part_is_gone_on_with(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    write_bytes(tmp_path / "file", b"more than three bytes")
    append_line(tmp_path / "file", ", and a line")
    assert (tmp_path / "file").read_bytes() == b"more than three bytes, and a line\n"
