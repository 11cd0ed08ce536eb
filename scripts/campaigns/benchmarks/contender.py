"""One contender in this process: train problems, time every epoch, and say where that ended.

`python -m benchmarks.contender` reads {"peer", "options", "specs"} from standard input. A peer is a
module of `peers` with `prepare(problem, …)`, which returns two functions: `train(e)` trains epoch
e = 1, 2, … to its end, `parameters()` returns {"W1": (n_1, n_x), …} as they are.
"""

import json
import sys
import time
from importlib import import_module
from typing import Any

from benchmarks import problem


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """For every problem: seconds of the first epoch, of each later one, and the loss at the end.

    The first epoch may compile. The loss is computed in float64, for all contenders alike.
    """
    prepare = import_module(f"peers.{request['peer']}").prepare
    results = []
    for spec in request["specs"]:
        task = problem.read(problem.Spec(**spec))
        train, parameters = prepare(task, **dict.fromkeys(request["options"], True))
        first, *seconds = [_timed(train, epoch) for epoch in range(1, task.spec.epochs + 1)]
        loss = problem.loss(task.images, task.labels, task.scale, parameters())
        results.append({"first": first, "seconds": seconds, "loss": loss})
    return {"results": results}


def _timed(train: Any, epoch: int) -> float:
    begun = time.perf_counter()
    train(epoch)
    return time.perf_counter() - begun


if __name__ == "__main__":
    print(json.dumps(answer(json.load(sys.stdin))))
