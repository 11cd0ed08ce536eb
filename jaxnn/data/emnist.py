"""EMNIST (Cohen, Afshar, Tapson and van Schaik, 2017): letters and digits in MNIST's form.

Its files hold each image transposed, and number what they show. They are known by their names,
emnist-SPLIT-train-images-idx3-ubyte or emnist-SPLIT-train.csv, and its images are set upright.
"""

import re
import string
from collections.abc import Mapping
from dataclasses import replace

from jaxnn.data.field import Field, mapped

NAME = re.compile(r"emnist-(byclass|bymerge|balanced|letters|digits|mnist)-(train|test)")

UPRIGHT = "EMNIST's images, which its files hold transposed, are set upright"

#: The small letters that look unlike the large ones: those of the merged splits.
SMALL = "abdefghnqrt"

MERGED = dict(enumerate(string.digits + string.ascii_uppercase + SMALL))

CLASSES: Mapping[str, Mapping[int, str]] = {
    "letters": dict(enumerate(string.ascii_uppercase, 1)),
    "byclass": dict(enumerate(string.digits + string.ascii_uppercase + string.ascii_lowercase)),
    "balanced": MERGED,
    "bymerge": MERGED,
}


def known(name: str, field: Field) -> Field:
    """The array of a file of that name: EMNIST's upright, and its labels named; others as is."""
    match = NAME.search(name)
    if match is None:
        return field
    if len(field.shape) == 3:
        _, h, w = field.shape
        return mapped(field, (w, h), field.dtype, lambda x: x.transpose(0, 2, 1), UPRIGHT)
    return replace(field, classes=CLASSES.get(match[1], {}))
