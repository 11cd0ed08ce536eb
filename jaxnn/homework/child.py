"""The process of a homework file: reads it, and answers questions about it, with NumPy alone.

    python child.py ROOT FILE

ROOT is the folder that holds jaxnn. A question and an answer are each a length of eight bytes and
an npz file with arrays and, under "told", what is no array, as JSON. Nothing is ever unpickled.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np


def pack(told: dict[str, Any], groups: dict[str, dict[str, Any]] | None = None) -> bytes:
    """What is told, and groups of arrays by name, as bytes with their length."""
    arrays: dict[str, Any] = {}
    names: dict[str, str] = {}
    for group, members in (groups or {}).items():
        for name, value in members.items():
            key = f"a{len(arrays)}"
            arrays[key], names[key] = np.asarray(value), f"{group}.{name}"
    buffer = io.BytesIO()
    np.savez(buffer, told=np.array(json.dumps([told, names])), **arrays)
    data = buffer.getvalue()
    return len(data).to_bytes(8, "big") + data


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """What `pack` has packed, without the length."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        told, names = json.loads(str(file["told"]))
        groups: dict[str, dict[str, np.ndarray]] = {}
        for key, name in names.items():
            group, _, member = name.partition(".")
            groups.setdefault(group, {})[member] = file[key]
    return told, groups


def read(stream: BinaryIO, limit: int = 2**28) -> bytes | None:
    """The next message; None at the end. Raises ValueError for what is none."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    length = int.from_bytes(head, "big")
    if length > limit:
        raise ValueError("a message of impossible length")
    return stream.read(length)


def main() -> None:
    """Answer until the questions end."""
    root, path = Path(sys.argv[1]), Path(sys.argv[2])
    questions = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    # The file itself reads nothing, and what it prints goes to stderr.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    sys.argv, sys.path[0] = [str(path)], str(path.parent)
    sys.path.append(str(root))

    from jaxnn.homework import source, student

    answers.write(pack({}))  # From here on it is the file that takes time.
    answers.flush()
    form: Any = None
    while (data := read(questions)) is not None:
        told, groups = unpack(data)
        try:
            if form is None:
                form, answer = opened(path, told, source, student)
            else:
                answer = at_a_point(form, told, groups, student)
        except source.UnreadableError as error:
            answer = pack({"stop": str(error)})
        except student.Raised as raised:
            answer = pack({"raised": str(raised)})
        except student.Stop as stop:
            answer = pack({"stop": str(stop)})
        sys.stdout.flush()
        answers.write(answer)
        answers.flush()


def opened(path: Path, told: dict[str, Any], source: Any, student: Any) -> tuple[Any, bytes]:
    """Read the file, and find its form."""
    reader = source.Reader(path.parent)
    sys.meta_path.insert(0, reader)
    module = ModuleType("homework")
    sys.modules["homework"] = module
    reader.run(path, module)
    form = student.find(reader, module, told["function"], told["sizes"])
    kept = reader.kept[str(path)]
    named = [form.names[k] for k in ("backward", "forward", "loss") if k in form.names]
    return form, pack(
        {
            "form": form.form,
            "backward": form.names["backward"],
            "holds": form.holds,
            "leaves": list(form.leaves),
            "shapes": {name: list(shape) for name, shape in form.shapes.items()},
            "functions": named,
            "has_forward": "forward" in form.names,
            "loss": form.names.get("loss", ""),
            "takes_m": form.takes_m,
            "left_out": [[kept.source.place(line), words] for line, words in kept.left_out],
            "failed": reader.failed,
            "text": kept.source.text,
        }
    )


def at_a_point(form: Any, told: dict[str, Any], groups: Any, student: Any) -> bytes:
    """What the file's functions say at a point."""
    given = groups["given"]
    point = student.Point(
        groups["leaves"], given["X"], given["Y"], told["m"], told["l2"], groups.get("cache")
    )
    answer = form.run(point)
    return pack(
        {"loss": answer.loss, "how": answer.how, "problem": answer.problem},
        {"gradient": answer.gradient, "forward": answer.forward, "extra": answer.extra},
    )


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
