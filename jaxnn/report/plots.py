"""The pictures of a run: arrays in, figures out.

They hold for colour-blind readers: lines have the colours of Okabe and Ito and differ in their
dashes as well, weights have Moreland's diverging map, counts a map of one hue.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxnn.report import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[Any]
Record = Mapping[str, Any]

BLUE, VERMILION = "#0072B2", "#D55E00"
SERIES = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":")
GREY = "#666666"

#: Points of a curve's width.
LINE = 1.8

#: What is measured in each epoch: the title, the axis, and the factor that brings it to the axis.
MEASURES = {
    "loss": ("Loss", "cross-entropy (nats)", 1),
    "accuracy": ("Accuracy", "classified right (%)", 100),
}

MISTAKES_SHOWN = 24
PAIRS_SHOWN = 60
UNITS_SHOWN = 64
CLASSES_WITH_COUNTS = 50

#: Letters of a class's name in a picture.
NAME_SHOWN = 12

CURVES, CONFUSION, MISTAKES, WEIGHTS, DISTORTIONS = (
    "curves.png", "confusion.png", "mistakes.png", "weights.png", "distortions.png",
)  # fmt: skip
ALL = (CURVES, CONFUSION, MISTAKES, WEIGHTS, DISTORTIONS)


class Pictures(NamedTuple):
    """The files that were written, and the others' names with the reason."""

    written: tuple[Path, ...]
    left_out: dict[str, str]


def draw_run(
    folder: Path,
    name: str,
    history: Sequence[Record],
    images: Array,
    truth: Array,
    logits: Array,
    W1: Array,
    image_shape: tuple[int, ...] | None,
    distorted: tuple[Array, Array] | None = None,
    class_names: Sequence[str] = (),
) -> Pictures:
    """Every picture of a finished run, in its folder.

    images (n, n_x) are the test examples, `truth` (n,) their classes, which have the C names of
    `class_names`, `logits` (n, C) the network's answers and W1 (n_1, n_x) its first layer;
    `distorted` are training examples (k, n_x) and what distortions made of each (k, v, n_x), where
    there were any. Raises `StorageError` where a file cannot be written.
    """
    probabilities, name = softmax(logits), short(name, 40)
    plans: dict[str, str | Callable[[], Figure]] = {
        CURVES: lambda: curves(history, name),
        CONFUSION: lambda: confusion(truth, probabilities, name, class_names),
        MISTAKES: "the inputs are not the pixels of an image",
        WEIGHTS: "the inputs are not the pixels of an image",
    }
    if distorted is not None and image_shape is not None:
        originals, versions = (a.reshape(*a.shape[:-1], *image_shape) for a in distorted)
        plans[DISTORTIONS] = lambda: distortions(originals, versions, name)
    if image_shape is not None:
        tests, units = images.reshape(-1, *image_shape), np.asarray(W1).reshape(-1, *image_shape)
        plans[MISTAKES] = lambda: mistakes(tests, truth, probabilities, name, class_names)
        plans[WEIGHTS] = lambda: weights(units, name)
        if (probabilities.argmax(axis=1) == truth).all():
            plans[MISTAKES] = "the network made no mistake on the test set"
    return _carry_out(folder, plans)


def draw_nothing(folder: Path) -> Pictures:
    """In place of `draw_run` where no pictures are wanted."""
    return _carry_out(folder, dict.fromkeys(ALL, "no pictures were asked for"))


def _carry_out(folder: Path, plans: Mapping[str, "str | Callable[[], Figure]"]) -> Pictures:
    """Draw what there is to draw; what another state of the run left behind goes."""
    left_out = {file: plan for file, plan in plans.items() if isinstance(plan, str)}
    for file, plan in plans.items():
        if isinstance(plan, str):
            (folder / file).unlink(missing_ok=True)
        else:
            canvas.write(folder / file, plan)
    return Pictures(tuple(folder / file for file in plans if file not in left_out), left_out)


def softmax(logits: Array) -> Array:
    """(n, C) logits as probabilities, float64."""
    Z = np.asarray(logits, np.float64)
    E = np.exp(Z - Z.max(axis=1, keepdims=True))
    probabilities: Array = E / E.sum(axis=1, keepdims=True)
    return probabilities


