"""The flags: each setting of `Config` has one, as it is declared, and so has what a run runs on.

Nothing here imports jax, so that `--help` answers at once.
"""

import argparse
from typing import Any

from jaxnn.commands import cli
from jaxnn.io.command import with_flags
from jaxnn.training.config import SETTINGS
from jaxnn.training.declaration import Group, Names, Size, Switch, Widths, Words, read, spelled


def add_group(flags: argparse._ArgumentGroup, group: Group) -> None:
    """The flags of a group's settings."""
    for setting in SETTINGS.values():
        if setting.group == group:
            add(flags, setting.name)


def add(
    flags: argparse._ArgumentGroup, name: str, default: Any = None, default_in_words: str = ""
) -> None:
    """A setting's flag. Without a `default` of its own it has the parser's, and tells Config's."""
    setting = SETTINGS[name]
    told = default_in_words or setting.unset or _typed(default or setting.default)
    options: dict[str, Any] = {"type": cli.argument(setting.kind)}
    if isinstance(setting.kind, Widths | Words | Size):
        options = {"nargs": "+", "action": _Together}
    if isinstance(setting.kind, Switch):
        options = {"action": "store_const", "const": True}
    if default is not None:
        options["default"] = default
    _add(flags, name, setting.kind.placeholder, told, options)


def add_axis(flags: argparse._ArgumentGroup, name: str, default: Any) -> None:
    """A setting's flag that takes one or more values, of layers 64 or 256x128."""
    kind = SETTINGS[name].kind
    placeholder = "N[xN…]" if isinstance(kind, Widths) else kind.placeholder
    options = {"type": cli.argument(kind), "nargs": "+", "default": [default]}
    _add(flags, name, placeholder, _typed(default), options)


def _add(
    flags: argparse._ArgumentGroup, name: str, placeholder: str, told: str, options: dict[str, Any]
) -> None:
    setting = SETTINGS[name]
    choices = f": {', '.join(setting.kind.names)}" if isinstance(setting.kind, Names) else ""
    text = f"{with_flags(setting.help)}{choices} (default: {told})"
    if not isinstance(setting.kind, Switch):
        options["metavar"] = placeholder
    flags.add_argument(f"--{name}", help=text.replace("%", "%%"), **options)


def _typed(value: Any) -> str:
    return spelled(value).removesuffix(".0")


class _Together(argparse.Action):
    """Several words that are one value: 256 128."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        try:
            value = read(SETTINGS[self.dest].kind, " ".join(values))
        except ValueError as error:
            raise argparse.ArgumentError(self, str(error)) from None
        setattr(namespace, self.dest, value)


def add_quiet(group: argparse._ArgumentGroup) -> None:
    """Whether the command speaks while it works."""
    group.add_argument(
        "--quiet",
        action="store_true",
        help="print nothing but the folder of the results, and warnings and errors on standard "
        "error (default: a line for each epoch)",
    )


def add_devices(parser: argparse.ArgumentParser) -> None:
    """What a run is computed on, and no part of what it is."""
    devices = parser.add_argument_group("devices")
    devices.add_argument(
        "--devices",
        type=cli.integer(1, 1024),
        metavar="N",
        help="share the examples of every batch out among N devices, which a CPU makes of its "
        "cores; the result is the same but for rounding (default: 1)",
    )
    devices.add_argument(
        "--device_memory",
        type=cli.integer(1, 2**30),
        metavar="MIB",
        help="keep no more than so many MiB of data on each device, and ship the rest in its turn; "
        "images that are more than that lie on the disk, not in memory; the result is the same "
        "(default: half of a GPU's memory, or of what is free on a CPU)",
    )
    devices.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="train together with other processes: where the first one listens, the same for all; "
        "auto takes it, and the next two, from Slurm or Open MPI (default: train alone)",
    )
    devices.add_argument(
        "--processes",
        type=cli.integer(1, 65_536),
        metavar="N",
        help="how many processes train together; --devices is then of each",
    )
    devices.add_argument(
        "--process",
        type=cli.integer(0, 65_535),
        metavar="I",
        help="which of them this is, from 0; 0 writes the results",
    )
