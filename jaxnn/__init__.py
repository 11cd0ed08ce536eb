"""Neural networks in JAX, with backpropagation derived by hand and verified equation by equation.

The names below are loaded when they are first used, so that `import jaxnn` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxnn.data import Dataset as Dataset
    from jaxnn.data import load as _load_data
    from jaxnn.errors import JaxnnError as JaxnnError
    from jaxnn.estimator import MLPClassifier as MLPClassifier
    from jaxnn.estimator import fit as fit
    from jaxnn.gradcheck.check import check_gradients as check_gradients
    from jaxnn.gradcheck.report import GradientReport as GradientReport
    from jaxnn.gradcheck.testing import assert_gradients as assert_gradients
    from jaxnn.gradcheck.testing import assert_vjp as assert_vjp
    from jaxnn.gradcheck.vjp import check_vjp as check_vjp
    from jaxnn.nn.mlp import back_propagate as back_propagate
    from jaxnn.nn.mlp import feed_forward as feed_forward
    from jaxnn.nn.mlp import gradient as gradient
    from jaxnn.nn.mlp import init_params as init_params
    from jaxnn.nn.mlp import loss as loss
    from jaxnn.nn.optimisers import momentum as momentum
    from jaxnn.runs.parameters import load_params as load_params
    from jaxnn.runs.parameters import save_params as save_params
    from jaxnn.runs.trained import load as load
    from jaxnn.training.config import Config as Config
    from jaxnn.training.evaluation import evaluate as evaluate
    from jaxnn.training.loop import train_epochs as train_epochs
    from jaxnn.training.program import Hyperparameters as Hyperparameters
    from jaxnn.training.program import Program as Program
    from jaxnn.training.step import TrainState as TrainState
    from jaxnn.training.step import init_state as init_state
    from jaxnn.training.step import train_epoch as train_epoch
    from jaxnn.training.step import train_step as train_step

    load_data = _load_data

__version__ = "0.1.0"

#: Where each public name is defined, and by which name.
_HOME = {
    "Config": "training.config:Config",
    "Dataset": "data:Dataset",
    "GradientReport": "gradcheck.report:GradientReport",
    "Hyperparameters": "training.program:Hyperparameters",
    "JaxnnError": "errors:JaxnnError",
    "MLPClassifier": "estimator:MLPClassifier",
    "Program": "training.program:Program",
    "TrainState": "training.step:TrainState",
    "assert_gradients": "gradcheck.testing:assert_gradients",
    "assert_vjp": "gradcheck.testing:assert_vjp",
    "back_propagate": "nn.mlp:back_propagate",
    "check_gradients": "gradcheck.check:check_gradients",
    "check_vjp": "gradcheck.vjp:check_vjp",
    "evaluate": "training.evaluation:evaluate",
    "feed_forward": "nn.mlp:feed_forward",
    "fit": "estimator:fit",
    "gradient": "nn.mlp:gradient",
    "init_params": "nn.mlp:init_params",
    "init_state": "training.step:init_state",
    "load": "runs.trained:load",
    "load_data": "data:load",
    "load_params": "runs.parameters:load_params",
    "loss": "nn.mlp:loss",
    "momentum": "nn.optimisers:momentum",
    "save_params": "runs.parameters:save_params",
    "train_epoch": "training.step:train_epoch",
    "train_epochs": "training.loop:train_epochs",
    "train_step": "training.step:train_step",
}

__all__ = ["__version__", *_HOME]

if not TYPE_CHECKING:  # a type checker sees the names above, and no others

    def __getattr__(name):
        if name not in _HOME:
            raise AttributeError(f"module 'jaxnn' has no attribute {name!r}")
        module, _, attribute = _HOME[name].partition(":")
        return getattr(import_module(f"jaxnn.{module}"), attribute)

    def __dir__():
        return __all__
