"""Networks, dropout, word vectors and a small autograd engine."""

import jax
import jax.numpy as jnp
import numpy as np

from ..case import gathers, generator, np_sigmoid, np_softmax, one_hot

CASES = []
case = gathers(CASES)


def sigmoid(z):
    return 1 / (1 + jnp.exp(-z))


@case(
    kind="network",
    cause="the output is a sigmoid under a squared error: its slope out * (1 - out) is missing",
    place="delta of the output",
    line="out = sigmoid(hidden",
    source="jiexunsee/Neural-Network-with-Python #1",
)
def output_slope_missing_under_squared_error():
    g = generator(101)
    params = {"W1": g.normal(size=(4, 6)), "W2": g.normal(size=(6, 2))}
    X, Y = g.normal(size=(9, 4)), g.uniform(0.1, 0.9, (9, 2))

    def loss(p, X, Y):
        hidden = sigmoid(X @ p["W1"])
        out = sigmoid(hidden @ p["W2"])
        return jnp.sum((out - Y) ** 2) / 2

    def gradient(slope):
        def of(p, X, Y):
            hidden = np_sigmoid(X @ p["W1"])
            out = np_sigmoid(hidden @ p["W2"])
            delta = (out - Y) * (out * (1 - out) if slope else 1)
            below = delta @ p["W2"].T * hidden * (1 - hidden)
            return {"W1": X.T @ below, "W2": hidden.T @ delta}

        return of

    return loss, gradient(False), gradient(True), params, (X, Y)


@case(
    kind="network",
    cause="two mistakes: the output's slope is missing, and W2 is updated before the hidden layer "
    "takes the error through it",
    place="delta of the output, then that of the hidden layer",
    line=('out = sigmoid(p["W2"]', 'W2"] @ hidden'),
    source="Bot-Academy/NeuralNetworkFromScratch #3",
)
def updated_weights_and_no_output_slope():
    g = generator(102)
    params = {"W1": g.normal(size=(5, 4)), "W2": g.normal(size=(2, 5)), "b2": g.normal(size=2)}
    x, y, rate = g.normal(size=4), g.uniform(0.1, 0.9, 2), 0.1

    def loss(p, x, y):
        hidden = sigmoid(p["W1"] @ x)
        out = sigmoid(p["W2"] @ hidden + p["b2"])
        return jnp.sum((out - y) ** 2) / 2

    def gradient(right):
        def of(p, x, y):
            hidden = np_sigmoid(p["W1"] @ x)
            out = np_sigmoid(p["W2"] @ hidden + p["b2"])
            delta = (out - y) * (out * (1 - out) if right else 1)
            dW2 = np.outer(delta, hidden)
            W2 = p["W2"] if right else p["W2"] - rate * dW2
            below = W2.T @ delta * hidden * (1 - hidden)
            return {"W1": np.outer(below, x), "W2": dW2, "b2": delta}

        return of

    return loss, gradient(False), gradient(True), params, (x, y)


@case(
    kind="network",
    cause="dZ1 is divided by m, and dW1 and db1 divide by m once more",
    place="dZ1",
    line=("A1 = jnp.tanh(", "A2 = sigmoid("),
    source="community.deeplearning.ai, topic 63071",
)
def hidden_layer_divided_by_m_twice():
    g = generator(103)
    params = {
        "W1": g.normal(size=(3, 2)),
        "b1": g.normal(size=(3, 1)),
        "W2": g.normal(size=(1, 3)),
        "b2": g.normal(size=(1, 1)),
    }
    X, Y = g.normal(size=(2, 11)), g.integers(0, 2, (1, 11)).astype(float)

    def loss(p, X, Y):
        A1 = jnp.tanh(p["W1"] @ X + p["b1"])
        A2 = sigmoid(p["W2"] @ A1 + p["b2"])
        return -jnp.mean(Y * jnp.log(A2) + (1 - Y) * jnp.log(1 - A2))

    def gradient(times):
        def of(p, X, Y):
            m = X.shape[1]
            A1 = np.tanh(p["W1"] @ X + p["b1"])
            dZ2 = np_sigmoid(p["W2"] @ A1 + p["b2"]) - Y
            dZ1 = p["W2"].T @ dZ2 * (1 - A1**2) / m**times
            return {
                "W1": dZ1 @ X.T / m,
                "b1": dZ1.sum(axis=1, keepdims=True) / m,
                "W2": dZ2 @ A1.T / m,
                "b2": dZ2.sum(axis=1, keepdims=True) / m,
            }

        return of

    return loss, gradient(1), gradient(0), params, (X, Y)


