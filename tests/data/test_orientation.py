"""EMNIST's files hold transposed images: set upright under their own names, else noticed."""

import gzip

import numpy as np
import pytest

from jaxnn.data import ENVIRONMENT, DataError, load, orientation

from .. import data_files
from ..data_files import Arrays, arrays, idx_bytes, write_npz

KINDS = {"x": "images-idx3-ubyte", "y": "labels-idx1-ubyte"}


def write_emnist(folder, a: Arrays, split="letters", gz=False):
    """As published: every image transposed."""
    folder.mkdir(exist_ok=True)
    for name, array in a.items():
        kind, part = name.split("_")
        content = idx_bytes(array.transpose(0, 2, 1) if kind == "x" else array)
        path = folder / f"emnist-{split}-{part}-{KINDS[kind]}{'.gz' if gz else ''}"
        path.write_bytes(gzip.compress(content) if gz else content)
    return folder


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("step", [7, 1 << 16])
def test_emnists_own_files_are_set_upright(tmp_path, monkeypatch, gz, step):
    """In whatever pieces they are read."""
    monkeypatch.setattr("jaxnn.data.idx.STEP", step)
    dataset = load(str(write_emnist(tmp_path / "set", arrays(), "digits", gz=gz)))
    upright = load(str(data_files.write_idx(tmp_path / "upright", arrays())))
    assert dataset.fingerprint() == upright.fingerprint()
    assert dataset.image_shape == upright.image_shape
    assert any("set upright" in remark for remark in dataset.remarks)


def test_several_splits_in_a_folder_are_refused(tmp_path):
    for split in ("letters", "balanced"):
        write_emnist(tmp_path / "set", arrays(), split)
    with pytest.raises(DataError, match="several: emnist balanced, emnist letters; `keys` emnist"):
        load(str(tmp_path / "set"))


def test_a_missing_file_is_named(tmp_path):
    (write_emnist(tmp_path / "set", arrays()) / "emnist-letters-test-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="missing: y_test"):
        load(str(tmp_path / "set"))


def test_a_file_cut_short_is_refused(tmp_path):
    path = write_emnist(tmp_path / "set", arrays()) / "emnist-letters-train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="cut short"):
        load(str(tmp_path / "set"))


def test_emnist_is_not_taken_for_mnist(tmp_path, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, str(write_emnist(tmp_path / "set", arrays())))
    monkeypatch.setattr("jaxnn.data.places", lambda: [tmp_path / "set"])
    monkeypatch.setattr("jaxnn.data._downloaded", lambda *_: (_ for _ in ()).throw(DataError("no")))
    with pytest.raises(DataError, match="no MNIST"):
        load("mnist")


def strokes(n=40):
    """A stroke from top to bottom for class 1, blots for the other nine; 28×28, bright on dark."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 10
    x = np.zeros((n, 28, 28), np.uint8)
    for image, label in zip(x, y, strict=True):
        left = rng.integers(9, 16)
        image[(slice(4, 24), slice(left, left + 3)) if label == 1 else (slice(9, 19),) * 2] = 255
    return {"x_train": x, "y_train": y, "x_test": x, "y_test": y}


@pytest.mark.parametrize("paper", [0, 255])
@pytest.mark.parametrize("lying", [False, True])
def test_ones_that_lie_on_their_side_are_noticed(tmp_path, lying, paper):
    a = strokes()
    for name in ("x_train", "x_test"):
        a[name] = np.abs(paper - (a[name].transpose(0, 2, 1) if lying else a[name]).astype(int))
    remarks = load(str(write_npz(tmp_path / "set.npz", a))).remarks
    assert [r.split(":")[0] for r in remarks] == (["class 1 lies on its side"] if lying else [])


def test_letters_are_known_by_their_number(monkeypatch):
    monkeypatch.setattr(orientation, "LETTERS", ((40, 9),))
    x, y = strokes()["x_train"].reshape(40, -1), strokes()["y_train"]
    names = tuple("ABCDEFGHIJ")
    assert "EMNIST's Letters" in orientation.doubts(x, y, names, 9, (28, 28))[0]
    assert orientation.doubts(x, y, names, 10, (28, 28)) == ()


def test_mnist_is_upright_and_noticed_when_it_is_not(mnist_dir):
    mnist = load(str(mnist_dir))
    assert mnist.remarks == ()
    turned = mnist.x_train[:5000].reshape(-1, 28, 28).transpose(0, 2, 1).reshape(-1, 784)
    assert orientation.doubts(turned, mnist.y_train[:5000], mnist.class_names, 9, (28, 28)) != ()
