"""The campaign: every planted fault and every correct variant, before every gradient checker.

    python scripts/campaigns/compare_checkers.py [--seeds N] [--quick] [--json]

The faults are those of tests/faults, each at several random points: gradients of a loss in the
first table, backward passes of functions of any kind in the second. jaxnn also has to name the
cause and the first wrong equation; the other tools answer yes or no. A tool that is not installed
is left out and its row says so: `pip install -e '.[bench]'` installs them all.

A checker may also give no verdict: it says that it cannot judge, or it breaks down. That is counted
by itself, neither as a detection nor as a false alarm.
"""

import contextlib
import functools
import importlib
import importlib.util
import io
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.commands import cli

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

SEEDS, QUICK_SEEDS = 20, 2

#: Beyond so many parameters, scipy and PyTorch look along one random direction, as they offer to.
LARGE = 2000

#: scipy.optimize.check_grad returns a distance and leaves the verdict to its caller.
SCIPY_TOLERANCE = 100 * float(np.sqrt(np.finfo(float).eps))


class Verdict(NamedTuple):
    """What a checker says: accused, or not, or None for no verdict. `remark` tells more."""

    accused: bool | None
    cause: str | None = None
    first_wrong: str | None = None
    remark: str = ""


Checker = Callable[[Any, int], Verdict]
compiled = functools.lru_cache(maxsize=256)(jax.jit)


def told(report: Any) -> Verdict:
    """What jaxnn's report says; nothing where it says that it cannot judge."""
    accused = None if report.not_judged else not report.ok
    return Verdict(accused, report.cause, report.first_wrong, report.verdict)


def jaxnn_checker(problem: Any, seed: int) -> Verdict:
    """jaxnn.check_gradients with its defaults."""
    from jaxnn import check_gradients

    report = check_gradients(problem.loss, problem.gradient, problem.params, *problem.args)
    return told(report)


def accused_by_error(check: Callable[[], Any]) -> Verdict:
    """The tools raise to accuse; that the gradient does not even fit in counts as well."""
    try:
        check()
    except Exception as error:
        return Verdict(True, remark=f"{type(error).__name__}: {str(error)[:200]}")
    return Verdict(False)


def with_hand_gradient(problem: Any) -> tuple[Callable[[Any], Any], Any]:
    """The loss as a `jax.custom_vjp` function whose backward pass is the hand-written gradient."""
    params = jax.tree.map(jnp.asarray, problem.params)

    @jax.custom_vjp
    def loss(params: Any) -> Any:
        return compiled(problem.loss)(params, *problem.args)

    def backward(params: Any, g: Any) -> tuple[Any]:
        by_hand = problem.gradient(jax.tree.map(np.array, params), *problem.args)
        return (jax.tree.map(lambda p, d: g * jnp.asarray(d, p.dtype), params, by_hand),)

    loss.defvjp(lambda params: (loss(params), params), backward)
    return loss, params


@contextlib.contextmanager
def in_its_own_dtype(problem: Any) -> Iterator[None]:
    """64-bit numbers exist where the problem has some."""
    wide = any(np.asarray(leaf).dtype == np.float64 for leaf in jax.tree.leaves(problem.params))
    with jax.enable_x64(wide):
        yield


def jax_checker(problem: Any, seed: int) -> Verdict:
    """jax.test_util.check_grads(loss, (params,), order=1, modes=["rev"]), tolerances by default."""
    test_util: Any = importlib.import_module("jax.test_util")

    with in_its_own_dtype(problem):
        loss, params = with_hand_gradient(problem)
        return accused_by_error(
            lambda: test_util.check_grads(loss, (params,), order=1, modes=["rev"])
        )


def chex_checker(problem: Any, seed: int) -> Verdict:
    """chex.assert_numerical_grads(loss, leaves, order=1, modes=["rev"]), atol 0.01 by default.

    It takes a sequence of arrays, and multiplies its tolerance by the first one's size.
    """
    chex: Any = importlib.import_module("chex")

    with in_its_own_dtype(problem):
        loss, params = with_hand_gradient(problem)
        leaves, structure = jax.tree.flatten(params)
        return accused_by_error(
            lambda: chex.assert_numerical_grads(
                lambda *leaves: loss(jax.tree.unflatten(structure, leaves)),
                leaves,
                order=1,
                modes=["rev"],
            )
        )


class Flat(NamedTuple):
    """The problem in float64 over one vector, for tools that know nothing of pytrees."""

    loss: Callable[[Any], float]
    gradient: Callable[[Any], Any]
    start: Any


