"""Every damage to a checkpoint is noticed, and what is whole comes back bit for bit."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.errors import CheckpointError
from jaxnn.io import arrayfile
from jaxnn.runs import checkpoint

from ..data_files import replace

TREE = {
    "params": {"W1": np.arange(6, dtype=np.float32).reshape(2, 3), "b1": np.zeros(2, np.float32)},
    "opt_state": ({"count": np.int32(3)}, ()),
}
NOTES = {"epoch": 3, "history": [{"train_loss": 0.1}]}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "state.safetensors"
    checkpoint.save(path, TREE, NOTES)
    return path


def test_what_is_saved_comes_back(saved):
    arrays, notes = arrayfile.load(saved)
    tree = checkpoint.restore(saved, arrays, TREE)
    assert notes == NOTES
    assert sorted(arrays) == ["opt_state/0/count", "params/W1", "params/b1"]
    np.testing.assert_array_equal(tree["params"]["W1"], TREE["params"]["W1"])
    assert tree["opt_state"][0]["count"].dtype == np.int32
    assert tree["opt_state"][1] == ()


def test_every_truncation_is_noticed(saved):
    content = saved.read_bytes()
    for length in range(len(content)):
        replace(saved, content[:length])
        with pytest.raises(CheckpointError, match=saved.name):
            arrayfile.load(saved)


def test_every_changed_byte_is_noticed_or_changes_nothing(saved):
    """Blanks pad the header: one of them may become another blank. Anything else is an error."""
    content = saved.read_bytes()
    arrays, notes = arrayfile.load(saved)
    unnoticed = 0
    for position in range(len(content)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(content)
            damaged[position] ^= flip
            replace(saved, bytes(damaged))
            try:
                found, found_notes = arrayfile.load(saved)
            except CheckpointError as error:
                assert saved.name in str(error)  # noqa: PT017
                continue
            unnoticed += 1
            assert found_notes == notes
            assert all(np.array_equal(found[name], arrays[name]) for name in arrays | found)
    assert unnoticed <= 8


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"W1": np.zeros((2, 3), np.float32), "b2": np.zeros(2)}, "b1, b2"),
        ({"W1": np.zeros((3, 2), np.float32), "b1": np.zeros(2, np.float32)}, "W1: .*3, 2.*2, 3"),
        ({"W1": np.zeros((2, 3)), "b1": np.zeros(2, np.float32)}, "W1: .*float64.*float32"),
    ],
    ids=["names", "shape", "dtype"],
)
def test_a_leaf_that_does_not_fit_is_named(saved, like, message):
    arrays = TREE["params"]
    with pytest.raises(CheckpointError, match=message):
        checkpoint.restore(saved, arrays, like)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="none: no such file"):
        arrayfile.load(tmp_path / "none")


def test_jax_arrays_are_saved_as_well(tmp_path):
    path = tmp_path / "a"
    checkpoint.save(path, {"x": jnp.arange(3)}, {})
    np.testing.assert_array_equal(arrayfile.load(path)[0]["x"], np.arange(3))
