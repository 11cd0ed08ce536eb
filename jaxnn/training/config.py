"""Everything that decides the outcome of a training run, apart from the data itself."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast, get_args, get_origin, get_type_hints

#: The learning rate of each optimiser where none is given: the document's for its momentum, and
#: that of Kingma and Ba (arXiv:1412.6980) for steps that are divided by the gradient's size.
LEARNING_RATES = {"momentum": 0.5, "nesterov": 0.5, "adam": 0.001, "adamw": 0.001}


@dataclass(frozen=True)
class Config:
    """The document's hyperparameters with its values as defaults, and the seed of all randomness.

    `validation` is the number of training examples (1, 2, …) or the share of them (a fraction below
    1) that is set aside to choose the epoch by; `patience` the epochs without a better validation
    loss after which training stops. None turns either off, and so does 0 for whatever goes beyond
    the document: `jaxnn.training.plan` says what each means. An `lr` that is not given is the
    optimiser's own, of `LEARNING_RATES`. `n_h` is () for no hidden layer: softmax regression.
    """

    lr: float = cast(float, None)  # `__post_init__` has the optimiser's own
    beta: float = 0.9
    epochs: int = 50
    batch_size: int = 64
    n_h: tuple[int, ...] = (64,)
    activation: str = "sigmoid"
    seed: int = 0
    validation: float | None = None
    patience: int | None = None
    init: str = "document"
    optimiser: str = "momentum"
    schedule: str = "constant"
    weight_decay: float = 0.0
    l2: float = 0.0
    dropout: float = 0.0
    input_dropout: float = 0.0
    max_norm: float = 0.0
    label_smoothing: float = 0.0
    average: float = 0.0
    elastic: float = 0.0
    affine: float = 0.0
    ease: float = 0.0
    teacher: str | None = None
    temperature: float = 2.0
    teacher_weight: float = 0.9
    committee: int = 1

    def __post_init__(self) -> None:
        if self.lr is None:
            object.__setattr__(self, "lr", LEARNING_RATES[self.optimiser])

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: tuples are lists there."""
        return {**asdict(self), "n_h": list(self.n_h)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """The inverse of `to_dict`.

        Raises KeyError or TypeError for a name that no configuration has, and for a value of
        another type than its field's, NaN and infinities among them.
        """
        if values.get("lr", 0) is None:
            raise TypeError("lr: a number expected, found None")
        config = cls(**{**values, "n_h": tuple(values["n_h"])})
        for name, kind in get_type_hints(cls).items():
            value = getattr(config, name)
            if not _is(value, kind):
                raise TypeError(f"{name}: {kind} expected, found {value!r:.40}")
        return config


def _is(value: Any, kind: Any) -> bool:
    """Whether a value that was read from JSON is of a field's type."""
    options = get_args(kind)
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is(item, options[0]) for item in value)
    if options:
        return any(_is(value, option) for option in options)
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is kind
