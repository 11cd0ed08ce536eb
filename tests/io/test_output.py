"""Output that cannot be written, or not in its encoding, ends no work and loses no result."""

import errno
import io
import json
import os
import sys

import jax
import pytest

from jaxnn.commands import experiment
from jaxnn.homework import shapes
from jaxnn.io import arrayfile, command, output
from jaxnn.training import sweep

from .. import shell

RUN = ("--data", "digits", "--batch_size", 719, "--no_plots")
EPOCHS = (*RUN, "--epochs", 5, "--checkpoint_every", "1h")
SCRIPTS = ("train", "sweep", "evaluate", "predict", "compare", "check_gradients")


class Failing(io.StringIO):
    """A stream that takes `lines` lines, and no more."""

    def __init__(self, error, lines=0):
        super().__init__()
        self.error, self.lines = error, lines

    def flush(self):
        if self.getvalue().count("\n") > self.lines:
            raise OSError(self.error, os.strerror(self.error))


def encoded(encoding):
    """A stream of that encoding, as Python makes one for a pipe."""
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)


def written(stream):
    stream.flush()
    return stream.buffer.getvalue().decode(stream.encoding)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a script in an empty folder, with this for its standard output; status and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(stream, name, *argv):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            return shell.here(patch, capsys, name, *argv)

    return run


def saved(folder):
    return sorted(int(path.stem[-6:]) for path in (folder / "checkpoints").iterdir())


def test_a_reader_that_has_gone_ends_training_after_the_epoch_and_loses_none(run, tmp_path):
    """The data, the network, the device, the verdict, and two epochs; the third has no reader."""
    outcome = run(Failing(errno.EPIPE, 7), "train", *EPOCHS, "--out", "run")
    assert outcome.status == 141
    assert outcome.err.startswith("nobody reads the output any more: interrupted after epoch 3 of")
    assert outcome.err.endswith("train.py --resume run\n")
    assert saved(tmp_path / "run") == [0, 3]


def test_a_reader_that_has_gone_is_no_fault_of_a_command_that_does_its_work(run):
    outcome = run(Failing(errno.EPIPE), "check_gradients", "--explain", "sign")
    assert (outcome.status, outcome.err) == (0, "")


@pytest.mark.parametrize("stream", [Failing(errno.ENOSPC), None], ids=["full", "closed"])
def test_standard_output_that_is_full_or_closed_costs_no_result(run, tmp_path, stream):
    outcome = run(stream, "train", *EPOCHS, "--out", "run")
    reason = os.strerror(errno.ENOSPC if stream else errno.EBADF)
    assert outcome.status == 2
    assert outcome.err.startswith(f"error: standard output cannot be written: {reason}; ")
    assert outcome.err.count("\n") == 1
    assert {"result.json", "report.html"} <= {path.name for path in (tmp_path / "run").iterdir()}


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_whatever_is_raised_between_two_epochs_the_last_one_is_saved(
    run, tmp_path, monkeypatch, error
):
    times = iter([None, None, error])

    def failing():
        if (raised := next(times)) is not None:
            raise raised

    monkeypatch.setattr(experiment, "import_metrics", failing)
    outcome = run(io.StringIO(), "train", *EPOCHS, "--out", "run")
    how, why = outcome.err.splitlines()
    assert how.startswith(f"{error.__name__} after epoch 3 of 5; all epochs before are saved")
    assert how.endswith("train.py --resume run")
    assert (outcome.status, why.split(":")[0]) in [(2, "error"), (130, "interrupted")]
    assert saved(tmp_path / "run") == [0, 3]


def test_a_sweep_that_fails_keeps_what_there_is(run, tmp_path, monkeypatch):
    whole = sweep.sweep

    def failing(*arguments):
        yield next(whole(*arguments))
        raise MemoryError

    monkeypatch.setattr(sweep, "sweep", failing)
    argv = ("--data", "digits", "--n_h", 6, "--batch_size", 599, "--seeds", 1, "--epochs", 3)
    outcome = run(io.StringIO(), "sweep", *argv, "--no_plots", "--out", "s")
    assert outcome.status == 2
    assert outcome.err.startswith("error: not enough memory")
    assert json.loads((tmp_path / "s" / "results.json").read_text())["complete"] is False
    assert saved(tmp_path / "s" / "best") == [1]


