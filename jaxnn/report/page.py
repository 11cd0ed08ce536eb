"""`report.html`: a run on one page that needs nothing else, no network and no script."""

import base64
import html
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from jaxnn.errors import StorageError
from jaxnn.io.files import write_bytes
from jaxnn.report.canvas import DPI, SMALLEST
from jaxnn.report.plots import CONFUSION, CURVES, DISTORTIONS, MISTAKES, WEIGHTS, Pictures
from jaxnn.runs.layout import REPORT
from jaxnn.runs.metrics import AVERAGES, COLUMNS, Report
from jaxnn.training.config import Config

#: Pixels that a text of a picture has at least, as it is shown.
READABLE = 11

CAPTIONS = {
    CURVES: "Loss and accuracy by epoch",
    CONFUSION: "Which classes are taken for which",
    MISTAKES: "The most confident mistakes",
    WEIGHTS: "What the first layer looks at",
    DISTORTIONS: "What the network was trained on",
}

PAGE = Template((files("jaxnn.report") / "page.html").read_text(encoding="utf-8"))


def write(
    folder: Path,
    result: Mapping[str, Any],
    about: Mapping[str, Any],
    classes: Report,
    history: Sequence[Mapping[str, Any]],
    pictures: Pictures,
) -> Path:
    """Write the report of a run into its folder, the pictures' files within it.

    Raises `StorageError` where a picture cannot be read or the report cannot be written.
    """
    path = folder / REPORT
    try:
        images = {file.name: file.read_bytes() for file in pictures.written}
        content = page(result, about, classes, history, images, pictures.left_out)
        write_bytes(path, content.encode())
    except OSError as error:
        raise StorageError(f"{path}: cannot write the report: {error.strerror}") from error
    return path


def page(
    result: Mapping[str, Any],
    about: Mapping[str, Any],
    classes: Report,
    history: Sequence[Mapping[str, Any]],
    images: Mapping[str, bytes],
    left_out: Mapping[str, str],
) -> str:
    """The page. `result` is that of `result.json`, `about` what else is to be said of the run;
    images are PNG files by name."""
    config, defaults = result["config"], Config().to_dict()
    differing = {
        name: value
        for name, value in config.items()
        if name not in defaults or value != defaults[name]
    }
    same = {name: value for name, value in config.items() if name not in differing}
    return PAGE.substitute(
        title=_text(f"Training on {result['dataset']}"),
        subtitle=_text(
            f"{result['n_train']:,} training and {result['n_test']:,} test examples; parameters "
            f"of epoch {result['chosen_epoch']} of {result['epochs']}; seed {config['seed']}"
        ),
        state=_state(result),
        figures=_figures(result),
        differing=_facts(differing) if differing else "<p>Nothing: it is the document's run.</p>",
        defaults=_facts(same),
        about=_facts({**about, **result["versions"]}),
        verdict=_text(_verdict(result["gradient_check"])),
        classes=_classes(classes, result["test_accuracy"]),
        pictures="\n".join([*map(_picture, images, images.values()), *_omissions(left_out)]),
        history=_table(list(history[-1]), [list(record.values()) for record in history]),
    )


def _state(result: Mapping[str, Any]) -> str:
    """Nothing of a run that is finished."""
    asked = result["config"].get("epochs", result["epochs"])
    if result["epochs"] >= asked or result["gradient_check"] is not None:
        return ""
    return (
        f'<p class="notice">Not finished: this is its state after {result["epochs"]} of '
        f"{asked} epochs.</p>"
    )


def _figures(result: Mapping[str, Any]) -> str:
    shown = {
        "test accuracy": f"{result['test_accuracy']:.2%}",
        "test loss (nats)": f"{result['test_loss']:.4f}",
        "training accuracy": f"{result['train_accuracy']:.2%}",
        "training loss (nats)": f"{result['train_loss']:.4f}",
        "F1, weighted": f"{result['f1']:.4f}",
        "seconds of training": f"{result['train_seconds']:.1f}",
    }
    return "\n".join(f"<div><b>{_text(v)}</b>{_text(k)}</div>" for k, v in shown.items())


def _verdict(check: Mapping[str, Any] | None) -> str:
    if check is None:
        return (
            "Training begins only where every hand-written gradient agrees with jax.grad; by how "
            "much is recorded when a run is finished."
        )
    error = f"the largest relative error is {check['max_relative_error']:.1e}"
    if not check["ok"]:
        return f"A hand-written gradient disagrees with jax.grad: {error}."
    return f"Every hand-written gradient agreed with jax.grad before training began: {error}."


def _classes(report: Report, accuracy: float) -> str:
    """As in `table.txt`."""
    rows = [["class", *COLUMNS]]
    for name, values in report.items():
        *ratios, support = (values[column] for column in COLUMNS)
        if name == AVERAGES[0]:
            rows.append(["accuracy", "", "", f"{accuracy:.4f}", f"{support:.0f}"])
        rows.append([name, *(f"{ratio:.4f}" for ratio in ratios), f"{support:.0f}"])
    return _table(rows[0], rows[1:], section=len(rows) - len(AVERAGES) - 2)


def _picture(name: str, png: bytes) -> str:
    """Never so small that its smallest text is below READABLE pixels: then it scrolls."""
    data = base64.b64encode(png).decode()
    caption = _text(CAPTIONS.get(name, name))
    width = int.from_bytes(png[16:20])
    least = math.ceil(width * READABLE / (SMALLEST * DPI / 72))
    return (
        f'<figure><div class="scroll" tabindex="0" role="region" aria-label="{caption}">'
        f'<img alt="{caption}" style="min-width: {least}px; max-width: {max(width, least)}px" '
        f'src="data:image/png;base64,{data}"></div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _omissions(left_out: Mapping[str, str]) -> list[str]:
    return [
        f"<p>{_text(CAPTIONS.get(name, name))}: left out, because {_text(reason)}.</p>"
        for name, reason in left_out.items()
    ]


def _facts(facts: Mapping[str, Any]) -> str:
    rows = (f"<tr><th>{_text(k)}</th><td>{_text(_plain(v))}</td></tr>" for k, v in facts.items())
    return f'<div class="scroll"><table class="facts">{"".join(rows)}</table></div>'


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]], section: int = -1) -> str:
    """The first column holds the rows' names; a line is drawn above row `section`."""
    head = "".join(f"<th>{_text(cell)}</th>" for cell in header)
    body = []
    for index, (name, *cells) in enumerate(rows):
        tag = '<tr class="section">' if index == section else "<tr>"
        cells_html = "".join(f"<td>{_text(_plain(cell))}</td>" for cell in cells)
        body.append(f"{tag}<th>{_text(_plain(name))}</th>{cells_html}</tr>")
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="table">'
        f"<table><tr>{head}</tr>{''.join(body)}</table></div>"
    )


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return "–" if value is None else str(value)


def _text(value: object) -> str:
    return html.escape(str(value))
