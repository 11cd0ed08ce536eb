"""Data that stay on the host: the same batches, the same bits, two chunks on the device."""

import jax
import numpy as np
import pytest

from jaxnn.errors import UsageError
from jaxnn.nn.activations import ACTIVATIONS
from jaxnn.runs import results
from jaxnn.training import data_parallel, streaming
from jaxnn.training import evaluation as evaluations
from jaxnn.training.loop import initial_state, train_epochs
from jaxnn.training.streaming import Chunk, Streaming, chunks, prefetched, streamed, streaming_for

from .. import small

#: One of `small`'s examples: 11 pixels and a label.
ROW = 11 + 4


@pytest.mark.parametrize(
    ("n", "batch_size", "most", "expected"),
    [
        (12, 4, 3, [Chunk(0, 3, 4)]),
        (12, 4, 2, [Chunk(0, 2, 4), Chunk(8, 1, 4)]),
        (13, 4, 9, [Chunk(0, 3, 4), Chunk(12, 1, 1)]),
        (3, 4, 1, [Chunk(0, 1, 3)]),
    ],
)
def test_an_epoch_in_chunks(n, batch_size, most, expected):
    assert chunks(n, batch_size, most) == expected


@pytest.mark.parametrize("n_train", [43, 48])
def test_the_same_bits_as_with_all_data_on_the_device(n_train):
    data, config = small.dataset(n_train=n_train), small.config(epochs=3)
    *_, resident = train_epochs(data, config)
    engine = streamed(data, config, Streaming(data_parallel.mesh(1), 16 * ROW))
    *_, piecewise = train_epochs(data, config, engine=engine)
    assert jax.tree.all(jax.tree.map(np.array_equal, piecewise.state, resident.state))
    for found, expected in zip(piecewise.history, resident.history, strict=True):
        assert {**found, "seconds": 0} == {**expected, "seconds": 0}


@pytest.mark.parametrize("n_x", [11, 2**21 // 5])
def test_an_evaluation_has_the_same_bits_wherever_it_is_computed(n_x, monkeypatch):
    """Whole, from the host, and shared out among 1, 2 and 3 devices: logits, loss and accuracy."""
    monkeypatch.setattr(evaluations, "EVALUATION_ROWS", 300)
    data, config = small.dataset(n_train=5, n_test=1001 if n_x == 11 else 13, n_x=n_x), small.CONFIG
    activation, scale = ACTIVATIONS[config.activation], np.float32(data.scale)
    engines = [
        streamed(data, config, Streaming(data_parallel.mesh(d), 16 << 20)) for d in (1, 2, 3)
    ]
    for seed in range(5):
        params = initial_state(small.config(seed=seed), data.n_x, data.n_classes).params
        of_run = results.test(data, config, params)
        on_device = jax.device_put((data.x_test, data.y_test))
        found = [
            evaluations.evaluate(params, *on_device, scale, activation=activation),
            *(engine.evaluate(params, data.x_test, data.y_test) for engine in engines),
        ]
        for evaluation in found:
            assert np.array_equal(evaluation.logits, of_run.logits)
            assert float(evaluation.loss) == float(of_run.loss)
            assert evaluation.accuracy == of_run.accuracy


@pytest.mark.parametrize(
    ("n", "n_x", "expected"),
    [
        (10_000, 784, [range(at, at + 2000) for at in range(0, 10_000, 2000)]),
        (1, 784, [range(1)]),
        (2001, 784, [range(1001), range(1000, 2001)]),
        (5, 2**20, [range(2), range(2, 4), range(3, 5)]),
        (2, 2**30, [range(1), range(1, 2)]),
    ],
)
def test_slices_have_equally_many_rows_and_leave_none_out(n, n_x, expected):
    assert evaluations.evaluation_slices(n, n_x) == expected


def test_the_device_never_holds_more_than_it_may(monkeypatch):
    """All arrays of pixels that live at the moment when the next chunk has been shipped."""
    data, config = small.dataset(n_train=96), small.config(epochs=1)
    to = Streaming(data_parallel.mesh(1), 16 * ROW)
    engine = streamed(data, config, to)
    held = []
    ship = streaming._sharded

    def weighed(*args):
        arrays = ship(*args)
        held.append(sum(a.nbytes for a in jax.live_arrays() if a.dtype == np.uint8))
        return arrays

    before = sum(a.nbytes for a in jax.live_arrays() if a.dtype == np.uint8)
    monkeypatch.setattr(streaming, "_sharded", weighed)
    list(train_epochs(data, config, engine=engine))
    assert len(held) == 6
    assert 16 * 11 <= max(held) - before <= 2 * 16 * 11


def test_the_next_is_under_way_before_the_last_is_used():
    events = []

    def make(n):
        events.append(f"made {n}")
        return n * n

    taken = prefetched(make, [1, 2, 3])
    assert next(taken) == (1, 1)
    assert next(taken) == (2, 4)
    assert events[:2] == ["made 1", "made 2"]
    assert list(taken) == [(3, 9)]
    assert events == ["made 1", "made 2", "made 3"]


def test_what_is_fed_and_what_is_not():
    one, three = data_parallel.mesh(1), data_parallel.mesh(3)
    data, config = small.dataset(n_train=200_000), small.CONFIG
    assert streaming_for(one, data, config, None) is None
    assert streaming_for(one, data, config, 4) is None
    assert streaming_for(one, data, config, 1) == Streaming(one, 1 << 19)
    assert streaming_for(three, data, config, None) == Streaming(three, streaming.CHUNK)


def test_too_little_memory_is_an_error():
    data, config = small.dataset(n_train=250_000), small.config(batch_size=100_000)
    with pytest.raises(UsageError, match="`device_memory`: expected at least 3 MiB, room for two"):
        streaming_for(data_parallel.mesh(1), data, config, 2)
    assert streaming_for(data_parallel.mesh(1), data, config, 3) is not None


def test_too_little_memory_to_evaluate_is_an_error():
    """A slice has no fewer rows where there is less memory: its bits would be others."""
    data = small.dataset(n_train=6000, n_x=784)
    with pytest.raises(UsageError, match="expected at least 4 MiB, room for twice the 2000"):
        streaming_for(data_parallel.mesh(1), data, small.CONFIG, 3)
    assert streaming_for(data_parallel.mesh(1), data, small.CONFIG, 4) is not None