def curves(history: Sequence[Record], name: str) -> "Figure":
    """Loss and accuracy of every epoch, on the training data and on what was held out.

    The legend has the values of the epoch whose parameters count: the best by validation, where
    there is one, else the last.
    """
    held_out = "validation" if "validation_loss" in history[-1] else "test"
    counts = min(history, key=lambda r: r["validation_loss"]) if held_out != "test" else history[-1]
    figure = canvas.blank(9, 3.8)
    figure.suptitle(f"{name}: learning curves")
    for axes, measure in zip(figure.subplots(1, 2), MEASURES, strict=True):
        for part, colour, dashes in (("train", BLUE, "-"), (held_out, VERMILION, "--")):
            label = f"{part} {_shown(counts[f'{part}_{measure}'], measure)}"
            values = [record[f"{part}_{measure}"] for record in history]
            _line(axes, history, measure, values, color=colour, ls=dashes, label=label)
        legend_title = f"epoch {counts['epoch']}"
        if held_out == "validation":
            axes.axvline(counts["epoch"], color=GREY, lw=1, ls=":")
            legend_title += ", chosen by validation loss"
        axes.legend(title=legend_title, alignment="left")
    return figure


def comparison(runs: Mapping[str, Sequence[Record]]) -> "Figure":
    """The held-out loss and accuracy of several runs by epoch, each under its label.

    Where curves are equal, the earlier is drawn wider, so that each is seen, and the label says so.
    """
    figure = canvas.blank(10, 4.2 + 0.2 * len(runs))
    figure.suptitle("Runs compared on the examples held out from training")
    panels = figure.subplots(1, 2)
    values = {
        label: [[held_out(record, measure) for record in history] for measure in MEASURES]
        for label, history in runs.items()
    }
    for index, (label, measured) in enumerate(values.items()):
        equal = [other for other, found in values.items() if found == measured]
        place = equal.index(label)
        same = f", the same curve as {short(equal[0].partition(':')[0], 30)}" if place else ""
        text = short(f" {label}" if label.startswith("_") else label, 80)
        style = {
            "color": SERIES[index % len(SERIES)],
            "ls": DASHES[index % len(DASHES)],
            "lw": LINE + 2.4 * (len(equal) - 1 - place),
            "label": f"{text}{same}",
        }
        for axes, measure, curve in zip(panels, MEASURES, measured, strict=True):
            _line(axes, runs[label], measure, curve, **style)
    handles = panels[0].get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside lower left", handlelength=4)
    return figure


def held_out(record: Record, measure: str) -> float:
    """An epoch's loss or accuracy on the validation set, if there is one, else on the test set."""
    part = "validation" if "validation_loss" in record else "test"
    return float(record[f"{part}_{measure}"])


def heat_map(
    panels: Mapping[str, Array],
    rows: tuple[str, Sequence[str]],
    columns: tuple[str, Sequence[str]],
    name: str,
) -> "Figure":
    """Mean validation losses over two settings, a panel for each combination of the others.

    panels: (2, r, c) by title: the means, NaN where there is none, and half of their confidence
    intervals, NaN where there is none. `rows` and `columns` name the settings and their values.
    """
    from matplotlib.colors import LogNorm

    means = np.stack([panel[0] for panel in panels.values()])
    low, high = np.nanmin(means), np.nanmax(means)
    norm = LogNorm(low, high * (1 + 1e-6))
    across = math.ceil(math.sqrt(len(panels)))
    down = math.ceil(len(panels) / across)
    width, height = 1.15 * len(columns[1]) + 1.1, 0.6 * len(rows[1]) + 0.9
    figure = canvas.blank(max(across * width + 1.2, 6.4), max(down * height + 0.9, 3))
    figure.suptitle(
        f"{name}: mean validation loss at the chosen epoch (nats), darker is better\n"
        "± half a 95 % confidence interval; the best is framed; – where a run diverged",
        fontsize="medium",
    )
    grids = figure.subplots(down, across, squeeze=False)
    for axes in grids.flat[len(panels) :]:
        axes.remove()
    for axes, (title, (mean, half)) in zip(grids.flat, panels.items(), strict=False):
        image = axes.imshow(mean, cmap="Blues_r", norm=norm, aspect="auto")
        axes.set_title(title)
        axes.set(xlabel=columns[0], ylabel=rows[0])
        axes.set_xticks(range(len(columns[1])), columns[1])
        axes.set_yticks(range(len(rows[1])), rows[1])
        axes.grid(visible=False)
        axes.tick_params(length=0)
        _write_means(axes, mean, half, norm, low)
    ticks = np.geomspace(low, high, 5 if high > low else 1)
    bar = figure.colorbar(image, ax=list(grids.flat[: len(panels)]), shrink=0.9, ticks=ticks)
    bar.minorticks_off()
    bar.ax.set_yticklabels([f"{tick:.3g}" for tick in ticks])
    bar.set_label("cross-entropy (nats)")
    return figure


