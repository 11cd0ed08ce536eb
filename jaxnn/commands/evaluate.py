"""Evaluate the network of a run again, from its parameters alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxnn.commands import cli
from jaxnn.errors import UsageError

if TYPE_CHECKING:
    from jaxnn.data import Dataset
    from jaxnn.runs.metrics import Report
    from jaxnn.runs.trained import Trained
    from jaxnn.training.evaluation import Evaluation

DESCRIPTION = """\
Evaluate the network of a run on its test set, from its parameters alone, and print the table. The
figures must be those that the run recorded, to the bit, on the same machine and versions; if one is
not, it is named and the exit status is 1.

A run that is not finished is evaluated as it stands after its latest epoch."""

EPILOG = """\
examples:
  python scripts/evaluate.py runs/my-run
  python scripts/evaluate.py runs/my-run --data my-digits.npz   other images of the same size"""

DIFFERENT = 1


def parser() -> cli.Parser:
    """A run, and perhaps other data."""
    p = cli.Parser(DESCRIPTION, EPILOG, "evaluate")
    p.add_argument("run", metavar="RUN", help="the folder of a run")
    p.add_argument(
        "--data",
        metavar="DATA",
        help="evaluate on the test set of other data, in any form that can be trained on "
        "(default: the run's own)",
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Load, evaluate, print, compare."""
    args = parser().parse_args(argv)

    from jaxnn import data
    from jaxnn.report import console
    from jaxnn.runs import results, trained

    network = trained.load(Path(args.run), console.notice)
    dataset = data.load(
        args.data or network.run.data["argument"],
        notify=console.notice,
        **network.run.data.get("reading", {}),
    )
    dataset = fitting(dataset, network)
    own = belongs(dataset, network, asked_for=args.data is not None)
    test = results.test(dataset, network.run.config, network.params)
    report = results.report(dataset, test)
    table = console.table(report, test.accuracy)
    print(
        f"{table}\ntest loss {float(test.loss):.6f}, test accuracy {test.accuracy:.2%} on "
        f"{dataset.n_test:,} examples of {'; '.join((dataset.name, *dataset.remarks))}"
    )
    if network.result is None or not own:
        return 0
    return compared(network, figures(test, report), table)


def figures(test: "Evaluation", report: "Report") -> dict[str, float]:
    """What was found, by the names of `result.json`."""
    weighted = report["weighted avg"]
    return {
        "test_loss": float(test.loss),
        "test_accuracy": test.accuracy,
        "precision": weighted["precision"],
        "recall": weighted["recall"],
        "f1": weighted["f1-score"],
    }


def belongs(dataset: "Dataset", network: "Trained", asked_for: bool) -> bool:
    """Whether these are the run's own data. Raises `UsageError` if not, unless asked for."""
    expected, found = network.run.data["sha256"], dataset.fingerprint()
    if found != expected and not asked_for:
        raise UsageError(
            f"{dataset.source}: not the data that the run was trained on: expected SHA-256 "
            f"{expected[:12]}…, found {found[:12]}…; give --data to evaluate on other data"
        )
    return bool(found == expected)


def fitting(dataset: "Dataset", network: "Trained") -> "Dataset":
    """The data set with as many classes as the network, and on the scale that the run had where
    that of the data differs by no more than one file from another does. It may hold examples of
    fewer classes.

    Raises `UsageError` unless its images have the network's size and its labels are among its
    classes.
    """
    from dataclasses import replace

    import numpy as np

    from jaxnn.data.pixels import LIKE

    noted = network.run.data
    scale = network.look.scale if network.look else dataset.scale
    if scale != dataset.scale and 1 / LIKE <= scale / dataset.scale <= LIKE:
        others = (remark for remark in dataset.remarks if not remark.startswith("white is"))
        remarks = (f"white is {1 / scale:g}, as in the run", *others)
        dataset = replace(dataset, scale=scale, remarks=remarks)
    if dataset.n_x != noted["n_x"]:
        raise UsageError(
            f"{dataset.source}: expected {noted['n_x']} inputs per example as the run had, "
            f"found {dataset.n_x}"
        )
    names = network.class_names
    if dataset.class_names == names:
        return dataset
    strange = [name for name in dataset.class_names if name not in names]
    if strange:
        raise UsageError(
            f"{dataset.source}: expected classes among the {len(names)} that the run had "
            f"({', '.join(names[:8])}{', …' if len(names) > 8 else ''}), found {strange[0]}"
        )
    own = np.array([names.index(name) for name in dataset.class_names], np.int32)
    y_train, y_test = own[dataset.y_train], own[dataset.y_test]
    return replace(dataset, y_train=y_train, y_test=y_test, n_classes=len(names), class_names=names)


def compared(network: "Trained", found: dict[str, float], table: str) -> int:
    """Say whether the run's record agrees; the exit status."""
    from jaxnn.report import console
    from jaxnn.runs import layout, run_folder

    folder, recorded = network.run.folder, network.result or {}
    differences = [
        f"{name}: recorded {recorded[name]!r}, found {value!r}"
        for name, value in found.items()
        if recorded[name] != value
    ]
    if text(folder / layout.TABLE) != table:
        differences.append(f"{folder / layout.TABLE}: not the table above")
    if not agrees(folder / layout.RESULT, recorded):
        differences.append(f"{folder / layout.RESULT}: not what the run recorded")
    for line in differences:
        console.notice(line)
    if differences:
        console.notice(f"versions: {versions_since(network.run.versions, run_folder.versions())}")
        return DIFFERENT
    print("identical, to the bit, to what the run recorded")
    return 0


def versions_since(then: dict[str, str], now: dict[str, str]) -> str:
    """What differs between the versions of two times: the likely reason for other last bits."""
    changed = (
        f"{name} {v} then, {now.get(name)} now" for name, v in then.items() if now.get(name) != v
    )
    return "; ".join(changed) or "the same as then"


def agrees(path: Path, recorded: dict[str, Any]) -> bool:
    """Whether a run's `result.json` holds what its parameters were recorded with."""
    try:
        written = json.loads(text(path) or "")
        return all(written[name] == value for name, value in recorded.items())
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def text(path: Path) -> str | None:
    """A file's text, or None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
