"""The errors that a user can cause, each told in one line."""

from typing import ClassVar


class JaxnnError(Exception):
    """A user's mistake. A script prints `error: …` on stderr and exits with status 2.

    The message stays on one line whatever file name or field name it quotes: characters that do not
    print, line feeds and terminal escapes among them, are shown as Python escapes.

    Where an error `names_settings`, they are in backticks: `lr`. A command shows them as flags:
    --lr.
    """

    names_settings: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))


class DataError(JaxnnError, ValueError):
    """Data that is missing, malformed, or not what its place promised."""


class UsageError(JaxnnError, ValueError):
    """An argument or flag that is out of range, or contradicts another one or the data."""


class SettingError(UsageError):
    """A setting that is out of range, or contradicts another one or the data."""

    names_settings = True


class TrainingRefusedError(JaxnnError, ArithmeticError):
    """A hand-written gradient disagrees with the true one."""


class TrainingDivergedError(JaxnnError, ArithmeticError):
    """The loss is no longer a finite number."""

    names_settings = True


class PeerLostError(JaxnnError):
    """Another process of the same run has ended, and no step can be completed without it."""


class CheckpointError(JaxnnError, ValueError):
    """A checkpoint or parameter file that is damaged, or belongs to another run."""


class StorageError(JaxnnError):
    """A result could not be written: the disk is full, or the folder is gone or read-only."""

    names_settings = True
