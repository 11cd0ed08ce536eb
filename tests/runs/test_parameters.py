"""Parameters in files that other programs read, and back."""

import shutil

import jax
import numpy as np
import pytest

import jaxnn
from jaxnn.errors import CheckpointError, UsageError
from jaxnn.runs.parameters import FORMS

from .. import shell, trained_run

#: The examples of docs/python.md for other libraries, by the library's name.
PAGE = (shell.ROOT / "docs" / "python.md").read_text(encoding="utf-8")
EXAMPLES = {
    code.split("import ")[1].split()[0]: code
    for code in (part.split("```")[0] for part in PAGE.split("```py\n")[1:])
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with runs/my-run and network.npz, as the page has them."""
    place = tmp_path_factory.mktemp("parameters")
    trained_run.finished(place / "runs" / "my-run")
    jaxnn.save_params(place / "network.npz", jaxnn.load(place / "runs/my-run").params)
    return place


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_another_library_predicts_the_same_to_rounding(place, monkeypatch, library):
    pytest.importorskip(library, reason=f"{library} is not installed")
    monkeypatch.chdir(place)
    network, images = jaxnn.load("runs/my-run"), jaxnn.load_data("digits").x_test
    names = {"X": np.float32(images) / np.float32(16)}
    exec(EXAMPLES[library], names)
    assert len(EXAMPLES[library].strip().splitlines()) <= 7
    found = np.asarray(names["probabilities"])
    assert np.abs(found - network.predict_proba(images)).max() < 1e-5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("members", [(), (3,)], ids=["one", "several"])
def test_parameters_come_back_with_their_bits(tmp_path, form, members):
    rng = np.random.default_rng(0)
    shapes = {"W1": (5, 7), "b1": (5,), "W2": (3, 5), "b2": (3,)}
    params = {n: rng.normal(size=members + s).astype(np.float32) for n, s in shapes.items()}
    jaxnn.save_params(tmp_path / f"p{form}", dict(reversed(params.items())))
    found = jaxnn.load_params(tmp_path / f"p{form}")
    assert list(found) == list(params)
    assert all((found[name] == params[name]).all() for name in params)


def test_those_of_a_run_and_of_an_estimator(place):
    run = jaxnn.load_params(place / "runs/my-run/parameters.safetensors")
    assert all((run[n] == v).all() for n, v in jaxnn.load_params(place / "network.npz").items())
    assert jax.tree.map(np.shape, dict(jaxnn.load(place / "runs/my-run").params)) == {
        name: value.shape for name, value in run.items()
    }


def read(path):
    """The shapes of what is read, or the error."""
    try:
        return {name: value.shape for name, value in jaxnn.load_params(path).items()}
    except CheckpointError as error:
        return str(error)


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_file_is_one_error(tmp_path, form):
    """Of every truncation, and of a bit that is changed anywhere if it is noticed."""
    rng = np.random.default_rng(0)
    shapes = {"W1": (2, 3), "b1": (2,)}
    path = tmp_path / f"p{form}"
    jaxnn.save_params(path, {name: np.ones(shape) for name, shape in shapes.items()})
    content = path.read_bytes()
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        assert str(read(path)).startswith(f"{path}: ")
    for at in rng.integers(len(content), size=200):
        changed = bytearray(content)
        changed[at] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        found = read(path)
        assert found == shapes or str(found).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "expected parameters W1, b1, W2, b2 …, found none"),
        ({"W1": np.ones((2, 3))}, "expected parameters W1, b1, W2, b2 …, found W1"),
        ({"W1": np.ones((2, 3)), "bias": np.ones(2)}, "found W1, bias"),
        ({"W1": np.ones((2, 3)), "b1": np.ones(3)}, r"W1, b1: expected shapes \(n_1, 3\) and"),
        ({"W1": np.full((2, 3), np.nan), "b1": np.ones(2)}, "W1: expected finite floating-point"),
        ({"W1": np.ones((2, 3), int), "b1": np.ones(2)}, "W1: expected finite floating-point"),
        ({"W1": np.array([[{}] * 3] * 2, object), "b1": np.ones(2)}, "no whole .npz file"),
    ],
    ids=["nothing", "no b1", "another name", "shapes", "nan", "integers", "objects"],
)
def test_what_are_no_parameters(tmp_path, arrays, message):
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(CheckpointError, match=message):
        jaxnn.load_params(tmp_path / "p.npz")


def test_a_name_that_says_no_form(place, tmp_path):
    shutil.copy(place / "network.npz", tmp_path / "network.pkl")
    for call in (lambda p: jaxnn.load_params(p), lambda p: jaxnn.save_params(p, {})):
        with pytest.raises(
            UsageError, match=r"expected a name that ends in \.safetensors or \.npz"
        ):
            call(tmp_path / "network.pkl")
    with pytest.raises(CheckpointError, match="no such file"):
        jaxnn.load_params(tmp_path / "nothing.npz")
