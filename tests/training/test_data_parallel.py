"""Several devices compute what one does: each gradient, each epoch, each measure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.errors import PeerLostError, UsageError
from jaxnn.nn.mlp import gradient, init_params, loss
from jaxnn.report import console
from jaxnn.training import data_parallel
from jaxnn.training.loop import train_epochs
from jaxnn.training.streaming import Streaming, streamed

from .. import small

N_X, N_H, C = 11, 7, 5


def batch(m, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.random((m, N_X), dtype=np.float32)
    return jnp.asarray(X), jnp.asarray(np.eye(C, dtype=np.float32)[rng.integers(0, C, m)])


@pytest.mark.sampled(1)
@pytest.mark.parametrize("m", [2, 7, 9])
def test_the_gradient_of_a_shared_batch_is_that_of_the_whole(m):
    """Also of a batch that three devices cannot share evenly, and where some have no example."""
    mesh = data_parallel.mesh(3)
    params = init_params(jax.random.key(0), (N_X, N_H, C))
    X, Y = batch(m)

    program = jax.jit(
        lambda params, X, Y: gradient(params, *data_parallel.shard(mesh, (X, Y))),
        in_shardings=data_parallel.replicated(mesh),
        out_shardings=data_parallel.replicated(mesh),
    ).lower(params, X, Y)
    found = program.compile()(*jax.device_put((params, X, Y), data_parallel.replicated(mesh)))

    # The same float32 products, summed in another order: a few roundings of numbers below 1.
    jax.tree.map(
        lambda f, e: np.testing.assert_allclose(f, e, rtol=0, atol=2e-7),
        found,
        dict(jax.grad(loss)(params, X, Y)),
    )


def test_the_devices_compute_their_own_rows_and_add_up_once():
    """The compiled program: three rows of nine on each device, and one all-reduce for all sums."""
    mesh = data_parallel.mesh(3)
    params = init_params(jax.random.key(0), (N_X, N_H, C))
    rows = jax.device_put(batch(9), data_parallel.sharded(mesh))
    shared = jax.jit(
        lambda params, X, Y: gradient(params, *data_parallel.shard(mesh, (X, Y))),
        out_shardings=data_parallel.replicated(mesh),
    )
    program = shared.lower(jax.device_put(params, data_parallel.replicated(mesh)), *rows).compile()
    text = program.as_text()
    assert f"f32[3,{N_H}]" in text
    assert f"f32[9,{N_H}]" not in text
    assert text.count(" all-reduce(") == 1
    assert " all-gather(" not in text


@pytest.mark.parametrize(
    ("n_train", "batch_size"),
    [(43, 8), (8, 2), (9, 9)],
    ids=["rest of 3", "batches smaller than the devices", "one batch"],
)
def test_a_run_on_several_devices_is_the_run_on_one(n_train, batch_size):
    data, config = small.dataset(n_train=n_train), small.config(batch_size=batch_size, epochs=3)
    *_, alone = train_epochs(data, config)
    to = Streaming(data_parallel.mesh(3), chunk=1 << 20)
    *_, together = train_epochs(data, config, engine=streamed(data, config, to))

    # A few roundings for each of the steps, at most 24, of parameters around 1.
    jax.tree.map(
        lambda f, e: np.testing.assert_allclose(f, e, rtol=0, atol=5e-6),
        together.state,
        alone.state,
    )
    for found, expected in zip(together.history, alone.history, strict=True):
        assert found.keys() == expected.keys()
        assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-5)
        assert found["test_loss"] == pytest.approx(expected["test_loss"], rel=1e-5)
        assert found["train_accuracy"] == expected["train_accuracy"]
        assert found["test_accuracy"] == expected["test_accuracy"]


def test_a_run_goes_on_with_another_number_of_devices():
    data, config = small.dataset(), small.config(epochs=3)
    *_, alone = train_epochs(data, config)
    progress = None
    for epochs, devices in ((1, 2), (3, 1)):
        part = small.config(epochs=epochs)
        to = Streaming(data_parallel.mesh(devices), chunk=1 << 20)
        *_, progress = train_epochs(data, part, progress, streamed(data, part, to))
    jax.tree.map(
        lambda f, e: np.testing.assert_allclose(f, e, rtol=0, atol=5e-6),
        progress.state,
        alone.state,
    )


def test_what_is_said_of_the_devices(capsys, monkeypatch):
    monkeypatch.setattr(data_parallel, "cores", lambda: 2)
    for devices, said, noticed in (
        (1, "device    cpu (cpu)", ""),
        (3, "device    3 × cpu (cpu)", "3"),
    ):
        console.summary(small.dataset(), small.config(), data_parallel.mesh(devices))
        out, err = capsys.readouterr()
        assert said in out
        assert err == (noticed and "--devices 3: more than this machine's 2 cores, slow\n")


def test_the_error_of_several_processes_is_the_loss_of_one(monkeypatch):
    def fails():
        raise ValueError("UNKNOWN: Gloo failed: [connection closed]\nmore")

    with pytest.raises(ValueError, match="UNKNOWN"):
        data_parallel.naming_lost_peers(fails)()
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(PeerLostError, match=r"is lost \(UNKNOWN: Gloo failed\)$"):
        data_parallel.naming_lost_peers(fails)()


@pytest.mark.parametrize(
    "error",
    [
        ValueError("operands could not be broadcast together"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes"),
    ],
)
def test_an_error_of_this_process_is_not_called_the_loss_of_another(monkeypatch, error):
    monkeypatch.setattr(jax, "process_count", lambda: 2)

    def fails():
        raise error

    with pytest.raises(type(error)) as caught:
        data_parallel.naming_lost_peers(fails)()
    assert caught.value is error


def test_more_devices_than_there_are_is_an_error():
    with pytest.raises(UsageError, match="`devices` 4: expected 1 to 3, the number of CPU devices"):
        data_parallel.mesh(4)
