"""Parquet as the large hubs store pictures: a column of PNG or JPEG bytes, and one of labels.

The names of the classes are in the file's notes. Several files of one part are its pieces. Needs
pyarrow, which is an extra: pip install 'jaxnn[parquet]'.
"""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxnn.data.blame import blame
from jaxnn.data.field import Field, Values, joined
from jaxnn.data.roles import KINDS, place
from jaxnn.errors import DataError

MAGIC = b"PAR1"

#: Rows that are read at once.
ROWS = 256


def parts(
    paths: Sequence[Path], size: tuple[int, int] | None = None, grey: bool = False
) -> dict[str, Field]:
    """x and y of each part, of which the files are pieces: train-00000-of-00002 is one of two."""
    found: dict[str, list[Field]] = {}
    for path in paths:
        part = place(path.stem).part
        for name, field in arrays(path, size, grey).items():
            found.setdefault(f"{part}/{name}" if len(paths) > 1 else name, []).append(field)
    return {name: joined(fields) for name, fields in found.items()}


def arrays(path: Path, size: tuple[int, int] | None = None, grey: bool = False) -> dict[str, Field]:
    """x and y of one file. Raises DataError."""
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataError(
            f"{path}: pyarrow expected, which reads Parquet: pip install 'jaxnn[parquet]'"
        ) from error
    with blame(str(path), Exception), pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        x, y = (_column(path, schema, kind) for kind in ("x", "y"))
        count = file.metadata.num_rows
        if not count:
            raise ValueError("rows expected, found none")
        first = next(_rows(path, x))
        shape = _shape(first, size, grey)
        labels = np.array(file.read([y]).column(0).to_pylist())
    if labels.dtype.kind not in "iuUb":
        raise DataError(f"{path}: {y}: whole numbers or text as labels expected")
    return {
        "x": Field(
            f"{path}: {x}",
            (count, *shape),
            np.dtype(np.uint8),
            partial(_pieces, path, x, shape, size),
        ),
        "y": Field(
            f"{path}: {y}",
            labels.shape,
            labels.dtype,
            partial(iter, [labels]),
            classes=_classes(schema.metadata or {}, y),
        ),
    }


def _column(path: Path, schema: Any, kind: str) -> str:
    names: Sequence[str] = [name for name in schema.names if name.lower() in KINDS[kind]]
    if len(names) != 1:
        wanted = "image" if kind == "x" else "label"
        raise DataError(
            f"{path}: one column called {wanted} expected, found {', '.join(schema.names[:8])}"
        )
    return names[0]


def _classes(metadata: dict[bytes, bytes], label: str) -> dict[int, str]:
    """The names that a hub notes for the labels."""
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        notes = json.loads(metadata[b"huggingface"])
        names = notes["info"]["features"][label]["names"]
        return {number: str(name) for number, name in enumerate(names)}
    return {}


def _rows(path: Path, column: str) -> Iterator[bytes]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROWS, columns=[column]):
            for cell in batch.column(0).to_pylist():
                content = cell.get("bytes") if isinstance(cell, dict) else cell
                if not isinstance(content, bytes):
                    raise ValueError("the bytes of a picture expected in every row")
                yield content


def _shape(content: bytes, size: tuple[int, int] | None, grey: bool) -> tuple[int, ...]:
    from jaxnn.data import pictures

    (w, h), colour = pictures.size_of(io.BytesIO(content))
    h, w = size or (h, w)
    return (h, w, 3) if colour and not grey else (h, w)


def _pieces(
    path: Path, column: str, shape: tuple[int, ...], size: tuple[int, int] | None
) -> Iterator[Values]:
    from jaxnn.data import pictures

    with blame(f"{path}: {column}", Exception):
        for number, content in enumerate(_rows(path, column)):
            found = pictures.size_of(io.BytesIO(content))[0][::-1]
            if size is None and found != shape[:2]:
                h, w = shape[:2]
                raise DataError(
                    f"{path}: {column}: pictures of one size expected, found {h}×{w} and in row "
                    f"{number + 1} {found[0]}×{found[1]}: `size` {h}x{w} brings all to one"
                )
            yield pictures.pixels(io.BytesIO(content), shape).reshape(-1)
