"""What training says and logs: `--quiet`, the layers, `--log tensorboard`."""

import json
import sys

import numpy as np
import pytest

import jaxnn
from jaxnn.report import tensorboard
from jaxnn.training.layers import layers_of, table

from .. import shell

ARGV = ("--data", "digits", "--n_h", "6", "5", "--batch_size", "719", "--no_plots")


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda name, *argv: shell.here(monkeypatch, capsys, name, *argv)


def test_a_quiet_command_prints_the_folder_and_nothing_else(command, tmp_path):
    outcome = command("train", *ARGV, "--epochs", 1, "--quiet")
    assert outcome.status == 0
    folder = outcome.out.removesuffix("\n")
    assert (tmp_path / folder / "result.json").exists()
    assert "\n" not in folder
    assert "epoch 1 the network is no better than guessing" in outcome.err  # warnings are told


def test_a_quiet_sweep_prints_its_folder(command, tmp_path):
    argv = ("--data", "digits", "--lr", 0.5, "--seeds", 1, "--epochs", 1, "--out", "s")
    outcome = command("sweep", *argv, "--no_plots", "--quiet")
    assert (outcome.status, outcome.out) == (0, "s\n")
    assert (tmp_path / "s" / "results.json").exists()


def test_a_quiet_command_says_its_errors(command):
    outcome = command("train", "--data", "nowhere", "--quiet")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("error: nowhere: no such file or folder")


def test_the_layers_are_told_with_their_parameters(command):
    outcome = command("train", *ARGV, "--epochs", 1, "--out", "run")
    each = "W1 and b1 390, W2 and b2 35, W3 and b3 60: 485 parameters"
    assert f"\nlayers    {each}\n" in outcome.out
    network = jaxnn.load("run")
    assert sum(value.size for value in network.params.values()) == 485
    assert network.summary().splitlines()[-1].split() == ["all", "485"]


def test_the_table_of_layers():
    rows = [line.split() for line in table(layers_of(jaxnn.Config(), 784, 10)).splitlines()]
    assert rows == [
        ["layer", "inputs", "units", "activation", "parameters"],
        ["1", "784", "64", "sigmoid", "50,240"],
        ["2", "64", "10", "softmax", "650"],
        ["all", "50,890"],
    ]


def test_without_the_package_the_log_is_refused_before_anything_is_done(
    command, monkeypatch, tmp_path
):
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    outcome = command("train", *ARGV, "--log", "tensorboard")
    assert outcome.status == 2
    assert "error: --log tensorboard: expected the package tensorboardX" in outcome.err
    assert list(tmp_path.iterdir()) == []


def logged(folder):
    """{(name, epoch): value} of the events of a folder, as TensorBoard keeps the latest of them."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content, at = path.read_bytes(), 0
        while at < len(content):
            size = int(np.frombuffer(content[at : at + 8], "<u8")[0])
            event = Event.FromString(content[at + 12 : at + 12 + size])
            at += 8 + 4 + size + 4
            for value in event.summary.value:
                found[value.tag, event.step] = value.simple_value
    return found


def test_the_curves_for_tensorboard_are_those_of_the_history(command, tmp_path):
    pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    argv = ("--log", "tensorboard")
    assert command("train", *ARGV, *argv, "--epochs", 2, "--out", "run").status == 0
    assert command("train", "--resume", "run", *argv, "--epochs", 3, "--no_plots").status == 0
    lines = (tmp_path / "run/history.jsonl").read_text().splitlines()
    expected = {
        (f"{measure}/{part}", record["epoch"]): np.float32(record[f"{part}_{measure}"])
        for record in map(json.loads, lines)
        for part in ("train", "test")
        for measure in ("loss", "accuracy")
    }
    assert logged(tmp_path / "run" / "tensorboard") == expected
    assert len(expected) == 12
    assert "tensorboardX" in sys.modules
