"""Labels in any notation, brought to one: the number of a class, and the classes' names.

Whole numbers from any start, text, and one-hot rows. The classes are those that occur, in the order
of their numbers, or of the alphabet; a class's name is its label, unless the file says another.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxnn.data.field import Field, Values, whole
from jaxnn.errors import DataError

#: Classes that a line names, and characters of a name.
SHOWN, LONGEST = 8, 80

EXPECTED = "whole numbers, text or one-hot rows expected"


class Labels(NamedTuple):
    """y_train (n_train,) and y_test (n_test,), int32 in 0 … C − 1, the C names of the classes, and
    what a reader of the figures should know about them, a phrase each."""

    y_train: NDArray[np.int32]
    y_test: NDArray[np.int32] | None
    names: tuple[str, ...]
    remarks: tuple[str, ...]


def read_labels(train: Field, test: Field | None = None) -> Labels:
    """The labels of both parts. Raises DataError where they cannot be those of classes."""
    given = [_values(train), _values(test) if test else None]
    if any(values is not None and values.dtype.kind == "U" for values in given):
        given = [None if values is None else values.astype(str) for values in given]
    y_train, y_test = given
    assert y_train is not None
    learnt = np.unique(y_train)
    if len(learnt) < 2:
        raise DataError(f"{train.where}: two classes or more expected, every label is {y_train[0]}")
    if len(learnt) > max(2, len(y_train) / 2):
        raise DataError(
            f"{train.where}: classes expected, found {len(learnt):,} different labels in "
            f"{len(y_train):,} examples: is it a number to be predicted, or an identifier?"
        )
    known = learnt
    if test and y_test is not None:
        known = np.union1d(learnt, y_test)
        _require_learnt(test, learnt, np.setdiff1d(y_test, learnt))
    if known.dtype.kind == "U":
        known = np.array(sorted(known.tolist(), key=natural))
    numbers = {value: number for number, value in enumerate(known.tolist())}
    names = {**{value: str(value) for value in known.tolist()}, **_named(train.classes, known)}
    told = tuple(_printable(names[value][:LONGEST]) for value in known.tolist())
    if len(set(told)) < len(told):
        raise DataError(f"{train.where}: names expected that differ, found one for two classes")
    coded = [None if y is None else _coded(y, numbers) for y in (y_train, y_test)]
    assert coded[0] is not None
    return Labels(coded[0], coded[1], told, _remarks(coded[0], coded[1], told))


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


def natural(text: str) -> list[Any]:
    """A sorting key by which "10" comes after "9", as in an index."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in _parts(text)]


def _parts(text: str) -> list[str]:
    return [part for part in re.split(r"([0-9]+)", text) if part]


def _named(names: Mapping[int, str], known: Values) -> dict[Any, str]:
    return {int(v): names[int(v)] for v in known.tolist() if names and int(v) in names}


def _coded(values: Values, numbers: Mapping[Any, int]) -> NDArray[np.int32]:
    distinct, places = np.unique(values, return_inverse=True)
    return np.array([numbers[value] for value in distinct.tolist()], np.int32)[places]


def _values(y: Field) -> Values:
    """(n,) whole numbers as int64, or text."""
    try:
        values = whole(y)
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        found = sum(piece.size for piece in y.pieces())
        raise DataError(f"{y.where}: {y.size:,} labels expected, found {found:,}") from error
    if values.dtype.kind in "SU":
        return _text(y.where, values.reshape(len(values)))
    values = _classes_of_rows(y.where, values)
    wrong = values[~((np.abs(values) < 2**53) & (values == np.floor(values)))]
    if wrong.size:
        raise DataError(f"{y.where}: {EXPECTED}, found {wrong[0]}")
    return values.astype(np.int64)


def _classes_of_rows(where: str, values: Values) -> Values:
    """One-hot rows (n, C) as the place of their 1; (n, 1) as (n,)."""
    if values.ndim == 1 or values.shape[1] == 1:
        return values.reshape(len(values))
    if not (((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all()):
        raise DataError(
            f"{where}: one label per row, or rows with a single 1, expected, found "
            f"{values.shape} with other rows: probabilities become labels by argmax(axis=1)"
        )
    return np.asarray(values.argmax(axis=1))


def _text(where: str, values: Values) -> Values:
    """Text; as whole numbers where all of it is."""
    if values.dtype.kind == "S":
        try:
            values = np.char.decode(values, "utf-8")
        except UnicodeDecodeError:
            values = np.char.decode(values, "latin-1")
    values = np.char.strip(values)
    distinct = np.unique(values)
    if (distinct == "").any():
        raise DataError(f"{where}: a label for every example expected, found an empty one")
    if all(re.fullmatch(r"-?[0-9]{1,15}(\.0+)?", text) for text in distinct.tolist()):
        return values.astype(np.float64).astype(np.int64)
    return values


def _require_learnt(test: Field, learnt: Values, others: Values) -> None:
    """The test part may have a class that no training example has only where it lies between those
    of the training part: a gap. Others are another numbering, or other names."""
    text = learnt.dtype.kind == "U"
    strange = others if text else others[(others < learnt.min()) | (others > learnt.max())]
    if strange.size:
        expected = ", ".join(map(str, learnt[:SHOWN].tolist()))
        raise DataError(
            f"{test.where}: labels as in the training part expected ({expected}"
            f"{', …' if learnt.size > SHOWN else ''}), found {strange[0]}, of which nothing "
            "can be learnt"
        )


def _remarks(y_train: Values, y_test: Values | None, names: tuple[str, ...]) -> tuple[str, ...]:
    lacking = np.setdiff1d(np.arange(len(names)), y_train)
    if not lacking.size:
        return ()
    more = ", …" if lacking.size > SHOWN else ""
    listed = ", ".join(names[c] for c in lacking[:SHOWN])
    kind = "class" if lacking.size == 1 else "classes"
    return (f"no training example of {kind} {listed}{more}, of which the test part has some",)
