"""Several processes, on one machine or many, for one run: how they meet, and how they part.

jax's own runtime joins them: the devices of all make one mesh (`jaxnn.training.data_parallel`),
each process gathers the examples of its own devices (`jaxnn.training.streaming`), and the first
process alone writes.

When one is lost, the others cannot go on: no step is complete without its share. The runtime then
ends them as it sees fit, in the middle of anything, with a page of C++. A watcher, forked before
jax starts, waits beside each process for its end, and says in one line what happened and how to go
on.
"""

import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from jaxnn.errors import SettingError, UsageError
from jaxnn.io import output
from jaxnn.io.command import resuming, told

#: Found by jax in the environment that Slurm's srun, Open MPI's mpirun and their like make.
AUTO = "auto"

#: Seconds for all processes to meet, until a silent one counts as lost, and to part at the end.
MEETING, SILENCE, PARTING = 120, 30, 300

#: Seconds between two looks whether the first process is there.
PAUSE = 0.2

#: What the runtime says when it ends a process because of another one.
FATAL = "JAX distributed service detected fatal errors"

#: The end of what a process tells its watcher when it has said everything itself.
TOLD = b"\0"


class Cluster(NamedTuple):
    """Where the processes meet, how many they are, and which one this is; None is for jax to find.

    `tell` writes to the watcher.
    """

    coordinator: str | None
    processes: int | None
    process: int | None
    tell: Callable[[bytes], Any] = lambda words: None


def requested(flags: Mapping[str, Any]) -> Cluster | None:
    """What `coordinator`, `processes` and `process` ask for. Raises `UsageError`."""
    coordinator, processes, process = (
        flags.get(name) for name in ("coordinator", "processes", "process")
    )
    if coordinator is None:
        if processes is not None or process is not None:
            raise SettingError("`processes`, `process`: expected `coordinator` HOST:PORT as well")
        return None
    if coordinator == AUTO:
        if processes is not None or process is not None:
            raise SettingError("`coordinator` auto: contradicts `processes` and `process`")
        return Cluster(None, None, None)
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise SettingError(f"`coordinator`: expected HOST:PORT or auto, found {coordinator!r}")
    if processes is None or process is None:
        raise SettingError("`coordinator` HOST:PORT: expected `processes` and `process` as well")
    if process >= processes:
        raise SettingError(f"`process` {process}: expected 0 to {processes - 1}, below `processes`")
    return Cluster(coordinator, processes, process)


def run(cluster: Cluster, devices: int | None, command: Callable[[Cluster], int]) -> int:
    """Join the others with so many devices (None: all), run `command`, and part: the exit status.

    Call it before jax is imported, since it forks.

    After an error or an interruption the process ends at once, without waiting for the others.
    """
    cluster = _watched(cluster)
    try:
        _join(cluster, devices)
        status = command(cluster)
    except BaseException as error:
        _leave(cluster, told(error))
    if status:
        _leave(cluster, status)
    sys.stdout.flush()
    import jax

    with suppress(jax.errors.JaxRuntimeError):  # whoever is lost now has nothing left to do
        jax.distributed.shutdown()
    _leave(cluster, 0)


def writes() -> bool:
    """Whether this is the process that writes and speaks."""
    import jax

    return jax.process_index() == 0


def require_agreement(*facts: Any) -> None:
    """Raises `UsageError` unless every process has the same configuration, data and state."""
    import hashlib

    import numpy as np
    from jax.experimental import multihost_utils

    digest = np.frombuffer(hashlib.sha256(repr(facts).encode()).digest(), np.uint32)
    if (multihost_utils.process_allgather(digest) != digest).any():
        raise UsageError(
            "the processes of this run do not agree: expected the same flags, the same data and "
            "the same run to resume for each of them"
        )


def any_signal(signum: int) -> int:
    """The signal that has come to this process or to another one, 0 where none has.

    Raises `PeerLostError`.
    """
    import numpy as np
    from jax.experimental import multihost_utils

    from jaxnn.training.data_parallel import naming_lost_peers

    everybodys = naming_lost_peers(multihost_utils.process_allgather)(np.int32(signum))
    return int(everybodys.max())


