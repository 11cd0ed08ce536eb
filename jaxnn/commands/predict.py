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

DESCRIPTION = """\
Read digits from pictures: PNG, JPEG, CSV or NPY, of any size, dark on light or light on dark, one
digit in each. A picture of the training images' size is shown to the network as it is, as the test
images were. Any other is brought into their form: for MNIST, scaled into 20×20 pixels and placed by
its centre of mass in 28×28, light on dark. Prints the digit, its probability and the runner-up."""

EPILOG = """\
examples:
  python scripts/predict.py runs/my-run seven.png photo.jpg
  python scripts/predict.py runs/my-run digits.npy --show     an array (n, h, w) holds n pictures
  python scripts/predict.py runs/my-run *.png --out seen.png  what the network saw, as a picture"""


class Answer(NamedTuple):
    """A picture, what the network saw of it, and its probabilities (C,)."""

    picture: "Picture"
    seen: "np.ndarray[Any, Any]"
    probabilities: "np.ndarray[Any, Any]"

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
    p.add_argument("--json", action="store_true", help="print JSON, with every probability")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Read and answer. A file that cannot be read is named, and the others are answered."""
    args = parser().parse_args(argv)
    check_out(args.out, args.images)
    if args.json and args.show:
        raise UsageError("--show: contradicts --json; expected one of the two")

    from jaxnn.report import console
    from jaxnn.runs import trained

    network = trained.load(Path(args.run), console.notice)
    readable, errors = read(network, args.images, args.prepare)
    answers = answered(network, readable)
    if args.json:
        print(json.dumps([as_json(answer) for answer in answers], indent=2))
    elif answers:
        print(table(answers))
    if args.show:
        show(answers, network)
    if args.out and answers:
        draw(Path(args.out), answers, network)
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    return command.USER_ERROR if errors else 0


def check_out(out: str | None, images: Sequence[str]) -> None:
    """A picture to be read must not be drawn over."""
    if out is None:
        return
    if Path(out).suffix.lower() != ".png":
        raise UsageError(f"--out {out}: expected a file name that ends in .png")
    if Path(out).resolve() in [Path(image).resolve() for image in images]:
        raise UsageError(f"--out {out}: is one of the pictures to be read; name another file")


def read(
    network: "Trained", images: Sequence[str], anew: bool
) -> tuple[list[tuple["Picture", "np.ndarray[Any, Any]"]], list[DataError]]:
    """Every picture with what the network is to see of it, and what is wrong with the others.

    `anew` brings those of the training images' size into their form as well.
    """
    from jaxnn.data.pictures import read as read_pictures
    from jaxnn.runs.trained import require_frame

    frame, look = require_frame(network), None if anew else network.look
    readable, errors = list[tuple["Picture", "np.ndarray[Any, Any]"]](), []
    for image in images:
        try:
            pictures = read_pictures(Path(image), frame.shape, look)
        except DataError as error:
            errors.append(error)
            continue
        taken = []
        for picture in pictures:
            try:
                taken.append((picture, network.seen(picture)))
            except DataError as error:
                errors.append(DataError(f"{picture.where}: {error}"))
        notice_strange(image, [picture for picture, _ in taken], network)
        readable += taken
    return readable, errors


def notice_strange(image: str, pictures: Sequence["Picture"], network: "Trained") -> None:
    """Say which pictures of a file are taken as they are though they look like another kind."""
    from jaxnn.report import console

    look = network.look
    strange = [
        picture.where
        for picture in pictures
        if look and picture.as_it_is is not None and look.is_strange(picture.as_it_is)
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
    return [Answer(*pair, row) for pair, row in zip(readable, A, strict=True)]


def table(answers: Sequence[Answer]) -> str:
    """One line per picture."""
    from jaxnn.report.plots import percent
    from jaxnn.report.text import columns

    digits = len(answers[0].probabilities) <= 10
    rows = [["image", "digit" if digits else "class", "probability", "runner-up", "probability"]]
    for answer in answers:
        first, second = answer.best[:2]
        p = answer.probabilities
        rows.append(
            [answer.picture.where, f"{first}", percent(p[first]), f"{second}", percent(p[second])]
        )
    return columns(rows, right=(1, 2, 3, 4))


def as_json(answer: Answer) -> dict[str, Any]:
    """The same for programs."""
    first, second = answer.best[:2]
    return {
        "image": answer.picture.where,
        "digit": first,
        "probability": float(answer.probabilities[first]),
        "runner_up": second,
        "runner_up_probability": float(answer.probabilities[second]),
        "probabilities": [float(p) for p in answer.probabilities],
    }


def inked(image: "np.ndarray[Any, Any]", network: "Trained") -> "np.ndarray[Any, Any]":
    """What the network saw with the ink as 1 and the paper as 0, to be drawn."""
    turned = network.look is not None and network.look.is_dark_on_light
    ink: np.ndarray[Any, Any] = (1 - image if turned else image).clip(0, 1)
    return ink


def show(answers: Sequence[Answer], network: "Trained") -> None:
    """What the network saw, in characters."""
    from jaxnn.report.text import blocks, printable

    for answer in answers:
        ink = inked(answer.seen, network)
        print(f"\n{printable(answer.picture.where)}\n{blocks(ink, sys.stdout.encoding)}")


def draw(path: Path, answers: Sequence[Answer], network: "Trained") -> None:
    """What was given beside what the network saw, as a picture."""
    from jaxnn.report import canvas, plots

    captions = [
        f"{answer.best[0]}, {plots.percent(answer.probabilities[answer.best[0]])}\n"
        f"{plots.short(Path(answer.picture.where).name, 18)}"
        for answer in answers
    ]
    given = [answer.picture.grey for answer in answers]
    prepared = [inked(answer.seen, network) for answer in answers]
    canvas.write(path, lambda: plots.seen(given, prepared, captions))