def test_a_name_is_printed_as_it_is(run, tmp_path):
    """Neither as a picture nor as a style; the encoding has no letter for the last character."""
    name, stream = ":smile: [b]x[/b] λ", encoded("ascii")
    outcome = run(stream, "train", *RUN, "--epochs", 1, "--out", name)
    assert outcome.status == 0
    assert written(stream).splitlines()[-1] == "results in :smile: [b]x[/b] lambda"
    assert (tmp_path / name / "result.json").exists()


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_is_readable_in_any_encoding(run, name):
    """No character of ours is left to be escaped."""
    stream = encoded("ascii")
    assert run(stream, name, "--help").status == 0
    assert "usage:" in written(stream)
    assert "\\u" not in written(stream)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437", "koi8-r"])
def test_characters_that_an_encoding_lacks(encoding):
    """Ours become ASCII, others escapes that JSON reads; lone surrogates stand for odd bytes."""
    text = "− … ± ‖Σ‖² ─ ∘ ′ é 漢 \U0001f600 \udcff"
    with pytest.MonkeyPatch.context() as patch:
        stream = encoded(encoding)
        patch.setattr(sys, "stdout", stream)
        with output.steady():
            print(json.dumps(text, ensure_ascii=False))
        plain = json.loads(written(stream))
    assert plain.endswith("漢 \U0001f600 \udcff")
    assert plain.startswith(("- ... +- ", "− … ± ", "- … ± ", "- ... ± "))
    assert stream.errors == "strict"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_crash_is_not_taken_for_an_answer(run, monkeypatch, as_json):
    """1 means wrong, for check_gradients, and other figures, for evaluate."""

    def broken():
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(shapes, "verify_shapes", broken)
    stream = io.StringIO()
    outcome = run(stream, "check_gradients", *["--json"] * as_json)
    assert outcome.status == 2
    assert outcome.err.endswith("RuntimeError: a fault of ours\n")
    expected = '{"ok": null, "error": "a fault of ours"}\n' if as_json else ""
    assert stream.getvalue() == expected


@pytest.mark.parametrize(
    "error", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")]
)
def test_too_little_memory_is_said_in_one_line(run, monkeypatch, error):
    def too_large():
        raise error

    monkeypatch.setattr(shapes, "verify_shapes", too_large)
    outcome = run(io.StringIO(), "check_gradients")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert outcome.err.startswith("error: not enough memory")


@pytest.mark.slow
def test_what_the_environment_sets_changes_no_bit_and_breaks_no_picture(run, tmp_path, monkeypatch):
    """As hosted notebooks set it, for every command; and what jax would draw other numbers by."""
    argv = ("--data", "digits", "--batch_size", 719, "--epochs", 2, "--dropout", 0.5, "--out")
    outcome = shell.run(
        "train", *argv, "odd", cwd=tmp_path,
        MPLBACKEND="module://matplotlib_inline.backend_inline", PYTHONIOENCODING="latin-1",
        JAX_DEFAULT_PRNG_IMPL="rbg", JAX_THREEFRY_PARTITIONABLE="0", JAX_ENABLE_X64="1",
        JAX_DISABLE_JIT="1", JAX_RANDOM_SEED_OFFSET="3", JAX_DEFAULT_MATMUL_PRECISION="bfloat16",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert outcome.err.startswith("JAX_DEFAULT_MATMUL_PRECISION, JAX_DEFAULT_PRNG_IMPL, JAX_DIS")
    assert outcome.err.count("\n") == 1
    assert (tmp_path / "odd" / "curves.png").exists()
    assert run(io.StringIO(), "train", *argv, "plain", "--no_plots").status == 0
    odd, plain = (tmp_path / name / "parameters.safetensors" for name in ("odd", "plain"))
    assert odd.read_bytes() == plain.read_bytes()
    assert arrayfile.load(odd)[1]["config"]["dropout"] == 0.5


def test_a_kind_of_device_that_is_not_there_is_named(tmp_path):
    outcome = shell.run("train", *RUN, "--out", "run", cwd=tmp_path, JAX_PLATFORMS="cuda")
    expected = "error: JAX_PLATFORMS=cuda: expected a device that jax can use here, found none\n"
    assert (outcome.status, outcome.err) == (2, expected)


@pytest.mark.parametrize("called", ["/x/ipykernel_launcher.py", "/usr/bin/train", "-c"])
def test_the_command_that_goes_on_exists_wherever_it_is_told(tmp_path, monkeypatch, called):
    """In a notebook, or where the command is no script of ours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [called])
    script = shell.ROOT / "scripts" / "train.py"
    assert command.resuming("my-run").endswith(f"{script} --resume {tmp_path / 'my-run'}")
