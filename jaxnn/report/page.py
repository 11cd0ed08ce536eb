"""`report.html`: a run on one page that needs nothing else, no network and no script."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from jaxnn.errors import StorageError
from jaxnn.io.files import write_bytes
from jaxnn.report.plots import CONFUSION, CURVES, DISTORTIONS, MISTAKES, WEIGHTS, Pictures
from jaxnn.runs.layout import REPORT
from jaxnn.runs.metrics import AVERAGES, COLUMNS, Report

CAPTIONS = {
    CURVES: "Loss and accuracy by epoch",
    CONFUSION: "Which classes are taken for which",
    MISTAKES: "The most confident mistakes",
    WEIGHTS: "What the first layer looks at",
    DISTORTIONS: "What the network was trained on",
}

PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; }
h2 { margin-top: 2.5rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin: 1.5rem 0; }
.figures b { display: block; font-size: 1.8rem; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #8884; }
th { font-weight: 600; }
table.facts th, table.facts td { text-align: left; overflow-wrap: anywhere; }
tr.section > * { border-top: 2px solid #888; }
figure { margin: 1.5rem 0; }
img { max-width: 100%; height: auto; background: white; }
@media print { h2 { break-after: avoid; } figure, table { break-inside: avoid; } }
</style>
</head>
<body>
<h1>$title</h1>
<p>$subtitle</p>
<div class="figures">
$figures
</div>
<h2>Gradients</h2>
<p>$verdict</p>
<h2>Precision, recall and F1 on the test set</h2>
$classes
<h2>Pictures</h2>
$pictures
<h2>Configuration</h2>
$configuration
<h2>Versions</h2>
$versions
<details>
<summary>Every epoch</summary>
$history
</details>
</body>
</html>
""")


def write(
    folder: Path,
    result: Mapping[str, Any],
    classes: Report,
    history: Sequence[Mapping[str, Any]],
    pictures: Pictures,
) -> Path:
    """Write the report of a finished run into its folder, the pictures' files within it.

    Raises `StorageError` where a picture cannot be read or the report cannot be written.
    """
    path = folder / REPORT
    try:
        images = {file.name: file.read_bytes() for file in pictures.written}
        content = page(result, classes, history, images, pictures.left_out)
        write_bytes(path, content.encode())
    except OSError as error:
        raise StorageError(f"{path}: cannot write the report: {error.strerror}") from error
    return path


def page(
    result: Mapping[str, Any],
    classes: Report,
    history: Sequence[Mapping[str, Any]],
    images: Mapping[str, bytes],
    left_out: Mapping[str, str],
) -> str:
    """The page. `result` is that of `result.json`; images are PNG files by name."""
    config = result["config"]
    return PAGE.substitute(
        title=_text(f"Training on {result['dataset']}"),
        subtitle=_text(
            f"{result['n_train']:,} training and {result['n_test']:,} test examples; parameters "
            f"of epoch {result['chosen_epoch']} of {result['epochs']}; seed {config['seed']}"
        ),
        figures=_figures(result),
        verdict=_text(_verdict(result["gradient_check"])),
        classes=_classes(classes, result["test_accuracy"]),
        pictures="\n".join([*map(_picture, images, images.values()), *_omissions(left_out)]),
        configuration=_facts(config),
        versions=_facts(result["versions"]),
        history=_table(list(history[-1]), [list(record.values()) for record in history]),
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


def _verdict(check: Mapping[str, Any]) -> str:
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
    data = base64.b64encode(png).decode()
    caption = _text(CAPTIONS.get(name, name))
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _omissions(left_out: Mapping[str, str]) -> list[str]:
    return [
        f"<p>{_text(CAPTIONS.get(name, name))}: left out, because {_text(reason)}.</p>"
        for name, reason in left_out.items()
    ]


def _facts(facts: Mapping[str, Any]) -> str:
    rows = (f"<tr><th>{_text(k)}</th><td>{_text(_plain(v))}</td></tr>" for k, v in facts.items())
    return f'<table class="facts">{"".join(rows)}</table>'


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]], section: int = -1) -> str:
    """The first column holds the rows' names; a line is drawn above row `section`."""
    head = "".join(f"<th>{_text(cell)}</th>" for cell in header)
    body = []
    for index, (name, *cells) in enumerate(rows):
        tag = '<tr class="section">' if index == section else "<tr>"
        cells_html = "".join(f"<td>{_text(_plain(cell))}</td>" for cell in cells)
        body.append(f"{tag}<th>{_text(_plain(name))}</th>{cells_html}</tr>")
    return f"<table><tr>{head}</tr>{''.join(body)}</table>"


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return "–" if value is None else str(value)


def _text(value: object) -> str:
    return html.escape(str(value))
