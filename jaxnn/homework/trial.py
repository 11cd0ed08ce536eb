"""A file tried at a point: in every way round that its arrays may lie, until one fits."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from jaxnn.homework.forms import plain
from jaxnn.homework.process import HomeworkError, Process, RaisedError, StoppedError
from jaxnn.homework.reading import (
    LAYOUTS,
    Array,
    Layout,
    Network,
    candidates,
    found_in,
    layers_of,
    near,
    orientation,
)

Arrays = Mapping[str, Any]

#: Sizes of hidden layers where the file has more than the setting: primes, none used elsewhere.
WIDTHS = (7, 13, 3, 19, 23, 29, 31, 37)


@dataclass(frozen=True)
class Setting:
    """The problem that a file is given. The sizes are distinct primes: a ratio then names one.

    `rows`, `activation` and `loss` are found in the file where they are not given; `loss` is any of
    the words of `reading.WORDS`, with commas between. `function` names the backward pass.
    """

    m: int = 17
    n_x: int = 11
    n_h: tuple[int, ...] = (7,)
    n_classes: int = 5
    activation: str | None = None
    loss: str = ""
    l2: float = 0.0
    seed: int = 0
    timeout: float = 10.0
    rows: bool | None = None
    function: str = ""

    def words(self) -> list[str]:
        return [word for word in self.loss.split(",") if word]

    def square(self) -> "Setting":
        """The same with all sizes equal: every product fits, whatever is transposed."""
        n = self.n_h[0] if self.n_h else self.n_classes
        return replace(self, m=n, n_x=n, n_h=(n,) * len(self.n_h), n_classes=n)

    def sizes(self) -> dict[str, Any]:
        """For constructors and initialisers."""
        n_h = self.n_h[0] if self.n_h else self.n_classes
        return {
            "m": self.m,
            "n_x": self.n_x,
            "n_h": n_h,
            "n_hs": list(self.n_h),
            "C": self.n_classes,
            "widths": WIDTHS,
            "sizes": [self.n_x, *self.n_h, self.n_classes],
        }


@dataclass
class Answer:
    """What the file said at a point, its arrays under its own names."""

    gradient: dict[str, Any]
    forward: dict[str, Any]
    extra: dict[str, Any]
    loss: float | None
    how: str
    problem: str


@dataclass
class Trial:
    """One way to put the question, and what came of it."""

    process: Process
    layout: Layout
    sizes: tuple[int, ...]
    m: int
    targets: str  #: "one-hot", "labels" …
    l2: float
    leaves: dict[str, Array] = field(default_factory=dict)
    X: Array = field(default_factory=lambda: np.zeros((0, 0)))  #: (m, n_x)
    Y: Array = field(default_factory=lambda: np.zeros((0, 0)))  #: (m, C), one-hot
    answer: Answer | None = None

    def at(self, seed: int) -> "Trial":
        """With the numbers of a seed."""
        rng = np.random.default_rng(seed)
        layout, C = self.layout, self.sizes[-1]
        for (W, b), (n_in, n_out) in zip(layout.layers, pairwise(self.sizes), strict=True):
            value = rng.standard_normal((n_out, n_in)) * n_in**-0.5
            self.leaves[W] = value.T if layout.inwards else value
            if b:
                bias = 0.3 * rng.standard_normal(n_out)
                self.leaves[b] = bias.reshape(layout.shape(b, self.sizes))
        self.X = rng.standard_normal((self.m, self.sizes[0]))
        # Every class occurs: programs count their classes by the largest label.
        labels = rng.permutation(np.arange(self.m) % max(C, 2))
        self.Y = np.eye(C)[labels] if C > 1 else labels[:, None].astype(np.float64)
        return self

    def given_Y(self, Y: Array) -> Any:
        """One-hot Y (m, C) in the form in which the file wants it."""
        labels = np.argmax(Y, axis=1) if Y.shape[1] > 1 else Y[:, 0].astype(np.int64)
        if self.targets == "one-hot":
            return Y if self.layout.rows else np.ascontiguousarray(Y.T)
        if self.targets == "one-hot the other way round":
            return Y.T if self.layout.rows else Y
        if self.targets == "labels (1, m)":
            return labels[None]
        return labels

    def ask(
        self, leaves: Arrays, X: Array, Y: Array, cache: dict[str, Any] | None = None
    ) -> Answer:
        """The file's answer at a point: X (m, n_x), Y (m, C)."""
        given = {"X": X if self.layout.rows else np.ascontiguousarray(X.T), "Y": self.given_Y(Y)}
        # In the order of the layers, which is that of a tuple without names.
        groups = {"leaves": {name: leaves[name] for name in self.leaves}, "given": given}
        if cache is not None:
            groups["cache"] = cache
        told, arrays = self.process.ask({"m": len(X), "l2": self.l2}, groups)
        gradient, forward, extra = (arrays.get(k, {}) for k in ("gradient", "forward", "extra"))
        return Answer(gradient, forward, extra, told["loss"], told["how"], told["problem"])

    def right_cache(self, network: Network, leaves: Arrays, X: Array) -> dict[str, Any]:
        """Z and A of every layer, the way round in which the file has its examples."""
        found = {"A0": X, **network.forward(leaves, X)}
        return {k: v if self.layout.rows and not self.layout.columns else np.ascontiguousarray(v.T)
                for k, v in found.items()}  # fmt: skip

    @property
    def fitting(self) -> int:
        """How many gradients have the shape of their parameter."""
        assert self.answer is not None
        given = self.answer.gradient
        return sum(k in given and np.shape(given[k]) == v.shape for k, v in self.leaves.items())


