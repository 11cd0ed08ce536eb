"""Right gradients that were reported as wrong, or look so."""

import jax
import jax.numpy as jnp
import numpy as np

from ..case import gathers, generator, np_sigmoid, with_rule

CASES = []
case = gathers(CASES)
NOTHING = {"place": "", "tags": ("right",)}


def sigmoid(z):
    return 1 / (1 + jnp.exp(-z))


@case(
    kind="loss",
    cause="nothing: half the squared distance has a - b, with the cached difference",
    source="BVLC/caffe #2312",
    **NOTHING,
)
def contrastive_loss_with_the_cached_difference():
    g = generator(51)
    params = {"a": g.normal(size=(6, 3)), "b": g.normal(size=(6, 3))}
    same = np.array([1.0, 0.0, 1.0, 0.0, 1.0, 0.0])

    def loss(p, same):
        squared = jnp.sum((p["a"] - p["b"]) ** 2, axis=1)
        apart = jnp.maximum(0, 4.0 - squared)
        return jnp.sum(same * squared + (1 - same) * apart) / (2 * len(same))

    def cached(p, same):
        difference = p["a"] - p["b"]
        push = ((difference**2).sum(axis=1) < 4.0) * (1 - same)
        d = (same - push)[:, None] * difference / len(same)
        return {"a": d, "b": -d}

    def plain(p, same):
        grads = jax.grad(loss)(jax.tree.map(jnp.asarray, p), same)
        return jax.tree.map(np.asarray, grads)

    return loss, cached, plain, params, (same,)


@case(
    kind="embedding",
    cause="nothing: the derivative by one vector is made of the other one",
    source="stanfordnlp/GloVe #19, #51",
    **NOTHING,
)
def glove_with_crossed_vectors():
    g = generator(52)
    params = {"W": g.normal(size=(5, 3)), "V": g.normal(size=(5, 3)), "b": g.normal(size=(5, 2))}
    counts = g.integers(1, 60, (5, 5)).astype(float)

    def loss(p, counts):
        weight = jnp.minimum(1.0, (counts / 40) ** 0.75)
        fit = p["W"] @ p["V"].T + p["b"][:, :1] + p["b"][:, 1] - jnp.log(counts)
        return 0.5 * jnp.sum(weight * fit**2)

    def crossed(p, counts):
        weight = np.minimum(1.0, (counts / 40) ** 0.75)
        fdiff = weight * (p["W"] @ p["V"].T + p["b"][:, :1] + p["b"][:, 1] - np.log(counts))
        dW, dV = np.zeros_like(p["W"]), np.zeros_like(p["V"])
        for i in range(5):
            for j in range(5):
                temp_1, temp_2 = fdiff[i, j] * p["V"][j], fdiff[i, j] * p["W"][i]
                dW[i] += temp_1
                dV[j] += temp_2
        return {"W": dW, "V": dV, "b": np.stack([fdiff.sum(1), fdiff.sum(0)], axis=1)}

    return loss, crossed, crossed, params, (counts,)


@case(
    kind="network",
    cause="nothing: x * (1 - x) is the sigmoid's slope where x is its output",
    source="PacktPublishing/Neural-Network-Projects-with-Python #4",
    **NOTHING,
)
def sigmoid_derivative_of_its_output():
    g = generator(53)
    params = {"weights1": g.normal(size=(3, 4)), "weights2": g.normal(size=(4, 1))}
    x, y = g.normal(size=(6, 3)), g.uniform(size=(6, 1))

    def loss(p, x, y):
        layer1 = sigmoid(x @ p["weights1"])
        output = sigmoid(layer1 @ p["weights2"])
        return jnp.sum((y - output) ** 2)

    def sigmoid_derivative(x):
        return x * (1.0 - x)

    def gradient(p, x, y):
        layer1 = np_sigmoid(x @ p["weights1"])
        output = np_sigmoid(layer1 @ p["weights2"])
        delta = -2 * (y - output) * sigmoid_derivative(output)
        return {
            "weights1": x.T @ (delta @ p["weights2"].T * sigmoid_derivative(layer1)),
            "weights2": layer1.T @ delta,
        }

    return loss, gradient, gradient, params, (x, y)


