"""The forms that a data set can have, in one table: how each is recognised, and what reads it.

A form gives named arrays, and `roles` finds among them which are the examples and which the labels.
To add a form, write a module with a function that gives a file's arrays as fields, and a line here.
"""

import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from jaxnn.data import emnist, folders, hdf5, idx, libsvm, matlab, npy, parquet, roles, table
from jaxnn.data.blame import blame
from jaxnn.data.field import Field, joined
from jaxnn.data.roles import Parts
from jaxnn.errors import DataError, SettingError

#: Bytes of a file by which its form is recognised, and files of a folder that are looked at.
HEAD, MOST_FILES = 4096, 400

#: How deep in a folder data are looked for: root/MNIST/raw is two.
DEEPEST = 3


class Options(NamedTuple):
    """What a person says of data that cannot be seen in them: `keys` name arrays and columns;
    `size` (h, w) is what pictures are scaled to; `grey` makes colours grey; `features` says that
    rows are no pixels; `test` is the number or the share of examples that are the test part, drawn
    by `seed`, where the data have none."""

    keys: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    grey: bool = False
    features: bool = False
    test: float | None = None
    seed: int = 0


NO_OPTIONS = Options()


class Form(NamedTuple):
    """A kind of file: whether contents that begin so are one, and the arrays of some files of that
    kind, which lie in one folder, by name. `pictures` says whether they can be scaled."""

    name: str
    recognises: Callable[[bytes], bool]
    arrays: Callable[[Sequence[Path], Options], Mapping[str, Field]]
    pictures: bool = False


def each(
    read: Callable[[Path, Options], Mapping[str, Field]],
) -> Callable[[Sequence[Path], Options], Mapping[str, Field]]:
    """A reader of one file as one of several, whose arrays have the file's name before their own.
    Arrays of the same name are the pieces of one."""

    def arrays(paths: Sequence[Path], options: Options) -> Mapping[str, Field]:
        if len(paths) == 1:
            return read(paths[0], options)
        found: dict[str, list[Field]] = {}
        for path in paths:
            for name, field in read(path, options).items():
                found.setdefault(f"{path.stem}/{name}", []).append(field)
        return {name: joined(fields) for name, fields in found.items()}

    return arrays


def _idx(paths: Sequence[Path], options: Options) -> Mapping[str, Field]:
    return {
        name: emnist.known(path.name, field)
        for path in paths
        for name, field in idx.arrays(path).items()
    }


#: In the order in which a folder's files are tried.
FORMS = (
    Form("IDX", idx.is_idx, _idx),
    Form("HDF5", lambda h: h.startswith(hdf5.MAGIC), each(lambda path, _: hdf5.arrays(path))),
    Form("npz", lambda h: h.startswith(npy.NPZ), each(lambda path, _: npy.members(path))),
    Form("npy", lambda h: h.startswith(npy.NPY), each(lambda path, _: npy.arrays(path))),
    Form(
        "MATLAB v7.3", lambda h: h[:19] == matlab.MAGIC_73, each(lambda p, _: matlab.arrays_73(p))
    ),
    Form("MATLAB v5", lambda h: h[:19] == matlab.MAGIC, each(lambda p, _: matlab.arrays(p))),
    Form(
        "Parquet",
        lambda head: head.startswith(parquet.MAGIC),
        lambda paths, o: parquet.parts(paths, o.size, o.grey),
        pictures=True,
    ),
    Form("LIBSVM", libsvm.is_libsvm, lambda paths, _: libsvm.parts(paths)),
    Form("CSV", table.is_table, lambda paths, o: table.parts(paths, o.keys)),
)


def recognise(path: Path) -> Form | None:
    """The form of a file, by its first bytes, gzip undone; None where it has none of them."""
    head = head_of(path)
    return next((form for form in FORMS if head and form.recognises(head)), None)