@dataclass
class Reading:
    """The trial that fits, the network that the file was read as, and why."""

    trial: Trial
    network: Network
    forward_fits: bool
    notes: list[str]
    assumed: str = ""  #: the loss, where neither the file nor the setting says which

    def instead(self) -> Network | None:
        """The network whose gradient this is, if it is that of another loss of the same outputs."""
        trial, own = self.trial, self.network
        assert trial.answer is not None
        for net in candidates(trial.layout, own.activation, (), own.l2):
            if net != own and net.output == own.output and len(trial.leaves) == net.agreeing(
                trial.leaves, trial.X, trial.Y, trial.answer.gradient
            ):  # fmt: skip
                return net
        return None


def trials(process: Process, about: dict[str, Any], setting: Setting) -> Iterator[Trial]:
    """The ways to put the question, the commonest first."""
    l2 = setting.l2
    for layout, sizes in _layouts(about, setting):
        C = sizes[-1]
        for targets in ("one-hot", "labels", "labels (1, m)", "one-hot the other way round"):
            yield Trial(process, layout, sizes, setting.m, targets, l2)
            if C == 1 and targets == "labels":
                break
    if about["form"].count("(x, y)") and any("[" in name for name in about["leaves"]):
        for layout, sizes in _layouts(about, setting):
            for targets in ("one-hot", "labels"):
                yield Trial(process, layout, sizes, 1, targets, l2)


def _layouts(about: dict[str, Any], setting: Setting) -> Iterator[tuple[Layout, tuple[int, ...]]]:
    shapes = {name: tuple(shape) for name, shape in about["shapes"].items()}
    ways = [w for w in LAYOUTS if setting.rows in (None, w[0])]
    if shapes:
        layers = layers_of(shapes)
        found = orientation(shapes, layers) if layers else None
        if found is None:
            told = ", ".join(f"{k} {v}" for k, v in shapes.items())
            raise HomeworkError(
                f"expected the weights and biases of layers that fit together, found {told}; write "
                "an adapter of five lines (docs/homework.md)"
            )
        inwards, sizes, bias = found
        first = inwards or bias == "vector"
        for rows in (first, not first):
            if setting.rows in (None, rows):
                yield Layout(layers, rows, inwards, bias), sizes
        return
    for layers in _orders(about, setting):
        n_h = setting.n_h
        if len(layers) != len(n_h) + 1:
            n_h = WIDTHS[: len(layers) - 1]
        for rows, inwards, bias in ways:
            yield Layout(layers, rows, inwards, bias), (setting.n_x, *n_h, setting.n_classes)


