"""The flags for what goes beyond the document: each is a field of `Config`, 0 or a name by default.

Nothing here imports jax, so that `--help` answers at once.
"""

import argparse

from jaxnn.commands import cli
from jaxnn.training.config import LEARNING_RATES, Config

ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu", "softplus", "gelu", "silu")
INITIALISERS = ("document", "he", "glorot", "orthogonal")
OPTIMISERS = ("momentum", "nesterov", "adam", "adamw")
SCHEDULES = ("constant", "linear", "cosine", "one_cycle")

_share = cli.number(0, 1, low_included=True, high_included=False)
_strength = cli.number(0, 1e6, low_included=True, high_included=True)


def add_beyond(parser: argparse.ArgumentParser) -> None:
    """Three groups: steps, regularisation, images and other networks."""
    default = Config()
    steps = parser.add_argument_group("steps beyond the document")
    for name, choices, meaning in (
        ("init", INITIALISERS, "how the hidden layers' weights are drawn; variance 1/n, 2/n, …"),
        ("optimiser", OPTIMISERS, "the rule of a step; --beta is its momentum or Adam's first β"),
        ("schedule", SCHEDULES, "how the learning rate changes over the run; --lr is its peak"),
    ):
        steps.add_argument(
            f"--{name}",
            choices=choices,
            metavar="NAME",
            help=f"{meaning}: {', '.join(choices)} (default: {getattr(default, name)})",
        )
    steps.add_argument(
        "--average",
        type=_share,
        metavar="X",
        help="evaluate and keep a running mean of the parameters, of which each step keeps this "
        "share, such as 0.998 (default: 0, the parameters themselves)",
    )
    regularisation = parser.add_argument_group("regularisation")
    for name, kind, meaning in (
        ("l2", _strength, "λ of the penalty λ/2 Σ‖W‖² in the loss"),
        ("weight_decay", _strength, "adamw's own, which is not in the loss"),
        ("dropout", _share, "share of the hidden units that a step leaves out"),
        ("input_dropout", _share, "share of the inputs that a step leaves out"),
        ("max_norm", _strength, "longest weight vector of a unit; 0 is any length"),
        ("label_smoothing", _share, "share of a label that is spread over all classes"),
    ):
        regularisation.add_argument(
            f"--{name}", type=kind, metavar="X", help=f"{meaning} (default: 0)"
        )
    more = parser.add_argument_group("distorted images, and other networks")
    more.add_argument(
        "--elastic",
        type=_strength,
        metavar="X",
        help="distort every image anew in every epoch: standard deviation of a pixel's "
        "displacement, in pixels where images are 28 wide (default: 0)",
    )
    more.add_argument(
        "--affine",
        type=_strength,
        metavar="X",
        help="turn, shear, stretch and shift as well: 1 is 7.5°, 10 %% and half a pixel, standard "
        "deviations all (default: 0)",
    )
    more.add_argument(
        "--ease",
        type=cli.number(0, 1, low_included=True, high_included=True),
        metavar="X",
        help="let distortions weaken in a line, by this share at the end (default: 0)",
    )
    more.add_argument(
        "--committee",
        type=cli.integer(1, 1000),
        metavar="N",
        help="train N networks at once, of seeds --seed and those after it, and answer by the mean "
        "of their probabilities (default: 1)",
    )
    more.add_argument(
        "--teacher",
        metavar="RUN",
        help="learn from the answers of the network in this run folder (default: none)",
    )
    more.add_argument(
        "--temperature",
        type=cli.number(0, 1e3, low_included=False, high_included=True),
        metavar="X",
        help=f"at which the teacher's answers are softened (default: {default.temperature})",
    )
    more.add_argument(
        "--teacher_weight",
        type=cli.number(0, 1, low_included=True, high_included=True),
        metavar="X",
        help="of the teacher's answers; the labels have the rest "
        f"(default: {default.teacher_weight})",
    )


def learning_rates() -> str:
    """The default of --lr in words: each value with its optimisers."""
    by_value: dict[float, list[str]] = {}
    for name, lr in LEARNING_RATES.items():
        by_value.setdefault(lr, []).append(name)
    return ", ".join(f"{lr:g} for {' and '.join(names)}" for lr, names in by_value.items())


def add_devices(parser: argparse.ArgumentParser) -> None:
    """What a run is computed on, and no part of what it is."""
    devices = parser.add_argument_group("devices")
    devices.add_argument(
        "--devices",
        type=cli.integer(1, 1024),
        metavar="N",
        help="share the examples of every batch out among N devices, which a CPU makes of its "
        "cores; the result is the same but for rounding (default: 1)",
    )
    devices.add_argument(
        "--device_memory",
        type=cli.integer(1, 2**30),
        metavar="MIB",
        help="keep no more than so many MiB of data on each device, and ship the rest in its turn; "
        "images that are more than that lie on the disk, not in memory; the result is the same "
        "(default: half of a GPU's memory, or of what is free on a CPU)",
    )
    devices.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="train together with other processes: where the first one listens, the same for all; "
        "auto takes it, and the next two, from Slurm or Open MPI (default: train alone)",
    )
    devices.add_argument(
        "--processes",
        type=cli.integer(1, 65_536),
        metavar="N",
        help="how many processes train together; --devices is then of each",
    )
    devices.add_argument(
        "--process",
        type=cli.integer(0, 65_535),
        metavar="I",
        help="which of them this is, from 0; 0 writes the results",
    )