@case(
    kind="matrix",
    cause="nothing: the parameter is the logarithm, so 2 * sigma_0 is multiplied by sigma_0",
    source="scikit-learn/scikit-learn #18702, #14206, #31366",
    **NOTHING,
)
def kernel_by_its_logarithm():
    g = generator(54)
    params = {"log_sigma_0": np.array(0.3)}
    X, y = g.normal(size=(6, 2)), g.normal(size=6)

    def loss(p, X, y):
        sigma_0 = jnp.exp(p["log_sigma_0"])
        K = X @ X.T + sigma_0**2 + 0.5 * jnp.eye(6)
        return 0.5 * y @ jnp.linalg.solve(K, y) + 0.5 * jnp.linalg.slogdet(K)[1]

    def gradient(p, X, y):
        sigma_0 = np.exp(p["log_sigma_0"])
        inverse = np.linalg.inv(X @ X.T + sigma_0**2 + 0.5 * np.eye(6))
        alpha = inverse @ y
        K_gradient = np.full((6, 6), 2 * sigma_0**2)
        half = 0.5 * np.sum((inverse - np.outer(alpha, alpha)) * K_gradient)
        return {"log_sigma_0": np.array(half)}

    return loss, gradient, gradient, params, (X, y)


@case(
    kind="signal",
    cause="nothing: irfft doubles the inner bins, so they are halved first",
    source="locuslab/pytorch_fft #38",
    **NOTHING,
)
def real_transform_with_halved_bins():
    g = generator(55)
    params = {"x": g.normal(size=8)}
    re, im = g.normal(size=5), g.normal(size=5)

    def loss(p, re, im):
        spectrum = jnp.fft.rfft(p["x"])
        return jnp.sum(jnp.sin(spectrum.real) * re + jnp.cos(spectrum.imag) * im)

    def gradient(p, re, im):
        spectrum = np.fft.rfft(p["x"])
        d = np.cos(spectrum.real) * re - 1j * np.sin(spectrum.imag) * im
        d[1:-1] /= 2
        return {"x": np.fft.irfft(d, 8) * 8}

    return loss, gradient, gradient, params, (re, im)


@case(
    kind="activation",
    vjp=True,
    cause="nothing: swish's derivative is y + sigmoid(x) * (1 - y), with the output y",
    source="pytorch/pytorch #110815",
    **NOTHING,
)
def swish_by_its_output():
    x = jnp.asarray(generator(56).normal(size=(4, 5)) * 2)

    def swish(x):
        return x * sigmoid(x)

    def by_output(x, y, cotangent):
        return (cotangent * (y + sigmoid(x) * (1 - y)),)

    def by_input(x, y, cotangent):
        s = sigmoid(x)
        return (cotangent * (s + x * s * (1 - s)),)

    return with_rule(swish, by_output), with_rule(swish, by_input), (x,), swish


@case(
    kind="attention",
    cause="nothing: one chosen expert, renormalised, weighs exactly 1, so the router's gradient is "
    "0",
    source="davidmrau/mixture-of-experts #27, jingyaogong/minimind #858",
    **NOTHING,
)
def router_of_one_expert_gets_no_gradient():
    g = generator(57)
    params = {"router": g.normal(size=(4, 3)), "experts": g.normal(size=(3, 4, 2))}
    x, t = g.normal(size=(5, 4)), g.normal(size=(5, 2))

    def loss(p, x, t):
        scores = jax.nn.softmax(x @ p["router"])
        chosen = jnp.argmax(scores, axis=1)
        top = jnp.take_along_axis(scores, chosen[:, None], axis=1)
        weight = top / jnp.sum(top, axis=1, keepdims=True)
        out = jnp.einsum("ni,nio->no", x, p["experts"][chosen]) * weight
        return jnp.sum((out - t) ** 2)

    def gradient(p, x, t):
        chosen = np.argmax(x @ p["router"], axis=1)
        d_out = 2 * (np.einsum("ni,nio->no", x, p["experts"][chosen]) - t)
        d_experts = np.zeros_like(p["experts"])
        np.add.at(d_experts, chosen, np.einsum("ni,no->nio", x, d_out))
        return {"router": np.zeros_like(p["router"]), "experts": d_experts}

    return loss, gradient, gradient, params, (x, t)


