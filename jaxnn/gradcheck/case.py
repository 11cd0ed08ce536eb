"""A loss, a gradient and a point: what can be asked of them, in which dtype."""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.errors import JaxnnError
from jaxnn.gradcheck import witness
from jaxnn.gradcheck.compare import (
    NOISE_FACTOR,
    Float64Array,
    amplification,
    as_real,
    entry_floor,
    epsilon,
)
from jaxnn.gradcheck.hypotheses import BATCH, near
from jaxnn.gradcheck.plain import without_stops
from jaxnn.gradcheck.precision import widened
from jaxnn.gradcheck.program import (
    UNTRACEABLE,
    Draws,
    OtherDrawsError,
    Program,
    prepare,
    trace,
    trace_wide,
    trace_with,
)
from jaxnn.gradcheck.reference import cast, float64_rules, floating
from jaxnn.gradcheck.tree import Tree, misfit

Leaves = dict[str, Float64Array]
Function = Callable[..., Any]

INTERMEDIATE = re.compile(r"d[ZA]\d+")


#: How many ε a handful of constants, each rounded once, may move a product by.
CONSTANTS = 4.0

#: How many ε of its coarsest dtype a loss may be off by, before it is looked at more closely …
ROUNDING = 1e3

#: … and then, how many times what it changes by where all numbers are moved by one ε.
CONDITION = 100.0

#: How many ε one program's value may differ by from run to run, where threads sum in another order.
REPEATED = 16.0

#: What NumPy may compute in on the way without showing it.
UNSEEN = (np.dtype(np.float32), np.dtype(np.float16))


#: By so many parameters a loss is differentiated in forward mode, where reverse mode fails.
FORWARD = 4_000


class Answer(NamedTuple):
    """What the gradient under test returned: its leaves, or what kept them from being compared."""

    leaves: dict[str, Any]
    intermediates: dict[str, Any]
    problem: str


