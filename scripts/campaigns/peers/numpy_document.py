"""The document's algorithm in NumPy, as the document has it: examples as columns, and float64.

Its images are float32 and its weights and targets float64, so that NumPy computes in float64. The
faults that lose examples are left out: every example is used once in every epoch. Whole, it is
`python numpy_document.py`.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[3]))

FLAGS = argparse.ArgumentParser(description=__doc__)
FLAGS.add_argument("--data", default="mnist")
FLAGS.add_argument("--epochs", type=int, default=50)
FLAGS.add_argument("--seed", type=int, default=0)
LR, BETA, N_H, BATCH = 0.5, 0.9, 64, 64


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def feed_forward(X, params):
    Z1 = params["W1"] @ X + params["b1"]
    A1 = sigmoid(Z1)
    Z2 = params["W2"] @ A1 + params["b2"]
    E = np.exp(Z2 - Z2.max(axis=0))
    return {"Z1": Z1, "A1": A1, "Z2": Z2, "A2": E / E.sum(axis=0)}


def back_propagate(X, Y, params, cache, m_batch):
    dZ2 = cache["A2"] - Y
    dW2 = dZ2 @ cache["A1"].T / m_batch
    db2 = dZ2.sum(axis=1, keepdims=True) / m_batch
    dA1 = params["W2"].T @ dZ2
    dZ1 = dA1 * sigmoid(cache["Z1"]) * (1 - sigmoid(cache["Z1"]))
    dW1 = dZ1 @ X.T / m_batch
    db1 = dZ1.sum(axis=1, keepdims=True) / m_batch
    return {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}


def loss(Y, A2):
    return -np.sum(Y * np.log(np.maximum(A2, 1e-300))) / Y.shape[1]


def step(x, y, params, V, lr, beta):
    grads = back_propagate(x, y, params, feed_forward(x, params), x.shape[1])
    for name, grad in grads.items():
        V[name] = beta * V[name] + (1 - beta) * grad
        params[name] = params[name] - lr * V[name]


def train_epoch(X, Y, order, params, V, lr, beta, batch_size):
    X_shuffled, Y_shuffled = X[:, order], Y[:, order]
    for begin in range(0, X.shape[1], batch_size):
        end = begin + batch_size
        step(X_shuffled[:, begin:end], Y_shuffled[:, begin:end], params, V, lr, beta)


def prepare(problem):
    X, Y = problem.X.T, np.eye(problem.n_classes)[problem.labels].T
    shaped = {"W": lambda W: W, "b": lambda b: b[:, None]}
    params = {name: shaped[name[0]](p.astype(float)) for name, p in problem.params.items()}
    V = {name: np.zeros_like(value) for name, value in params.items()}
    spec = problem.spec

    def train(epoch):
        order = problem.orders[epoch - 1]
        train_epoch(X, Y, order, params, V, spec.lr, spec.beta, spec.batch_size)

    return train, lambda: {n: p if n[0] == "W" else p[:, 0] for n, p in params.items()}


def main():
    from sklearn.metrics import classification_report

    from jaxnn import data  # the same bytes as every contender

    args = FLAGS.parse_args()
    dataset = data.load(args.data)
    scale = np.float32(dataset.scale)
    X, X_test = (x.astype(np.float32).T * scale for x in (dataset.x_train, dataset.x_test))
    Y, Y_test = (np.eye(10)[y].T for y in (dataset.y_train, dataset.y_test))
    rng = np.random.default_rng(args.seed)
    params = {
        "W1": rng.standard_normal((N_H, X.shape[0])) * np.sqrt(1 / X.shape[0]),
        "b1": np.zeros((N_H, 1)),
        "W2": rng.standard_normal((10, N_H)) * np.sqrt(1 / N_H),
        "b2": np.zeros((10, 1)),
    }
    V = {name: np.zeros_like(value) for name, value in params.items()}
    m = X.shape[1]
    for epoch in range(1, args.epochs + 1):
        train_epoch(X, Y, rng.permutation(m), params, V, LR, BETA, BATCH)
        train_loss = loss(Y, feed_forward(X, params)["A2"])
        test_loss = loss(Y_test, feed_forward(X_test, params)["A2"])
        print(
            f"epoch {epoch}: training loss {train_loss:.4f}, test loss {test_loss:.4f}", flush=True
        )
    predicted = feed_forward(X_test, params)["A2"].argmax(axis=0)
    print(classification_report(y_true=dataset.y_test, y_pred=predicted, digits=4))


if __name__ == "__main__":
    main()
