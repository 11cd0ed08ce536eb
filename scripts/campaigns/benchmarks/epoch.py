"""Seconds per epoch of training steps: the document's network and values, the same work for all."""

import statistics

from benchmarks import contenders, processes
from benchmarks.contenders import CONTENDERS, JAXNN
from benchmarks.problem import Spec, operations, written
from benchmarks.setup import Result, Setup
from benchmarks.tables import spread, table
from jaxnn.errors import UsageError

TITLE = "Epoch: seconds per epoch of training steps, in the same order from the same weights"

#: How far, relatively, a contender's loss may lie from the median of all after the same steps. An
#: operation in float32 rounds by 6e-8 at most, at random: on MNIST, 3,752 steps brought float32 no
#: further than 2e-7 from float64. A last batch that is left out of each epoch moves the loss by
#: 4e-3, a learning rate that is off by 1 % by 6e-3.
TOLERANCE = 1e-5


def measure(setup: Setup) -> Result:
    """Every contender in turn, as often as asked, and the limit that the machine's products set.

    These take their turn too: the fastest of all turns is the machine's rate.
    """
    spec = Spec(str(setup.folder / "epoch.npz"), setup.data, epochs=2 if setup.quick else 4)
    ((sizes, n),) = written([spec])
    found: dict[str, Result] = {}
    rates = []
    for turn in range(setup.repeats):
        rates.append(processes.ask("benchmarks.machine", {"quick": setup.quick}))
        for name, contender in setup.chosen(CONTENDERS).items():
            if "skipped" not in found.get(name, {}):
                setup.notify(f"epoch: {name}, {turn + 1} of {setup.repeats}")
                _add(found, name, contenders.run(name, contender, [spec]))
    work, rate = operations(sizes, n), max(rates)
    return {
        "sizes": sizes,
        "examples": n,
        "batch_size": spec.batch_size,
        "epochs": spec.epochs,
        "limit": {"operations": work, "operations_per_second": rate, "seconds": work / rate},
        "contenders": found,
        "agreement": agreement({k: v["loss"] for k, v in found.items() if "loss" in v}),
    }


def _add(found: dict[str, Result], name: str, results: list[Result] | Result) -> None:
    """A turn's seconds beside those of the turns before; every turn ends with the same loss."""
    if isinstance(results, dict):
        found[name] = results
        return
    (result,) = results
    before = found.get(name, {"seconds": [], "first": []})
    found[name] = {
        "seconds": before["seconds"] + result["seconds"],
        "first": [*before["first"], result["first"]],
        "loss": result["loss"],
    }


def agreement(losses: dict[str, float]) -> Result:
    """Whether all losses are within `TOLERANCE` of their median, and the largest difference.

    Raises UsageError where there is none.
    """
    if not losses:
        raise UsageError("--contenders: none of them can run here; expected an installed one")
    middle = statistics.median(losses.values())
    apart = [abs(loss - middle) / middle for loss in losses.values()]
    agree = all(difference <= TOLERANCE for difference in apart)  # not so where a loss is no number
    return {"tolerance": TOLERANCE, "largest": max(apart), "agree": agree}


def report(result: Result) -> str:
    """A line per contender: seconds, their ratio to jaxnn's and to the limit, and the loss."""
    limit = result["limit"]
    found = result["contenders"]
    ran = {name: entry for name, entry in found.items() if "loss" in entry}
    base = statistics.median(ran.get(JAXNN, next(iter(ran.values())))["seconds"])
    rows = [
        _row(name, entry, base, limit["seconds"])
        if name in ran
        else [name, f"skipped: {entry['skipped']}"]
        for name, entry in found.items()
    ]
    agreed = result["agreement"]
    header = ["contender", "median s", "min", "max", "to jaxnn", "to limit", "loss at end"]
    return "\n".join(
        [
            f"{'-'.join(map(str, result['sizes']))}, batch {result['batch_size']}, "
            f"{result['examples']:,} examples; limit {limit['seconds']:.4f} s: "
            f"{limit['operations'] / 1e9:.2f} GFLOP at the measured "
            f"{limit['operations_per_second'] / 1e9:.0f} GFLOP/s of large float32 products",
            table(header, rows),
            f"losses after {result['epochs']} epochs "
            f"{'agree' if agreed['agree'] else 'DISAGREE'}: largest relative difference "
            f"{agreed['largest']:.1e}, allowed {agreed['tolerance']:.0e}",
        ]
    )


def _row(name: str, entry: Result, base: float, limit: float) -> list[str]:
    median = statistics.median(entry["seconds"])
    ratios = f"{median / base:.2f}", f"{median / limit:.2f}"
    return [name, *spread(entry["seconds"], 4), *ratios, f"{entry['loss']:.6f}"]