class Case:
    """The loss's true derivatives and the gradient's answers, at one point.

    Raises JaxnnError where nothing can be compared: `loss` is no scalar or not finite, or `params`
    has no real leaf.
    """

    def __init__(
        self, loss: Function, gradient: Function, params: Any, args: tuple[Any, ...]
    ) -> None:
        params = jax.tree.map(_as_array, params)
        self.loss, self.gradient, self.args = loss, gradient, args
        self.params = params
        self.tree = Tree.of(params)
        if not any(np.size(value) for value in self.tree.real().values()):
            raise JaxnnError("expected parameters with at least one floating array, found none")
        self.notes: list[str] = []
        self.doubt = ""  #: why the loss cannot be judged by; empty where it can
        self.narrow = not jax.config.jax_enable_x64  # type: ignore[attr-defined]
        self.short_eps = epsilon(np.float32)  # of the coarsest dtype that the loss insists on
        self.gradient_dtypes: frozenset[Any] = frozenset()  # what it computes in, once traced
        self.dtype = max((v.dtype for v in self.tree.real().values()), key=epsilon)
        floats = [self.dtype, np.dtype(np.float32 if self.narrow else np.float64)]
        self.coarsest = max(
            floats, key=epsilon
        )  #: of the dtypes that the caller's loss computes in …
        self.coarsest_in_float64 = np.dtype(np.float64)  #: … and of those that are left in float64
        own, self.draws = self._in_own_width()
        with float64_rules():
            self.wide_args = cast(args, np.float64)
            self.wide = Tree.of(cast(params, np.float64))
            self.point = {p: np.asarray(v) for p, v in self.wide.real().items()}
            try:
                #: The loss as a function of the point in float64.
                self.loss_at = self._in_float64(self.wide_args)
                self._value_and_gradient = self._differentiated()
                value, self.raw_truth = self._value_and_gradient(self.point)
            except UNTRACEABLE:
                raise JaxnnError(
                    "expected a loss written with jax.numpy, found one that makes NumPy arrays or "
                    "Python numbers of its arguments: jax.grad cannot differentiate it"
                ) from None
        self.truth = {path: as_real(v) for path, v in self.raw_truth.items()}
        self._require_finite(float(value))
        self.kappa = amplification(self.truth, {}, 1.0)
        self.doubt = self.doubt or self._another_value(own, float(value))

    # -- The truth -----------------------------------------------------------------------------

    def _differentiated(self) -> Function:
        """The loss and its gradient; through a `while_loop`, which reverse mode cannot, forward."""
        try:
            return prepare(jax.value_and_grad(self.loss_at), self.point)
        except ValueError as error:
            if "Reverse-mode differentiation does not work" not in str(error):
                raise
        leaves, structure = jax.tree.flatten(self.point)
        ends = np.cumsum([leaf.size for leaf in leaves])
        if ends[-1] > FORWARD or any(map(np.iscomplexobj, leaves)):
            raise JaxnnError(
                f"expected a loss without lax.while_loop, or up to {FORWARD:,} real parameters, "
                f"found {ends[-1]:,}: reverse mode cannot go through such a loop. Write it with "
                "lax.scan, or with lax.fori_loop between bounds that are Python numbers"
            )
        basis = [
            part.reshape(-1, *leaf.shape)
            for part, leaf in zip(
                np.split(np.eye(ends[-1]), ends[:-1], axis=1), leaves, strict=True
            )
        ]

        def forward(values: Any) -> Any:
            def along(unit: Any) -> Any:
                tangent = jax.tree.unflatten(structure, unit)
                return jax.jvp(self.loss_at, (values,), (tangent,))

            value, slopes = jax.vmap(along)(basis)
            parts = jnp.split(slopes, ends[:-1])
            shaped = [p.reshape(leaf.shape) for p, leaf in zip(parts, leaves, strict=True)]
            return value[0], jax.tree.unflatten(structure, shaped)

        try:
            return prepare(forward, self.point)
        except TypeError as error:
            raise JaxnnError(
                "expected a loss without lax.while_loop, found one that also has a custom_vjp: "
                "neither reverse mode nor forward mode can go through both. Write the loop with "
                "lax.scan, or with lax.fori_loop between bounds that are Python numbers"
            ) from error

    @cached_property
    def without_stops(self) -> Leaves | None:
        """The gradient as if the loss had no `stop_gradient`; None where it would be the same."""
        with float64_rules():
            try:
                function = without_stops(self.loss_at, self.point)
                if function is None:
                    return None
                found = prepare(jax.grad(function), self.point)(self.point)
            except Exception:  # A while loop, a NumPy function: nothing is known.
                return None
        gradient = {path: as_real(value) for path, value in found.items()}
        floors = self.floors(np.float64)
        same = all(near(gradient[p], true, floors[p]) for p, true in self.truth.items())
        return None if same else gradient

    def _in_own_width(self) -> tuple[float, Draws | None]:
        """The loss in the caller's dtype and settings, and the random numbers that it drew."""

        def loss(args: tuple[Any, ...], values: Mapping[str, Any]) -> Any:
            return self.loss(self.tree.with_values(values), *args)

        try:
            with warnings.catch_warnings(action="ignore"):
                try:
                    program = _staged(trace_with, loss, self.args, self.tree.real())
                except UNTRACEABLE:
                    return float(loss(self.args, self.tree.real())), None
                self.coarsest = max(self.coarsest, *program.dtypes, key=epsilon)
                value, draws = program.recorded(self.tree.real())
                return float(value), draws
        except Exception:
            return float("nan"), None  # What it raises in float64 as well is passed on there.

    def _in_float64(self, args: tuple[Any, ...]) -> Function:
        """The loss as a function of the point in float64, with the caller's random numbers."""
        try:
            program = _staged(trace_wide, self._loss_at, args, self.point)
        except UNTRACEABLE:
            return partial(self._loss_at, args)
        self.coarsest_in_float64 = max(np.dtype(np.float64), *program.dtypes, key=epsilon)
        if not program.random:
            return self._meant(program)
        try:
            return self._meant(trace(program.replaying(self.draws or Draws((), ())), self.point))
        except OtherDrawsError:
            self.doubt = (
                f"the loss draws other random numbers in float64 than in {self.dtype}, in a loop, "
                "under a custom rule or by its parameters: draw them outside of it, and pass them"
            )
            return program

    def _meant(self, program: Program) -> Function:
        """The program without the casts to short dtypes that are left in it."""
        wide, short = widened(program, self.point)
        self.short_eps = max(map(epsilon, {np.dtype(np.float32), *short}))
        if wide is not program:
            self.coarsest_in_float64 = np.dtype(np.float64)
        return wide

    def _another_value(self, own: float, wide: float) -> str:
        """Why the caller's loss and the loss in float64 are not one function; empty if they are."""
        scale = max(abs(own), abs(wide))
        eps = epsilon(self.coarsest)
        if not np.isfinite(own):
            return ""
        again = self._in_own_width()[0]
        if abs(own - again) > REPEATED * eps * scale:
            return f"the loss gives another value each time it is called: {own:.9g}, {again:.9g}"
        if abs(own - wide) <= ROUNDING * eps * scale:
            return ""
        moved = 0.0
        with float64_rules():
            for seed in range(3):
                rng = np.random.default_rng(seed)
                args, point = _moved((self.wide_args, self.point), eps, rng)
                moved = max(moved, abs(float(self._in_float64(args)(point)) - wide))
        if abs(own - wide) <= ROUNDING * eps * scale + CONDITION * moved:
            return ""
        return (
            f"the loss is {own:.6g} in {self.dtype} and {wide:.6g} in float64, which is more than "
            "rounding explains: it is another function there"
        )

    def _loss_at(self, args: tuple[Any, ...], values: Mapping[str, Any]) -> Any:
        value = self.loss(self.wide.with_values(values), *args)
        if jnp.shape(value) != ():
            raise JaxnnError(
                f"expected a loss that is one number, found shape {jnp.shape(value)}: "
                "sum it or take its mean"
            )
        if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
            raise JaxnnError(
                f"expected a loss that is a real number, found {jnp.result_type(value)}: only "
                "that has a derivative"
            )
        return value

    def _require_finite(self, value: float) -> None:
        bad = [path for path, true in self.truth.items() if not np.isfinite(true).all()]
        if not np.isfinite(value) or bad:
            where = f"its derivative by {bad[0]}" if bad else "the loss"
            raise JaxnnError(
                f"expected a loss that is finite here, found {where} to be NaN or infinite in "
                "float64: choose another point, or write the loss so that it does not overflow"
            )

    def value(self, point: Mapping[str, Any]) -> float:
        """The loss in float64."""
        return float(self._value(point))

    @cached_property
    def _value(self) -> Function:
        return (
            self.loss_at if isinstance(self.loss_at, Program) else prepare(self.loss_at, self.point)
        )

    def slope(self, along: Leaves, t: float) -> float:
        """The central difference of the loss along a direction."""
        ahead, behind = (witness.moved(self.point, along, s) for s in (t, -t))
        return (self.value(ahead) - self.value(behind)) / (2 * t)

    def true_gradient(self, point: Mapping[str, Any]) -> Leaves:
        """Autodiff's gradient in float64."""
        return {p: as_real(v) for p, v in self._value_and_gradient(point)[1].items()}

    def floors(self, dtype: Any) -> dict[str, float]:
        """The noise floor of each leaf in a dtype."""
        eps = epsilon(dtype)
        return {path: NOISE_FACTOR * eps * kappa for path, kappa in self.kappa.items()}

    def data_floors(self) -> Leaves:
        """What numbers rounded to float32 once, before anything was computed, do to each entry."""
        return {path: floor / 8 for path, floor in self.entry_floors(np.float32).items()}

    def own_floors(self, dtype: Any) -> Leaves:
        """What data and constants that are rounded once do to each entry, at every point alike.

        Constants: CONSTANTS · ε of the entry itself. Data, where sums cancel: a share of its noise,
        if the loss or the gradient is seen to use a short dtype; in NumPy it is only a possibility.
        """
        unit = CONSTANTS * epsilon(dtype)
        own = {path: unit * np.abs(true) for path, true in self.truth.items()}
        if not self._seen(dtype):
            return own
        return {p: np.maximum(own[p], noise / 4) for p, noise in self.entry_floors(dtype).items()}

    def _seen(self, dtype: Any) -> bool:
        """Is a short dtype known to be used on the way, and no mere possibility, as in NumPy?"""
        return dtype in self.gradient_dtypes or self.short_eps > epsilon(np.float32)

    def entry_floors(self, dtype: Any) -> Leaves:
        """The noise floor of each entry by itself."""
        return {
            path: entry_floor(
                true,
                self.short.get(path, true) - true,
                self.short_eps,
                epsilon(dtype),
            )
            for path, true in self.truth.items()
        }

    def sizes(self) -> dict[str, int]:
        """The batch size m, if there is one: the first axis that most of the arrays share."""
        firsts = [np.shape(a)[0] for a in jax.tree.leaves(self.args) if np.ndim(a) > 0]
        common = Counter(size for size in firsts if size > 1).most_common(1)
        last = [np.shape(a)[1] for a in jax.tree.leaves(self.args) if np.ndim(a) == 2]
        sizes = {BATCH: common[0][0]} if common else {}
        return {**sizes, **({"C": last[-1], "n": last[0]} if last else {})}

    def example_gradients(self) -> Leaves | None:
        """Each example's part of the true gradient; None if the loss is no sum over examples."""
        m = self.sizes().get(BATCH)
        flat, structure = jax.tree.flatten(self.wide_args)
        if m is None:
            return None

        def of_example(index: Any) -> Any:
            one = [
                jnp.take(a, index[None], axis=0) if np.ndim(a) and np.shape(a)[0] == m else a
                for a in flat
            ]
            args = jax.tree.unflatten(structure, one)
            return jax.grad(lambda v: self.loss(self.wide.with_values(v), *args))(self.point)

        try:
            with float64_rules():
                parts = jax.jit(lambda: jax.lax.map(of_example, jnp.arange(m)))()
        except Exception:
            return None
        found = {path: as_real(value) for path, value in parts.items()}
        for k in (1.0, 1 / m):
            whole = {path: k * value.sum(axis=0) for path, value in found.items()}
            if all(near(whole[p], true, 1e-9 * self.kappa[p]) for p, true in self.truth.items()):
                return {path: k * value for path, value in found.items()}
        return None

    def measure_noise(self) -> None:
        """Let the noise floors know how much rounding is amplified on the way to each leaf."""
        self.kappa = amplification(self.truth, self.short, self.short_eps)

    @cached_property
    def short(self) -> Leaves:
        """Autodiff's gradient in float32; empty if the loss cannot be had in it."""
        tree, args = Tree.of(cast(self.params, np.float32)), cast(self.args, np.float32)
        try:
            with _float32_rules():
                loss = trace_with(
                    lambda args, values: self.loss(tree.with_values(values), *args),
                    args,
                    tree.real(),
                )
                same = loss.replaying(self.draws or Draws((), ())) if loss.random else loss
                found = trace(jax.grad(same), tree.real())(tree.real())
        except Exception:
            return {}  # The loss insists on float64; its own magnitudes then set the noise floor.
        return {path: as_real(value) for path, value in found.items()}

    # -- The gradient under test ---------------------------------------------------------------

    def _answer(self, result: Any) -> Answer:
        """Take a returned gradient apart, and compare its structure with that of the parameters."""
        extra: dict[str, Any] = {}
        if isinstance(result, dict) and isinstance(self.params, dict):
            names = [k for k in result if isinstance(k, str) and INTERMEDIATE.fullmatch(k)]
            extra = {name: result[name] for name in names if name not in self.params}
            result = copy(result)  # An OrderedDict stays one.
            for name in extra:
                del result[name]
        tree = Tree.of(result)
        found = dict(zip(tree.paths, tree.values, strict=True))
        allowed = (self.tree.structure, self.tree.without_integers())
        problem = "" if tree.structure in allowed else misfit(self.tree, tree)
        leaves = {p: _array(found[p]) for p in self.truth if p in found}
        return Answer(leaves, extra, problem)

    def run(self) -> Answer:
        """The gradient in the caller's dtype and under the caller's settings, on fresh copies."""
        return self._answer(self.gradient(*_copies((self.params, *self.args))))

    def run_wide(self, point: Mapping[str, Any] | None = None) -> tuple[Answer | None, set[Any]]:
        """The gradient in float64 and the dtypes that it computes in; None where it refuses."""
        try:
            program = self._wide_program
            if program is not None:
                with float64_rules():
                    answer = self._answer(program(dict(point or self.point)))
                used = set(program.dtypes)
            else:
                answer, used = self._numpy_in_float64(point or {}), set(UNSEEN)
        except Exception:
            return None, {self.dtype}
        returned = {v.dtype for v in answer.leaves.values() if floating(v)}
        self.gradient_dtypes |= returned  # Whatever NumPy hides, these are used.
        return answer, used | returned

    def _numpy_in_float64(self, point: Mapping[str, Any]) -> Answer:
        """NumPy is given float64. If it draws with JAX on the way, as the loss does, that has to
        happen under the caller's settings, or it draws other numbers.
        """
        fresh = _copies((self.wide.with_values(point), *self.wide_args))
        if self.draws is not None and self.draws.values:
            return self._answer(self.gradient(*fresh))
        with float64_rules():
            return self._answer(self.gradient(*fresh))

    @cached_property
    def _wide_program(self) -> Program | None:
        """The gradient's program in float64, with the random numbers that it drew in the caller's
        dtype; None where it cannot be traced."""
        with float64_rules():
            try:
                program = _staged(trace_wide, self._gradient_at, self.wide_args, self.point)
            except UNTRACEABLE:
                return None
        if not program.random:
            return program
        with float64_rules():
            return trace(program.replaying(self._traced[1]), self.point)

    def errors_are_rounding(self, dtype: Any, draws: int = 12) -> bool:
        """Do the errors above the floors change when the parameters are moved by a hair?

        A mistake repeats itself at the next point; rounding does not. For each entry, the square of
        the mean error over a few points is set against its mean square: 1 for a mistake, 1/draws
        for rounding.
        """
        errors: dict[str, list[Float64Array]] = {path: [] for path in self.truth}
        for seed in range(draws):
            aside = witness.moved(self.point, witness.direction(self.point, seed), 2.0**-8)
            answer, _ = self.run_wide(aside)
            with float64_rules():
                true = self.true_gradient(aside)
            for path in errors:
                if answer is None or path not in answer.leaves:
                    return False
                value = as_real(answer.leaves[path])
                if value.shape != true[path].shape:
                    return False
                errors[path].append(value - true[path])
        floors, seen = self.own_floors(dtype), self._seen(dtype)
        systematic = total = 0.0
        for path, found in errors.items():
            size = np.abs(np.mean(found, axis=0)) if seen else np.max(np.abs(found), axis=0)
            above = size > floors[path]
            systematic += float((np.mean(found, axis=0)[above] ** 2).sum())
            total += float((np.mean(np.square(found), axis=0)[above]).sum())
        if not np.isfinite(total):
            return False
        return systematic < total / 2 or (seen and total == 0)

    def _gradient_at(self, args: tuple[Any, ...], values: Mapping[str, Any]) -> Any:
        return self.gradient(self.wide.with_values(values), *_copies(args))

    @cached_property
    def _traced(self) -> tuple[Answer, Draws]:
        """What the gradient's program answers in the caller's dtype, and the numbers it drew."""
        real = self.tree.real()
        program = _staged(trace_with, self._plain, self.args, real)
        self.gradient_dtypes = program.dtypes
        result, draws = program.recorded(real)
        return self._answer(result), draws

    def under_jit(self) -> Answer | str:
        """The gradient's answer when it is traced; else why there is none."""
        try:
            return self._traced[0]
        except UNTRACEABLE:
            return "the gradient is not written in JAX: jit and vmap were not tried"
        except Exception as error:
            return f"the gradient does not run under jax.jit: {_one_line(error)}"

    def under_vmap(self) -> tuple[Answer, Answer] | str:
        """Its answers to two equal copies of the parameters under vmap; else why there are none."""
        twice = jax.tree.map(lambda v: jnp.stack([jnp.asarray(v)] * 2), self.tree.real())
        try:
            both = trace_with(
                lambda args, values: jax.vmap(partial(self._plain, args))(values), self.args, twice
            )(twice)
        except Exception as error:
            return f"the gradient does not run under jax.vmap: {_one_line(error)}"
        first, second = (jax.tree.map(lambda v, i=i: v[i], both) for i in (0, 1))
        return self._answer(first), self._answer(second)

    def _plain(self, args: tuple[Any, ...], values: Mapping[str, Any]) -> Any:
        return self.gradient(self.tree.with_values(values), *_copies(args))


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"


