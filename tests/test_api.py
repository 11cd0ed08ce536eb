"""The public names: typed, each with an example that runs, and enough to work with."""

import doctest
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxnn

from . import shell, trained_run

FUNCTIONS = [name for name in jaxnn.__all__ if callable(getattr(jaxnn, name)) and name.islower()]
FUNCTIONS.append("MLPClassifier")


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """What the examples take for granted."""
    params = jaxnn.init_params(jax.random.key(0), (784, 64, 10))
    X = jax.random.uniform(jax.random.key(1), (32, 784))
    Y = jax.nn.one_hot(jnp.arange(32) % 10, 10)
    folder = tmp_path_factory.mktemp("examples")
    run = trained_run.finished(folder / "run")
    return {"jaxnn": jaxnn, "jax": jax, "jnp": jnp, "np": np} | {
        "params": params,
        "X": X,
        "Y": Y,
        "run": run,
        "folder": folder,
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_has_an_example_that_runs(name, known, capsys):
    found = doctest.DocTestFinder(recurse=False).find(getattr(jaxnn, name), name, globs=dict(known))
    assert [test.examples for test in found if test.examples], "no example"
    runner = doctest.DocTestRunner()
    for test in found:
        runner.run(test)
    assert runner.summarize().failed == 0, capsys.readouterr().out


def test_a_network_predicts_as_its_run_did(known):
    network, digits = jaxnn.load(known["run"]), jaxnn.load_data("digits")
    right = network.predict(digits.x_test) == digits.y_test
    assert right.mean() == network.result["test_accuracy"]
    as_images = digits.x_test.reshape(-1, 8, 8)
    assert (network.predict(as_images) == network.predict(digits.x_test)).all()
    with pytest.raises(jaxnn.JaxnnError, match=r"expected inputs of shape \(n, 64\)"):
        network.predict(digits.x_test[:, :63])
    with pytest.raises(jaxnn.JaxnnError, match="on the scale of the training data"):
        network.predict(-1.0 * digits.x_test)


def test_a_network_reads_pictures_as_the_command_does(known, tmp_path, monkeypatch, capsys):
    """In files, by their paths: framed as they are, or of another size."""
    network, image = jaxnn.load(known["run"]), jaxnn.load_data("digits").x_test[3].reshape(8, 8)
    names = [str(tmp_path / name) for name in ("as-it-is.png", "large.png")]
    grey = Image.fromarray(np.uint8(image * 255.0 / 16))
    grey.save(names[0])
    grey.resize((64, 64)).save(names[1])
    told = shell.here(monkeypatch, capsys, "predict", known["run"], *names, "--json")
    expected = [answer["probabilities"] for answer in json.loads(told.out)]
    assert np.array_equal(network.predict_proba(names), np.float32(expected))
    assert network.predict(tmp_path / "large.png") == np.argmax(expected[1])
    with pytest.raises(jaxnn.JaxnnError, match="nothing"):
        network.predict("nothing.png")


def test_a_type_checker_sees_the_real_types(tmp_path):
    pytest.importorskip("mypy", reason="the type checker is not installed")
    program = tmp_path / "program.py"
    program.write_text("import jaxnn\njaxnn.feed_forward(1)\njaxnn.no_such_name\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(program)],
        cwd=shell.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "program.py:2: error: Missing positional argument" in done.stdout
    assert 'program.py:3: error: Module has no attribute "no_such_name"' in done.stdout
