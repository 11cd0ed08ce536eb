"""Feed mutated files to every reader, led by atheris to the code that they have not reached."""

import os
import re
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fuzz_targets import TARGETS, Target
from jaxnn.commands import cli
from jaxnn.errors import JaxnnError, UsageError

DESCRIPTION = """\
Mutate small honest files, as long as you like, and hand them to the readers of jaxnn. Each must be
read or refused in one line that names the file: any other exception, a hang, more than twice the
memory of the honest file, or, where a checksum covers it all, other contents, is a finding. The
first finding of a reader ends its turn and leaves the input behind.

Needs atheris: pip install -e '.[fuzz]'"""

#: Seconds.
HANGS_AFTER = 60

#: What one input may need beside twice the honest file's memory: a message, a read buffer.
SLACK = 1 << 18

MOST_BYTES = 1 << 14


def parser() -> cli.Parser:
    p = cli.Parser(DESCRIPTION)
    p.add_argument(
        "--minutes",
        type=cli.number(0, 1e5, low_included=False, high_included=True),
        default=1.0,
        help="for each reader (default: 1)",
    )
    p.add_argument("--seed", type=cli.integer(1, 2**31 - 1), default=1, help="(default: 1)")
    p.add_argument(
        "--reader", nargs="+", choices=list(TARGETS), default=list(TARGETS), help="(default: all)"
    )
    p.add_argument(
        "--exhaustive",
        action="store_true",
        help="in place of that, without atheris: every truncation and every flipped bit, once",
    )
    p.add_argument(
        "--out", default="findings", help="folder for inputs that went wrong (default: findings)"
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """One reader after the other, each in a process of its own; print what was tried."""
    args = parser().parse_args(argv)
    if args.exhaustive:
        for reader in args.reader:
            print(f"{reader:12} {exhausted(reader)}", flush=True)
        return 0
    if find_spec("atheris") is None:
        raise UsageError("atheris is not installed: expected pip install -e '.[fuzz]'")
    out = Path(args.out)
    out.mkdir(exist_ok=True)
    total, wrong, begun = 0, [], time.perf_counter()
    for reader in args.reader:
        tried, finding = tried_by(reader, args.minutes, args.seed, out)
        total += tried
        wrong += [reader] if finding else []
        print(f"{reader:12} {tried:>12,} inputs   {finding or 'nothing found'}", flush=True)
    with suppress(OSError):  # it is not empty
        out.rmdir()
    hours = (time.perf_counter() - begun) / 3600
    print(f"{'all':12} {total:>12,} inputs   {hours:.2f} hours, findings: {len(wrong)}")
    return 1 if wrong else 0


def tried_by(reader: str, minutes: float, seed: int, out: Path) -> tuple[int, str]:
    """How many inputs were tried, and what was found, "" if nothing was."""
    with tempfile.TemporaryDirectory() as place:
        corpus = Path(place, "corpus")
        corpus.mkdir()
        for number, content in enumerate(TARGETS[reader]().seeds):
            (corpus / str(number)).write_bytes(content)
        done = subprocess.run(
            [
                *(sys.executable, "-c", f"import fuzz; fuzz.fuzz({reader!r})"),
                *(f"-max_total_time={max(1, round(60 * minutes))}", f"-seed={seed}"),
                *(f"-timeout={HANGS_AFTER}", f"-max_len={MOST_BYTES}", "-rss_limit_mb=4096"),
                *(f"-artifact_prefix={out.resolve()}/{reader}-", "-print_final_stats=1"),
                str(corpus),
            ],
            env=os.environ | {"TMPDIR": place, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
        )
    log = done.stderr.decode(errors="replace") + done.stdout.decode(errors="replace")
    counted = re.search(r"stat::number_of_executed_units: *(\d+)", log)
    if done.returncode == 0 and counted:
        return int(counted[1]), ""
    (out / f"{reader}.log").write_text(log)
    return int(counted[1]) if counted else 0, f"FOUND, see {out / reader}.log"


def fuzz(reader: str) -> None:
    """Hand this process over to atheris; it does not return."""
    import atheris

    # Else atheris sees the right checksum where it is compared, and forges it.
    with atheris.instrument_imports(include=["jaxnn"], exclude=["jaxnn.io.arrayfile"]):
        judge = Judge(TARGETS[reader](), Path(tempfile.mkdtemp()))
    atheris.Setup(sys.argv, judge)
    atheris.Fuzz()


def exhausted(reader: str) -> str:
    """Try every truncation and every flipped bit of the first honest file; what came of it."""
    target = TARGETS[reader]()
    content = target.seeds[0]
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(target, Path(folder), one_change=True)
        cut = Counter(judge(content[:length]) for length in range(len(content)))
        flipped = Counter(
            judge(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])
            for at in range(len(content))
            for bit in range(8)
        )
    return f"{spelled('truncations', cut)}; {spelled('flipped bits', flipped)}"


def spelled(name: str, verdicts: Counter[str]) -> str:
    parts = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(verdicts.items()))
    return f"{verdicts.total():,} {name} ({parts})"


class Judge:
    """Hands inputs to a reader and says "refused", "same", "other" or "no file" of its kind.

    Raises AssertionError, or what the reader raised, where a promise is broken; one of them, with
    `one_change`, is that a single change to a file with checksums is seen.
    """

    def __init__(self, target: Target, folder: Path, one_change: bool = False) -> None:
        self.target, self.folder, self.one_change = target, folder, one_change
        tracemalloc.start()
        honest = [self.measured(seed) for seed in target.seeds]
        self.expected = honest[0][0]
        self.limit = 2 * max(peak for _, peak in honest) + SLACK

    def __call__(self, content: bytes) -> str:
        try:
            found, peak = self.measured(content)
        except Unplaced:
            return "no file"
        if peak > self.limit:  # once more: the first error of a kind can load a library's module
            found, peak = self.measured(content)
        require(peak <= self.limit, f"{peak:,} bytes of memory, {self.limit:,} allowed")
        if isinstance(found, JaxnnError):
            require(str(self.folder) in str(found), f"a message that names no file: {found}")
            return "refused"
        same = bool(found == self.expected)
        require(same or not self.vouched_for(content), "other contents behind the same checksum")
        return "same" if same else "other"

    def vouched_for(self, content: bytes) -> bool:
        """Whether a checksum promises that what is read is what the honest file holds."""
        target = self.target
        covered = target.checked is not None and content.startswith(target.checked)
        return covered or (self.one_change and target.one_change_checked)

    def measured(self, content: bytes) -> tuple[Any, int]:
        """What the reader makes of an input, if only its refusal, and the peak of its memory."""
        try:
            self.target.place(self.folder, content)
        except ValueError:
            raise Unplaced from None
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        found: Any
        try:
            found = self.target.read(self.folder)
        except JaxnnError as error:
            found = error
        return found, tracemalloc.get_traced_memory()[1] - before


class Unplaced(Exception):
    """The input can be no file of this kind."""


def require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


if __name__ == "__main__":
    cli.run(main)
