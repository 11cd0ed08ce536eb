"""`scripts/evaluate.py`: a run's table from its parameters alone, and damage noticed."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from jaxnn.errors import CheckpointError, JaxnnError
from jaxnn.io import arrayfile
from jaxnn.runs import run_folder, trained

from .. import shell, trained_run
from ..data_files import replace


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return trained_run.finished(tmp_path_factory.mktemp("evaluate") / "run")


@pytest.fixture
def run(original, tmp_path, monkeypatch):
    """A copy of a finished run that a test may change."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(original, "run")
    return tmp_path / "run"


@pytest.fixture
def evaluate(monkeypatch, capsys):
    return lambda *argv: shell.here(monkeypatch, capsys, "evaluate", *argv)


IDENTICAL = "identical, to the bit, to what the run recorded"


def test_the_table_and_the_figures_are_those_of_the_run(run, evaluate):
    outcome = evaluate("run")
    assert (outcome.status, outcome.err) == (0, "")
    assert (run / "table.txt").read_text() in outcome.out
    assert outcome.out.endswith(IDENTICAL + "\n")


def test_from_the_parameters_alone(run, evaluate):
    for path in run.iterdir():
        if path.name not in ("parameters.safetensors", "table.txt", "result.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert IDENTICAL in evaluate("run").out


def test_other_formats_read_the_parameters_by_their_names(run):
    from safetensors.numpy import load_file

    shapes = {
        name: value.shape for name, value in load_file(run / "parameters.safetensors").items()
    }
    assert shapes == {"W1": (24, 64), "b1": (24,), "W2": (10, 24), "b2": (10,)}


def test_equal_runs_write_equal_parameter_files(original, tmp_path):
    again = trained_run.finished(tmp_path / "again")
    one, other = (folder / "parameters.safetensors" for folder in (original, again))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("table.txt", b"0.", b"1.", "run/table.txt: not the table above"),
        ("result.json", b'"test_loss": 0', b'"test_loss": 1', "run/result.json: not what"),
        ("result.json", b"{", b"[", "run/result.json: not what"),
        ("result.json", b"digits", b"\xff", "run/result.json: not what"),
    ],
)
def test_a_record_that_was_changed_is_named(run, evaluate, file, old, new, message):
    (run / file).write_bytes((run / file).read_bytes().replace(old, new, 1))
    outcome = evaluate("run")
    assert outcome.status == 1
    assert message in outcome.err
    assert "versions: the same as then" in outcome.err
    assert IDENTICAL not in outcome.out


def test_a_figure_that_differs_is_named_with_the_versions(run, evaluate):
    arrays, notes = arrayfile.load(run / "parameters.safetensors")
    notes["result"]["test_loss"] = 0.25
    notes["versions"]["jax"] = "0.0.1"
    arrayfile.save(run / "parameters.safetensors", arrays, notes)
    outcome = evaluate("run")
    assert outcome.status == 1
    assert "test_loss: recorded 0.25, found 0." in outcome.err
    assert "versions: jax 0.0.1 then, " in outcome.err


def test_an_unfinished_run_is_evaluated_as_far_as_it_has_come(tmp_path, evaluate):
    run = trained_run.unfinished(tmp_path / "run", epochs=3)
    last = json.loads((run / "history.jsonl").read_text().splitlines()[-1])
    outcome = evaluate(run)
    assert outcome.status == 0
    assert "not finished: its state after 3 of 12 epochs" in outcome.err
    assert f"test loss {last['test_loss']:.6f}" in outcome.out
    assert IDENTICAL not in outcome.out


