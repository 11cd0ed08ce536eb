"""Tables as text: CSV as Kaggle has it, with a header or without, gzipped or not.

The label is the column that is called so (label, class, target, y, species …), the only one that is
no number, or the first of a row that otherwise has the pixels of a square; `keys` name another:
y=NAME, or y=1 for the first. An identifier is no input. The separator is a comma, a semicolon, a
tab or a space.
"""

import csv
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnn.data import emnist
from jaxnn.data.blame import blame
from jaxnn.data.field import Field, Values, whole
from jaxnn.data.idx import opened
from jaxnn.data.roles import place
from jaxnn.errors import DataError, SettingError

#: Names of the column with the label, and of one that only numbers the rows, in small letters.
LABELS = ("label", "labels", "class", "target", "species", "digit", "letter", "category", "y")
IDENTIFIERS = ("id", "imageid", "image_id", "index", "unnamed: 0", "")

#: Bytes that are taken at once, and those in which a whole line must end.
AT_ONCE, LONGEST_LINE = 1 << 18, 1 << 22

#: Digits of a number that is read by `_whole_numbers`.
MOST_DIGITS = 6

MOST_COLUMNS = 1_000_000

#: Rows of a table without a header that may be the flattened pictures of a person.
MOST_PICTURES = 10_000


class Table(NamedTuple):
    """How a file is to be read. `label` and `identifier` are columns, or None; `header` has the
    names of all columns, or is empty."""

    path: Path
    separator: str
    header: tuple[str, ...]
    columns: int
    label: int | None
    identifier: int | None
    rows: int

    @property
    def inputs(self) -> list[int]:
        """The columns that are inputs."""
        return [c for c in range(self.columns) if c not in (self.label, self.identifier)]


def is_table(head: bytes) -> bool:
    """Whether contents that begin so are rows of numbers, or words, with separators."""
    with suppress(UnicodeDecodeError):
        text = (
            head[:4096].decode("utf-8-sig") if len(head) < 4096 else head[:4096].decode("latin-1")
        )
        lines = [line for line in text.splitlines() if line.strip()]
        printable = all(c.isprintable() or c in "\r\n\t" for c in text)
        return bool(lines and printable and text[:1] not in "<{[(" and _cells_of(lines[0]) > 1)
    return False


def _cells_of(line: str) -> int:
    return len(line.strip().split(_separator(line)))


def _separator(line: str) -> str | None:
    counts = {mark: line.count(mark) for mark in ",;\t"}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] else None


def parts(paths: Sequence[Path], keys: Sequence[str] = ()) -> dict[str, Field]:
    """x and y of each part, which the files' names say. What has no labels is left out, and said.

    Raises DataError.
    """
    if len(paths) == 1:
        return arrays(described(paths[0], keys))
    tables = {place(path.stem).part or path.stem: path for path in paths}
    train = tables.get("train")
    if train is None:
        shown = ", ".join(path.name for path in paths[:4])
        raise DataError(f"{paths[0].parent}: train.csv expected among its tables, found {shown}")
    first = described(train, keys)
    found = {f"train/{name}": field for name, field in arrays(first).items()}
    for part, path in tables.items():
        if part in ("test", "validation"):
            table = like(path, first)
            if table.label is None:
                remark = f"{path.name} has no labels: it can be predicted"
                x = found["train/x"]
                found["train/x"] = replace(x, remarks=(*x.remarks, remark))
            else:
                found |= {f"{part}/{name}": field for name, field in arrays(table).items()}
    return found


def unlabelled(path: Path, n_x: int, must: bool) -> Table | None:
    """How a table is to be read whose rows are predicted: of n_x inputs, with or without a label
    and an identifier. None where it may be a picture instead, unless it `must` be a table.

    Raises DataError.
    """
    table = described(path, labelled=False)
    if len(table.inputs) == n_x + 1:
        return described(path)
    is_one = bool(table.header) or must or table.rows > MOST_PICTURES
    if len(table.inputs) == n_x:
        return table if is_one else None
    if is_one:
        raise DataError(
            f"{path}: {n_x:,} inputs per row expected as the network has, found "
            f"{len(table.inputs):,}"
        )
    return None


def rows(table: Table) -> Values:
    """The inputs (n, n_x) of a whole table, as the training data were read. Raises DataError."""
    x = arrays(table)["x"]
    with blame(table.path.name):
        return whole(x).reshape(x.shape[0], -1)


def identifiers(table: Table) -> list[str]:
    """The cells of the column that numbers the rows; none where there is no such column."""
    if table.identifier is None:
        return []
    with blame(str(table.path), zlib.error):
        return list(column(table, table.identifier))


