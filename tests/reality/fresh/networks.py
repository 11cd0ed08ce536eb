"""Networks, word vectors and activations."""

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
    cause="layer 1 is a sigmoid of the sum: its slope layer_1 * (1 - layer_1) is missing",
    place="layer_1_delta",
    line="layer_1 = sigmoid(",
    source="iamtrask/Grokking-Deep-Learning #50",
)
def hidden_sigmoid_left_out():
    g = generator(1)
    params = {"weights_0_1": g.normal(size=(9, 5)), "weights_1_2": g.normal(size=(5, 1))}
    words, y = g.integers(0, 9, (6, 4)), g.integers(0, 2, (6, 1)).astype(float)

    def loss(p, words, y):
        embedded = p["weights_0_1"][words].sum(axis=1)
        layer_1 = sigmoid(embedded)
        layer_2 = sigmoid(layer_1 @ p["weights_1_2"])
        return -jnp.sum(y * jnp.log(layer_2) + (1 - y) * jnp.log(1 - layer_2))

    def gradient(slope):
        def of(p, words, y):
            layer_1 = np_sigmoid(p["weights_0_1"][words].sum(axis=1))
            layer_2 = np_sigmoid(layer_1 @ p["weights_1_2"])
            layer_2_delta = layer_2 - y
            layer_1_delta = layer_2_delta @ p["weights_1_2"].T
            if slope:
                layer_1_delta = layer_1_delta * layer_1 * (1 - layer_1)
            d_embedding = np.zeros_like(p["weights_0_1"])
            for column in words.T:
                np.add.at(d_embedding, column, layer_1_delta)
            return {"weights_0_1": d_embedding, "weights_1_2": layer_1.T @ layer_2_delta}

        return of

    return loss, gradient(False), gradient(True), params, (words, y)


@case(
    kind="network",
    cause="the weights are divided by their norms: the derivative by the divided weights is "
    "taken for that by the weights, without the Jacobian of the division",
    place="dW",
    line=('W = p["W"] /', "norms = jnp.sqrt"),
    source="wy1iu/sphereface #2",
)
def normalised_weights_taken_for_the_weights():
    g = generator(2)
    params = {"W": g.normal(size=(4, 3)) * 1.7}
    x, y = g.normal(size=(8, 4)), one_hot(g.integers(0, 3, 8), 3)

    def loss(p, x, y):
        norms = jnp.sqrt(jnp.sum(p["W"] ** 2, axis=0))
        W = p["W"] / norms
        cosines = x @ W
        return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(4.0 * cosines), axis=1))

    def gradient(through):
        def of(p, x, y):
            norms = np.sqrt(np.sum(p["W"] ** 2, axis=0))
            W = p["W"] / norms
            d_cosines = 4.0 * (np_softmax(4.0 * x @ W) - y) / len(x)
            dW = x.T @ d_cosines
            if through:
                dW = (dW - W * np.sum(W * dW, axis=0)) / norms
            return {"W": dW}

        return of

    return loss, gradient(False), gradient(True), params, (x, y)


@case(
    kind="embedding",
    cause="with the logarithm of a sigmoid the derivative by the score is f - (1 - code); it is "
    "multiplied by the slope f * (1 - f) once more",
    place="the derivative by the score, g",
    line=("f = sigmoid(", "jnp.log(f)"),
    source="NLPchina/Word2VEC_java #1",
)
def cbow_with_an_extra_slope():
    g = generator(3)
    params = {"syn0": g.normal(size=(8, 4)), "syn1": g.normal(size=(5, 4))}
    context, points, code = np.array([1, 4, 6, 1]), np.array([0, 2, 3]), np.array([1.0, 0.0, 1.0])

    def loss(p, context, points, code):
        neu1 = p["syn0"][context].mean(axis=0)
        score = p["syn1"][points] @ neu1
        f = sigmoid(score)
        return -jnp.sum((1 - code) * jnp.log(f) + code * jnp.log(1 - f))

    def gradient(extra):
        def of(p, context, points, code):
            neu1 = p["syn0"][context].mean(axis=0)
            f = np_sigmoid(p["syn1"][points] @ neu1)
            d_score = f - (1 - code)
            if extra:
                d_score = d_score * f * (1 - f)
            d_syn1 = np.zeros_like(p["syn1"])
            d_syn1[points] = np.outer(d_score, neu1)
            d_syn0 = np.zeros_like(p["syn0"])
            np.add.at(d_syn0, context, p["syn1"][points].T @ d_score / len(context))
            return {"syn0": d_syn0, "syn1": d_syn1}

        return of

    return loss, gradient(True), gradient(False), params, (context, points, code)


@case(
    kind="activation",
    cause="forward is x * sigmoid(1.702 x), backward is the derivative of the other approximation "
    "of GELU, with tanh",
    place="the derivative by z",
    line="h = z * sigmoid(1.702 * z)",
    source="harvard-edge/cs249r_book #1399",
)
def gelu_derivative_of_the_other_formula():
    g = generator(4)
    params = {"W1": g.normal(size=(5, 6)), "W2": g.normal(size=(6, 2))}
    x, t = g.normal(size=(7, 5)), g.normal(size=(7, 2))

    def loss(p, x, t):
        z = x @ p["W1"]
        h = z * sigmoid(1.702 * z)
        out = h @ p["W2"]
        return jnp.mean((out - t) ** 2)

    def own_slope(z):
        s = np_sigmoid(1.702 * z)
        return s + 1.702 * z * s * (1 - s)

    def other_slope(z):
        c = np.sqrt(2 / np.pi)
        th = np.tanh(c * (z + 0.044715 * z**3))
        return 0.5 * (1 + th) + 0.5 * z * (1 - th**2) * c * (1 + 3 * 0.044715 * z**2)

    def gradient(slope):
        def of(p, x, t):
            z = x @ p["W1"]
            h = z * np_sigmoid(1.702 * z)
            d_out = 2 * (h @ p["W2"] - t) / t.size
            return {"W1": x.T @ (d_out @ p["W2"].T * slope(z)), "W2": h.T @ d_out}

        return of

    return loss, gradient(other_slope), gradient(own_slope), params, (x, t)


@case(
    kind="activation",
    cause="forward is linear where beta * z exceeds the threshold; backward asks whether beta "
    "times the output does, and gives 1 to entries that are still on the curve",
    place="the derivative by z, where beta * z is just below the threshold",
    line="h = jnp.where(beta * z > threshold",
    source="pytorch/pytorch #61568, #55587",
)
def softplus_threshold_asked_of_the_output():
    g = generator(5)
    params = {"W": g.normal(size=(4, 5)) * 0.4, "b": g.normal(size=5) * 0.1}
    x, t = g.normal(size=(9, 4)), g.normal(size=(9, 5))
    beta, threshold = 3.0, 1.0

    def loss(p, x, t):
        z = x @ p["W"] + p["b"]
        h = jnp.where(beta * z > threshold, z, jnp.log(1 + jnp.exp(beta * z)) / beta)
        return jnp.sum(h * t)

    def gradient(of_output):
        def of(p, x, t):
            z = x @ p["W"] + p["b"]
            h = np.where(beta * z > threshold, z, np.log(1 + np.exp(beta * z)) / beta)
            linear = beta * (h if of_output else z) > threshold
            dz = t * np.where(linear, 1.0, np_sigmoid(beta * z))
            return {"W": x.T @ dz, "b": dz.sum(axis=0)}

        return of

    return loss, gradient(True), gradient(False), params, (x, t)
