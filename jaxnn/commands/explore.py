"""A page to look inside the network of a run."""

from collections.abc import Sequence
from pathlib import Path

from jaxnn.commands import cli
from jaxnn.commands.evaluate import belongs, fitting
from jaxnn.errors import UsageError

DESCRIPTION = """\
Write one page, explore.html, that a browser shows without a server or a network. On it you draw a
digit or take a test image, follow it forward and backward through the network equation by equation,
take steps of training by hand, and plant mistakes into the backward pass to see what they do.

The page has the parameters and some test images in it: 0.5 MB for MNIST's 784-64-10. Training
writes it beside report.html. A run that is not finished is shown as far as it has come."""

EPILOG = """\
examples:
  python scripts/explore.py runs/my-run                   writes runs/my-run/explore.html
  python scripts/explore.py runs/my-run --out page.html   writes it elsewhere
  python scripts/explore.py runs/my-run --member 2        the second network of several"""


def parser() -> cli.Parser:
    """A run, and where to write."""
    p = cli.Parser(DESCRIPTION, EPILOG, "explore")
    p.add_argument("run", metavar="RUN", help="the folder of a run on images")
    p.add_argument(
        "--out",
        metavar="FILE.html",
        help="the file to write; one that is there is replaced (default: explore.html in RUN)",
    )
    p.add_argument(
        "--member",
        type=cli.integer(1, 1024),
        default=1,
        metavar="N",
        help="which network of a run with several (--committee) (default: 1)",
    )
    p.add_argument(
        "--data",
        metavar="DATA",
        help="show the test images of other data of the same size (default: the run's own)",
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Load, evaluate, write."""
    args = parser().parse_args(argv)
    if args.out and Path(args.out).suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {args.out}: expected a file name that ends in .html")

    from jaxnn import data
    from jaxnn.report import console, explore
    from jaxnn.runs import layout, trained

    network = trained.load(Path(args.run), console.notice)
    explore.of_member(network, args.member)
    dataset = data.load(
        args.data or network.run.data["argument"],
        notify=console.notice,
        **network.run.data.get("reading", {}),
    )
    dataset = fitting(dataset, network)
    belongs(dataset, network, asked_for=args.data is not None)
    path = Path(args.out) if args.out else network.run.folder / layout.EXPLORE
    explore.write(path, network, dataset, args.member)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; open it in a browser")
    return 0