def like(path: Path, first: Table) -> Table:
    """How another file of the same columns is to be read, which may lack the label.

    Raises DataError where its columns are others.
    """
    table = described(path, labelled=False)
    if first.header and table.header:
        inputs = [first.header[c] for c in first.inputs]
        missing = [name for name in inputs if name not in table.header]
        if missing:
            raise DataError(
                f"{path}: the columns of {first.path.name} expected, found none called {missing[0]}"
            )
        label = None if first.label is None else first.header[first.label]
        where = table.header.index(label) if label in table.header else None
        table = table._replace(label=where)
        if [table.header[c] for c in table.inputs] != inputs:
            raise DataError(f"{path}: the columns of {first.path.name} in the same order expected")
    elif table.columns == first.columns:
        table = table._replace(label=first.label)
    if len(table.inputs) != len(first.inputs):
        raise DataError(
            f"{path}: {len(first.inputs):,} inputs expected as in {first.path.name}, found "
            f"{len(table.inputs):,}"
        )
    return table


def arrays(table: Table) -> dict[str, Field]:
    """x, and y where there are labels. Raises DataError."""
    path, n_x = table.path, len(table.inputs)
    x = Field(str(path), (table.rows, n_x), np.dtype(np.float32), lambda: _inputs(table))
    side = math.isqrt(n_x)
    if emnist.NAME.search(path.name) and side * side == n_x:
        x = emnist.known(path.name, replace(x, shape=(table.rows, side, side)))
    if table.label is None:
        return {"x": x}
    with blame(str(path), zlib.error):
        labels = np.array(list(column(table, table.label)))
    y = Field(f"{path}: label", labels.shape, labels.dtype, lambda: iter([labels]))
    return {"x": x, "y": emnist.known(path.name, y)}


def described(path: Path, keys: Sequence[str] = (), labelled: bool | None = None) -> Table:
    """How the file is to be read. `labelled` says whether there is a label, where that is known.

    Raises DataError.
    """
    with blame(str(path), zlib.error):
        lines = _lines(path)
        first = [line for _, line in zip(range(2), lines, strict=False)]
        if not first:
            raise ValueError("rows of numbers expected, found none")
        separator = _separator(_text(first[0])) or " "
        rows = [cells(_text(line), separator) for line in first]
        header = _is_header(*rows)
        names = tuple(name.strip() for name in rows[0]) if header else ()
        columns = len(rows[0])
        if header and len(rows) < 2:
            raise ValueError("rows below the header expected, found none")
        if columns > MOST_COLUMNS or len(rows[-1]) != columns:
            raise ValueError(
                f"line 2: {columns:,} cells expected as in line 1, found {len(rows[-1]):,}"
            )
        lowered = [name.lower() for name in names]
        identifier = 0 if lowered[:1] and lowered[0] in IDENTIFIERS else None
        label = None
        if labelled is not False:
            label = _label(path, rows[-1], names, identifier, keys)
        count = sum(1 for _ in _lines(path)) - header
    return Table(path, separator, names, columns, label, identifier, count)


def _is_header(first: Sequence[str], second: Sequence[str] | None = None) -> bool:
    if first[0].strip().lower() in LABELS or first[-1].strip().lower() in LABELS:
        return True
    words = sum(not _is_number(cell) for cell in first)
    return words > (sum(not _is_number(cell) for cell in second) if second else 0)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _label(
    path: Path,
    row: Sequence[str],
    names: Sequence[str],
    identifier: int | None,
    keys: Sequence[str],
) -> int | None:
    """The column of the label. Raises DataError where it is not clear which that is."""
    asked = next((key[2:] for key in keys if key.startswith("y=")), None)
    if asked is not None:
        return _named(path, asked, names, len(row))
    lowered = [name.lower() for name in names]
    for name in LABELS:
        if name in lowered:
            return lowered.index(name)
    others = [c for c in range(len(row)) if c != identifier]
    words = [c for c in others if not _is_number(row[c])]
    if len(words) == 1:
        return words[0]
    if len(words) > 1:
        shown = ", ".join(repr(row[c][:20]) for c in words[:3])
        raise DataError(
            f"{path}: numbers in all columns but the label expected, found {shown}: encode the "
            "others as numbers, pandas.get_dummies(table) does; `keys` y=NAME names the label"
        )
    if _is_square(len(others)) or (names and all(re.search(r"\d$", names[c]) for c in others)):
        return None
    if _is_square(len(others) - 1):
        return others[0]
    known = f"found the columns {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"
    example = f"y={names[-1]}" if names else "y=1 for the first, y=-1 for the last"
    raise DataError(
        f"{path}: a column called label, class or target expected, "
        f"{known if names else f'found {len(row)} columns without names'}: `keys` {example}"
    )


def _named(path: Path, asked: str, names: Sequence[str], columns: int) -> int:
    if asked in names:
        return list(names).index(asked)
    if re.fullmatch(r"-?[1-9][0-9]{0,6}", asked) and abs(int(asked)) <= columns:
        return int(asked) - 1 if int(asked) > 0 else columns + int(asked)
    found = (
        f"{', '.join(names[:8])}{', …' if len(names) > 8 else ''}" if names else f"1 to {columns}"
    )
    raise SettingError(f"`keys` y={asked}: expected a column of {path}, found {found}")


def _is_square(n: int) -> bool:
    """Whether so many pixels make a square that can be a picture."""
    return n >= 25 and math.isqrt(n) ** 2 == n