def head_of(path: Path) -> bytes:
    """The first bytes of the contents, decompressed where the file is gzipped."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head.startswith(idx.GZIP):
        try:
            with gzip.open(path) as unzipped:
                return unzipped.read(HEAD)
        except (OSError, EOFError, zlib.error):
            return head
    return head


def read(path: Path, options: Options = NO_OPTIONS) -> Parts:
    """The data set in a file or folder, headers checked. Raises DataError."""
    with blame(str(path)):
        if path.is_dir():
            return _in_folder(path, options)
        if not path.is_file():
            raise DataError(f"{path}: no such file or folder")
        form = recognise(path)
        if form is None:
            raise DataError(f"{path}: {_expected()}, found {described(path)}")
        if form.name == "IDX":
            raise DataError(f"{path}: is one IDX file of four; give the folder that holds them")
        return _parts(path, form, [path], options)


def holds_data(path: Path) -> bool:
    """Whether `read(path)` would find something to read, damaged or not. Raises DataError."""
    with blame(str(path)):
        return path.is_file() or (path.is_dir() and bool(_files(path)))


def _expected() -> str:
    return f"a file in one of the forms {', '.join(form.name for form in FORMS)} expected"


def _parts(where: Path, form: Form, paths: Sequence[Path], options: Options) -> Parts:
    if options.size is not None and not form.pictures:
        raise SettingError(f"`size`: pictures in files expected, found {form.name} in {where}")
    arrays = form.arrays(paths, options)
    called = idx.NAMES if set(arrays) & set(idx.NAMES.values()) else None
    keys = options.keys
    if form.name == "CSV":  # whose keys name columns
        keys = tuple(key for key in keys if "=" not in key)
    return roles.parts(str(where), arrays, keys, called)


def _in_folder(folder: Path, options: Options) -> Parts:
    """The files of one form together, in the order of `FORMS`, else pictures by class, else what
    lies deeper."""
    problems = []
    for form, paths in _files(folder).items():
        try:
            return _parts(folder, form, paths, options)
        except SettingError:
            raise
        except DataError as error:
            problems.append(error)
    if parts := folders.found(folder):
        return roles.parts(str(folder), folders.arrays(parts, options.size, options.grey))
    if problems:
        raise problems[0]
    deeper = _deeper(folder)
    if len(deeper) > 1:
        shown = ", ".join(str(path) for path in deeper[:4])
        raise DataError(f"{folder}: one data set expected, found several: give one of {shown}")
    if deeper:
        return _in_folder(deeper[0], options)
    raise DataError(
        f"{folder}: {_expected()}, or a folder of pictures for each class, found none"
        f"{_pickles(folder)}"
    )


def _files(folder: Path) -> dict[Form, list[Path]]:
    """The files of a form by form. Of a file that is there gzipped as well, the other is taken."""
    paths = sorted(p for p in islice(folder.iterdir(), MOST_FILES) if p.is_file())
    names = {path.name for path in paths}
    taken: dict[Form, list[Path]] = {}
    for path in paths:
        if path.name[:1] in "._" or (path.suffix == ".gz" and path.stem in names):
            continue
        form = recognise(path)
        if form is not None and not path.name.startswith("sample_submission"):
            taken.setdefault(form, []).append(path)
    return {form: taken[form] for form in FORMS if form in taken}


def _deeper(folder: Path, depth: int = 1) -> list[Path]:
    """The nearest folders below that hold data."""
    deeper: list[Path] = []
    for path in folders.subfolders(folder):
        if _files(path) or folders.found(path):
            deeper.append(path)
        elif depth < DEEPEST:
            deeper += _deeper(path, depth + 1)
    return deeper


def described(path: Path) -> str:
    """What a file is that has none of the forms, and how it becomes one."""
    head = head_of(path)
    if not head:
        return "an empty file"
    if head.lstrip()[:1] == b"<":
        return "a web page or XML"
    if head.startswith(folders.BEGINNINGS):
        return "a picture: give the folder that holds a folder of pictures for each class"
    if head[:1] == b"\x80":
        return f"a pickle, which can run any program and is never opened{CONVERTED}"
    if b"data.pkl" in head or path.suffix in (".pt", ".pth"):
        return f"PyTorch's pickle, which can run any program and is never opened{CONVERTED}"
    return f"a file that begins with {head[:8]!r}"


#: How a person who trusts a pickle makes arrays of it.
CONVERTED = (
    ": where you trust it, load it and write numpy.savez('data.npz', x_train=…, y_train=…, "
    "x_test=…, y_test=…)"
)


def _pickles(folder: Path) -> str:
    """What to say of a folder whose files are pickles, as CIFAR's are."""
    for path in islice(folder.rglob("*"), MOST_FILES):
        if path.is_file() and "pickle" in (found := described(path)):
            return f"; {path.name} is {found}"
    return ""
