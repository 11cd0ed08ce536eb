"""Ctrl-C, SIGTERM and SIGHUP: the first one ends after the current step, a second one at once."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from jaxnn.commands import cli
from jaxnn.training import interrupt
from jaxnn.training.interrupt import SIGNALS, Interrupted, until_interrupted

from .. import shell

PATIENCE = 60


def send(signum):
    """To the main thread, which waits for the step meanwhile."""
    signal.pthread_kill(threading.main_thread().ident, signum)


@pytest.fixture(autouse=True)
def not_under_nohup():
    """Whoever runs these tests may have had SIGHUP ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_the_step_is_finished_and_passed_on_and_no_other_begun(signum, status, capsys):
    begun, passed = [], []

    def steps():
        for n in range(10):
            begun.append(n)
            if n == 2:
                send(signum)
            yield n

    with pytest.raises(Interrupted) as caught:
        list(map(passed.append, until_interrupted(steps())))
    assert begun == passed == [0, 1, 2]
    assert caught.value.exit_status == status
    assert "once more stops at once" in capsys.readouterr().err


def test_under_nohup_a_closed_terminal_ends_nothing():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def steps():
        send(signal.SIGHUP)
        yield from range(3)

    assert list(until_interrupted(steps())) == [0, 1, 2]


@pytest.mark.parametrize(
    "more", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGHUP, signal.SIGTERM]]
)
def test_a_second_signal_stops_at_once(more, monkeypatch):
    """But for SIGHUP: a shell that ends passes it on to its jobs, and the system sends another."""
    noted, stopped, finished = threading.Event(), threading.Event(), []

    class Stopped(BaseException):
        pass

    def stop(status):
        stopped.set()
        raise Stopped(status)

    def one_long_step():
        send(signal.SIGINT)
        assert noted.wait(PATIENCE)
        for signum in more:
            send(signum)
        finished.append(not stopped.wait(PATIENCE))
        yield 0

    monkeypatch.setattr(os, "_exit", stop)
    monkeypatch.setattr(interrupt, "print", lambda *_, **__: noted.set(), raising=False)
    with pytest.raises(Stopped) as caught:
        list(until_interrupted(one_long_step()))
    assert caught.value.args == (128 + more[-1],)
    assert finished == [False]


@pytest.mark.parametrize("ended", [True, False])
def test_afterwards_signals_are_handled_as_before(ended):
    before = [signal.getsignal(signum) for signum in SIGNALS]
    passing = until_interrupted(iter(range(3)))
    assert next(passing) == 0
    assert [signal.getsignal(signum) for signum in SIGNALS] != before
    assert list(passing) == [1, 2] if ended else passing.close() is None
    assert [signal.getsignal(signum) for signum in SIGNALS] == before


def test_ctrl_c_while_a_module_is_imported_ends_at_once(tmp_path):
    """In the middle of an import, an exception would be reported by the library as its failure."""
    (tmp_path / "slow.py").write_text(
        "import os, signal\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    [None for _ in range(10**6)]\n"
        "except BaseException as error:\n"
        "    raise ImportError('the library failed') from error\n"
    )
    program = "from jaxnn.commands import cli; cli.run(lambda argv: __import__('slow') and 0)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(shell.ROOT), str(tmp_path)])},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_before_the_first_step_is_said_in_one_line(signum, capsys):
    def main(argv):
        signal.raise_signal(signum)
        return 0

    with pytest.raises(SystemExit) as exit_:
        cli.run(main)
    assert exit_.value.code == 128 + signum
    assert capsys.readouterr().err == "interrupted\n"
