"""Every test runs under jax's strictest rules; MNIST comes from JAXNN_DATA_DIR or not at all."""

import os
import shutil
import tempfile
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import jax
import pytest

#: Programs of a test run once or twice: compiling them fast is worth more than fast programs.
#: Without fusion emitters it takes half the time; XLA ends at once on a flag that it does not know.
QUICKLY = ["--xla_backend_optimization_level=0"]
if version("jaxlib").startswith("0.10."):
    QUICKLY.append("--xla_cpu_use_fusion_emitters=false")

#: Commands that tests start do as we do, so that what they train has the same bits.
os.environ.setdefault("XLA_FLAGS", " ".join(QUICKLY))

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

#: For the tests of several devices; all others use the first.
jax.config.update("jax_num_cpu_devices", 3)

#: Shared by the workers and by the commands that tests start; made by the first process of all.
PROGRAMS = "JAXNN_COMPILATION_CACHE"
OURS = PROGRAMS not in os.environ
os.environ.setdefault(PROGRAMS, tempfile.mkdtemp(prefix="jaxnn-programs-") if OURS else "")

#: Many tests compile the same program in functions of their own: each process does it once. The
#: files are this process's own, so that nothing has to be locked, or left out to make room.
OWN_PROGRAMS = tempfile.mkdtemp(prefix="jaxnn-programs-")
if not jax.config.jax_compilation_cache_dir:  # else the caller has named a folder
    jax.config.update("jax_compilation_cache_dir", OWN_PROGRAMS)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Tests of one file to one process, as far as it goes: they share fixtures and programs."""
    if config.getvalue("dist") != "load":  # the caller has asked for another order
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Of a test that is `sampled(n)`, n cases evenly apart are quick tests, and the others slow."""
    cases: dict[object, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sampled"):
            cases.setdefault(item.parent.nodeid + item.originalname, []).append(item)
    for of_one in cases.values():
        n = of_one[0].get_closest_marker("sampled").args[0]
        quick = {round(i * len(of_one) / n) for i in range(n)}
        for place, item in enumerate(of_one):
            if place not in quick:
                item.add_marker("slow")


def pytest_unconfigure() -> None:
    for folder in [OWN_PROGRAMS, *([os.environ[PROGRAMS]] if OURS else [])]:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder that holds genuine MNIST."""
    place = os.environ.get("JAXNN_DATA_DIR")
    if not place:
        pytest.skip("JAXNN_DATA_DIR is not set: it names a folder that holds MNIST")
    return Path(place)


@pytest.fixture
def compilations():
    """A context that collects an event for every program that XLA compiles inside it."""
    listening: list[list[str]] = []

    def listener(event: str, duration: float, **_: object) -> None:
        if event.endswith("backend_compile_duration"):
            for events in listening:
                events.append(event)

    @contextmanager
    def collect():
        events: list[str] = []
        listening.append(events)
        yield events
        listening.remove(events)

    jax.monitoring.register_event_duration_secs_listener(listener)
    yield collect
    jax.monitoring.unregister_event_duration_listener(listener)
