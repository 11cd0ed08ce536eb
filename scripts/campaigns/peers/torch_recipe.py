"""The recipe `fast` in PyTorch: a ReLU network, fused SGD with momentum, a one-cycle rate."""

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[3]))

from fast_recipe import RECIPE, flags, one_cycle
from jaxnn import data  # the same bytes as every contender


def network(n_x, n_h, n_y):
    layers = []
    for n_in, n_out in zip((n_x, *n_h), (*n_h, n_y), strict=True):
        linear = nn.Linear(n_in, n_out)
        nn.init.normal_(linear.weight, std=(2 / n_in) ** 0.5)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def main():
    args = flags(__doc__)
    torch.manual_seed(args.seed)
    dataset = data.load(args.data)
    X, X_test = (
        torch.from_numpy(x).float() * dataset.scale for x in (dataset.x_train, dataset.x_test)
    )
    y, y_test = (torch.from_numpy(y).long() for y in (dataset.y_train, dataset.y_test))
    model = network(dataset.n_x, RECIPE["n_h"], dataset.n_classes)
    lr, beta = RECIPE["lr"] * (1 - RECIPE["beta"]), RECIPE["beta"]
    optimiser = torch.optim.SGD(model.parameters(), lr=lr, momentum=beta, fused=True)
    steps = -(-len(X) // RECIPE["batch_size"]) * RECIPE["epochs"]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: one_cycle(step / steps))
    for epoch in range(1, RECIPE["epochs"] + 1):
        for rows in torch.randperm(len(X)).split(RECIPE["batch_size"]):
            optimiser.zero_grad()
            nn.functional.cross_entropy(
                model(X[rows]), y[rows], label_smoothing=RECIPE["label_smoothing"]
            ).backward()
            optimiser.step()
            schedule.step()
        with torch.inference_mode():
            correct = (model(X_test).argmax(dim=1) == y_test).float().mean()
        print(f"epoch {epoch}: test accuracy {correct:.2%}", flush=True)


if __name__ == "__main__":
    main()