def _orders(about: dict[str, Any], setting: Setting) -> Iterator[tuple[tuple[str, str], ...]]:
    """Which of the names are W_1, b_1, W_2 …: as named, else in the order of the text."""
    names: list[str] = about["leaves"]
    L = len(setting.n_h) + 1
    if about["holds"] == "lists":
        yield tuple((f"weights[{i}]", f"biases[{i}]") for i in range(L))
        return
    if not names:
        yield tuple((f"W{i}", f"b{i}") for i in range(1, L + 1))
        return
    weights = [n for n in names if re.match(r"w|syn|theta", plain(n))]
    biases = [n for n in names if plain(n).startswith("b")]
    numbers = [[re.findall(r"\d+", n) for n in kind] for kind in (weights, biases)]
    if len(weights) + len(biases) == len(names) and all(map(all, numbers)):
        weights.sort(key=lambda n: int(re.findall(r"\d+", n)[-1]))
        biases = [b for b in biases if b]
        by_number = {re.findall(r"\d+", b)[-1]: b for b in biases}
        yield tuple((W, by_number.get(re.findall(r"\d+", W)[-1], "")) for W in weights)
        return
    if len(names) % 2 == 0:
        half = len(names) // 2
        yield tuple(zip(names[::2], names[1::2], strict=True))
        yield tuple(zip(names[:half], names[half:], strict=True))
    yield tuple((name, "") for name in names)


def read(process: Process, about: dict[str, Any], setting: Setting) -> Reading:
    """Try the ways until one fits the file's own forward pass, loss and shapes; else the best."""
    best: tuple[tuple[Any, ...], Trial, list[Network], bool] | None = None
    errors: list[HomeworkError] = []
    for trial in trials(process, about, setting):
        trial.at(setting.seed)
        try:
            cache = None
            if not about["has_forward"]:
                cache = trial.right_cache(_assumed(trial.layout, setting), trial.leaves, trial.X)
            trial.answer = trial.ask(trial.leaves, trial.X, trial.Y, cache)
        except (RaisedError, StoppedError) as error:
            errors.append(error)
            continue
        nets, fits = _by_the_file(trial, about, setting)
        score = (fits, trial.fitting == len(trial.leaves), trial.fitting)
        if best is None or score > best[0]:
            best = score, trial, nets, fits
        if all(score):
            break
    if best is None and setting.sizes() == Setting().sizes() and not about["shapes"]:
        # Programs for two classes have one output, and some insist on it.
        with suppress(HomeworkError):
            return read(process, about, replace(setting, n_classes=1))
    if best is None:
        raise _telling(errors, about)
    _, trial, nets, fits = best
    network, notes, known = _decided(trial, nets, fits, about, setting)
    return Reading(trial, network, fits, notes, "" if known else network.told_loss())


def _telling(errors: list[HomeworkError], about: dict[str, Any]) -> HomeworkError:
    """The error that says most: from the backward pass where one trial came that far."""
    stopped = [e for e in errors if isinstance(e, StoppedError)]
    backward = [e for e in errors if f" {about['backward']} raised" in str(e)]
    return (stopped or backward or errors)[0]


def _assumed(layout: Layout, setting: Setting) -> Network:
    return next(candidates(layout, setting.activation or "sigmoid", setting.words(), setting.l2))


def _by_the_file(
    trial: Trial, about: dict[str, Any], setting: Setting
) -> tuple[list[Network], bool]:
    """The networks that the file's own forward pass and loss leave, and whether one fits them."""
    answer, L = trial.answer, len(trial.layout.layers)
    assert answer is not None
    every = list(candidates(trial.layout, setting.activation, setting.words(), setting.l2))
    nets = every
    if answer.forward:
        seen: dict[tuple[str, str], bool] = {}
        for net in every:
            key = net.activation, net.output
            if key not in seen:
                cache = net.forward(trial.leaves, trial.X)
                seen[key] = found_in(cache[f"A{L}"], answer.forward) is not None
                if net.output == "linear":
                    seen[key] &= not _goes_on(cache, answer.forward, L)
        nets = [net for net in every if seen[net.activation, net.output]]
        if not nets:
            return every, False
    if answer.loss is None:
        return nets, bool(answer.forward) or not about["has_forward"]
    fit = [net for net in nets if _is(net.value(trial.leaves, trial.X, trial.Y), answer.loss)]
    if fit:
        return fit, True
    return nets, bool(answer.forward)


