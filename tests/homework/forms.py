"""The classic forms, as docs/homework.md has them, and mistakes in them."""

import re
from typing import NamedTuple

from .. import shell

PAGE = (shell.ROOT / "docs" / "homework.md").read_text(encoding="utf-8")

#: The files of the page by their names.
FILES = dict(re.findall(r"^```py\n# (\w+\.py)\n(.*?)^```\n", PAGE, re.DOTALL | re.MULTILINE))

#: What the page's adapter puts together.
LAYERS = "layers.py"


class Mistake(NamedTuple):
    """A text of a file, what stands there instead, and what has to be said."""

    file: str
    right: str
    wrong: str
    first_wrong: str
    cause: str


MISTAKES = (
    Mistake(
        "document.py",
        'dA1 * sigmoid(cache["Z1"]) * (1 - sigmoid(cache["Z1"]))',
        'dA1 * sigmoid(cache["A1"]) * (1 - sigmoid(cache["A1"]))',
        "dZ1",
        "derivative_at_activation",
    ),
    Mistake("course.py", "dZ = AL - Y", "dZ = Y - AL", "dZ2", "sign"),
    Mistake("notebook.py", "np.sum(dZ2, axis=1, keepdims=True)", "np.sum(dZ2)", "db2", "shape"),
    Mistake(
        "two_layer_net.py",
        "dhidden[hidden <= 0] = 0",
        "pass",
        "dZ1",
        "missing_activation_derivative",
    ),
    Mistake("updating.py", "X.T @ d1 / len(X)", "X.T @ d1", "dW1", "missing_mean"),
    Mistake("network.py", "delta, delta @", "delta, -delta @", "dW2", "sign"),
)


def changed(mistake: Mistake) -> str:
    """The file with the mistake."""
    source = FILES[mistake.file]
    assert mistake.right in source
    return source.replace(mistake.right, mistake.wrong)
