"""PyTorch as its users write it: a module, autograd, an optimiser.

Whole, with the fused optimiser, it is `python torch_autograd.py`.
The document's momentum is that of `torch.optim.SGD` at the learning rate lr (1 − β).
"""

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[3]))

FLAGS = argparse.ArgumentParser(description=__doc__)
FLAGS.add_argument("--data", default="mnist")
FLAGS.add_argument("--epochs", type=int, default=50)
FLAGS.add_argument("--seed", type=int, default=0)
LR, BETA, N_H, BATCH = 0.5, 0.9, 64, 64


def network(sizes):
    layers = []
    for n_in, n_out in pairwise(sizes):
        linear = nn.Linear(n_in, n_out)
        nn.init.normal_(linear.weight, std=n_in**-0.5)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.Sigmoid()]
    return nn.Sequential(*layers[:-1])


def stepper(model, lr, beta, *, fused, compiled):
    """A function that makes one step on a batch."""
    optimiser = torch.optim.SGD(
        model.parameters(), lr=lr * (1 - beta), momentum=beta, dampening=0, fused=fused
    )
    cross_entropy = nn.CrossEntropyLoss()

    def loss_of(x, y):
        return cross_entropy(model(x), y)

    if compiled:
        loss_of = torch.compile(loss_of, dynamic=False)

    def step(x, y):
        optimiser.zero_grad()
        loss_of(x, y).backward()
        optimiser.step()

    return step


def prepare(problem, *, fused=False, compiled=False):
    X, y = torch.from_numpy(problem.X), torch.from_numpy(problem.labels).long()
    n_h = problem.spec.n_h
    model = network([X.shape[1], *n_h, problem.n_classes])
    linears = [layer for layer in model if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for number, linear in enumerate(linears, start=1):
            linear.weight.copy_(torch.from_numpy(problem.params[f"W{number}"]))
            linear.bias.copy_(torch.from_numpy(problem.params[f"b{number}"]))
    step = stepper(model, problem.spec.lr, problem.spec.beta, fused=fused, compiled=compiled)

    def train(epoch):
        order = torch.from_numpy(problem.orders[epoch - 1]).long()
        for rows in order.split(problem.spec.batch_size):
            step(X[rows], y[rows])

    def parameters():
        params = {}
        for number, linear in enumerate(linears, start=1):
            params[f"W{number}"] = linear.weight.detach().numpy()
            params[f"b{number}"] = linear.bias.detach().numpy()
        return params

    return train, parameters


def main():
    from sklearn.metrics import classification_report

    from jaxnn import data  # the same bytes as every contender

    args = FLAGS.parse_args()
    torch.manual_seed(args.seed)
    dataset = data.load(args.data)
    X, X_test = (
        torch.from_numpy(x).float() * dataset.scale for x in (dataset.x_train, dataset.x_test)
    )
    y, y_test = (torch.from_numpy(y).long() for y in (dataset.y_train, dataset.y_test))
    model = network([dataset.n_x, N_H, dataset.n_classes])
    step = stepper(model, LR, BETA, fused=True, compiled=False)
    for epoch in range(1, args.epochs + 1):
        for rows in torch.randperm(len(X)).split(BATCH):
            step(X[rows], y[rows])
        with torch.inference_mode():
            train_loss = nn.functional.cross_entropy(model(X), y)
            test_loss = nn.functional.cross_entropy(model(X_test), y_test)
        print(
            f"epoch {epoch}: training loss {train_loss:.4f}, test loss {test_loss:.4f}", flush=True
        )
    with torch.inference_mode():
        predicted = model(X_test).argmax(dim=1)
    print(classification_report(y_true=y_test, y_pred=predicted, digits=4))


if __name__ == "__main__":
    main()
