"""Names: "mnist" in the places where it is looked for, "digits", and "auto" between the two."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

import jaxnn.data
from jaxnn.data import DataError, Dataset, load
from jaxnn.data.download import Remote
from jaxnn.data.places import cache_dir, places

from ..data_files import IDX_NAMES, arrays, write_hdf5, write_idx, write_npz

NOWHERE = Remote(mirrors=())


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty home and working directory, and none of the variables that name places."""
    for variable in ("JAXNN_DATA_DIR", "XDG_CACHE_HOME", "KERAS_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    (tmp_path / "work" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work" / "here")
    return tmp_path / "home"


def found(data: str = "mnist") -> tuple[Dataset, list[str]]:
    notices: list[str] = []
    return load(data, notify=notices.append, remote=NOWHERE), notices


PLACES = [
    ("JAXNN_DATA_DIR", "elsewhere"),
    ("XDG_CACHE_HOME", "elsewhere/jaxnn"),
    (None, "data/MNIST/raw"),
    (None, "../data/MNIST/raw"),
    (None, "MNIST/raw"),
    (None, "~/data/MNIST/raw"),
    ("KERAS_HOME", "elsewhere/datasets"),
    (None, "~/.keras/datasets"),
]


@pytest.mark.parametrize(("variable", "place"), PLACES)
def test_mnist_is_found(variable, place, home, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", "linux")
    folder = home / place[2:] if place.startswith("~") else home.parent / "work" / "here" / place
    write_npz(folder / "mnist.npz", arrays())
    if variable:
        monkeypatch.setenv(variable, "elsewhere")
    dataset, notices = found()
    assert (dataset.name, notices) == ("mnist", [])
    assert (home / dataset.source).resolve() != home
    np.testing.assert_array_equal(dataset.y_train, arrays()["y_train"])


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("linux", ".cache/jaxnn"),
        ("darwin", "Library/Caches/jaxnn"),
        ("win32", "AppData/Local/jaxnn"),
    ],
)
def test_the_cache_is_where_the_system_wants_it(platform, expected, home, monkeypatch):
    monkeypatch.setattr("sys.platform", platform)
    assert cache_dir() == home / expected
    write_idx(cache_dir(), arrays())
    assert found()[0].source == str(home / expected)


def test_the_first_place_wins(home, monkeypatch):
    monkeypatch.setenv("JAXNN_DATA_DIR", "~/mine")
    for seed, place in enumerate(places()):
        write_idx(place, arrays(seed))
    assert found()[0].source == str(home / "mine")
    (home / "mine" / IDX_NAMES["y_train"]).unlink()
    dataset, (notice,) = found()
    assert dataset.source == str(cache_dir())
    assert f"missing: {IDX_NAMES['y_train']}; found: " in notice
    assert notice.endswith(f"; {cache_dir()} is used in its place")


def test_the_variable_may_name_a_file(home, monkeypatch):
    write_hdf5(home / "mine.h5", arrays())
    monkeypatch.setenv("JAXNN_DATA_DIR", "~/mine.h5")
    assert found()[0].source == str(home / "mine.h5")


def test_a_folder_without_mnist_is_passed_over_in_silence(home, monkeypatch):
    """JAXNN_DATA_DIR is only the first place that is looked at."""
    monkeypatch.setenv("JAXNN_DATA_DIR", str(home))
    write_hdf5(cache_dir() / "MNISTdata.hdf5", arrays())
    assert found()[1] == []


def test_a_name_is_not_a_path(home):
    """A folder called mnist does not take the name's place; ./mnist means the folder."""
    write_idx(home.parent / "work" / "here" / "mnist", arrays())
    with pytest.raises(DataError, match="no MNIST"):
        found("mnist")
    assert found("./mnist")[0].source == "mnist"


def test_mnist_never_falls_back(home, monkeypatch):
    monkeypatch.setenv("JAXNN_DATA_DIR", str(home / "mine"))
    write_npz(cache_dir() / "mnist.npz", {"x_train": np.zeros(3)})
    with pytest.raises(DataError) as caught:
        found("mnist")
    message = str(caught.value)
    assert message.isprintable()
    assert "missing: y_train" in message
    assert "download failed" in message
    assert [str(place) for place in places() if str(place) not in message] == []
    assert f"four IDX files or MNISTdata.hdf5 or mnist.npz into {cache_dir()}" in message
    assert message.endswith(
        f"JAXNN_DATA_DIR; JAXNN_DATA_DIR names {home / 'mine'}, which holds none"
    )


