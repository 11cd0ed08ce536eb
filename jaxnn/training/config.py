"""Everything that decides the outcome of a training run, apart from the data itself.

Each setting is declared here and nowhere else: flags, JSON, the axes of a sweep and the checks of
all three come from it. Nothing here imports jax, so that `--help` answers at once.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple, cast

from jaxnn.errors import SettingError
from jaxnn.io.suggestion import did_you_mean
from jaxnn.training.declaration import (
    Folder,
    Group,
    Integers,
    Names,
    Numbers,
    Setting,
    Share,
    Size,
    Switch,
    Widths,
    Words,
    declared,
    require,
    setting,
    spelled,
)

#: The learning rate of each optimiser where none is given: the document's for its momentum, and
#: that of Kingma and Ba (arXiv:1412.6980) for steps that are divided by the gradient's size.
LEARNING_RATES = {"momentum": 0.5, "nesterov": 0.5, "adam": 0.001, "adamw": 0.001}

#: What `jaxnn.nn` has under these names takes a second to import.
ACTIVATIONS = Names(
    ("sigmoid", "tanh", "relu", "leaky_relu", "softplus", "gelu", "silu"),
    {"swish": "silu", "logistic": "sigmoid", "lrelu": "leaky_relu"},
)
INITIALISERS = Names(
    ("document", "he", "glorot", "orthogonal"),
    {"lecun": "document", "kaiming": "he", "xavier": "glorot"},
)
OPTIMISERS = Names(tuple(LEARNING_RATES), {"sgd": "momentum", "nag": "nesterov"})
SCHEDULES = Names(("constant", "linear", "cosine", "one_cycle"), {"onecycle": "one_cycle"})

POSITIVE = Numbers(0, 1e6, low_included=False)
STRENGTH = Numbers(0, 1e6)
PART = Numbers(0, 1, high_included=False)
WHOLE_OR_PART = Numbers(0, 1)
EPOCHS = Integers(1, 1_000_000, unit="epochs")

DATA = Group("data")
NETWORK = Group("network")
TRAINING = Group("training")
STEPS = Group("steps beyond the document", beyond=True)
REGULARISATION = Group("regularisation", beyond=True)
IMAGES_AND_NETWORKS = Group("distorted images, and other networks", beyond=True)


def _learning_rates() -> str:
    """Each value with its optimisers."""
    by_value: dict[float, list[str]] = {}
    for name, lr in LEARNING_RATES.items():
        by_value.setdefault(lr, []).append(name)
    return ", ".join(f"{lr:g} for {' and '.join(names)}" for lr, names in by_value.items())


@dataclass(frozen=True)
class Config:
    """The document's hyperparameters with its values as defaults, and the seed of all randomness.

    `validation` is the number of training examples (1, 2, …) or the share of them (a fraction below
    1) that is set aside to choose the epoch by; `patience` the epochs without a better validation
    loss after which training stops. None turns either off, and so does 0 for whatever goes beyond
    the document: `jaxnn.training.program` says what each means. An `lr` that is not given is the
    optimiser's own, of `LEARNING_RATES`. `n_h` is () for no hidden layer: softmax regression.

    Raises `SettingError` for a value of another type, or out of its range.
    """

    lr: float = declared(
        cast(float, None),  # `__post_init__` has the optimiser's own
        POSITIVE,
        TRAINING,
        "learning rate: the length of a step",
        unset=_learning_rates(),
        synonyms=("learning_rate", "step_size"),
    )
    beta: float = declared(
        0.9,
        PART,
        TRAINING,
        "momentum: how much of V, the running mean of the gradients, a step keeps; 0 is plain "
        "gradient descent",
        synonyms=("momentum",),
    )
    epochs: int = declared(
        50,
        EPOCHS,
        TRAINING,
        "passes over the training set",
        synonyms=("n_epochs", "num_epochs", "max_iter"),
    )
    batch_size: int = declared(
        64,
        Integers(1, 2**31 - 1, unit="examples"),
        TRAINING,
        "examples per step",
        synonyms=("batch",),
    )
    n_h: tuple[int, ...] = declared(
        (64,),
        Widths(Integers(1, 65_536, unit="units"), most=1000),
        NETWORK,
        "units of each hidden layer, from the input on; 0 is no hidden layer: softmax regression",
        synonyms=("hidden", "hidden_layers", "hidden_layer_sizes", "layers", "units"),
    )
    activation: str = declared("sigmoid", ACTIVATIONS, NETWORK, "of the hidden layers")
    seed: int = declared(
        0,
        Integers(0, 2**32 - 1),
        TRAINING,
        "of the initial weights and the shuffling: the same seed gives the same run",
        synonyms=("random_state", "random_seed"),
    )
    test: float | None = declared(
        None,
        Share(),
        DATA,
        "where the data have no test part, so many of their examples, or such a fraction of them, "
        "drawn by `seed` from every class in its proportion",
        unset="0.2",
    )
    keys: tuple[str, ...] | None = declared(
        None,
        Words(8, "KEY"),
        DATA,
        "which arrays or columns to take where their names do not tell: x=faces y=person, y=1 for "
        "a table's first column, x_train=A y_train=B x_test=C y_test=D; or a word that chooses "
        "one of several sets: letters",
        unset="found by their names",
    )
    size: tuple[int, int] | None = declared(
        None,
        Size(Integers(1, 4096, unit="pixels")),
        DATA,
        "scale pictures in files to this size",
        unset="their own",
    )
    grey: bool = declared(
        False, Switch(), DATA, "take colour pictures in grey", unset="all channels"
    )
    features: bool = declared(
        False,
        Switch(),
        DATA,
        "take rows of numbers as plain features, standardised from the training part, though they "
        "could be pixels",
        unset="as they look",
    )
    validation: float | None = declared(
        None,
        Share(),
        DATA,
        "hold out so many training examples, or such a fraction of them, and choose the epoch by "
        "their loss; the test set is then used once, at the end",
        unset="none",
        synonyms=("val", "validation_split", "validation_fraction"),
    )
    patience: int | None = declared(
        None,
        EPOCHS,
        TRAINING,
        "stop after so many epochs without a lower validation loss",
        unset="never",
        synonyms=("early_stopping", "n_iter_no_change"),
    )
    init: str = declared(
        "document",
        INITIALISERS,
        STEPS,
        "how the hidden layers' weights are drawn; variance 1/n, 2/n, …",
        synonyms=("initialiser", "initializer"),
    )
    optimiser: str = declared(
        "momentum",
        OPTIMISERS,
        STEPS,
        "the rule of a step; `beta` is its momentum or Adam's first β",
        synonyms=("optimizer", "solver"),
    )
    schedule: str = declared(
        "constant",
        SCHEDULES,
        STEPS,
        "how the learning rate changes over the run; `lr` is its peak",
        synonyms=("scheduler", "lr_schedule"),
    )
    weight_decay: float = declared(
        0.0, STRENGTH, REGULARISATION, "adamw's own, which is not in the loss"
    )
    l2: float = declared(0.0, STRENGTH, REGULARISATION, "λ of the penalty λ/2 Σ‖W‖² in the loss")
    dropout: float = declared(
        0.0,
        PART,
        REGULARISATION,
        "share of the hidden units that a step leaves out",
        synonyms=("alpha",),
    )
    input_dropout: float = declared(
        0.0, PART, REGULARISATION, "share of the inputs that a step leaves out"
    )
    max_norm: float = declared(
        0.0, STRENGTH, REGULARISATION, "longest weight vector of a unit; 0 is any length"
    )
    label_smoothing: float = declared(
        0.0, PART, REGULARISATION, "share of a label that is spread over all classes"
    )
    average: float = declared(
        0.0,
        PART,
        STEPS,
        "evaluate and keep a running mean of the parameters, of which each step keeps this share, "
        "such as 0.998; 0 is the parameters themselves",
        synonyms=("ema",),
    )
    elastic: float = declared(
        0.0,
        Numbers(0, 1e6, unit="pixels"),
        IMAGES_AND_NETWORKS,
        "distort every image anew in every epoch: standard deviation of a pixel's displacement, in "
        "pixels where images are 28 wide",
    )
    affine: float = declared(
        0.0,
        STRENGTH,
        IMAGES_AND_NETWORKS,
        "turn, shear, stretch and shift as well: 1 is 7.5°, 10 % and half a pixel, standard "
        "deviations all",
    )
    ease: float = declared(
        0.0,
        WHOLE_OR_PART,
        IMAGES_AND_NETWORKS,
        "let distortions weaken in a line, by this share at the end",
    )
    teacher: str | None = declared(
        None,
        Folder("RUN"),
        IMAGES_AND_NETWORKS,
        "learn from the answers of the network in this run folder",
        unset="none",
        synonyms=("distil", "distill"),
    )
    temperature: float = declared(
        2.0,
        Numbers(0, 1e3, low_included=False),
        IMAGES_AND_NETWORKS,
        "at which the teacher's answers are softened",
    )
    teacher_weight: float = declared(
        0.9,
        WHOLE_OR_PART,
        IMAGES_AND_NETWORKS,
        "of the teacher's answers; labels have the rest",
    )
    committee: int = declared(
        1,
        Integers(1, 1000, unit="networks"),
        IMAGES_AND_NETWORKS,
        "train so many networks at once, of seeds `seed` and those after it, and answer by the "
        "mean of their probabilities",
        synonyms=("ensemble",),
    )

    def __post_init__(self) -> None:
        for name, declaration in SETTINGS.items():
            value = getattr(self, name)
            if value is not None or declaration.default is not None:
                object.__setattr__(self, name, require(name, declaration.kind, value))
        if self.lr is None:
            object.__setattr__(self, "lr", LEARNING_RATES[self.optimiser])
        _require_company(self, [need.of for need in NEEDS if need.always])

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: tuples are lists there."""
        return {n: list(v) if isinstance(v, tuple) else v for n, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """The inverse of `to_dict`. What an older version did not have is at its default.

        Raises `SettingError` for a name that no configuration has, and as `Config` does.
        """
        _require_known(values)
        if values.get("lr", 0) is None:
            require("lr", SETTINGS["lr"].kind, None)
        return cls(**values)

    def reading(self) -> dict[str, Any]:
        """How the data are read, as `jaxnn.data.load` takes it."""
        return {name: getattr(self, name) for name in (*READING, "seed")}

    def beyond(self) -> dict[str, Any]:
        """What the run has beyond the document."""
        return {
            name: getattr(self, name)
            for name, declaration in SETTINGS.items()
            if declaration.group.beyond and getattr(self, name) != declaration.default
        }

    def altered(self, changes: Mapping[str, Any]) -> "Config":
        """This configuration with `changes`, each of which has to do something.

        The learning rate is that of its own optimiser: where the change is to another kind of
        optimiser, and says no `lr`, it is the new one's. Raises `SettingError` for a value that is
        not the setting's, and for a setting without the company that it needs (`NEEDS`).
        """
        _require_known(changes)
        config = replace(self, **changes)
        usual = LEARNING_RATES[config.optimiser]
        if "lr" not in changes and usual != LEARNING_RATES[self.optimiser]:
            config = replace(config, lr=usual)
        _require_company(config, changes)
        return config

    def resumed(self, changes: Mapping[str, Any]) -> "Config":
        """The configuration of this run when it goes on: its own, with as many epochs or more.

        Raises `SettingError` where `changes` ask for another run than the one that began: another
        value, fewer epochs than were first asked for, or more where a schedule or `ease` ends with
        the last of them.
        """
        asked = self.altered(changes)
        for name in changes:
            was, now = getattr(self, name), getattr(asked, name)
            if was != now and name != "epochs":
                raise SettingError(
                    f"`{name}` {spelled(now)}: contradicts the run to resume, which has "
                    f"{spelled(was)}; leave it out, or start a new run"
                )
        if asked.epochs < self.epochs:
            raise SettingError(
                f"`epochs` {asked.epochs}: expected {self.epochs}, as first asked, or more"
            )
        if asked.epochs > self.epochs and (self.schedule != "constant" or self.ease):
            raise SettingError(
                f"`epochs` {asked.epochs}: the run's `schedule` {self.schedule} and `ease` "
                f"{self.ease:g} end with epoch {self.epochs}, as first asked; start a new run"
            )
        return asked

    def require_data(self, n_train: int, n_x: int, image_shape: tuple[int, ...] | None) -> None:
        """Raises `SettingError` unless so many training examples of so many inputs will do."""
        if (self.elastic or self.affine) and image_shape is None:
            raise SettingError(
                f"`elastic`, `affine`: expected images, found {n_x} inputs that form no square"
            )
        if self.batch_size > n_train:
            raise SettingError(
                f"`batch_size` {self.batch_size}: expected 1 to {n_train}, the number of training "
                "examples"
            )


class Need(NamedTuple):
    """A setting that does nothing unless `met`. `always` is for what nobody could mean.

    Others may be without company where nobody asks for it: a recipe's activation in a network that
    is left without a hidden layer.
    """

    of: str
    needs: str
    met: Callable[[Config], object]
    why: str = "without which it does nothing"
    always: bool = False


NEEDS = (
    Need("weight_decay", "`optimiser` adamw", lambda config: config.optimiser == "adamw"),
    Need("temperature", "`teacher`", lambda config: config.teacher is not None),
    Need("teacher_weight", "`teacher`", lambda config: config.teacher is not None),
    Need("ease", "`elastic` or `affine`", lambda config: config.elastic or config.affine),
    Need("dropout", "a hidden layer (`n_h`)", lambda config: config.n_h or not config.dropout),
    Need("activation", "a hidden layer (`n_h`)", lambda config: config.n_h),
    Need(
        "patience",
        "`validation`",
        lambda config: config.patience is None or config.validation is not None,
        "whose loss it watches",
        always=True,
    ),
)


def unknown(names: Iterable[str]) -> list[str]:
    """Those of the names that no configuration has."""
    return [name for name in names if name not in SETTINGS]


def _require_known(names: Iterable[str]) -> None:
    if strange := unknown(names):
        raise SettingError(
            f"{strange[0]!r:.60}: no setting; expected one of {', '.join(SETTINGS)}"
            f"{did_you_mean(strange[0], SETTINGS, SYNONYMS)}"
        )


def _require_company(config: Config, names: Container[str]) -> None:
    for need in NEEDS:
        if need.of in names and not need.met(config):
            raise SettingError(f"`{need.of}`: expected {need.needs} as well, {need.why}")


#: What says how data are read.
READING = ("test", "keys", "size", "grey", "features")

#: What a sweep takes several values of; the last one varies fastest.
AXES = ("n_h", "activation", "batch_size", "lr", "beta")

#: The declarations by name, in the order of `Config`.
SETTINGS: dict[str, Setting] = {field.name: setting(field) for field in fields(Config)}

#: What others call a setting, and its name here.
SYNONYMS = {other: setting.name for setting in SETTINGS.values() for other in setting.synonyms}
