"""scikit-learn's MLPClassifier, an epoch by each `partial_fit`.

Without Nesterov's rule its velocity is the document's −lr·V at the learning rate lr (1 − β).
"""

from sklearn.neural_network import MLPClassifier


def prepare(problem):
    X, y = problem.X, problem.labels
    model = MLPClassifier(
        hidden_layer_sizes=tuple(problem.spec.n_h),
        activation="logistic",
        solver="sgd",
        alpha=0.0,
        batch_size=problem.spec.batch_size,
        learning_rate_init=problem.spec.lr * (1 - problem.spec.beta),
        momentum=problem.spec.beta,
        nesterovs_momentum=False,
        shuffle=False,  # every contender is given the same order
    )
    first = problem.batches(1)[0]
    model.partial_fit(X[first], y[first], classes=range(problem.n_classes))
    for number, (W, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True), start=1):
        W[...] = problem.params[f"W{number}"].T
        b[...] = problem.params[f"b{number}"]
    for velocity in model._optimizer.velocities:  # the call that made the weights left a step there
        velocity[...] = 0

    def train(epoch):
        order = problem.orders[epoch - 1]
        model.partial_fit(X[order], y[order])

    def parameters():
        params = {f"W{n}": W.T for n, W in enumerate(model.coefs_, start=1)}
        return params | {f"b{n}": b for n, b in enumerate(model.intercepts_, start=1)}

    return train, parameters
