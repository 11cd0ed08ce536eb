"""From arrays to a trained network: `fit` in one line, and an estimator for scikit-learn.

Both train with the hand-derived gradients and the compiled epoch of a run, and write no files.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxnn.data import Dataset, with_validation
from jaxnn.errors import UsageError
from jaxnn.io.suggestion import did_you_mean
from jaxnn.nn.activations import ACTIVATIONS
from jaxnn.nn.losses import softmax
from jaxnn.nn.mlp import depth, feed_forward
from jaxnn.report import console
from jaxnn.runs.parameters import save_params
from jaxnn.training.config import SYNONYMS, Config
from jaxnn.training.evaluation import evaluate
from jaxnn.training.loop import Engine, Snapshot, start, train_epochs
from jaxnn.training.program import Hyperparameters, Program
from jaxnn.training.step import TrainState, train_epoch

#: Settings of `Config` that the estimator has under the same names.
OWN_SETTINGS = (
    "n_h", "activation", "lr", "beta", "epochs", "batch_size", "validation", "patience", "init",
    "optimiser", "schedule", "weight_decay", "l2", "dropout", "input_dropout", "max_norm",
    "label_smoothing", "average",
)  # fmt: skip

SCALINGS = ("auto", "none")


class MLPClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A network as a scikit-learn estimator: pipelines, `GridSearchCV` and `clone` take it.

    The parameters are the settings of `jaxnn.Config`, with its defaults, ranges and errors, but
    for three. `random_state` is the seed, or what scikit-learn draws it from. `scaling` is what is
    done to X first: "auto" divides bytes (uint8) by the brightest of the training set, leaves
    numbers in [0, 1] as they are and standardises others, x ← (x − mean)/std; "none" does nothing.
    `verbose` prints a line for each epoch.

    After `fit`: `classes_`, `params_` (W1, b1, …), `config_`, `history_` (a record for each epoch),
    `n_features_in_`. X is (n, n_x), or images (n, h, w); y holds labels of any kind, (n,).

    >>> digits = jaxnn.load_data("digits")
    >>> network = jaxnn.MLPClassifier(n_h=(24,), epochs=5, batch_size=16)
    >>> network.fit(digits.x_train, digits.y_train).score(digits.x_test, digits.y_test) > 0.8
    True
    """

    def __init__(
        self,
        n_h: Sequence[int] = (64,),
        activation: str = "sigmoid",
        *,
        lr: float | None = None,
        beta: float = 0.9,
        epochs: int = 50,
        batch_size: int = 64,
        validation: float | None = None,
        patience: int | None = None,
        init: str = "document",
        optimiser: str = "momentum",
        schedule: str = "constant",
        weight_decay: float = 0.0,
        l2: float = 0.0,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        max_norm: float = 0.0,
        label_smoothing: float = 0.0,
        average: float = 0.0,
        scaling: str = "auto",
        random_state: Any = 0,
        verbose: bool = False,
    ) -> None:
        self.n_h = n_h
        self.activation = activation
        self.lr = lr
        self.beta = beta
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation = validation
        self.patience = patience
        self.init = init
        self.optimiser = optimiser
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.l2 = l2
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.max_norm = max_norm
        self.label_smoothing = label_smoothing
        self.average = average
        self.scaling = scaling
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train from new weights. Raises `UsageError` for a setting out of its range,
        `TrainingDivergedError` where the loss becomes infinite, ValueError for other arrays."""
        rows, labels = self._validated(X, y, reset=True)
        self._begin(rows, np.unique(labels))
        self._train(rows, labels, self.config_.epochs)
        return self

    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """One epoch over these examples, from where training stands.

        The first call has to name all classes. The scaling is that of the first examples. Raises
        `UsageError` for a `schedule` or `validation`, which need all epochs and all examples.
        """
        first = not hasattr(self, "_state")
        rows, labels = self._validated(X, y, reset=first)
        if self.schedule != "constant" or self.validation is not None:
            raise UsageError("partial_fit: expected a constant schedule and no validation")
        if first:
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit")
            self._begin(rows, unique_labels(classes))
        elif classes is not None and not np.array_equal(unique_labels(classes), self.classes_):
            raise ValueError(f"classes: expected those of the first call, {self.classes_}")
        if strange := set(np.unique(labels)) - set(self.classes_):
            raise ValueError(f"y: expected labels among the classes, found {min(strange)}")
        self._train(rows, labels, len(self.history_) + 1)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:
        """A_L = softmax(Z_L), (n, C): the probability of each of `classes_`."""
        check_is_fitted(self, "params_")
        rows = self._scaled(validate_data(self, _rows(X), reset=False))
        params = jax.tree.map(jnp.asarray, self.params_)
        cache = feed_forward(params, jnp.asarray(rows), ACTIVATIONS[self.config_.activation])
        return np.asarray(softmax(cache[f"Z{depth(params)}"]))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable of `classes_` for each example, (n,)."""
        chosen = self.predict_proba(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[chosen]
        return labels

    @property
    def params(self) -> dict[str, NDArray[np.float32]]:
        """W1 (n_1, n_x), b1 (n_1,), W2 …"""
        check_is_fitted(self, "params_")
        return dict(self.params_)

    @property
    def config(self) -> Config:
        """The settings that the network was trained with."""
        check_is_fitted(self, "config_")
        config: Config = self.config_
        return config

    def save_params(self, path: str) -> None:
        """The parameters as .npz or .safetensors: `jaxnn.save_params`."""
        save_params(path, self.params_)

    def _validated(self, X: ArrayLike, y: ArrayLike, *, reset: bool) -> tuple[Any, Any]:
        """The arrays as scikit-learn wants them: finite numbers, as many labels as examples."""
        rows, labels = validate_data(self, _rows(X), y, reset=reset)
        check_classification_targets(labels)
        return rows, labels

    def _begin(self, X: NDArray[Any], classes: NDArray[Any]) -> None:
        """What is decided once: classes, scaling, settings, and the first state."""
        if self.scaling not in SCALINGS:
            raise UsageError(f"scaling: expected {' or '.join(SCALINGS)}, found {self.scaling!r}")
        settings = {name: getattr(self, name) for name in OWN_SETTINGS}
        if settings["lr"] is None:
            del settings["lr"]
        self.classes_ = classes
        self._shift: Any = 0.0
        self._factor: Any = 1.0
        if self.scaling == "auto":
            self._shift, self._factor = _scaling_of(X)
        self.config_ = Config(**settings, seed=_seed(self.random_state))
        self.history_: tuple[dict[str, Any], ...] = ()
        self._state: TrainState = start(self.config_, X.shape[1], len(classes)).state

    def _train(self, X: NDArray[Any], y: NDArray[Any], epochs: int) -> None:
        """Go on until so many epochs are over."""
        labels = np.searchsorted(self.classes_, y).astype(np.int32)
        dataset = _dataset(self._scaled(X), labels, len(self.classes_))
        config = replace(
            self.config_, epochs=epochs, batch_size=min(self.config_.batch_size, len(X))
        )
        if config.validation is not None:
            dataset = with_validation(dataset, config.validation, config.seed)
            config = replace(config, batch_size=min(config.batch_size, dataset.n_train))
        steps = train_epochs(
            dataset, config, Snapshot(self._state, self.history_), _engine(dataset, config)
        )
        if self.verbose:
            steps = console.epochs(steps, epochs, len(self.history_))
        for snapshot in steps:
            self._state, self.history_ = snapshot.state, snapshot.history
            self.params_ = {name: np.asarray(v) for name, v in snapshot.eval_params.items()}
        self.n_iter_ = len(self.history_)

    def _scaled(self, X: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray((X - self._shift) * self._factor, np.float32)


def fit(X: ArrayLike, y: ArrayLike, *, quiet: bool = False, **settings: Any) -> MLPClassifier:
    """Train a network on arrays, with a line of progress for each epoch.

    X is (n, n_x), or images (n, h, w), y (n,) the labels; `settings` are those of `MLPClassifier`.
    Returns the network, which has `predict`, `predict_proba`, `score`, `params` and `config`.
    Raises `UsageError` for a setting that there is not, or that is out of its range.

    >>> digits = jaxnn.load_data("digits")
    >>> network = jaxnn.fit(digits.x_train, digits.y_train, n_h=(24,), epochs=5, quiet=True)
    >>> network.predict(digits.x_test[:3]).shape, network.predict_proba(digits.x_test).shape
    ((3,), (359, 10))
    """
    known = MLPClassifier().get_params()
    if strange := [name for name in settings if name not in known]:
        hint = did_you_mean(strange[0], known, SYNONYMS)
        raise UsageError(f"{strange[0]}: no setting; expected one of {', '.join(known)}{hint}")
    return MLPClassifier(**{"verbose": not quiet, **settings}).fit(X, y)


def _rows(X: ArrayLike) -> Any:
    """Images (n, h, w) as rows (n, h·w); whatever else is left as it is."""
    shape: tuple[int, ...] = getattr(X, "shape", ())
    return np.reshape(np.asarray(X), (shape[0], -1)) if len(shape) > 2 else X


def _scaling_of(X: NDArray[Any]) -> tuple[Any, Any]:
    """(shift, factor) of x ← (x − shift) · factor."""
    if X.dtype == np.uint8:
        return 0.0, 1 / max(1, int(X.max()))
    if X.min() >= 0 and X.max() <= 1:
        return 0.0, 1.0
    values = X.astype(np.float64)
    std = values.std(axis=0)
    return values.mean(axis=0), 1 / np.where(std > 0, std, 1.0)


def _seed(random_state: Any) -> int:
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31))


def _dataset(X: NDArray[np.float32], y: NDArray[np.int32], n_classes: int) -> Dataset:
    """All of it to train on: there is no test set."""
    return Dataset("arrays", "arrays", X, y, X[:0], y[:0], n_classes, None, 1.0)


def _engine(dataset: Dataset, config: Config) -> Engine:
    """The compiled epoch, shared by all networks of these shapes: a grid compiles it once."""
    program = Program.of(config, dataset)
    hyper = Hyperparameters.of(config, dataset.n_train)
    scale = np.float32(dataset.scale)

    def one_epoch(
        state: TrainState, images: Array, labels: Array, key: Array, order: Array, done: float
    ) -> TrainState:
        now = hyper.annealed(config, done)
        trained: TrainState = train_epoch(
            state, images, labels, scale, key, now, order, program=program
        )
        return trained

    return Engine(
        one_epoch, jax.device_put, partial(evaluate, scale=scale, activation=program.activation)
    )
