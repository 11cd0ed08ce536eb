"""NumPy in float32 by hand: every array allocated once, every operation into an array there is."""

import numpy as np


def prepare(problem):
    X, Y = problem.X, problem.Y
    W1, b1, W2, b2 = (problem.params[name].copy() for name in ("W1", "b1", "W2", "b2"))
    params = {"W1": W1, "b1": b1, "W2": W2, "b2": b2}
    d = {name: np.empty_like(value) for name, value in params.items()}
    V = {name: np.zeros_like(value) for name, value in params.items()}
    m, n_h, n_y = problem.spec.batch_size, W1.shape[0], W2.shape[0]
    lr, beta = np.float32(problem.spec.lr), np.float32(problem.spec.beta)
    buffers = [np.empty((m, n), np.float32) for n in (X.shape[1], n_y, n_h, n_h, n_y)]

    def step(rows):
        x, y, A1, dZ1, A2 = (buffer[: len(rows)] for buffer in buffers)
        np.take(X, rows, axis=0, out=x, mode="clip")
        np.take(Y, rows, axis=0, out=y, mode="clip")

        np.matmul(x, W1.T, out=A1)
        A1 += b1
        np.negative(A1, out=A1)
        np.exp(A1, out=A1)
        A1 += 1
        np.reciprocal(A1, out=A1)
        np.matmul(A1, W2.T, out=A2)
        A2 += b2
        A2 -= A2.max(axis=1, keepdims=True)
        np.exp(A2, out=A2)
        A2 /= A2.sum(axis=1, keepdims=True)

        A2 -= y  # dZ2
        A2 *= np.float32(1 / len(rows))
        np.matmul(A2.T, A1, out=d["W2"])
        np.sum(A2, axis=0, out=d["b2"])
        np.matmul(A2, W2, out=dZ1)
        dZ1 *= A1
        np.subtract(1, A1, out=A1)
        dZ1 *= A1
        np.matmul(dZ1.T, x, out=d["W1"])
        np.sum(dZ1, axis=0, out=d["b1"])

        for name, value in params.items():
            V[name] *= beta
            d[name] *= 1 - beta
            V[name] += d[name]
            np.multiply(V[name], lr, out=d[name])
            value -= d[name]

    def train(epoch):
        for rows in problem.batches(epoch):
            step(rows)

    return train, lambda: params