def in_float64(leaf: Any) -> Any:
    """Numbers in float64; a key for random numbers stays what it is."""
    floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    return np.array(leaf, np.float64) if floating else leaf


def flat(problem: Any) -> Flat:
    wide = functools.partial(jax.tree.map, in_float64)
    params, args = wide(problem.params), wide(problem.args)
    leaves, structure = jax.tree.flatten(params)
    ends = np.cumsum([leaf.size for leaf in leaves])

    def tree(vector: Any) -> Any:
        parts = np.split(np.array(vector), ends[:-1])
        shaped = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
        return jax.tree.unflatten(structure, shaped)

    def gradient(vector: Any) -> Any:
        by_hand = jax.tree.leaves(
            jax.tree.map(lambda p, d: np.ravel(d), params, problem.gradient(tree(vector), *args))
        )
        return np.concatenate(by_hand).astype(np.float64)

    loss = compiled(problem.loss)
    start = np.concatenate([leaf.ravel() for leaf in leaves])
    return Flat(lambda vector: float(loss(tree(vector), *args)), gradient, start)


def scipy_checker(problem: Any, seed: int) -> Verdict:
    """scipy.optimize.check_grad in float64; accused beyond a distance of 100·√ε·max(1, ‖g‖)."""
    optimize: Any = importlib.import_module("scipy.optimize")

    def check() -> None:
        one = flat(problem)
        direction = "random" if one.start.size > LARGE else "all"
        rng = {"rng": np.random.default_rng(seed)} if direction == "random" else {}
        error = optimize.check_grad(one.loss, one.gradient, one.start, direction=direction, **rng)
        size = float(np.linalg.norm(one.gradient(one.start)))
        if not error <= SCIPY_TOLERANCE * (max(1.0, size) if np.isfinite(size) else 1.0):
            raise AssertionError(f"check_grad returned {error:.1e}")

    with jax.enable_x64(True):
        return accused_by_error(check)


def torch_checker(problem: Any, seed: int) -> Verdict:
    """torch.autograd.gradcheck in float64, tolerances by default; fast_mode for large problems."""
    torch: Any = importlib.import_module("torch")

    def check() -> None:
        one = flat(problem)

        class Loss(torch.autograd.Function):  # type: ignore[misc]
            @staticmethod
            def forward(ctx: Any, vector: Any) -> Any:
                ctx.save_for_backward(vector)
                return torch.tensor(one.loss(vector.detach().numpy()), dtype=torch.float64)

            @staticmethod
            def backward(ctx: Any, g: Any) -> Any:
                (vector,) = ctx.saved_tensors
                return g * torch.from_numpy(one.gradient(vector.detach().numpy().copy()))

        vector = torch.tensor(one.start, dtype=torch.float64, requires_grad=True)
        torch.manual_seed(seed)
        torch.autograd.gradcheck(Loss.apply, (vector,), fast_mode=one.start.size > LARGE)

    with jax.enable_x64(True):
        return accused_by_error(check)


class Function(NamedTuple):
    """A function with a backward pass of its own, the same without one, and its arguments."""

    function: Callable[..., Any]
    reference: Callable[..., Any]
    args: tuple[Any, ...]


class Case(NamedTuple):
    """A backward pass, wrong with a code, or right without one; `build(seed)` as tests/faults."""

    name: str
    code: str
    first_wrong: str
    build: Callable[[int], Function]


def jaxnn_vjp_checker(one: Function, seed: int) -> Verdict:
    """jaxnn.check_vjp, with the function's reference."""
    from jaxnn import check_vjp

    report = check_vjp(one.function, *one.args, reference=one.reference, seed=seed)
    return told(report)


def jax_vjp_checker(one: Function, seed: int) -> Verdict:
    """jax.test_util.check_grads(function, args, order=1, modes=["rev"])."""
    test_util: Any = importlib.import_module("jax.test_util")
    return accused_by_error(
        lambda: test_util.check_grads(one.function, one.args, order=1, modes=["rev"])
    )


def chex_vjp_checker(one: Function, seed: int) -> Verdict:
    """chex.assert_numerical_grads(function, args, order=1, modes=["rev"])."""
    chex: Any = importlib.import_module("chex")
    return accused_by_error(
        lambda: chex.assert_numerical_grads(one.function, one.args, order=1, modes=["rev"])
    )