def confusion(
    truth: Array, probabilities: Array, name: str, class_names: Sequence[str] = ()
) -> "Figure":
    """How often each class (row) was taken for each (column); coloured by the share of the row."""
    from matplotlib.colors import PowerNorm

    n_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    counts = np.zeros((n_classes, n_classes), np.int64)
    np.add.at(counts, (truth, predicted), 1)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    side = max(6.2, _cell(counts) * n_classes + 2.6)
    figure = canvas.blank(side + 0.9, side)
    axes = figure.subplots()
    right = np.trace(counts)
    axes.set_title(
        f"{name}: confusion matrix\n"
        f"{right:,} of {len(truth):,} test examples are right ({right / len(truth):.2%})"
    )
    image = axes.imshow(share, cmap="Blues", norm=PowerNorm(0.4, 0, 1))
    bar = figure.colorbar(
        image, ax=axes, shrink=0.8, fraction=0.05, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1]
    )
    bar.ax.set_yticklabels(["0%", "1%", "5%", "20%", "50%", "100%"])
    bar.set_label("share of the true class")
    axes.set(xlabel="predicted class", ylabel="true class")
    _class_ticks(axes, class_names or [*map(str, range(n_classes))])
    if n_classes <= CLASSES_WITH_COUNTS:
        _write_counts(axes, counts, share)
    return figure


def mistakes(
    images: Array, truth: Array, probabilities: Array, name: str, class_names: Sequence[str] = ()
) -> "Figure":
    """The wrong answers that the network was surest of, with the truth; images are (n, h, w), or
    (n, h, w, 3) in colour."""
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != truth)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES_SHOWN]
    names = [
        short(name, NAME_SHOWN) for name in class_names or map(str, range(len(probabilities[0])))
    ]
    captions = [
        f"{names[truth[i]]} read as {names[predicted[i]]}\n{percent(confidence[i])}" for i in shown
    ]
    title = (
        f"{name}: mistakes on the test set, {len(shown)} of {len(wrong):,}, most confident first\n"
        "what it is, what it was read as, and with what probability"
    )
    return canvas.gallery(images[shown] / images.max(), captions, title)


def distortions(originals: Array, versions: Array, name: str) -> "Figure":
    """Training images (k, h, w), ink in [0, 1], each before its distortions (k, v, h, w)."""
    images = np.concatenate([originals[:, None], versions], axis=1)
    captions = ["as given", *["distorted"] * versions.shape[1]] * len(originals)
    title = f"{name}: training images, and distortions of them at the strength of the first epoch"
    return canvas.gallery(list(images.reshape(-1, *images.shape[2:])), captions, title)


