"""Kill training at random moments, resume it, and compare the end with an uninterrupted run."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxnn.commands import cli

DESCRIPTION = """\
Start real training processes, kill them with SIGKILL at seeded random moments, and resume them.
After every kill every checkpoint must be whole and none of the epochs that were saved lost; every
run, however often it was killed and whenever it saved, must end with the same parameters and
history, to the bit, as a run that nobody touched."""

TRAIN = Path(__file__).parents[1] / "train.py"

#: Most of a short life is compilation; these let jax find its programs in a private folder.
COMPILED_ONCE = {
    "JAX_COMPILATION_CACHE_DIR": "{}/programs",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}

#: How often a process saves: drawn anew for each.
EVERY = ("1", "2", "7", "1s")


class Times(NamedTuple):
    """Seconds until the first epoch is done, for an epoch, and from the last one to the end."""

    startup: float
    epoch: float
    ending: float


def parser() -> cli.Parser:
    p = cli.Parser(DESCRIPTION)
    p.add_argument(
        "--kills", type=cli.integer(1, 1_000_000), default=300, help="how many (default: 300)"
    )
    p.add_argument(
        "--epochs",
        type=cli.integer(2, 100_000),
        default=200,
        help="of each run, on the digits (default: 200)",
    )
    p.add_argument(
        "--seed", type=cli.integer(0, 2**32 - 1), default=0, help="of the moments (default: 0)"
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Kill, check and resume until enough kills have happened; print what came of it."""
    args = parser().parse_args(argv)
    begun = time.perf_counter()
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        reference, times = uninterrupted(folder / "reference", args.epochs)
        kills = runs = during_training = 0
        while kills < args.kills:
            run = folder / f"run-{runs}"
            for trained in kill_until_done(run, args.epochs, times, chance, args.kills - kills):
                kills += 1
                during_training += trained
                print(f"\r{kills} kills, {runs} runs complete", end="", flush=True)
            require(outcome(run) == reference, f"run {runs} ended with other bits")
            runs += 1
            shutil.rmtree(run)
    print(
        f"\r{kills} kills of living processes, {during_training} of them after the first epoch; "
        f"every checkpoint whole after each; {runs} runs completed, all to the same bits as one "
        f"that was never interrupted; {(time.perf_counter() - begun) / 60:.0f} minutes"
    )
    return 0


def uninterrupted(folder: Path, epochs: int) -> tuple[Any, Times]:
    """What a run that nobody touches ends with, and how long its parts take."""
    begun = time.perf_counter()
    process = start(folder, epochs, "1")
    wait_for_epochs(process, 1)
    first = time.perf_counter()
    wait_for_epochs(process, epochs - 1)
    last = time.perf_counter()
    process.communicate()
    require(process.returncode == 0, "the uninterrupted run failed")
    times = Times(first - begun, (last - first) / (epochs - 1), time.perf_counter() - last)
    return outcome(folder), times


def kill_until_done(
    folder: Path, epochs: int, times: Times, chance: random.Random, most: int
) -> Iterator[bool]:
    """Kill and resume until a process reaches the end; yields whether an epoch was done, per kill.

    After `most` kills the run is left to finish.
    """
    kills = 0
    while True:
        newest = max(checkpoints(folder), default=None)
        left = epochs - (int(newest.stem[-6:]) if newest else 0)
        process = start(folder, epochs, chance.choice(EVERY))
        waited, delay = moment(chance, epochs, left, times)
        wait_for_epochs(process, waited)
        if kills == most or ended_within(process, delay):
            process.communicate()
            require(process.returncode == 0, f"training ended with status {process.returncode}")
            return
        process.kill()
        process.communicate()
        require(process.returncode == -signal.SIGKILL, "the process was not alive when killed")
        kills += 1
        check(folder, newest, waited > 0)
        yield waited > 0
        if (folder / "result.json").exists():  # killed on its way out
            return


def moment(chance: random.Random, epochs: int, left: int, times: Times) -> tuple[int, float]:
    """When to kill: so many seconds after so many epochs. Before the first one in a fifth of all
    cases, and while the results are written where no more epochs than these are left."""
    if left == 0:
        return 0, chance.uniform(0, 2 * (times.startup + times.ending))
    if chance.random() < 0.2:
        return 0, chance.uniform(0, times.startup)
    waited = min(left, chance.randint(1, 1 + epochs // 5))
    return waited, chance.uniform(0, 3 * (times.epoch if waited < left else times.ending))


def start(folder: Path, epochs: int, every: str) -> subprocess.Popen[str]:
    """Resume the run where there is one, else begin it."""
    if checkpoints(folder):
        flags = ["--resume", str(folder)]
    else:
        shutil.rmtree(folder, ignore_errors=True)
        flags = ["--data", "digits", "--epochs", str(epochs), "--out", str(folder)]
    command = [sys.executable, str(TRAIN), *flags, "--checkpoint_every", every, "--no_plots"]
    once = {name: value.format(folder.parent) for name, value in COMPILED_ONCE.items()}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | once)


def checkpoints(folder: Path) -> list[Path]:
    return list(folder.glob("checkpoints/epoch-*.safetensors"))


def wait_for_epochs(process: subprocess.Popen[str], epochs: int) -> None:
    """Until so many have been reported, or the process has closed its output."""
    assert process.stdout is not None
    reports = (line for line in process.stdout if line.startswith("epoch"))
    for _ in zip(range(epochs), reports, strict=False):
        pass


def ended_within(process: subprocess.Popen[str], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def check(folder: Path, newest_before: Path | None, trained: bool) -> None:
    """After a kill every checkpoint is whole, and the newest is the one before it or a later one:
    each appears at once, by its renaming."""
    from jaxnn.io import arrayfile

    paths = checkpoints(folder)
    require(bool(paths) or not trained, "an epoch was reported, but there is no checkpoint")
    require(
        newest_before is None or max(paths, default=Path()) >= newest_before,
        f"{newest_before} is gone",
    )
    for path in paths:
        arrayfile.load(path)


def outcome(folder: Path) -> Any:
    """The parameters' bytes, and the history without its times."""
    records = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
    history = [{k: v for k, v in record.items() if k != "seconds"} for record in records]
    return (folder / "parameters.safetensors").read_bytes(), history


def require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SystemExit(f"FAILED: {otherwise}")


if __name__ == "__main__":
    cli.run(main)