def torch_vjp_checker(one: Function, seed: int) -> Verdict:
    """torch.autograd.gradcheck in float64; fast_mode for large problems."""
    torch: Any = importlib.import_module("torch")

    def check() -> None:
        args = [np.array(a, np.float64) for a in one.args]

        class Hand(torch.autograd.Function):  # type: ignore[misc]
            @staticmethod
            def forward(ctx: Any, *tensors: Any) -> Any:
                ctx.save_for_backward(*tensors)
                arrays = [t.detach().numpy() for t in tensors]
                return torch.from_numpy(np.array(one.function(*arrays)))

            @staticmethod
            def backward(ctx: Any, g: Any) -> Any:
                arrays = [jnp.asarray(t.detach().numpy()) for t in ctx.saved_tensors]
                by_hand = jax.vjp(one.function, *arrays)[1](jnp.asarray(g.numpy()))
                return tuple(torch.from_numpy(np.array(d)) for d in by_hand)

        tensors = tuple(torch.tensor(a, requires_grad=True) for a in args)
        torch.manual_seed(seed)
        fast = sum(a.size for a in args) > LARGE
        torch.autograd.gradcheck(Hand.apply, tensors, fast_mode=fast)

    with jax.enable_x64(True):
        return accused_by_error(check)


CHECKERS: dict[str, tuple[str, Checker]] = {
    "jaxnn.check_gradients": ("jaxnn", jaxnn_checker),
    "jax.test_util.check_grads": ("jax", jax_checker),
    "chex.assert_numerical_grads": ("chex", chex_checker),
    "scipy.optimize.check_grad": ("scipy", scipy_checker),
    "torch.autograd.gradcheck": ("torch", torch_checker),
}

#: scipy.optimize.check_grad takes functions of one vector to one number, and cannot run.
VJP_CHECKERS: dict[str, tuple[str, Checker | None]] = {
    "jaxnn.check_vjp": ("jaxnn", jaxnn_vjp_checker),
    "jax.test_util.check_grads": ("jax", jax_vjp_checker),
    "chex.assert_numerical_grads": ("chex", chex_vjp_checker),
    "scipy.optimize.check_grad": ("scipy", None),
    "torch.autograd.gradcheck": ("torch", torch_vjp_checker),
}

KINDS: dict[str, Mapping[str, tuple[str, Checker | None]]] = {
    "gradients": CHECKERS,
    "backward passes": VJP_CHECKERS,
}


@dataclass
class Score:
    """A checker's sums over all cases and seeds, and the cases where it was not perfect."""

    faults: int = 0
    detected: int = 0
    cause: int = 0
    first_asked: int = 0
    first: int = 0
    correct: int = 0
    false_alarms: int = 0
    silent: int = 0  #: no verdict, on a fault or on a correct variant
    seconds: float = 0.0
    misses: dict[str, list[str]] = field(default_factory=dict)

    def miss(self, name: str, what: str) -> None:
        self.misses.setdefault(name, []).append(what)


def ask(checker: Checker, problem: Any, seed: int, score: Score) -> Verdict:
    """One verdict, with nothing printed on the way, and the processor's time that it took."""
    began = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            verdict = checker(problem, seed)
        except Exception as error:
            verdict = Verdict(None, remark=f"broke down: {type(error).__name__}: {error}")
    score.seconds += time.process_time() - began
    return verdict


def judge_fault(fault: Any, seed: int, verdict: Verdict, score: Score) -> None:
    """No verdict is no detection."""
    judge: Any = importlib.import_module("faults.judge")
    score.faults += 1
    score.silent += verdict.accused is None
    score.detected += verdict.accused is True
    score.cause += judge.cause_is(fault.code, verdict.cause)
    found = f"{verdict.cause} in {verdict.first_wrong} {verdict.remark}"
    if not verdict.accused:
        score.miss(fault.name, f"seed {seed}: not detected {verdict.remark}")
    elif not judge.cause_is(fault.code, verdict.cause):
        score.miss(fault.name, f"seed {seed}: cause {fault.code}, found {found}")
    if fault.first_wrong:
        score.first_asked += 1
        score.first += judge.first_is(fault.first_wrong, verdict.first_wrong)
        if not judge.first_is(fault.first_wrong, verdict.first_wrong):
            score.miss(fault.name, f"seed {seed}: first {fault.first_wrong}, found {found}")


def judge_variant(variant: Any, seed: int, verdict: Verdict, score: Score) -> None:
    """No verdict is no false alarm."""
    score.correct += 1
    score.silent += verdict.accused is None
    score.false_alarms += verdict.accused is True
    if verdict.accused is not False:
        said = "accused" if verdict.accused else "no verdict"
        score.miss(variant.name, f"seed {seed}: {said}: {verdict.cause} {verdict.remark}")


