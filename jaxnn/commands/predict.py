"""What a trained network reads in pictures of your own."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxnn.commands import cli
from jaxnn.errors import DataError, UsageError
from jaxnn.io import command

if TYPE_CHECKING:
    import numpy as np

    from jaxnn.data.pictures import Picture
    from jaxnn.runs.trained import Trained

DIGITS = "0123456789"

DESCRIPTION = """\
Read digits from pictures: PNG, JPEG, CSV or NPY, of any size, dark on light or light on dark, one
digit in each. A picture of the training images' size is shown to the network as it is, as the test
images were. Any other is brought into their form: for MNIST, scaled into 20×20 pixels and placed by
its centre of mass in 28×28, light on dark. Prints the digit, its probability and the runner-up.

Of a network of pictures in colour or of one size (--size), pictures are scaled as those were. A CSV
with a header, or with rows as long as the network's inputs, is a table: every row is predicted."""

EPILOG = """\
examples:
  python scripts/predict.py runs/my-run seven.png photo.jpg
  python scripts/predict.py runs/my-run digits.npy --show     an array (n, h, w) holds n pictures
  python scripts/predict.py runs/my-run *.png --out seen.png  what the network saw, as a picture
  python scripts/predict.py runs/my-run test.csv --submission submission.csv   as Kaggle wants it"""


class Answer(NamedTuple):
    """A picture, what the network saw of it, its probabilities (C,), and the classes' names."""

    picture: "Picture"
    seen: "np.ndarray[Any, Any]"
    probabilities: "np.ndarray[Any, Any]"
    names: Sequence[str]

    @property
    def best(self) -> list[int]:
        """The classes, the most probable first."""
        return [int(c) for c in (-self.probabilities).argsort(kind="stable")]


def parser() -> cli.Parser:
    """A run and the pictures."""
    p = cli.Parser(DESCRIPTION, EPILOG, "predict")
    p.add_argument("run", metavar="RUN", help="the folder of a run")
    p.add_argument("images", metavar="IMAGE", nargs="+", help="a PNG, JPEG, CSV or NPY file")
    p.add_argument(
        "--prepare",
        action="store_true",
        help="bring pictures of the training images' size into their form as well: for drawings of "
        "that size with another paper or place (default: they are taken as they are)",
    )
    p.add_argument(
        "--show", action="store_true", help="draw what the network saw, here in the terminal"
    )
    p.add_argument(
        "--out",
        metavar="FILE.png",
        help="draw each picture beside what the network saw of it into this file",
    )
    p.add_argument(
        "--submission",
        metavar="FILE.csv",
        help="write the classes into this file, a row for each: an identifier, or ImageId from 1, "
        "and Label; in the form of a sample_submission.csv beside the table where there is one",
    )
    p.add_argument("--json", action="store_true", help="print JSON, with every probability")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Read and answer. A file that cannot be read is named, and the others are answered."""
    args = parser().parse_args(argv)
    check_out(args.out, args.images)
    check_out(args.submission, args.images, ".csv", "--submission")
    if args.json and args.show:
        raise UsageError("--show: contradicts --json; expected one of the two")

    from jaxnn.report import console
    from jaxnn.runs import trained

    network = trained.load(Path(args.run), console.notice)
    if network.image_shape is None and (args.show or args.out):
        raise UsageError(f"{args.run}: expected a network of pictures for --show and --out")
    readable, errors = read(network, args.images, args.prepare)
    answers = answered(network, readable)
    if args.submission and answers and not errors:
        submit(Path(args.submission), answers, [Path(image) for image in args.images])
    if args.json:
        print(json.dumps([as_json(answer) for answer in answers], indent=2))
    elif answers and not args.submission:
        print(table(answers))
    if args.show:
        show(answers, network)
    if args.out and answers:
        draw(Path(args.out), answers, network)
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    return command.USER_ERROR if errors else 0


def check_out(
    out: str | None, images: Sequence[str], suffix: str = ".png", flag: str = "--out"
) -> None:
    """What is to be read must not be written over."""
    if out is None:
        return
    if Path(out).suffix.lower() != suffix:
        raise UsageError(f"{flag} {out}: expected a file name that ends in {suffix}")
    if Path(out).resolve() in [Path(image).resolve() for image in images]:
        kind = "pictures" if suffix == ".png" else "files"
        raise UsageError(f"{flag} {out}: is one of the {kind} to be read; name another file")


def read(
    network: "Trained", images: Sequence[str], anew: bool
) -> tuple[list[tuple["Picture", "np.ndarray[Any, Any]"]], list[DataError]]:
    """Every picture with what the network is to see of it, and what is wrong with the others.

    `anew` brings those of the training images' size into their form as well.
    """
    readable, errors = list[tuple["Picture", "np.ndarray[Any, Any]"]](), []
    for image in images:
        try:
            found = rows(network, Path(image))
            pictures = [] if found else network.pictures_in(Path(image), anew)
        except DataError as error:
            errors.append(error)
            continue
        taken = found
        for picture in pictures:
            try:
                taken.append((picture, network.seen(picture)))
            except DataError as error:
                errors.append(DataError(f"{picture.where}: {error}"))
        notice_strange(image, [picture for picture, _ in taken], network)
        readable += taken
    return readable, errors


def rows(network: "Trained", path: Path) -> list[tuple["Picture", "np.ndarray[Any, Any]"]]:
    """Every row of a table, as the network knows it; none where the file is no table.

    Raises `DataError` where its rows are no inputs of the network.
    """
    import numpy as np

    from jaxnn.data import pictures, table

    if not path.is_file() or not is_table(path):
        return []
    found = table.unlabelled(path, network.run.data["n_x"], must=network.image_shape is None)
    if found is None:
        return []
    values = table.rows(found)
    try:
        X = network.in_unit(values)
    except UsageError as error:
        raise DataError(f"{path}: {error}") from error
    images = X.reshape(-1, *(network.image_shape or (1, X.shape[1])))
    whole = [pictures.Picture(f"{path} [{i}]", image, image) for i, image in enumerate(images)]
    return [(picture, np.asarray(picture.grey)) for picture in whole]


def is_table(path: Path) -> bool:
    """Whether a file is one by its content, which Pillow reads no picture in."""
    from jaxnn.data import forms

    form = forms.recognise(path)
    return form is not None and form.name == "CSV"


def notice_strange(image: str, pictures: Sequence["Picture"], network: "Trained") -> None:
    """Say which pictures of a file are taken as they are though they look like another kind."""
    from jaxnn.report import console

    look = network.look
    strange = [
        picture.where
        for picture in pictures
        if look and network.frame and picture.as_it_is is not None
        if look.is_strange(picture.as_it_is)
    ]
    if strange:
        count = "" if len(pictures) == 1 else f"{len(strange)} of {len(pictures)} pictures: "
        console.notice(
            f"{image}: {count}another paper than that of the training images; taken as it is: "
            "--prepare brings it into their form"
        )


def answered(
    network: "Trained", readable: Sequence[tuple["Picture", "np.ndarray[Any, Any]"]]
) -> list[Answer]:
    """The network's probabilities for every picture."""
    import numpy as np

    from jaxnn.nn.losses import softmax

    if not readable:
        return []
    X = np.stack([seen.ravel() for _, seen in readable])
    A = np.asarray(softmax(network.logits_in_unit(X)))
    names = network.class_names
    return [Answer(*pair, row, names) for pair, row in zip(readable, A, strict=True)]


