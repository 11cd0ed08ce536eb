"""The recipe `fast` of scripts/train.py for the peers: hyperparameters and schedule, no jax."""

import argparse
import math

RECIPE = {
    "n_h": (256,),
    "lr": 2.0,
    "beta": 0.9,
    "batch_size": 128,
    "epochs": 5,
    "rise": 0.3,
}


def one_cycle(progress):
    """The factor of the learning rate, for progress from 0 to 1: a rise, then a cosine to 0."""
    rise = RECIPE["rise"]
    if progress < rise:
        return progress / rise
    return (1 + math.cos(math.pi * (progress - rise) / (1 - rise))) / 2


def flags(description):
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--data", default="mnist")
    p.add_argument("--seed", type=int, default=0)
    return p.parse_args()