def _goes_on(cache: Arrays, forward: Arrays, L: int) -> bool:
    """Is there an array like Z_L that is none of the known ones: an output made of it?"""
    size = cache[f"Z{L}"].size
    return any(
        np.size(value) == size and not any(near(value, known) for known in cache.values())
        for value in forward.values()
    )


def _is(value: float, told: float) -> bool:
    """To the 1e-8 that people add inside a logarithm, and float32."""
    return abs(value - told) <= 2e-5 * abs(told)


def _decided(
    trial: Trial, nets: list[Network], fits: bool, about: dict[str, Any], setting: Setting
) -> tuple[Network, list[str], bool]:
    """One network of those that are left, by the gradient where it is right for one.

    With notes on what was taken for granted, and whether the loss is known and not taken so.
    """
    answer = trial.answer
    assert answer is not None
    notes: list[str] = []
    if not fits:
        return _nearest(trial, nets), notes, True
    by_loss = answer.loss is not None and _is(
        nets[0].value(trial.leaves, trial.X, trial.Y), answer.loss
    )
    if not about["has_forward"] and not by_loss:
        nets, answers = _by_right_caches(trial, nets)
    else:
        answers = {}
    if about["takes_m"] and not by_loss and not setting.words():
        nets = [net for net in nets if net.reduction != "sum"]

    def agreeing(net: Network) -> int:
        found = answers.get(net.activation, answer)
        return net.agreeing(trial.leaves, trial.X, trial.Y, found.gradient)

    scored = [(agreeing(net), -i) for i, net in enumerate(nets)]
    most, place = max(scored)
    network = nets[-place]
    if network.activation in answers:
        trial.answer = answers[network.activation]
    if not by_loss and not setting.words():
        own = f"{about['loss']} gives a loss that is none of those known here" if about["loss"] \
            else "the file has no loss of its own"  # fmt: skip
        if answer.loss is None and about["loss"]:
            own = f"{about['loss']} could not be called"
        elif answer.loss is not None and not about["loss"]:
            own = "the loss that it returns is none of those known here"
        how = (
            "the gradient is this one's" if most == len(trial.leaves) else "the usual one is taken"
        )
        notes.append(f"{own}: {how}; `loss` holds it to another")
    told_nothing = not about["has_forward"] and not by_loss and setting.activation is None
    if told_nothing and len(trial.layout.layers) > 1:
        notes.append(
            f"the file has no forward pass: {network.activation} is taken for the hidden layers; "
            "`activation` names another"
        )
    return network, notes, by_loss or bool(setting.words())


def _by_right_caches(trial: Trial, nets: list[Network]) -> tuple[list[Network], dict[str, Answer]]:
    """What the file answers to the right cache of each activation."""
    answers: dict[str, Answer] = {}
    for activation in dict.fromkeys(net.activation for net in nets):
        first = next(net for net in nets if net.activation == activation)
        try:
            answers[activation] = trial.ask(
                trial.leaves, trial.X, trial.Y, trial.right_cache(first, trial.leaves, trial.X)
            )
        except (RaisedError, StoppedError):
            continue
    return [net for net in nets if net.activation in answers], answers


def _nearest(trial: Trial, nets: list[Network]) -> Network:
    """The network of which most is in the file's own forward pass."""
    assert trial.answer is not None
    forward = trial.answer.forward

    def common(net: Network) -> int:
        """How far the file's forward pass goes along with it."""
        cache = net.forward(trial.leaves, trial.X)
        if net.output == "linear" and _goes_on(cache, forward, len(trial.layout.layers)):
            return -1
        found = [found_in(value, forward) is not None for value in cache.values()]
        return [*found, False].index(False)

    scored: dict[tuple[str, str], int] = {}
    for net in nets:
        scored.setdefault((net.activation, net.output), common(net))
    return max(nets, key=lambda net: scored[net.activation, net.output])
