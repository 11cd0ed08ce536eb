"""The recipe `fast` of scripts/train.py for the peers: hyperparameters and schedule, no jax."""

import argparse

RECIPE = {
    "n_h": (256,),
    "lr": 2.5,
    "beta": 0.9,
    "batch_size": 100,
    "epochs": 4,
    "label_smoothing": 0.1,
    "rise": 0.2,
    "beginning": 0.1,
}


def one_cycle(progress):
    """The factor of the learning rate, for progress from 0 to 1: straight up, and down to 0."""
    rise, beginning = RECIPE["rise"], RECIPE["beginning"]
    return min(beginning + (1 - beginning) * progress / rise, (1 - progress) / (1 - rise))


def flags(description):
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--data", default="mnist")
    p.add_argument("--seed", type=int, default=0)
    return p.parse_args()
