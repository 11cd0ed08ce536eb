"""Many at once: networks of several seeds and learning rates in one program, or one by one.

`python -m benchmarks.many` trains them in this process: {"together", "spec", "seeds", "rates"}.
"""

import json
import statistics
import sys
from itertools import product
from typing import Any

from benchmarks import problem, processes
from benchmarks.epoch import TOLERANCE
from benchmarks.problem import Spec
from benchmarks.setup import Result, Setup
from benchmarks.tables import spread, table

TITLE = "Many at once: seconds per epoch and network, seeds × learning rates"

SEEDS, RATES = 8, (0.1, 0.3, 0.5, 1.0)


def measure(setup: Setup) -> Result:
    """All networks in one program and one by one, in turn."""
    spec = Spec(str(setup.folder / "many.npz"), setup.data, epochs=2)
    seeds, rates = (2, RATES[:2]) if setup.quick else (SEEDS, RATES)
    request = {"spec": spec._asdict(), "seeds": seeds, "rates": rates}
    found: Result = {"together": [], "in turn": []}
    losses = {}
    for turn in range(setup.repeats):
        for name, seconds in found.items():
            setup.notify(f"many: {name}, {turn + 1} of {setup.repeats}")
            answered = processes.ask("benchmarks.many", {**request, "together": name == "together"})
            seconds += [s / (seeds * len(rates)) for s in answered["seconds"]]
            losses[name] = answered["losses"]
    apart = max(abs(a - b) / b for a, b in zip(losses["together"], losses["in turn"], strict=True))
    return {
        "networks": seeds * len(rates),
        "seconds": found,
        "agreement": {"tolerance": TOLERANCE, "largest": apart, "agree": apart <= TOLERANCE},
    }


def report(result: Result) -> str:
    """A line for each way."""
    alone = statistics.median(result["seconds"]["in turn"])
    rows = [
        [name, *spread(seconds, 4), f"{statistics.median(seconds) / alone:.2f}"]
        for name, seconds in result["seconds"].items()
    ]
    agreed = result["agreement"]
    return (
        f"{result['networks']} networks\n"
        + table(["", "s per network", "min", "max", "to in turn"], rows)
        + f"\nlosses {'agree' if agreed['agree'] else 'DISAGREE'}: largest relative difference "
        f"{agreed['largest']:.1e}, allowed {agreed['tolerance']:.0e}"
    )


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each epoch after the first, and every network's loss at the end."""
    from benchmarks import networks

    spec = Spec(**request["spec"])
    grid = list(product(range(request["seeds"]), request["rates"]))
    prepare = networks.together if request["together"] else networks.in_turn
    train, parameters = prepare(spec, grid)
    _, *seconds = [train(epoch) for epoch in range(1, spec.epochs + 1)]
    images, labels, scale, _ = problem.examples(spec)
    losses = [problem.loss(images, labels, scale, params) for params in parameters()]
    return {"seconds": seconds, "losses": losses}


if __name__ == "__main__":
    print(json.dumps(answer(json.load(sys.stdin))))
