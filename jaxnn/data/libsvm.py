"""LIBSVM's text, in which USPS is published: a label and the inputs that are not 0, 7 1:-1 2:0.4 …

Read by scikit-learn. A file that ends in .t, as theirs do, is the test part. Pixels from −1 to 1,
as those of USPS, are brought to the scale from 0 to 1.
"""

import bz2
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnn.data.blame import blame
from jaxnn.data.field import Field, held, whole
from jaxnn.data.roles import place
from jaxnn.errors import DataError

LINE = re.compile(rb"[+-]?\d+(\.\d+)?( \d+:[-+.\deE]+)+\s*")

BZIP2 = b"BZh"

#: Bytes of a decompressed file.
LARGEST = 1 << 30

#: The number of inputs of an example that is seen as a picture here, that of USPS, 16×16.
USPS = 256


def is_libsvm(head: bytes) -> bool:
    """Whether contents that begin so have that form, bzip2 undone."""
    if head.startswith(BZIP2):
        try:
            head = bz2.BZ2Decompressor().decompress(head, 4096)
        except (OSError, EOFError):
            return False
        if not head:  # the first block is larger than what was read
            return True
    return LINE.match(head.split(b"\n", 1)[0] + b"\n") is not None


def parts(paths: Sequence[Path]) -> dict[str, Field]:
    """x and y of each part: of two files, the one that ends in .t, or .t.bz2, is the test part."""
    found = {}
    for path in paths:
        part = "test" if ".t" in path.suffixes else "train"
        part = place(path.stem).part or part
        for name, field in arrays(path).items():
            found[f"{part}/{name}" if len(paths) > 1 else name] = field
    return _of_one_width(found)


def _of_one_width(fields: dict[str, Field]) -> dict[str, Field]:
    """The last inputs of a part are not written where they are 0 in all of it."""
    widths = [field.shape[1] for field in fields.values() if len(field.shape) == 2]
    found = dict(fields)
    for name, field in fields.items():
        if len(field.shape) == 2 and field.shape[1] < max(widths):
            missing = max(widths) - field.shape[1]
            found[name] = held(field.where, np.pad(whole(field), ((0, 0), (0, missing))))
    return found


def arrays(path: Path) -> dict[str, Field]:
    """x and y of one file. Raises DataError."""
    from io import BytesIO

    from sklearn.datasets import load_svmlight_file

    with blame(str(path), Exception):
        with path.open("rb") as file:
            zipped = file.read(3) == BZIP2
        with bz2.open(path) if zipped else path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise DataError(f"{path}: at most {LARGEST:,} bytes of text expected, found more")
        sparse, y = load_svmlight_file(BytesIO(content), zero_based=False)
        if sparse.shape[0] * sparse.shape[1] > LARGEST:
            raise DataError(f"{path}: at most {LARGEST:,} numbers expected, found {sparse.shape}")
        x = sparse.toarray().astype(np.float32)
    if x.shape[1] == USPS and -1 <= x.min() < 0 and x.max() <= 1:
        x = ((x + 1) / 2).reshape(-1, 16, 16)
    return {"x": held(str(path), x), "y": held(f"{path}: label", y)}
