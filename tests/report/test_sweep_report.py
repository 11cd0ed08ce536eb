"""The table and the heat map of a sweep."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxnn.report import canvas
from jaxnn.report.plots import VERMILION
from jaxnn.report.sweep_report import at_edge, choice, heat_map, table
from jaxnn.training.config import Config
from jaxnn.training.grid import Interval, Point, grid, points

#: By n_h, lr and beta: the losses of two seeds. The last point has one run that diverged.
LOSSES = [
    (0.5, 0.7),
    (0.4, 0.4),
    (0.3, 0.5),
    (0.9, 0.9),
    (0.2, 0.4),
    (0.8, 0.8),
    (2, 2),
    (0.1, 0.1),
]
CONFIGS = grid(
    Config(), {"n_h": [(4,), (4, 2)], "lr": [0.1, 1.0], "beta": [0.0, 0.9], "seed": [0, 1]}
)


def found():
    flat = [loss for pair in LOSSES for loss in pair]
    histories = {
        config: ({"epoch": 3, "validation_loss": loss, "validation_accuracy": 0.75},)
        for config, loss in zip(CONFIGS, flat, strict=True)
    }
    return points(histories, CONFIGS[-1:])


def test_the_table_has_the_best_point_first_and_the_diverged_one_last():
    header, *rows = (line.split() for line in table(found()).splitlines())
    assert header[:5] == ["n_h", "lr", "beta", "runs", "diverged"]
    # ± t s/√n with t = 12.7062 for two runs, s = 0.2/√2.
    best = ["4x2", "0.1", "0", "2", "0", "0.3000", "±", "1.2706", "75.00", "±", "0.00", "%", "3"]
    assert rows[0] == best
    assert rows[-1] == ["4x2", "1", "0.9", "2", "1", "0.1000", "75.00", "%", "3"]
    assert [row[5] for row in rows] == [*sorted(row[5] for row in rows[:-1]), "0.1000"]


def test_the_heat_map_has_a_panel_for_each_network_and_a_cell_for_each_point():
    figure = heat_map(found(), "small")
    one, two, bar = figure.axes
    assert [axes.get_title() for axes in (one, two)] == ["n_h 4", "n_h 4x2"]
    assert (one.get_xlabel(), one.get_ylabel()) == ("lr", "beta")
    assert [label.get_text() for label in one.get_xticklabels()] == ["0.1", "1"]
    np.testing.assert_allclose(one.images[0].get_array(), [[0.6, 0.4], [0.4, 0.9]])
    cells = [text.get_text().split("\n")[0] for text in two.texts]
    assert cells == ["0.3000", "2.0000", "0.8000", "–"]
    assert two.texts[0].get_text() == "0.3000\n± 1.2706"
    assert "nats" in bar.get_ylabel()


def test_the_best_cell_alone_is_framed():
    one, two, _ = heat_map(found(), "small").axes
    assert not one.patches
    (frame,) = two.patches
    assert frame.get_xy() == (-0.47, -0.45)
    np.testing.assert_allclose(frame.get_edgecolor()[:3], [0xD5 / 255, 0x5E / 255, 0], atol=1e-6)
    assert VERMILION == "#D55E00"


def test_a_single_point_is_drawn():
    only = [point for point in found() if point.config == CONFIGS[0]]
    with Image.open(io.BytesIO(canvas.png(lambda: heat_map(only, "small")))) as image:
        assert 500 <= image.width <= 2000


def point(config):
    record = {"epoch": 3, "validation_loss": 0.25, "validation_accuracy": 0.9}
    return Point(config, {config: record}, 0, Interval(0.25, 0.0, 1), Interval(0.9, 0.0, 1))


EDGES = grid(Config(), {"lr": [0.1, 0.5, 1.0], "beta": [0.0, 0.9], "batch_size": [64]})


@pytest.mark.parametrize(
    ("lr", "beta", "edges"),
    [
        (0.5, 0.0, {}),  # there is no smaller momentum than none
        (0.5, 0.9, {"beta": "largest"}),
        (0.1, 0.0, {"lr": "smallest"}),
        (1.0, 0.9, {"lr": "largest", "beta": "largest"}),
    ],
)
def test_a_best_value_at_the_edge_of_the_grid_is_known(lr, beta, edges):
    assert at_edge(point(Config(lr=lr, beta=beta)), EDGES) == edges


def test_and_it_is_said(capsys):
    best = Config(lr=1.0, beta=0.0)
    choice(point(best), best, EDGES)
    assert capsys.readouterr().err == (
        "--lr 1 is the largest of the sweep, at the grid's edge: a larger value may be better\n"
    )