def _lines(path: Path) -> Iterator[bytes]:
    """The lines that are not empty. Raises ValueError for one without an end."""
    with opened(path) as file:
        while line := file.readline(LONGEST_LINE):
            if len(line) == LONGEST_LINE:
                raise ValueError("rows of numbers expected, found a line without end")
            if line.strip():
                yield line.removeprefix(b"\xef\xbb\xbf")


def _chunks(table: Table) -> Iterator[tuple[int, list[bytes]]]:
    """The rows below the header, many at once, and the number of the first."""
    lines, number = _lines(table.path), 1
    if table.header:
        next(lines, None)
        number = 2
    chunk: list[bytes] = []
    size = 0
    for line in lines:
        chunk.append(line)
        size += len(line)
        if size >= AT_ONCE:
            yield number, chunk
            number, chunk, size = number + len(chunk), [], 0
    if chunk:
        yield number, chunk


def cells(line: str, separator: str) -> list[str]:
    """The cells of a row."""
    if separator == " ":
        return line.split()
    if '"' in line:
        return next(csv.reader([line], delimiter=separator))
    return line.rstrip("\r\n").split(separator)


def _text(line: bytes) -> str:
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        return line.decode("latin-1").rstrip("\r\n")


def column(table: Table, which: int) -> Iterator[str]:
    """The cells of a column. Raises ValueError for a row of another length."""
    mark = table.separator.encode()
    for number, lines in _chunks(table):
        for at, line in enumerate(lines):
            if which == 0 and b'"' not in line and mark != b" ":
                yield _text(line.split(mark, 1)[0]).strip()
                continue
            row = cells(_text(line), table.separator)
            if len(row) != table.columns:
                raise ValueError(_ragged(number + at, table, len(row)))
            yield row[which].strip()


def _ragged(line: int, table: Table, found: int) -> str:
    return f"line {line}: {table.columns:,} cells expected as in the lines before, found {found:,}"


def _inputs(table: Table) -> Iterator[Values]:
    with blame(str(table.path), zlib.error):
        for number, lines in _chunks(table):
            yield _numbers(table, number, lines).reshape(-1)


def _numbers(table: Table, number: int, lines: list[bytes]) -> Values:
    """The inputs of some rows, (n, n_x) float32. Raises ValueError."""
    mark = table.separator.encode()
    skipped = {table.label, table.identifier} - {None}
    quoted = any(b'"' in line for line in lines)
    if mark != b" " and not quoted:
        for at, line in enumerate(lines):
            if line.count(mark) != table.columns - 1:
                raise ValueError(_ragged(number + at, table, line.count(mark) + 1))
        if skipped <= {0}:
            text = [line.split(mark, 1)[1] for line in lines] if skipped else lines
            whole = _whole_numbers(b"".join(text), mark, len(table.inputs), len(lines))
            if whole is not None:
                return whole
    try:
        return np.loadtxt(
            lines,
            np.float32,
            delimiter=None if mark == b" " else table.separator,
            usecols=table.inputs,
            quotechar='"',
            comments=None,
            ndmin=2,
        )
    except ValueError:
        raise ValueError(_wrong_cell(table, number, lines)) from None


def _wrong_cell(table: Table, number: int, lines: list[bytes]) -> str:
    """What is the matter with the first row that is none of numbers."""
    for at, line in enumerate(lines):
        row = cells(_text(line), table.separator)
        if len(row) != table.columns:
            return _ragged(number + at, table, len(row))
        for c in table.inputs:
            if not _is_number(row[c]):
                name = f" ({table.header[c]})" if table.header else ""
                found = f"found {row[c][:20]!r}" if row[c].strip() else "found an empty cell"
                return f"line {number + at}, column {c + 1}{name}: a number expected, {found}"
    return f"line {number}: numbers expected"


def _whole_numbers(text: bytes, mark: bytes, columns: int, rows: int) -> Values | None:
    """A table of whole numbers of a few digits, which MNIST's pixels are, all cells at once: in an
    eighth of the time that `numpy.loadtxt` takes. None where it is anything else."""
    if not text.endswith(b"\n"):
        text += b"\n"
    if b"\r" in text:
        text = text.replace(b"\r", b"")
    letters = np.frombuffer(text, np.uint8)
    digit = letters - np.uint8(ord("0"))
    ends = np.flatnonzero(digit > 9)
    if len(ends) != rows * columns:
        return None
    separators = letters[ends].reshape(rows, columns)
    if (separators[:, :-1] != ord(mark)).any() or (separators[:, -1] != ord("\n")).any():
        return None
    lengths = np.diff(ends, prepend=-1) - 1
    longest = int(lengths.max())
    if lengths.min() < 1 or longest > MOST_DIGITS:
        return None
    values = digit[ends - 1].astype(np.float32)
    for power in range(1, longest):
        longer = np.flatnonzero(lengths > power)
        values[longer] += np.float32(10**power) * digit[ends[longer] - 1 - power]
    return values.reshape(rows, columns)