def table(answers: Sequence[Answer]) -> str:
    """One line per picture."""
    from jaxnn.report.plots import percent
    from jaxnn.report.text import columns

    names = answers[0].names
    digits = all(name in DIGITS for name in names)
    rows = [["image", "digit" if digits else "class", "probability", "runner-up", "probability"]]
    for answer in answers:
        first, second = answer.best[:2]
        p = answer.probabilities
        rows.append(
            [
                answer.picture.where,
                names[first],
                percent(p[first]),
                names[second],
                percent(p[second]),
            ]
        )
    return columns(rows, right=(1, 2, 3, 4))


def submit(path: Path, answers: Sequence[Answer], sources: Sequence[Path]) -> None:
    """The classes as a table that can be submitted, and a line that says so.

    Raises `StorageError` where it cannot be written.
    """
    import csv
    import io

    from jaxnn.data import table
    from jaxnn.errors import StorageError
    from jaxnn.io.files import write_bytes
    from jaxnn.report import console

    header, numbers = ["ImageId", "Label"], [str(i) for i in range(1, len(answers) + 1)]
    sample = sources[0].parent / "sample_submission.csv"
    if len(sources) == 1 and sample.is_file():
        form = table.described(sample, labelled=False)
        found = list(table.column(form, 0))
        if form.columns == 2 and form.header and len(found) == len(answers):
            header, numbers = list(form.header), found
        else:
            console.notice(
                f"{sample}: expected two columns and {len(answers):,} rows: not its form"
            )
    elif len(sources) == 1 and is_table(sources[0]):
        form = table.described(sources[0], labelled=False)
        if form.identifier is not None:
            header, numbers = [form.header[0] or "id", "Label"], table.identifiers(form)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    classes = (answer.names[answer.best[0]] for answer in answers)
    writer.writerows(zip(numbers, classes, strict=True))
    try:
        write_bytes(path, text.getvalue().encode())
    except OSError as error:
        raise StorageError(f"{path}: cannot write there: {error.strerror}") from error
    print(f"{len(answers):,} predictions in {path}")


def as_json(answer: Answer) -> dict[str, Any]:
    """The same for programs."""
    first, second = answer.best[:2]
    return {
        "image": answer.picture.where,
        "digit": first,
        "class": answer.names[first],
        "probability": float(answer.probabilities[first]),
        "runner_up": second,
        "runner_up_class": answer.names[second],
        "runner_up_probability": float(answer.probabilities[second]),
        "probabilities": [float(p) for p in answer.probabilities],
    }


def inked(image: "np.ndarray[Any, Any]", network: "Trained") -> "np.ndarray[Any, Any]":
    """What the network saw with the ink as 1 and the paper as 0, to be drawn."""
    if image.ndim == 3:  # in colour
        return image.clip(0, 1)
    turned = network.look is not None and network.look.is_dark_on_light
    ink: np.ndarray[Any, Any] = (1 - image if turned else image).clip(0, 1)
    return ink


def show(answers: Sequence[Answer], network: "Trained") -> None:
    """What the network saw, in characters."""
    from jaxnn.report.text import blocks, printable

    for answer in answers:
        ink = inked(answer.seen, network)
        ink = ink.mean(axis=2) if ink.ndim == 3 else ink
        print(f"\n{printable(answer.picture.where)}\n{blocks(ink, sys.stdout.encoding)}")


def draw(path: Path, answers: Sequence[Answer], network: "Trained") -> None:
    """What was given beside what the network saw, as a picture."""
    from jaxnn.report import canvas, plots

    captions = [
        f"{plots.short(answer.names[answer.best[0]], 12)}, "
        f"{plots.percent(answer.probabilities[answer.best[0]])}\n"
        f"{plots.short(Path(answer.picture.where).name, 18)}"
        for answer in answers
    ]
    given = [answer.picture.grey for answer in answers]
    given = [1 - image if image.ndim == 3 else image for image in given]
    prepared = [inked(answer.seen, network) for answer in answers]
    canvas.write(path, lambda: plots.seen(given, prepared, captions))
