"""`explore.html`: a network on one page that computes, with nothing else: no server, no network.

The page has the parameters and some test images in it. Its mathematics is that of `jaxnn.nn`, its
framing of drawings that of `jaxnn.data.framing`, written again in JavaScript, in double precision.
Its policy lets this one script run, whatever the names of classes and files hold.
"""

import base64
import hashlib
import html
import json
import zlib
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

import jaxnn
from jaxnn.data import Dataset
from jaxnn.errors import SettingError, StorageError, UsageError
from jaxnn.gradcheck.explanations import LESSONS
from jaxnn.io.files import write_bytes
from jaxnn.nn.ensemble import is_ensemble
from jaxnn.nn.mlp import Params, depth
from jaxnn.runs import results
from jaxnn.runs.trained import Trained, require_frame
from jaxnn.training.evaluation import Evaluation

#: In this order they are one script.
SCRIPTS = ("mathematics.js", "framing.js", "equations.js", "mistakes.js", "views.js", "page.js")

#: Test images on the page, and how many of them may be mistakes.
IMAGES, MISTAKES = 360, 120

Array = NDArray[Any]


def write(
    path: Path,
    network: Trained,
    dataset: Dataset,
    member: int = 1,
    test: Evaluation | None = None,
) -> Path:
    """Write the page of a network, with images of the data set's test part.

    `test` is its evaluation on that part, where there has been one.
    Raises `UsageError` as `page` does, and `StorageError` where the file cannot be written.
    """
    content = page(network, dataset, member, test)
    try:
        write_bytes(path, content.encode())
    except OSError as error:
        raise StorageError(f"{path}: cannot write the page: {error.strerror}") from error
    return path


def page(
    network: Trained, dataset: Dataset, member: int = 1, test: Evaluation | None = None
) -> str:
    """The page. Of an ensemble it shows one network, the `member`-th.

    Raises `UsageError` where the inputs are no grey images, or there is no such member.
    """
    params = of_member(network, member)
    test = test or results.test(dataset, network.config, params)
    style = _text("style.css")
    script = "\n".join(map(_text, SCRIPTS))
    run = described(network, dataset, params, np.asarray(test.logits))
    sizes = "-".join(map(str, run["sizes"]))
    return Template(_text("page.html")).substitute(
        title=html.escape(f"Look inside: {sizes} on {dataset.name}"),
        subtitle=html.escape(_subtitle(network, dataset, member, test.accuracy)),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        run=_as_json(run),
        footer=html.escape(_footer(network)),
    )


def of_member(network: Trained, member: int) -> Params:
    """The parameters of one network, where there may be several."""
    if len(network.image_shape or ()) == 3:
        raise UsageError(f"{network.run.folder}: expected a run on grey images, found colours")
    require_frame(network)
    params = network.params
    count = len(params["b1"]) if is_ensemble(params) else 1
    if not 1 <= member <= count:
        raise SettingError(f"`member` {member}: expected 1 to {count}, the networks of the run")
    return {name: leaf[member - 1] for name, leaf in params.items()} if count > 1 else params


def described(network: Trained, dataset: Dataset, params: Params, logits: Array) -> dict[str, Any]:
    """What the script is given of the run."""
    config, frame, look = network.config, require_frame(network), network.look
    L = depth(params)
    sizes = [params["W1"].shape[-1], *(len(params[f"b{layer}"]) for layer in range(1, L + 1))]
    by_momentum = config.optimiser in ("momentum", "nesterov")
    return {
        "classes": list(network.class_names),
        "frame": frame.to_dict(),
        "paper": look.paper if look else 0.0,
        "ink": look.ink if look else 1.0,
        "activation": config.activation,
        "sizes": sizes,
        "l2": config.l2,
        "label_smoothing": config.label_smoothing,
        "dropout": config.dropout,
        "input_dropout": config.input_dropout,
        "lr": config.lr if by_momentum else 0.5,
        "beta": config.beta,
        "params": {name: _floats(value) for name, value in params.items()},
        "images": _images(dataset, logits),
        "lessons": {code: lesson._asdict() for code, lesson in LESSONS.items()},
    }


def _images(dataset: Dataset, logits: Array) -> dict[str, Any]:
    chosen = chosen_images(dataset.y_test, logits)
    pixels = np.ascontiguousarray(dataset.x_test[chosen])
    little = pixels.astype(pixels.dtype.newbyteorder("<"))
    return {
        "dtype": pixels.dtype.name,
        "scale": dataset.scale,
        "data": base64.b64encode(zlib.compress(little.tobytes(), 9)).decode(),
        "labels": dataset.y_test[chosen].tolist(),
        "predicted": logits[chosen].argmax(axis=1).tolist(),
        "numbers": chosen.tolist(),
    }


def chosen_images(truth: Array, logits: Array) -> Array:
    """Indices of test images: the mistakes, the most confident first, then the classes in turn."""
    Z = logits.astype(np.float64)
    confidence = np.exp(Z.max(axis=1) - np.logaddexp.reduce(Z, axis=1))
    is_wrong = Z.argmax(axis=1) != truth
    wrong = np.flatnonzero(is_wrong)
    mistakes = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    right = np.flatnonzero(~is_wrong)
    turn = np.zeros(len(truth), np.int64)
    for label in np.unique(truth[right]):
        of_class = right[truth[right] == label]
        turn[of_class] = np.arange(len(of_class))
    in_turn = right[np.lexsort((truth[right], turn[right]))]
    return np.concatenate([mistakes, in_turn])[:IMAGES]


def _subtitle(network: Trained, dataset: Dataset, member: int, accuracy: float) -> str:
    config = network.config
    parts = [f"{config.activation} and softmax" if config.n_h else "softmax"]
    if is_ensemble(network.params):
        parts.append(f"network {member} of {len(network.params['b1'])} that answer together")
    parts.append(f"test accuracy {accuracy:.2%} on {dataset.n_test:,} examples")
    if network.result is None:
        parts.append(f"not finished: after {network.epochs} of {config.epochs} epochs")
    if config.teacher is not None:
        parts.append("it also learnt from a teacher, which the loss on this page leaves out")
    return "; ".join(parts)


def _footer(network: Trained) -> str:
    return (
        f"Made by jaxnn {jaxnn.__version__} of {network.run.folder.resolve().name}. The page holds "
        "the network's parameters and computes by itself; nothing is sent anywhere."
    )


def _floats(value: Any) -> str:
    return base64.b64encode(np.asarray(value, "<f4").tobytes()).decode()


def _as_json(run: dict[str, Any]) -> str:
    """JSON that ends no script element, whatever texts are in it."""
    text = json.dumps(run, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _hash(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def _text(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")