@case(
    kind="convolution",
    cause="nothing: scattering each window back is the convolution with the turned kernel",
    source="ddbourgin/numpy-ml #27, pytorch/pytorch #61100",
    **NOTHING,
)
def convolution_backward_without_turning_the_kernel():
    g = generator(58)
    params = {"K1": g.normal(size=(3, 3)), "K2": g.normal(size=(2, 2))}
    x, t = g.normal(size=(7, 7)), g.normal(size=(4, 4))

    def correlate(x, K, zeros):
        n, k = len(x) - len(K) + 1, len(K)
        out = zeros((n, n))
        for i in range(k):
            for j in range(k):
                out = out + x[i : i + n, j : j + n] * K[i, j]
        return out

    def loss(p, x, t):
        a = jnp.tanh(correlate(jnp.asarray(x), p["K1"], jnp.zeros))
        return jnp.sum(correlate(a, p["K2"], jnp.zeros) * t)

    def gradient(p, x, t):
        a = np.tanh(correlate(x, p["K1"], np.zeros))
        da = np.zeros_like(a)
        for i in range(4):
            for j in range(4):
                da[i : i + 2, j : j + 2] += p["K2"] * t[i, j]
        dz = da * (1 - a**2)
        return {
            "K1": correlate(x, dz, np.zeros),
            "K2": correlate(a, t, np.zeros),
        }

    return loss, gradient, gradient, params, (x, t)


@case(
    kind="normalisation",
    cause="nothing: the sum of normalised numbers is 0 whatever the weights are, so their gradient "
    "is 0 up to rounding",
    source="HomericIntelligence/Odyssey #2724, #3871",
    **NOTHING,
)
def sum_of_a_normalised_batch():
    g = generator(59)
    params = {"W": g.normal(size=(4, 3)), "beta": g.normal(size=3)}
    x = g.normal(size=(8, 4))

    def loss(p, x):
        z = x @ p["W"]
        xhat = (z - z.mean(axis=0)) / jnp.sqrt(z.var(axis=0) + 1e-5)
        return jnp.sum(xhat + p["beta"])

    def gradient(p, x):
        z = x @ p["W"]
        m, ivar = len(z), 1 / np.sqrt(z.var(axis=0) + 1e-5)
        xhat, dy = (z - z.mean(axis=0)) * ivar, np.ones_like(z)
        dz = ivar / m * (m * dy - dy.sum(axis=0) - xhat * (dy * xhat).sum(axis=0))
        return {"W": x.T @ dz, "beta": dy.sum(axis=0)}

    return loss, gradient, gradient, params, (x,)


@case(
    kind="matrix",
    cause="nothing: a symmetric matrix's factor has a symmetric derivative, (S + S.T) / 2",
    source="pytorch/pytorch #18825, #137284",
    **NOTHING,
)
def cholesky_derivative_made_symmetric():
    g = generator(60)
    A = g.normal(size=(4, 4))
    params = {"A": A @ A.T + 4 * np.eye(4)}
    t = g.normal(size=(4, 4))

    def loss(p, t):
        L = jnp.linalg.cholesky(p["A"])
        return jnp.sum(jnp.sin(L) * t)

    def gradient(p, t):
        L = np.linalg.cholesky(p["A"])
        inverse = np.linalg.inv(L)
        inner = np.tril(L.T @ np.tril(np.cos(L) * t))
        inner -= 0.5 * np.diag(np.diag(inner))
        S = inverse.T @ inner @ inverse
        return {"A": (S + S.T) / 2}

    return loss, gradient, gradient, params, (t,)
