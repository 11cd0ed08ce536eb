"""Which of a file's arrays are the examples and which the labels, of training and of test.

By their names: x_train, X_train, train_images, train/data, images with labels … One of them that
nobody would call so is named with `keys`: x=faces y=person.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from jaxnn.data.field import NAMES, Field
from jaxnn.errors import DataError, SettingError

KINDS = {
    "x": {"x", "images", "image", "imgs", "img", "data", "features", "inputs", "pixels", "samples"},
    "y": {"y", "labels", "label", "targets", "target", "classes", "class"},
}
PARTS = {
    "train": {"train", "training", "tr"},
    "test": {"test", "testing", "t10k", "te"},
    "validation": {"val", "valid", "validation", "dev"},
}

#: Words that tell nothing apart.
NOISE = {"set", "orig", "arr", "idx1", "idx2", "idx3", "ubyte", "int", "raw", "of"}

#: Names that a message lists.
LISTED = 8


class Parts(NamedTuple):
    """The arrays of a data set. Without a test part, `x_test` and `y_test` are None."""

    x_train: Field
    y_train: Field
    x_test: Field | None = None
    y_test: Field | None = None
    remarks: tuple[str, ...] = ()


class Place(NamedTuple):
    """What a name says: "x" or "y", the part, and the words that are left."""

    kind: str
    part: str
    rest: tuple[str, ...]


def place(name: str) -> Place:
    """What an array of that name is taken for; "" where the name does not say."""
    kind = part = ""
    rest = []
    for word in words(name):
        found_kind = next((k for k, names in KINDS.items() if word in names), "")
        found_part = next((p for p, names in PARTS.items() if word in names), "")
        kind, part = found_kind or kind, found_part or part
        if not (found_kind or found_part or word in NOISE or word.isdecimal()):
            rest.append(word)
    if "list" in words(name):  # of the classes' names
        kind = ""
    return Place(kind, part, tuple(rest))


def words(name: str) -> list[str]:
    """The words of a name in small letters: trainX, Xtrain and x_train are two."""
    name = re.sub(r"\b([XxYy])(?=tr|te|val)", r"\1_", name)
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    return [word for word in re.split(r"[^0-9a-z]+", name.lower()) if word]


def parts(
    where: str,
    arrays: Mapping[str, Field],
    keys: Sequence[str] = (),
    called: Mapping[str, str] | None = None,
) -> Parts:
    """The parts among these arrays. Raises DataError where that is not clear, and says how `keys`
    decide it. `called` has the names by which a message is to call the four."""
    named, chosen = _by_keys(where, arrays, keys)
    if "x" in named or "x_train" in named:
        found = named
    else:
        found = {**_by_names(where, arrays, chosen), **named}
    remarks: tuple[str, ...] = ()
    if "x_validation" in found and "x_test" not in found:
        found["x_test"], found["y_test"] = found["x_validation"], found["y_validation"]
        remarks = ("the validation part is taken as the test part",)
    elif "x_validation" in found:
        remarks = ("the validation part is left out",)
    for kind in "xy":
        if kind in found:
            found.setdefault(f"{kind}_train", found[kind])
    _require(where, arrays, found, called or {name: name for name in NAMES})
    x_train, y_train, x_test, y_test = (found.get(name) for name in NAMES)
    assert x_train is not None
    assert y_train is not None
    return Parts(x_train, y_train, x_test, y_test, remarks)


def _by_keys(
    where: str, arrays: Mapping[str, Field], keys: Sequence[str]
) -> tuple[dict[str, Field], tuple[str, ...]]:
    """What `keys` name, and the words with which they choose among several sets."""
    named, chosen = {}, []
    for key in keys:
        role, equals, name = key.partition("=")
        if not equals:
            chosen += words(key)
        elif role not in (*NAMES, "x", "y"):
            raise SettingError(
                f"`keys` {key}: expected x=, y=, or one of {'=, '.join(NAMES)}= before a name"
            )
        elif name in arrays:
            named[role] = arrays[name]
        elif not any("/" in known and known.rsplit("/", 1)[1] == name for known in arrays):
            raise SettingError(
                f"`keys` {key}: expected the name of an array in {where}, found {_list(arrays)}"
            )
        else:
            named |= {
                f"{role}_{part}" if part else role: field
                for known, field in arrays.items()
                if known.rsplit("/", 1)[-1] == name
                for part in [place(known).part]
            }
    return named, tuple(chosen)


def _by_names(where: str, arrays: Mapping[str, Field], chosen: tuple[str, ...]) -> dict[str, Field]:
    places = {name: place(name) for name in arrays}
    if {found.kind for found in places.values()} not in ({"x", "y"}, {"x"}):
        places = _by_shapes(arrays, places)
    sets: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for name, found in places.items():
        if found.kind and all(word in words(name) for word in chosen):
            role = f"{found.kind}_{found.part}" if found.part else found.kind
            sets.setdefault(found.rest, {}).setdefault(role, []).append(name)
    whole = [roles for roles in sets.values() if all({k, f"{k}_train"} & set(roles) for k in KINDS)]
    if () in sets and sets[()] in whole and not chosen:
        whole = [sets[()]]  # the plainest names
    names: dict[str, list[str]] = {}
    for roles in whole or sets.values():
        for role, those in roles.items():
            names.setdefault(role, []).extend(those)
    if any(len(those) > 1 for those in names.values()):
        options = [" ".join(rest) for rest, roles in sets.items() if roles in whole and rest]
        advice = f"`keys` {options[0]}" if options else "`keys` x=NAME y=NAME"
        raise DataError(
            f"{where}: one data set expected, found several: "
            f"{', '.join(options) or _list(arrays)}; {advice} chooses"
        )
    return {role: arrays[those[0]] for role, those in names.items()}


def _by_shapes(arrays: Mapping[str, Field], places: Mapping[str, Place]) -> dict[str, Place]:
    """Of two arrays of the same length, the labels are those with one number for each example."""
    if len(arrays) != 2:
        return dict(places)
    small, large = sorted(arrays, key=lambda name: arrays[name].size)
    if arrays[small].shape[:1] != arrays[large].shape[:1] or len(arrays[large].shape) < 2:
        return dict(places)
    return {small: Place("y", "", ()), large: Place("x", "", ())}


def _require(
    where: str,
    arrays: Mapping[str, Field],
    found: Mapping[str, Field],
    called: Mapping[str, str],
) -> None:
    """There are x and y of the training part, and both or neither of the test part."""
    missing = [name for name in NAMES if name not in found]
    if not missing or missing == ["x_test", "y_test"]:
        return
    raise DataError(
        f"{where}: {', '.join(called.values())} expected; missing: "
        f"{', '.join(called[name] for name in missing)}; found: {_list(arrays)}; where they have "
        "other names, `keys` x=NAME y=NAME tells them"
    )


def _list(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:LISTED]) + (", …" if len(listed) > LISTED else "") or "none"
