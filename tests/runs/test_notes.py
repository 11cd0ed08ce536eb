"""Notes whose checksum is right though they make no sense: refused in one line, wherever it is."""

import copy

import pytest

from jaxnn.errors import CheckpointError
from jaxnn.io import arrayfile
from jaxnn.runs import run_folder, trained
from jaxnn.training.config import Config

from .. import trained_run

CONFIG = Config(epochs=1, n_h=(5,), batch_size=500, validation=0.5, patience=1)

STRANGE = [None, True, -1, 0.5, 10**400, "x", [], [None], {}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return trained_run.finished(tmp_path_factory.mktemp("notes") / "run", CONFIG)


def places(notes, path=()):
    """The path of everything inside."""
    inside = notes.items() if isinstance(notes, dict) else enumerate(notes)
    for key, value in inside if isinstance(notes, dict | list) else ():
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def replaced(notes, path, value):
    notes = copy.deepcopy(notes)
    inner = notes
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return notes


def lacking(notes, path):
    notes = copy.deepcopy(notes)
    inner = notes
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return notes


def variants(notes):
    yield from STRANGE
    for path in places(notes):
        yield lacking(notes, path)
        for value in STRANGE:
            yield replaced(notes, path, value)


def outcomes(read, file, monkeypatch):
    """ "refused" or "read" for each variant; anything else that is raised, is."""
    arrays, notes = arrayfile.load(file)
    for variant in variants(notes):
        monkeypatch.setattr(arrayfile, "load", lambda path, found=variant: (arrays, found))
        try:
            read()
        except CheckpointError as error:
            assert str(file) in str(error)  # noqa: PT017
            yield "refused"
        else:
            yield "read"


def test_of_a_checkpoint(folder, monkeypatch):
    *_, newest = sorted((folder / run_folder.CHECKPOINTS).iterdir())
    found = list(outcomes(lambda: run_folder._read_checkpoint(folder, newest), newest, monkeypatch))
    assert len(found) > 400
    assert found.count("refused") > 250
    assert found[: len(STRANGE)] == ["refused"] * len(STRANGE)


def test_of_parameters(folder, monkeypatch):
    found = list(
        outcomes(
            lambda: trained.load(folder, pytest.fail), folder / run_folder.PARAMETERS, monkeypatch
        )
    )
    assert len(found) > 500
    assert found.count("refused") > 250
    assert found[: len(STRANGE)] == ["refused"] * len(STRANGE)