@pytest.mark.parametrize(
    ("place", "lack"),
    [("empty", "holds none"), ("damaged", "holds a damaged one"), ("x" * 5000, "cannot be looked")],
)
def test_the_advice_says_what_is_wrong_with_the_named_place(home, monkeypatch, place, lack):
    (home / "empty").mkdir(parents=True)
    folder = write_idx(home / "damaged", arrays())
    (folder / IDX_NAMES["x_train"]).write_bytes(b"")
    monkeypatch.setenv("JAXNN_DATA_DIR", str(home / place))
    with pytest.raises(DataError, match=f"JAXNN_DATA_DIR names {home / place}, which {lack}"):
        found("mnist")
    _, (notice,) = found("auto")
    assert f"names {home / place}, which {lack}" in notice


def test_an_explicit_path_never_falls_back(home):
    with pytest.raises(DataError, match="no such file or folder"):
        found("mnist.npz")


def test_auto_falls_back_to_the_digits_in_one_line(home):
    write_npz(cache_dir() / "mnist.npz", {"x_train": np.zeros(3)})
    dataset, (notice,) = found("auto")
    assert dataset.name == "digits"
    assert notice.isprintable()
    assert notice.startswith("NOT MNIST but scikit-learn's 1,797 digits")
    assert "missing: y_train" in notice
    assert "download failed" in notice
    assert "to have MNIST, connect to the internet, or put its four IDX files" in notice
    assert notice.endswith("or name their folder as the data, or by JAXNN_DATA_DIR")


def test_auto_is_mnist_where_it_is_found(home):
    write_idx(cache_dir(), arrays())
    assert found("auto")[0].name == "mnist"
    assert found("auto")[1] == []


def test_a_notice_is_a_warning_unless_someone_takes_it():
    with pytest.warns(UserWarning, match="NOT MNIST"):
        load(remote=NOWHERE)


def test_an_impostor_of_mnists_size_is_named(home, monkeypatch):
    """Fashion-MNIST has the same names and sizes; so has MNIST with one pixel changed."""
    write_idx(cache_dir(), arrays())
    monkeypatch.setattr(jaxnn.data, "MNIST_SHAPE", (12, 7, 15))
    dataset, (notice,) = found()
    assert "has MNIST's size but not its contents" in notice
    monkeypatch.setattr(jaxnn.data, "MNIST_FINGERPRINT", dataset.fingerprint())
    assert found()[1] == []


def test_a_place_that_cannot_be_read_is_no_traceback(home, monkeypatch):
    monkeypatch.setenv("JAXNN_DATA_DIR", "x" * 5000)
    with pytest.raises(DataError, match="too long"):
        found("mnist")
    with pytest.raises(DataError, match="no such file"):
        found("~nobody-of-this-name/data")


def test_digits_are_those_of_scikit_learn():
    digits, theirs = load("digits"), load_digits()
    rows = np.concatenate([digits.x_train, digits.x_test])
    labels = np.concatenate([digits.y_train, digits.y_test])
    pairs = {(row.tobytes(), int(y)) for row, y in zip(rows, labels, strict=True)}
    expected = zip(theirs.data.astype(np.uint8), theirs.target, strict=True)
    assert pairs == {(row.tobytes(), int(y)) for row, y in expected}
    assert (digits.x_train.dtype, digits.y_train.dtype) == (np.uint8, np.int32)
    assert (digits.scale, digits.image_shape, digits.n_classes) == (1 / 16, (8, 8), 10)
    assert digits.x_train.max() * digits.scale == 1


def test_digits_are_split_the_same_everywhere():
    """1,438 to 359, a fifth of every class, by no random number."""
    digits = load("digits")
    assert (digits.n_train, digits.n_test) == (1438, 359)
    share = np.bincount(digits.y_test) / np.bincount(load_digits().target)
    assert np.abs(share - 0.2).max() < 0.003
    sha256 = "da4b3892b9a76e44ef9ac9049c1fcd4eafc00c1854c24023f54e4b68550b3f64"
    assert digits.fingerprint() == sha256


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setattr("jaxnn.data.digits.find_spec", lambda name: None)
    with pytest.raises(DataError, match="scikit-learn, which holds them, is not installed"):
        load("digits")
