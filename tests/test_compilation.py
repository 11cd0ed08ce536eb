"""How programs are compiled and kept: unknown options, and a folder that is one's own."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import compilation
from jaxnn.compilation import ENVIRONMENT, compiled, keep_programs
from jaxnn.training.loop import resident, train_epochs
from jaxnn.training.program import SMALL

from . import small


@pytest.fixture
def settings(monkeypatch):
    """What `keep_programs` would tell jax, by name."""
    told = {}
    monkeypatch.setattr(jax.config, "update", told.__setitem__)
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    return told


def _compiled_in(folder):
    """What a new process prints that keeps its programs there."""
    script = (
        "import sys, pathlib, jax; from jaxnn.compilation import keep_programs\n"
        "assert keep_programs(pathlib.Path(sys.argv[1]))\n"
        "print(jax.jit(lambda x: x + 1)(2.0))"
    )
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_programs_are_kept_in_a_folder_of_ones_own(settings, tmp_path):
    assert keep_programs(tmp_path / "a" / "programs")
    assert settings["jax_compilation_cache_dir"] == str(tmp_path / "a" / "programs")
    assert settings["jax_persistent_cache_min_compile_time_secs"] == 0
    assert (tmp_path / "a" / "programs").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_can_write_is_not_used(settings, tmp_path, mode):
    tmp_path.chmod(mode)
    assert not keep_programs(tmp_path)
    assert settings == {}


def test_a_folder_of_somebody_else_is_not_used(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(compilation.os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    assert not keep_programs(tmp_path)
    assert settings == {}


def test_a_place_that_cannot_be_a_folder_is_not_used(settings, tmp_path):
    (tmp_path / "file").touch()
    assert not keep_programs(tmp_path / "file")
    assert settings == {}


def test_it_can_be_switched_off_or_moved(settings, tmp_path, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, "off")
    assert not keep_programs(tmp_path)
    assert settings == {}
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "there"))
    assert keep_programs(tmp_path / "here")
    assert settings["jax_compilation_cache_dir"] == str(tmp_path / "there")


def test_programs_not_used_for_longest_go_when_there_are_too_many(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(compilation, "MOST_KEPT", 50)
    for age, name in enumerate(["newest-cache", "newer-cache", "older-cache", "oldest-cache"]):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    assert keep_programs(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    (tmp_path / "used-cache").write_bytes(bytes(20))
    os.utime(tmp_path / "used-cache", (2e9, 0))
    (tmp_path / "thesis.txt").write_bytes(bytes(100))
    os.utime(tmp_path / "thesis.txt", (0, 0))
    assert keep_programs(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"used-cache", "thesis.txt"}


def test_a_kept_program_that_is_cut_short_is_compiled_anew(tmp_path):
    """In a process of its own, like everything that changes jax's settings for good."""
    found = [_compiled_in(tmp_path) for _ in range(2)]
    for path in tmp_path.glob("*-cache"):
        path.write_bytes(path.read_bytes()[:100])
    assert [*found, _compiled_in(tmp_path)] == ["3.0"] * 3


def test_an_option_that_xla_does_not_know_is_done_without(monkeypatch):
    monkeypatch.setattr(compilation, "WHOLE", {"xla_no_such_option": "1"})
    lowered = jax.jit(lambda x: x + 1).lower(jnp.float32(1))
    assert compiled(lowered, spread=True)(jnp.float32(1)) == 2


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_however_the_state_lies_in_memory_the_epochs_are_the_same(monkeypatch, activation):
    """To rounding: the two programs add the same products in another order."""
    data, config = small.dataset(), small.config(activation=activation, epochs=3, n_h=(7, 6))
    *_, rows = train_epochs(data, config)
    monkeypatch.setattr("jaxnn.training.program.SMALL", (0, SMALL[1]))
    *_, transposed = train_epochs(data, config, engine=resident(data, config))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-6),
        rows.state,
        transposed.state,
    )