class TestOtherData:
    @pytest.fixture
    def make(self, tmp_path):
        def make(n_x=64, n_classes=10, rows=40):
            x = np.arange(rows * n_x, dtype=np.uint8).reshape(rows, n_x)
            y = np.arange(rows) % n_classes
            np.savez(tmp_path / "other.npz", x_train=x, y_train=y, x_test=x, y_test=y)
            return "other.npz"

        return make

    @pytest.mark.parametrize("n_classes", [10, 4])
    def test_of_the_same_form_is_evaluated_and_compared_with_nothing(
        self, run, evaluate, make, n_classes
    ):
        outcome = evaluate("run", "--data", make(n_classes=n_classes))
        assert (outcome.status, outcome.err) == (0, "")
        assert "on 40 examples of other" in outcome.out
        assert IDENTICAL not in outcome.out

    @pytest.mark.parametrize(
        ("form", "message"),
        [
            ({"n_x": 49}, "expected 64 inputs per example as the run had, found 49"),
            (
                {"n_classes": 11},
                "expected classes among the 10 that the run had (0, 1, 2, 3, 4, 5, 6, 7, …), "
                "found 10",
            ),
        ],
    )
    def test_of_another_form_is_refused(self, run, evaluate, make, form, message):
        outcome = evaluate("run", "--data", make(**form))
        assert outcome.status == 2
        assert outcome.err == f"error: other.npz: {message}\n"

    def test_data_that_changed_since_are_refused_unless_asked_for(self, run, evaluate, make):
        arrays, notes = arrayfile.load(run / "parameters.safetensors")
        notes["data"]["argument"] = make()
        arrayfile.save(run / "parameters.safetensors", arrays, notes)
        outcome = evaluate("run")
        assert outcome.status == 2
        assert "other.npz: not the data that the run was trained on" in outcome.err
        assert evaluate("run", "--data", "other.npz").status == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nowhere"], "nowhere: expected the folder of a run, found none"),
        (["."], "not the folder of a run: expected parameters.safetensors or checkpoints/"),
        (["run", "--data", "nowhere"], "nowhere: no such file or folder"),
        ([], "required: RUN"),
        (["run", "--lr", "1"], "unrecognized arguments: --lr 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(run, evaluate, argv, message):
    outcome = evaluate(*argv)
    assert outcome.status == 2
    assert outcome.err.startswith("error: ")
    assert message in outcome.err.splitlines()[0]
    assert outcome.out == ""


NOTES_REFUSED = {
    "no config": {"config": None},
    "unknown setting": {"config": {"n_h": [24], "speed": 9}},
    "layers of text": {"config": {"n_h": ["a"]}},
    "other layers": {"config": {"n_h": [25]}},
    "another activation": {"config": {"n_h": [24], "activation": "step"}},
    "no data": {"data": {}},
    "inputs below zero": {"data": {"n_x": -1, "n_classes": 10}},
    "inputs of text": {"data": {"n_x": "64", "n_classes": 10}},
    "frame of another size": {
        "data": {
            "n_x": 64,
            "n_classes": 10,
            "frame": {"shape": [4, 4], "box": [4, 4], "centre": [2, 2]},
        }
    },
    "no result": {"result": None},
    "result of text": {"result": dict.fromkeys((*trained.FIGURES, "epochs"), "1")},
    "result without end": {"result": dict.fromkeys((*trained.FIGURES, "epochs"), 10**400)},
}


class TestDamagedParameters:
    @pytest.mark.parametrize("notes", NOTES_REFUSED.values(), ids=NOTES_REFUSED)
    def test_notes_that_make_no_sense_though_their_checksum_is_right(self, run, evaluate, notes):
        path = run / "parameters.safetensors"
        arrays, before = arrayfile.load(path)
        arrayfile.save(path, arrays, before | notes)
        outcome = evaluate("run")
        assert outcome.status == 2
        assert re.fullmatch(r"error: run/parameters\.safetensors: .*\n", outcome.err)

    def test_missing(self, run, evaluate):
        (run / "parameters.safetensors").unlink()
        outcome = evaluate("run")
        assert outcome.status == 2
        assert "expected parameters.safetensors" in outcome.err

    def test_of_somebody_else(self, run, evaluate):
        from safetensors.numpy import save_file

        save_file({"weight": np.ones(3)}, run / "parameters.safetensors")
        outcome = evaluate("run")
        assert outcome.status == 2
        assert "not a whole file written by a training run" in outcome.err

    @pytest.fixture
    def small(self, tmp_path):
        """A file of parameters that is small enough to damage in every way."""
        arrays = {"W1": np.arange(6, dtype=np.float32).reshape(2, 3), "b1": np.zeros(2, "f4")}
        arrayfile.save(tmp_path / "small", arrays, {"epochs": 3, "name": "small"})
        return tmp_path / "small"

    def test_every_truncation_is_noticed(self, small):
        content = small.read_bytes()
        for length in range(len(content)):
            replace(small, content[:length])
            with pytest.raises(CheckpointError, match="small"):
                arrayfile.load(small)

    def test_a_flipped_bit_is_noticed_or_does_no_harm(self, small):
        content, (arrays, notes) = small.read_bytes(), arrayfile.load(small)
        harmless = 0
        for place in range(len(content)):
            for bit in (0, 3, 7):
                flipped = content[place] ^ 1 << bit
                replace(small, content[:place] + bytes([flipped]) + content[place + 1 :])
                try:
                    found = arrayfile.load(small)
                except JaxnnError:
                    continue
                harmless += 1
                assert found[1] == notes
                assert found[0].keys() == arrays.keys()
                for name, array in arrays.items():
                    assert found[0][name].dtype == array.dtype
                    np.testing.assert_array_equal(found[0][name], array)
        assert harmless < 40  # white space in the header, escapes in its text

    def test_the_configuration_as_json_is_for_people_and_decides_nothing(self, run, evaluate):
        for content in (b"", b"{", b"\xff", b'{"config": {"activation": "tanh"}}'):
            (run / run_folder.CONFIG).write_bytes(content)
            assert IDENTICAL in evaluate("run").out


class TestDamagedResult:
    """`result.json` has no checksum: it is held against the record in the parameters."""

    @pytest.fixture
    def whole(self, original):
        content = (original / "result.json").read_bytes()
        return content, trained.load(original, pytest.fail).result

    @pytest.fixture
    def agrees(self, tmp_path, whole):
        evaluate, path = shell.script("evaluate"), tmp_path / "result.json"

        def agrees(content):
            replace(path, content)
            return evaluate.agrees(path, whole[1])

        return agrees

    def test_every_truncation_is_noticed(self, whole, agrees):
        content = whole[0].rstrip()
        assert agrees(content)
        assert not any(agrees(content[:length]) for length in range(len(content)))

    def test_every_flipped_byte_is_noticed_or_changes_no_figure(self, whole, agrees):
        content, recorded = whole
        unnoticed = []
        for place in range(len(content)):
            for mask in (0x01, 0x80, 0xFF):
                changed = content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :]
                if agrees(changed):
                    unnoticed.append(json.loads(changed))
        assert 0 < len(unnoticed) < 200  # what is not recorded: seconds, and the names of those
        assert all(found[name] == value for found in unnoticed for name, value in recorded.items())


@pytest.mark.parametrize("name", ["evaluate", "predict", "compare"])
def test_help_answers_without_jax(name, tmp_path):
    path = shell.ROOT / "scripts" / f"{name}.py"
    code = (
        "import sys, runpy\n"
        f"sys.path.insert(0, {str(shell.ROOT)!r})\n"
        f"sys.argv = ['{name}.py', '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(path)!r}, run_name='__main__')\n"
        "finally:\n"
        "    assert not {'jax', 'numpy', 'rich', 'PIL', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert "RUN" in done.stdout
    assert f"python scripts/{name}.py runs/" in done.stdout