def cases(kind: str = "gradients") -> list[Any]:
    if kind == "backward passes":
        vjp: Any = importlib.import_module("faults.vjp")
        return [
            Case(c.name, c.code, "", functools.partial(_function, c))
            for c in (*vjp.VJP_FAULTS, *vjp.VJP_CORRECT)
        ]
    faults: Any = importlib.import_module("faults.library").FAULTS
    variants: Any = importlib.import_module("faults.correct").CORRECT
    return [*faults, *variants]


def _function(case: Any, seed: int) -> Function:
    return Function(case.function, case.reference, case.arguments(seed))


def examine(kind: str, place: int, seeds: int, checkers: tuple[str, ...]) -> dict[str, Score]:
    """One case, at every seed, before every checker.

    A gradient may change its arguments or keep a state: it is built anew for each checker.
    """
    case = cases(kind)[place]
    judge = judge_fault if getattr(case, "code", "") else judge_variant
    scores = {name: Score() for name in checkers}
    for seed in range(seeds):
        for name, score in scores.items():
            checker = KINDS[kind][name][1]
            assert checker is not None
            judge(case, seed, ask(checker, case.build(seed), seed, score), score)
    return scores


def campaign(kind: str, seeds: int, only: str, checker: str, jobs: int) -> dict[str, Score | str]:
    """Every case of a kind before every checker, or the reason why a checker did not run."""
    sums: dict[str, Score | str] = {}
    for name, (module, check) in KINDS[kind].items():
        if checker in name:
            installed = importlib.util.find_spec(module)
            sums[name] = "cannot run" if not check else Score() if installed else "not installed"
    able = tuple(name for name, score in sums.items() if isinstance(score, Score))
    places = [place for place, case in enumerate(cases(kind)) if only in case.name]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        rest = (repeat(seeds), repeat(able))
        for scores in pool.map(examine, repeat(kind), places, *rest, chunksize=4):
            for name, score in scores.items():
                add(sums[name], score)
    return sums


def add(total: Score | str, score: Score) -> None:
    for name, value in vars(score).items():
        if isinstance(value, dict):
            getattr(total, name).update(value)
        else:
            setattr(total, name, getattr(total, name) + value)


def share(part: int, whole: int) -> str:
    return f"{part}/{whole} ({100 * part / whole:.1f} %)" if whole else "–"


def rows_of(scores: Mapping[str, Score | str]) -> Iterator[list[str]]:
    yield ["checker", "detected", "cause named", "first wrong", "false alarms", "no verdict"]
    for name, score in scores.items():
        if isinstance(score, str):
            remedy = "pip install -e '.[bench]'" if score == "not installed" else ""
            yield [name, score, remedy, "", "", ""]
            continue
        diagnoses = score.cause or score.first
        yield [
            name,
            share(score.detected, score.faults),
            share(score.cause, score.faults) if diagnoses else "names none",
            share(score.first, score.first_asked) if diagnoses else "names none",
            share(score.false_alarms, score.correct),
            share(score.silent, score.faults + score.correct),
        ]


def print_table(kind: str, scores: Mapping[str, Score | str]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    head, *rows = rows_of(scores)
    table = Table(*head, title=kind, title_justify="left", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, row))
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def parser() -> cli.Parser:
    p = cli.Parser("Planted faults before several gradient checkers.")
    positive = cli.integer(1, 10_000)
    p.add_argument("--seeds", type=positive, default=SEEDS, help="random points of each case")
    p.add_argument("--quick", action="store_true", help=f"{QUICK_SEEDS} seeds")
    p.add_argument("--only", default="", help="cases whose name contains this")
    p.add_argument("--checker", default="", help="checkers whose name contains this")
    p.add_argument("--jobs", type=positive, default=os.cpu_count() or 1, help="processes")
    p.add_argument("--json", action="store_true", help="the table and every miss, as JSON")
    return p


def main() -> int:
    flags = parser().parse_args()
    seeds = QUICK_SEEDS if flags.quick else flags.seeds
    found = {}
    for kind in KINDS:
        scores = campaign(kind, seeds, flags.only, flags.checker, flags.jobs)
        found[kind] = {n: s if isinstance(s, str) else vars(s) for n, s in scores.items()}
        if not flags.json:
            print_table(kind, scores)
    if not flags.json:
        print("no verdict: it cannot judge or it breaks down; no detection and no false alarm")
    if flags.json:
        print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