def _join(cluster: Cluster, devices: int | None) -> None:
    import jax
    from jax.experimental import multihost_utils

    from jaxnn.training import data_parallel

    require_port(cluster)
    data_parallel.request_devices(devices)
    where = cluster.coordinator or "the place that the environment names"
    print(f"meeting   the other processes at {where}, for {MEETING} s at most", flush=True)
    require_coordinator(cluster)
    try:
        jax.distributed.initialize(
            cluster.coordinator,
            cluster.processes,
            cluster.process,
            initialization_timeout=MEETING,
            heartbeat_timeout_seconds=SILENCE,
            shutdown_timeout_seconds=PARTING,
        )
    except ValueError as error:
        raise SettingError(
            f"`coordinator` auto: expected the environment of Slurm's srun or Open MPI's mpirun, "
            f"found none ({error}); name HOST:PORT, `processes` and `process` instead"
        ) from error
    # The connections of all devices are made now: later, the slowest to load its data is too late.
    multihost_utils.sync_global_devices("met")
    number, count = jax.process_index(), jax.process_count()
    reports = "" if number == 0 else "; process 0 reports and writes"
    print(f"joined    as process {number} of {count}{reports}", flush=True)


def require_port(cluster: Cluster) -> None:
    """Raises `UsageError` where the first process's port is taken: the runtime would crash."""
    if cluster.coordinator is None or cluster.process != 0:
        return
    port = int(cluster.coordinator.rpartition(":")[2])
    with socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("", port))
        except OSError as error:
            raise SettingError(
                f"`coordinator` {cluster.coordinator}: port {port} cannot be opened here: "
                f"{error.strerror}; take another one"
            ) from error


def require_coordinator(cluster: Cluster) -> None:
    """Wait until the first process listens. Raises `UsageError` where it does not within `MEETING`:
    the runtime would crash.
    """
    if cluster.coordinator is None or cluster.process == 0:
        return
    host, _, port = cluster.coordinator.rpartition(":")
    place = host.strip("[]"), int(port)
    end = time.monotonic() + MEETING
    while True:
        try:
            socket.create_connection(place, timeout=PAUSE).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise SettingError(
                    f"`coordinator` {cluster.coordinator}: expected `process` 0 to listen there, "
                    f"found nobody in {MEETING} s ({error.strerror or error})"
                ) from error
        time.sleep(PAUSE)


def _watched(cluster: Cluster) -> Cluster:
    """Fork a watcher; from here on, what C++ prints goes to a file, unlike what Python prints."""
    log, path = tempfile.mkstemp(prefix="jaxnn-runtime-", suffix=".log")
    ear, mouth = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork() == 0:
        os.close(mouth)
        _watch(cluster, ear, Path(path))
    os.close(ear)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        own = getattr(sys, name)
        copy = os.fdopen(os.dup(own.fileno()), "w", 1, own.encoding, own.errors)
        setattr(sys, name, output.Output(copy, descriptor))
    os.dup2(log, 1)
    os.dup2(log, 2)
    import resource  # not on Windows

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return cluster._replace(tell=lambda words: os.write(mouth, words))


def _watch(cluster: Cluster, ear: int, log: Path) -> NoReturn:
    """Wait for the end of the process that forked this one; say what it could not say itself."""
    import signal

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    with os.fdopen(ear, "rb") as told:
        words = told.read()
    if words.endswith(TOLD):
        log.unlink()
    else:
        print(f"error: {_obituary(words.decode(), log)}", file=sys.stderr, flush=True)
        if not log.stat().st_size:
            log.unlink()
    os._exit(0)


def _obituary(folder: str, log: Path) -> str:
    runtime = log.read_text(errors="replace")
    what = (
        "another process of this run is lost, or cannot be reached"
        if FATAL in runtime
        else "this process of the run was killed or has crashed"
    )
    source = f" (the runtime's own words: {log})" if runtime else ""
    return f"{what}{source}{how_to_go_on(folder)}"


def how_to_go_on(folder: str) -> str:
    """The end of a sentence, where the run has a folder already."""
    if not folder:
        return ""
    return (
        f"; the latest checkpoint in {folder} is whole. To go on, on any number of devices and "
        f"processes: {resuming(folder)}"
    )


def _leave(cluster: Cluster, status: int) -> NoReturn:
    """End the process without the runtime's farewell, which waits for those who are lost."""
    sys.stdout.flush()
    sys.stderr.flush()
    cluster.tell(TOLD)
    os._exit(status)