def two_layers(seed, decay=0.0):
    """A network with tanh, softmax and a penalty; gradient(slope of tanh, sign of the penalty)."""
    g = generator(seed)
    params = {"W1": g.normal(size=(4, 5)), "b1": g.normal(size=5), "W2": g.normal(size=(5, 3))}
    X, Y = g.normal(size=(8, 4)), one_hot(g.integers(0, 3, 8), 3)

    def loss(p, X, Y):
        hidden = jnp.tanh(X @ p["W1"] + p["b1"])
        log_p = jax.nn.log_softmax(hidden @ p["W2"])
        penalty = decay / 2 * (jnp.sum(p["W1"] ** 2) + jnp.sum(p["W2"] ** 2))
        return -jnp.sum(Y * log_p) / len(X) + penalty

    def gradient(slope, sign):
        def of(p, X, Y):
            z = X @ p["W1"] + p["b1"]
            delta = (np_softmax(np.tanh(z) @ p["W2"]) - Y) / len(X)
            below = delta @ p["W2"].T * slope(z)
            return {
                "W1": X.T @ below + sign * decay * p["W1"],
                "b1": below.sum(axis=0),
                "W2": np.tanh(z).T @ delta + sign * decay * p["W2"],
            }

        return of

    return loss, gradient, params, (X, Y)


def tanh_slope(z):
    return 1 - np.tanh(z) ** 2


@case(
    kind="network",
    cause="what is called tanh's derivative computes tanh itself; it is 1 - tanh^2",
    place="the hidden layer's delta",
    source="andersbll/nnet #4",
)
def tanh_for_its_derivative():
    loss, gradient, params, args = two_layers(104)
    return loss, gradient(np.tanh, 1), gradient(tanh_slope, 1), params, args


@case(
    kind="network",
    cause="weight decay has the wrong sign: it is added to the gradient",
    place="dW1, dW2",
    source="andersbll/nnet #4",
)
def weight_decay_with_the_wrong_sign():
    loss, gradient, params, args = two_layers(105, decay=0.1)
    return loss, gradient(tanh_slope, -1), gradient(tanh_slope, 1), params, args


@case(
    kind="network",
    cause="the bias's gradient is summed over examples and classes; it is a sum over examples",
    place="db",
    line="scores = x @",
    source="rasbt/stat453-deep-learning-ss21 #5",
)
def bias_gradient_summed_over_everything():
    g = generator(106)
    params = {"w": g.normal(size=(4, 3)), "b": g.normal(size=3)}
    x, y = g.normal(size=(7, 4)), g.uniform(size=(7, 3))

    def loss(p, x, y):
        scores = x @ p["w"] + p["b"]
        return jnp.sum((jnp.tanh(scores) - y) ** 2)

    def gradient(axis):
        def of(p, x, y):
            a = np.tanh(x @ p["w"] + p["b"])
            d = 2 * (a - y) * (1 - a * a)
            return {"w": x.T @ d, "b": np.broadcast_to(d.sum(axis=axis), 3).copy()}

        return of

    return loss, gradient(None), gradient(0), params, (x, y)


def with_dropout(seed):
    """A hidden layer under a mask; gradient(what the mask is in the backward pass)."""
    g = generator(seed)
    params = {"W1": g.normal(size=(4, 8)), "W2": g.normal(size=(8, 2))}
    X, t, keep = g.normal(size=(9, 4)), g.normal(size=(9, 2)), 0.5
    mask, another = (g.uniform(size=(9, 8)) < keep for _ in range(2))

    def loss(p, X, t):
        hidden = jnp.tanh(X @ p["W1"])
        dropped = hidden * mask / keep
        out = dropped @ p["W2"]
        return jnp.mean((out - t) ** 2)

    def gradient(used):
        def of(p, X, t):
            hidden = np.tanh(X @ p["W1"])
            dropped = hidden * mask / keep
            d_out = 2 * (dropped @ p["W2"] - t) / t.size
            below = d_out @ p["W2"].T * used / keep * (1 - hidden**2)
            return {"W1": X.T @ below, "W2": dropped.T @ d_out}

        return of

    return loss, gradient, mask, another, params, (X, t)