def _staged(tracing: Function, function: Function, args: Any, point: Any) -> Program:
    """The function traced, with data of NumPy as arrays of JAX where it takes them so.

    A cast of NumPy's (`x.astype(jnp.bfloat16)`) is done before anything is traced: the rounding of
    the data could not be told from the function.
    """
    as_jax = jax.tree.map(
        lambda v: jnp.asarray(v) if isinstance(v, np.ndarray) and floating(v) else v, args
    )
    try:
        program: Program = tracing(function, as_jax, point)
    except Exception:  # Whatever NumPy can do with them and JAX cannot.
        program = tracing(function, args, point)
    return program


def _as_array(value: Any) -> Any:
    """A Python float in a parameter tree is a parameter too."""
    return np.asarray(value) if isinstance(value, float | complex) else value


def _array(value: Any) -> Any:
    return value if hasattr(value, "dtype") else np.asarray(value)


def _moved(tree: Any, eps: float, rng: np.random.Generator) -> Any:
    """All floating numbers moved by about one ε of themselves."""
    return jax.tree.map(
        lambda v: v * (1 + eps * rng.standard_normal(np.shape(v))) if floating(v) else v, tree
    )


def _copies(tree: Any) -> Any:
    """NumPy arrays copied: a gradient that changes its arguments changes nobody else's."""
    return jax.tree.map(lambda v: v.copy() if isinstance(v, np.ndarray) else v, tree)


@contextmanager
def _float32_rules() -> Iterator[None]:
    with (
        warnings.catch_warnings(action="ignore"),
        jax.enable_x64(False),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.default_matmul_precision("highest"),
    ):
        yield
