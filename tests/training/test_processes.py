"""Several processes train one network: real ones, which meet on this machine."""

import os
import re
import signal
import socket
import subprocess

import numpy as np
import pytest
from jax.experimental import multihost_utils
from safetensors.numpy import load_file

from jaxnn.errors import UsageError
from jaxnn.training import processes

from .. import shell

pytestmark = pytest.mark.slow

DIGITS = ("--data", "digits", "--no_plots")


@pytest.fixture
def train(monkeypatch, capsys, tmp_path):
    """Run `scripts/train.py` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *argv: shell.here(monkeypatch, capsys, "train", *argv)


def pair(folder, *argv):
    """Start the two processes of one run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    common = (*DIGITS, *argv, "--coordinator", coordinator, "--processes", 2)
    return [shell.start("train", *common, "--process", number, cwd=folder) for number in range(2)]


def same_parameters(one, other):
    """But for a few roundings in each of some hundred steps."""
    a, b = (load_file(run / "parameters.safetensors") for run in (one, other))
    for name, value in a.items():
        np.testing.assert_allclose(value, b[name], rtol=0, atol=1e-5)


def test_two_processes_train_what_one_does_and_the_first_writes(train, tmp_path):
    argv = ("--epochs", 2, "--batch_size", 50)
    first, second = pair(tmp_path, *argv, "--devices", 2, "--out", "together")
    out, err = first.communicate(timeout=120)
    silent, complaint = second.communicate(timeout=120)
    assert (first.returncode, second.returncode) == (0, 0), err + complaint
    assert (err, complaint) == ("", "")
    assert re.fullmatch(
        r"meeting   the other processes at 127.0.0.1:\d+, for 120 s at most\n"
        "joined    as process 1 of 2; process 0 reports and writes\n",
        silent,
    )
    assert "device    4 × cpu (cpu) of 2 processes" in out
    assert "epoch 2/2" in out
    assert out.rstrip().endswith("results in together")

    assert train(*DIGITS, *argv, "--out", "alone").status == 0
    same_parameters(tmp_path / "together", tmp_path / "alone")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "together"]


def test_a_lost_process_ends_the_run_which_goes_on_with_other_devices(train, tmp_path):
    argv = ("--epochs", 150, "--batch_size", 500)
    first, second = pair(tmp_path, *argv, "--out", "run")
    next(line for line in first.stdout if line.startswith("epoch"))
    second.kill()
    _, err = first.communicate(timeout=120)
    second.communicate(timeout=120)
    assert first.returncode == 2, err
    again = re.escape(f"{shell.ROOT / 'scripts' / 'train.py'} --resume run\n")
    assert re.fullmatch(f"error: another process of this run is lost .*{again}", err), err

    assert train("--resume", "run", "--no_plots", "--devices", 3).status == 0
    assert train(*DIGITS, *argv, "--out", "alone").status == 0
    same_parameters(tmp_path / "run", tmp_path / "alone")


@pytest.mark.parametrize("stopped", [0, 1])
def test_a_signal_to_one_process_ends_all_of_them_in_order(train, tmp_path, stopped):
    argv = ("--epochs", 150, "--batch_size", 500)
    processes = pair(tmp_path, *argv, "--out", "run")
    next(line for line in processes[0].stdout if line.startswith("epoch"))
    processes[stopped].send_signal(signal.SIGTERM)
    (out, err), (_, complaint) = (process.communicate(timeout=120) for process in processes)
    assert [process.returncode for process in processes] == [143, 143], err + complaint
    assert "lost" not in err + complaint
    assert "everything is saved. To go on:" in out

    assert train("--resume", "run", "--no_plots").status == 0
    assert train(*DIGITS, *argv, "--out", "alone").status == 0
    same_parameters(tmp_path / "run", tmp_path / "alone")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"processes": 2}, "expected `coordinator` HOST:PORT as well"),
        ({"process": 0}, "expected `coordinator` HOST:PORT as well"),
        ({"coordinator": "auto", "process": 0}, "auto: contradicts `processes` and `process`"),
        ({"coordinator": "here:1"}, "expected `processes` and `process` as well"),
        ({"coordinator": "here:1", "processes": 2, "process": 2}, "`process` 2: expected 0 to 1"),
        ({"coordinator": "here", "processes": 2, "process": 0}, "expected HOST:PORT or auto"),
        ({"coordinator": ":1", "processes": 2, "process": 0}, "expected HOST:PORT or auto"),
        ({"coordinator": "a:b", "processes": 2, "process": 0}, "expected HOST:PORT or auto"),
        ({"coordinator": "a:65536", "processes": 2, "process": 0}, "expected HOST:PORT or auto"),
    ],
)
def test_flags_that_contradict_each_other(flags, message):
    with pytest.raises(UsageError, match=message):
        processes.requested(flags)


def test_what_was_asked_for():
    assert processes.requested({}) is None
    assert processes.requested({"coordinator": "auto"})[:3] == (None, None, None)
    flags = {"coordinator": "[::1]:5000", "processes": 2, "process": 1}
    assert processes.requested(flags)[:3] == ("[::1]:5000", 2, 1)


def test_a_port_that_is_taken_is_named():
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} cannot be opened here"):
            processes.require_port(processes.Cluster(f"localhost:{port}", 2, 0))


def test_the_first_process_is_waited_for_and_missed(monkeypatch):
    monkeypatch.setattr(processes, "MEETING", 0)
    with socket.socket() as first:
        first.bind(("127.0.0.1", 0))
        second = processes.Cluster(f"127.0.0.1:{first.getsockname()[1]}", 2, 1)
        with pytest.raises(UsageError, match="expected `process` 0 to listen there, found nobody"):
            processes.require_coordinator(second)
        answered = []

        def listen_at_last(seconds):
            assert seconds == processes.PAUSE
            first.listen()
            answered.append(True)

        monkeypatch.setattr(processes, "MEETING", 60)
        monkeypatch.setattr(processes.time, "sleep", listen_at_last)
        processes.require_coordinator(second)
        assert answered == [True]


def test_processes_that_do_not_agree_are_told_so(monkeypatch):
    processes.require_agreement("data", 3)
    other = lambda digest: np.stack([digest, digest + np.uint32(1)])  # noqa: E731
    monkeypatch.setattr(multihost_utils, "process_allgather", other)
    with pytest.raises(UsageError, match="the processes of this run do not agree"):
        processes.require_agreement("data", 3)


def test_what_slurm_is_given(tmp_path):
    """`srun` is another program here, which prints how it was called."""
    (tmp_path / "srun").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    script = shell.ROOT / "scripts" / "train.sbatch"
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.defpath}", "PYTHON": "/env/bin/python"}
    done = subprocess.run(
        [script, "--lr", "0.3"], env=environment, capture_output=True, text=True, check=True
    )
    called = ["/env/bin/python", "scripts/train.py", "--coordinator", "auto", "--lr", "0.3"]
    assert done.stdout.splitlines() == ["--cpu-bind=none", *called]
    assert (shell.ROOT / called[1]).exists()
