"""How a setting is declared: which values it takes, and what is said of it.

A kind of value is written down once, and flags, JSON and Python are held to it: `read` takes what a
person types, `require` what stands in a file or a program.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field
from numbers import Integral, Real
from typing import Any, NamedTuple, Protocol, TypeVar

from jaxnn.errors import SettingError
from jaxnn.io.suggestion import did_you_mean

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

DECLARATION = "declaration"


class Kind(Protocol[T_co]):
    """The values that a setting takes."""

    @property
    def expected(self) -> str:
        """The values in words, after "expected"."""

    @property
    def notation(self) -> str:
        """How they are typed, where `expected` leaves that open."""

    @property
    def placeholder(self) -> str:
        """What stands for a value in `--help`: its unit, if it has one."""

    def parsed(self, text: str) -> Any:
        """What a text stands for, not yet checked. Raises `ValueError` where that is nothing."""

    def checked(self, value: Any) -> T_co:
        """The value, as plain Python. Raises `ValueError` where it is none of these values."""


@dataclass(frozen=True)
class Integers:
    """Integers from `low` to `high`, both included."""

    low: int
    high: int
    unit: str = ""
    notation: str = ""

    @property
    def expected(self) -> str:
        return f"an integer from {self.low} to {self.high}"

    @property
    def placeholder(self) -> str:
        return self.unit.upper() or "N"

    def parsed(self, text: str) -> int:
        return int(text)

    def checked(self, value: Any) -> int:
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not whole or not self.low <= value <= self.high:
            raise ValueError
        return int(value)


@dataclass(frozen=True)
class Numbers:
    """Finite numbers from `low` to `high`, each included unless said otherwise."""

    low: float
    high: float
    low_included: bool = True
    high_included: bool = True
    unit: str = ""
    notation: str = ""

    @property
    def expected(self) -> str:
        return (
            f"a number {'at least' if self.low_included else 'greater than'} {self.low:g} and "
            f"{'at most' if self.high_included else 'less than'} {self.high:g}"
        )

    @property
    def placeholder(self) -> str:
        return self.unit.upper() or "X"

    def parsed(self, text: str) -> float:
        return float(text)

    def checked(self, value: Any) -> float:
        number = _number(value)
        above = number >= self.low if self.low_included else number > self.low
        below = number <= self.high if self.high_included else number < self.high
        if not (above and below):
            raise ValueError
        return number


@dataclass(frozen=True)
class Share:
    """A count of examples (1, 2, …), or a fraction of them between 0 and 1."""

    expected: str = "a fraction between 0 and 1 or a whole number from 1"
    notation: str = ""
    placeholder: str = "N|FRACTION"

    def parsed(self, text: str) -> float:
        return float(text)

    def checked(self, value: Any) -> float:
        number = _number(value)
        if not (0 < number < 1 or (1 <= number < 2**31 and number == int(number))):
            raise ValueError
        return number


@dataclass(frozen=True)
class Names:
    """One of these names. `synonyms` are what others call some of them."""

    names: tuple[str, ...]
    synonyms: Mapping[str, str] = field(default_factory=dict, hash=False)
    notation: str = ""
    placeholder: str = "NAME"

    @property
    def expected(self) -> str:
        return f"one of {', '.join(self.names)}"

    def parsed(self, text: str) -> str:
        return text

    def checked(self, value: Any) -> str:
        if not isinstance(value, str) or value not in self.names:
            raise ValueError
        return str(value)


@dataclass(frozen=True)
class Widths:
    """The widths of up to `most` layers, each in `each`; none is no layer."""

    each: Integers
    most: int
    notation: str = ", such as 64 or 256x128, or 0 alone for no hidden layer"

    @property
    def expected(self) -> str:
        return f"up to {self.most} widths from {self.each.low} to {self.each.high}"

    @property
    def placeholder(self) -> str:
        return self.each.placeholder

    def parsed(self, text: str) -> tuple[int, ...]:
        widths = tuple(map(int, text.replace("x", " ").split(" ")))
        return () if widths == (0,) else widths

    def checked(self, value: Any) -> tuple[int, ...]:
        listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        if not listed or len(value) > self.most:
            raise ValueError
        return tuple(map(self.each.checked, value))


@dataclass(frozen=True)
class Switch:
    """On, or else off. Its flag alone is on."""

    expected: str = "true or false"
    notation: str = ""
    placeholder: str = ""

    def parsed(self, text: str) -> bool:
        if text.lower() not in ("true", "false"):
            raise ValueError
        return text.lower() == "true"

    def checked(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value


@dataclass(frozen=True)
class Size:
    """The height and width of a picture, each in `each`."""

    each: Integers
    notation: str = ", such as 28 or 28x20"
    placeholder: str = "N|HxW"

    @property
    def expected(self) -> str:
        return f"a height and a width from {self.each.low} to {self.each.high}"

    def parsed(self, text: str) -> tuple[int, ...]:
        sides = tuple(map(int, text.replace("x", " ").split()))
        return sides * 2 if len(sides) == 1 else sides

    def checked(self, value: Any) -> tuple[int, int]:
        listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        if not listed or len(value) != 2:
            raise ValueError
        return self.each.checked(value[0]), self.each.checked(value[1])


@dataclass(frozen=True)
class Words:
    """Up to `most` words, one at least."""

    most: int
    placeholder: str
    expected: str = "words"
    notation: str = ""

    def parsed(self, text: str) -> tuple[str, ...]:
        return tuple(text.split())

    def checked(self, value: Any) -> tuple[str, ...]:
        listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        if not listed or not 0 < len(value) <= self.most:
            raise ValueError
        if not all(isinstance(word, str) for word in value):
            raise ValueError
        return tuple(value)


@dataclass(frozen=True)
class Folder:
    """A path."""

    placeholder: str
    expected: str = "a path"
    notation: str = ""

    def parsed(self, text: str) -> str:
        return text

    def checked(self, value: Any) -> str:
        path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
        if not isinstance(path, str):
            raise ValueError
        return path


class Group(NamedTuple):
    """Settings that `--help` shows together. What goes beyond the document is off by default."""

    title: str
    beyond: bool = False


class Setting(NamedTuple):
    """A declared field. A default of None is no value of the kind: `unset` says what it means.

    `synonyms` are what others call the setting.
    """

    name: str
    default: Any
    kind: Kind[Any]
    group: Group
    help: str
    unset: str
    synonyms: tuple[str, ...]


def declared(
    default: T,
    kind: Kind[T],
    group: Group,
    help: str,
    unset: str = "",
    synonyms: tuple[str, ...] = (),
) -> T:
    """A field of a dataclass, declared as a setting."""
    return field(default=default, metadata={DECLARATION: (kind, group, help, unset, synonyms)})


def setting(of: Field[Any]) -> Setting:
    """The declaration of a field."""
    return Setting(of.name, of.default, *of.metadata[DECLARATION])


def read(kind: Kind[T], text: str) -> T:
    """The value that is typed as `text`. Raises `ValueError` with what was expected and found."""
    try:
        return kind.checked(kind.parsed(text))
    except ValueError:
        raise ValueError(
            f"expected {kind.expected}{kind.notation}, found {text!r}{_hint(kind, text)}"
        ) from None


def require(name: str, kind: Kind[T], value: Any) -> T:
    """The value, as plain Python. Raises `SettingError`, which names the setting, if it is none."""
    try:
        return kind.checked(value)
    except ValueError:
        raise SettingError(
            f"`{name}`: expected {kind.expected}, found {value!r:.60}{_hint(kind, value)}"
        ) from None


def _hint(kind: Kind[Any], value: Any) -> str:
    """What may have been meant by a name that is none of the kind's."""
    if not isinstance(kind, Names) or not isinstance(value, str):
        return ""
    return did_you_mean(value, kind.names, kind.synonyms)


def spelled(value: Any) -> str:
    """A value as it is typed after its flag; nothing where the flag alone says it."""
    if isinstance(value, bool):
        return "" if value else "off"
    return (" ".join(map(str, value)) or "0") if isinstance(value, tuple) else str(value)


def _number(value: Any) -> float:
    """An int or a float, as it is; what is neither, such as NumPy's numbers, as a float."""
    if type(value) is int or type(value) is float:
        return value
    if not isinstance(value, Real) or isinstance(value, bool):
        raise ValueError
    try:
        return float(value)
    except OverflowError:
        raise ValueError from None