def weights(W1: Array, name: str) -> "Figure":
    """Each hidden unit's weights (n_1, h, w) as the image that they look at; one scale for all.
    Those of colours (n_1, h, w, 3) are shown by their mean."""
    W1 = W1 if W1.ndim == 3 else W1.mean(axis=3)
    norms = np.linalg.norm(W1, axis=(1, 2))
    shown = np.sort(np.argsort(-norms, kind="stable")[:UNITS_SHOWN])
    sheet = _sheet(W1[shown])
    limit = float(np.percentile(np.abs(W1[shown]), 99.8)) or 1.0

    figure = canvas.blank(7.8, min(max(2.2, 6.4 * sheet.shape[0] / sheet.shape[1] + 0.8), 12))
    axes = figure.subplots()
    image = axes.imshow(sheet, cmap="coolwarm", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_title(
        f"{name}: the first layer's {'strongest ' if len(shown) < len(W1) else ''}units, "
        f"{len(shown)} of {len(W1):,}\n"
        "ink at a blue pixel lowers the unit, at a red one it raises it"
    )
    axes.axis("off")
    bar = figure.colorbar(image, ax=axes, aspect=40, extend="both")
    bar.set_label("weight of the pixel")
    return figure


def _sheet(tiles: Array) -> Array:
    """Tiles (k, h, w) on one sheet that is about square, with gaps of NaN."""
    k, h, w = tiles.shape
    columns = min(k, math.ceil(math.sqrt(k * h / w)))
    gap = max(1, w // 10)
    sheet = np.full((-(-k // columns) * (h + gap) - gap, columns * (w + gap) - gap), np.nan)
    for place, tile in enumerate(tiles):
        y, x = (h + gap) * (place // columns), (w + gap) * (place % columns)
        sheet[y : y + h, x : x + w] = tile
    return sheet


def seen(given: Sequence[Array], prepared: Sequence[Array], captions: Sequence[str]) -> "Figure":
    """What a person gave beside what the network saw of it; the first `PAIRS_SHOWN` pairs.

    given holds grey values, white as 1; `prepared` ink in [0, 1]; a caption has up to two lines.
    """
    shown = min(len(given), PAIRS_SHOWN)
    images = [
        image for pair in zip(given, prepared, strict=True) for image in (1 - pair[0], pair[1])
    ]
    texts = [text for caption in captions for text in ("given", caption)]
    which = "" if shown == len(given) else f", the first {shown} of {len(given):,}"
    title = f"As given, and as the network saw it{which}"
    return canvas.gallery(images[: 2 * shown], texts[: 2 * shown], title)


def _line(
    axes: "Axes", history: Sequence[Record], measure: str, values: Sequence[float], **style: Any
) -> None:
    """A measure by epoch. Few epochs are marked, so that a single one is seen as well."""
    from matplotlib.ticker import MaxNLocator

    title, quantity, factor = MEASURES[measure]
    markers: dict[str, Any] = {"marker": "o", "ms": 3} if len(history) <= 25 else {}
    epochs = [record["epoch"] for record in history]
    style = {"lw": LINE, **markers, **style}
    axes.plot(epochs, [factor * value for value in values], **style)
    axes.set(xlabel="epoch", ylabel=quantity)
    axes.set_title(title, loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def short(name: str, length: int) -> str:
    """The end of a long name."""
    return name if len(name) <= length else "…" + name[1 - length :]


def _shown(value: float, measure: str) -> str:
    return f"{value:.2%}" if measure == "accuracy" else f"{value:.4f}"


def percent(probability: float) -> str:
    """Never 100%: no network is that sure."""
    return "> 99.99%" if probability > 0.9999 else f"{probability:.2%}"


def _class_ticks(axes: "Axes", class_names: Sequence[str]) -> None:
    n_classes = len(class_names)
    step = -(-n_classes // 60)
    ticks = np.arange(0, n_classes, step)
    names = [short(class_names[int(tick)], NAME_SHOWN) for tick in ticks]
    size = canvas.SMALLEST
    upright = n_classes > 30 or max(map(len, names)) > 3
    axes.set_xticks(ticks, names, fontsize=size, rotation=90 if upright else 0)
    axes.set_yticks(ticks, names, fontsize=size)
    axes.grid(visible=False)
    axes.tick_params(length=0)


def _write_means(axes: "Axes", mean: Array, half: Array, norm: Any, lowest: float) -> None:
    from matplotlib.patches import Rectangle

    for (row, column), value in np.ndenumerate(mean):
        known = not np.isnan(value)
        text = f"{value:.4f}" if known else "–"
        if not np.isnan(half[row, column]):
            text += f"\n± {half[row, column]:.4f}"
        colour = "white" if known and norm(value) < 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, size=canvas.SMALLEST)
        if value == lowest:
            frame = Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, fill=False, lw=2.5)
            axes.add_patch(frame).set_edgecolor(VERMILION)


def _cell(counts: Array) -> float:
    """Inches of a cell: so many that its count has room, where counts are written."""
    if len(counts) > CLASSES_WITH_COUNTS:
        return min(0.19, 8.4 / len(counts))
    return (0.7 * canvas.SMALLEST * len(str(counts.max())) + 3) / 72


def _write_counts(axes: "Axes", counts: Array, share: Array) -> None:
    size = canvas.SMALLEST
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if share[row, column] > 0.2 else "black"
        text = axes.text(column, row, f"{counts[row, column]}", color=colour, size=size)
        text.set(ha="center", va="center", in_layout=False)
