"""The command `jaxnn`, and `python -m jaxnn`: the first word is a command, the rest its arguments.

Nothing here imports jax, so that `--help` answers at once.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import jaxnn
from jaxnn.commands import cli
from jaxnn.errors import UsageError
from jaxnn.io.command import as_called
from jaxnn.io.suggestion import did_you_mean

#: Each is a module of `jaxnn.commands`.
COMMANDS = {
    "train": "train a network, its hand-written gradients verified before; or go on with a run",
    "predict": "read digits in pictures of your own",
    "evaluate": "print a run's table again, from its parameters alone",
    "compare": "put runs side by side",
    "report": "write a run's report anew, or that of a run that is not finished",
    "explore": "write a page to look inside the network: draw, follow it, plant mistakes",
    "sweep": "train a grid of networks at once, and choose among them by validation",
    "check": "say whether a hand-written gradient is right and, if not, which line is wrong",
}

HELP = """\
usage: {program} COMMAND …

A neural network whose backpropagation is derived by hand, and verified before it trains.

commands:
{commands}

first steps:
  {program} train --data digits       train in seconds on 1,797 small digits; needs no network
  {program} train                     train on MNIST as the document does
  {program} predict RUN digit.png     what the trained network reads in your picture
  {program} check my_backprop.py      examine your own backpropagation, a NumPy file

`{program} COMMAND --help` explains every flag; `{program} --version` prints the version."""


def text() -> str:
    """What `--help` prints."""
    listed = "\n".join(f"  {name:10}{meaning}" for name, meaning in COMMANDS.items())
    return HELP.format(program=as_called(), commands=listed)


def run(argv: Sequence[str] | None = None) -> int:
    """Carry out the command that the first argument names. Raises `UsageError` if it names none."""
    first, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if first in ("-h", "--help"):
        print(text())
        return 0
    if first == "--version":
        print(f"jaxnn {jaxnn.__version__}")
        return 0
    if first not in COMMANDS:
        raise UsageError(
            f"expected a command: {', '.join(COMMANDS)}; found {first}"
            f"{did_you_mean(first, COMMANDS)}"
        )
    status: int = import_module(f"jaxnn.commands.{first}").main(rest)
    return status


def main() -> NoReturn:
    """The entry point of the installed command."""
    cli.run(run)


if __name__ == "__main__":
    main()