@case(
    kind="dropout",
    cause="the mask is not applied in the backward pass: dropped units receive a gradient",
    place="the derivative by the hidden layer",
    source="ddbourgin/numpy-ml #94",
)
def dropout_mask_not_applied_backward():
    loss, gradient, mask, _, params, args = with_dropout(107)
    return loss, gradient(1.0), gradient(mask), params, args


@case(
    kind="dropout",
    cause="the backward pass draws another mask than the forward pass had",
    place="the derivative by the hidden layer",
    source="pytorch/pytorch #190717",
)
def dropout_mask_drawn_again():
    loss, gradient, mask, another, params, args = with_dropout(108)
    return loss, gradient(another), gradient(mask), params, args


@case(
    kind="embedding",
    cause="a word that occurs twice counts once: d[words] += rows overwrites, np.add.at adds up",
    place="the rows of words that occur more than once",
    line='vectors = p["E"][words]',
    source="HIPS/autograd #39, #136, #263",
)
def repeated_words_overwritten():
    g = generator(109)
    params = {"E": g.normal(size=(7, 3)), "w": g.normal(size=3)}
    words, t = np.array([2, 5, 2, 0, 5, 2]), g.normal(size=6)

    def loss(p, words, t):
        vectors = p["E"][words]
        return jnp.sum(jnp.sin(vectors @ p["w"]) * t)

    def gradient(adds):
        def of(p, words, t):
            vectors = p["E"][words]
            d = np.cos(vectors @ p["w"]) * t
            dE = np.zeros_like(p["E"])
            if adds:
                np.add.at(dE, words, np.outer(d, p["w"]))
            else:
                dE[words] += np.outer(d, p["w"])
            return {"E": dE, "w": vectors.T @ d}

        return of

    return loss, gradient(False), gradient(True), params, (words, t)


class Scalar:
    """A number that remembers what it was made of, with its local derivatives."""

    def __init__(self, value, parents=(), local=()):
        self.value, self.grad, self.parents, self.local = float(value), 0.0, parents, local

    def __add__(self, other):
        return Scalar(self.value + other.value, (self, other), (1.0, 1.0))

    def __mul__(self, other):
        return Scalar(self.value * other.value, (self, other), (other.value, self.value))

    def send(self):
        """Add to the parents' gradients what this one sends them."""
        for parent, d in zip(self.parents, self.local, strict=True):
            parent.grad += d * self.grad

    def once_for_each_path(self):
        self.send()
        for parent in dict.fromkeys(self.parents):
            parent.once_for_each_path()

    def in_order(self):
        """Itself and what it is made of, each after everything that it is a part of."""
        order = []

        def visit(node):
            if node not in order:
                for parent in node.parents:
                    visit(parent)
                order.append(node)

        visit(self)
        return reversed(order)


@case(
    kind="engine",
    cause="backward recurses once for each path: a value that is used twice passes on what it has "
    "collected twice",
    place="everything below a value that is used more than once",
    line="product = ",
    source="karpathy/micrograd #2",
)
def value_used_twice_passed_on_for_each_path():
    g = generator(110)
    params = {name: g.normal(size=()) for name in "abc"}

    def loss(p):
        product = p["a"] * p["b"]
        return product * product * p["c"] + product

    def gradient(recursive):
        def of(p):
            leaves = {name: Scalar(value) for name, value in p.items()}
            product = leaves["a"] * leaves["b"]
            out = product * product * leaves["c"] + product
            out.grad = 1.0
            if recursive:
                out.once_for_each_path()
            else:
                for node in out.in_order():
                    node.send()
            return {name: np.array(leaf.grad) for name, leaf in leaves.items()}

        return of

    return loss, gradient(True), gradient(False), params, ()
