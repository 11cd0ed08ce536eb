"""`check_homework`: somebody's file of NumPy, examined by the doctor as it is."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnn.homework.forms import plain
from jaxnn.homework.process import HomeworkError, Process, RaisedError, StoppedError
from jaxnn.homework.reading import Network, found_in, near
from jaxnn.homework.trial import Answer, Reading, Setting, read

if TYPE_CHECKING:
    from jaxnn.gradcheck.report import Finding, GradientReport

__all__ = ["HomeworkError", "Setting", "check_homework"]

#: A name of the file that is short enough to stand in an equation.
SHORT = 4

#: What an equation has for something else.
OTHERS = ("X", "Y", "x", "y", "m")


def check_homework(path: str | Path, setting: Setting | None = None) -> "GradientReport":
    """Examine the backward pass of a file of NumPy, and its forward pass and loss if it has them.

    The file is a program or a notebook. It runs in a process of its own, at most `setting.timeout`
    seconds: imports, definitions and constants; what trains, plots or reads files is left out. Its
    backward pass is found by the names in `forms`, and what it is a derivative of by trying; the
    report's notes say how it was read. Raises HomeworkError where there is nothing to examine.
    """
    setting, path = setting or Setting(), Path(path).resolve()
    if not path.is_file():
        raise HomeworkError(f"expected a Python file or a notebook, found none at {path}")
    try:
        return _examined(path, setting)
    except StoppedError as error:
        found = _told_as_finding(path, str(error))
        if found is None:
            raise
        return found
    except RaisedError as error:
        return _with_digits(path, setting) or _squared(path, setting, error)


def _told_as_finding(path: Path, message: str) -> "GradientReport | None":
    """What a file returned that holds no gradient is its mistake; what it lacks is none."""
    from jaxnn.gradcheck.explanations import sentence
    from jaxnn.gradcheck.report import Finding, GradientReport

    code, _, detail = message.removeprefix(f"{path.name}: ").partition(": ")
    if code not in ("structure", "dtype"):
        return None
    finding = Finding(code, "", sentence(code, "What it returned", detail=detail))
    return GradientReport(False, (), (finding,), title=path.name)


def _with_digits(path: Path, setting: Setting) -> "GradientReport | None":
    """The report at the sizes of MNIST, for a program that has them written into it."""
    if setting.sizes() != Setting().sizes():
        return None
    for sizes in (replace(setting, n_classes=10), replace(setting, n_classes=10, n_x=784)):
        with suppress(HomeworkError):
            return _examined(path, sizes)
    return None


def _squared(path: Path, setting: Setting, error: RaisedError) -> "GradientReport":
    """The diagnosis with all sizes equal, for a file that raises when they differ."""
    from jaxnn.gradcheck.explanations import sentence
    from jaxnn.gradcheck.report import Finding

    if setting == setting.square():
        raise error
    try:
        report = _examined(path, setting.square())
    except HomeworkError:
        raise error from None
    message = str(error)
    note = f"{message}; with all sizes equal it runs, which is how the cause was found"
    findings = report.findings or (
        Finding("shape", "", sentence("shape", "An array", detail=message)),
    )
    return replace(report, ok=False, findings=findings, notes=(note, *report.notes))


def _examined(path: Path, setting: Setting) -> "GradientReport":
    with Process(path, setting.timeout) as process:
        process.send({"function": setting.function, "sizes": setting.sizes()})
        # Importing jax takes as long as the file takes to be read.
        from jaxnn.gradcheck import check  # noqa: F401

        about, _ = process.answer()
        reading = read(process, about, setting)
        from jaxnn.homework.words import in_its_names, without_what_is_there

        examination = Examination(path.name, about, reading)
        report = examination.report()
        report = without_what_is_there(report, about["text"])
        report = in_its_names(report, examination.names)
        notes = [*examination.told(), *report.notes]
        if printed := process.printed():
            notes.append(f"the file printed {printed!r}")
        scope = report.scope or (reading.assumed and f"for {reading.assumed}")
        return replace(report, title=path.name, notes=tuple(notes), scope=scope)


class Examination:
    """A file that was read, before the doctor: its parameters are called W1, b1, W2 … there."""

    def __init__(self, name: str, about: Mapping[str, Any], reading: Reading) -> None:
        self.name, self.about, self.reading = name, about, reading
        self.trial, self.network = reading.trial, reading.network
        layers = self.trial.layout.layers
        self.own = {f"W{i}": W for i, (W, _) in enumerate(layers, 1)}
        self.own |= {f"b{i}": b for i, (_, b) in enumerate(layers, 1) if b}
        self.cache = self.network.forward(self.trial.leaves, self.trial.X)
        self.L = len(layers)
        self.gives_cache = False

    @property
    def columns(self) -> bool:
        return self.trial.layout.columns

    @property
    def names(self) -> dict[str, str]:
        """The file's short names for W1, b1, Z1, A1 …, where they are others than these."""
        found = {k: v.removeprefix("self.") for k, v in self.own.items()}
        forward = self.answer.forward
        for name, value in self.cache.items():
            own = found_in(value, forward)
            if own is not None:
                found[name] = own
        return {
            k: v
            for k, v in found.items()
            if v != k
            and v.isidentifier()
            and len(v) <= SHORT
            and v not in ("X", "Y", "x", "y", "m")
        }

    @property
    def answer(self) -> Answer:
        assert self.trial.answer is not None
        return self.trial.answer

    def told(self) -> list[str]:
        """How the file was read."""
        trial, about = self.trial, self.about
        others = [f"{k} is {v}" for k, v in self.own.items() if v != k]
        lines = [
            f"read as {about['form']}; {trial.layout.told()}, "
            f"{'-'.join(map(str, trial.sizes))}; targets are {trial.targets}"
            + ("; one example at a time" if trial.m == 1 else ""),
            f"held to {self.network.told()}: {self._program()}",
            f"the gradient is {self.answer.how}" + (f"; {', '.join(others)}" if others else ""),
            *self.reading.notes,
        ]
        if left := about["left_out"]:
            first = ", ".join(f"{place}: {words}" for place, words in left[:2])
            more = f" and {len(left) - 2} more" if len(left) > 2 else ""
            lines.append(f"left out, as no import, definition or constant: {first}{more}")
        return [*lines, *(f"left out: {failed}" for failed in about["failed"])]

    def _program(self) -> str:
        """The loss on one line, without taking the parameters apart."""
        from jaxnn.homework.program import written

        lines = [line.strip() for line in written(self.network).splitlines()[1:]]
        lines = [line for line in lines if "params[" not in line]
        return "; ".join([*lines[:-1], lines[-1].replace("return", "loss =").replace("jnp", "np")])

    # -- The verdict -------------------------------------------------------------------------------

    def report(self) -> "GradientReport":
        """The verdict on the forward pass, then on the gradient."""
        from jaxnn.gradcheck.report import Finding, GradientReport

        ahead = self._forward_finding()
        self.gives_cache = ahead is not None or not self.about["has_forward"]
        if ahead is not None:
            self.trial.answer = self._ask(self.trial.leaves, self.trial.X, self.trial.Y)
        if self.answer.problem:
            from jaxnn.gradcheck.explanations import sentence

            code, _, detail = self.answer.problem.partition(": ")
            finding = Finding(code, "", sentence(code, "What it returned", detail=detail))
            return GradientReport(False, (), (finding,))
        report = self._of_the_gradient()
        other = None if report.ok else self.reading.instead()
        if other is not None and (instead := self._of_another_loss(other)) is not None:
            report = replace(report, findings=(instead,))
        if ahead is None:
            return report
        right = "the gradient is right where it is given the right cache"
        notes = (*report.notes, right) if report.ok else report.notes
        return replace(report, ok=False, findings=(ahead, *report.findings), notes=notes)

    def _of_another_loss(self, other: Network) -> "Finding | None":
        """The finding where the gradient is right, but for another loss than it is held to.

        A mean that is missing has its own place among the equations.
        """
        from jaxnn.gradcheck.explanations import sentence
        from jaxnn.gradcheck.report import Finding

        m, C = self.trial.m, self.trial.sizes[-1]
        ratio = other.k(m, C) / self.network.k(m, C)
        ratio *= {"squared": 2.0}.get(other.loss, 1.0) / {"squared": 2.0}.get(
            self.network.loss, 1.0
        )
        same = "squared" in other.loss and "squared" in self.network.loss
        detail = f"it is the gradient of another loss, {other.told()}"
        equation = f"dZ{self.L}"
        if not (same or other.loss == self.network.loss):
            told = sentence("unknown", equation, detail=detail)
            return Finding("unknown", equation, told, None, (equation,), ordered=True)
        if np.isclose(ratio, [m, 1 / m]).any():
            return None
        told = sentence("scale", equation, f"{ratio:.6g}", detail)
        places = tuple(f"d{name}" for name in self.own)
        return Finding("scale", equation, told, ratio, places, ordered=True)

    def _ask(self, leaves: Mapping[str, Any], X: Any, Y: Any) -> Answer:
        """The file's answer; to the right cache, where its own is wrong or it has none."""
        cache = self.trial.right_cache(self.network, leaves, X) if self.gives_cache else None
        return self.trial.ask(leaves, X, Y, cache)

    def _of_the_gradient(self) -> "GradientReport":
        from jaxnn.gradcheck.check import check_gradients
        from jaxnn.homework.program import compiled, written

        loss = compiled(written(self.network), self.name)
        trial = self.trial
        X, Y = (v.T.copy() if self.columns else v for v in (trial.X, trial.Y))
        params = {k: np.asarray(trial.leaves[own]) for k, own in self.own.items()}
        truth = self._truth(params, X, Y) if self._is_odd() else {}
        findings, replaced = self._misshapen(truth)
        findings = self._are_parameters(params, truth) or findings

        def gradient(params: Any, X: Any, Y: Any) -> dict[str, Any]:
            leaves = {own: np.asarray(params[k]) for k, own in self.own.items()}
            rows = (np.asarray(v).T if self.columns else np.asarray(v) for v in (X, Y))
            answer = self._ask(leaves, *rows)
            given = {k: answer.gradient.get(own, replaced.get(k)) for k, own in self.own.items()}
            return {**given, **replaced, **self._intermediates(answer, truth)}

        report = check_gradients(loss, gradient, params, X, Y)
        report = _without_jit_note(report)
        leaves = [replace(leaf, path=f"d{leaf.path}") for leaf in report.leaves]
        for i, leaf in enumerate(leaves):
            if leaf.path[1:] in replaced:
                leaves[i] = _incomparable(leaf, self.answer.gradient.get(self.own[leaf.path[1:]]))
        order = sorted(leaves, key=lambda leaf: (-int(leaf.path[2:]), leaf.path[1:]))
        report = replace(report, leaves=tuple(order))
        if findings:
            alone = [f for f in report.findings if f.code != "structure"]
            report = replace(report, ok=False, findings=(*findings, *alone))
        return self._with_intermediates(report, truth) if report.ok else report

    def _is_odd(self) -> bool:
        """Is there anything that is to be compared before the doctor sees it?"""
        return self.trial.fitting < len(self.own) or bool(self._returned(self.answer)) or (
            self.network.agreeing(
                self.trial.leaves, self.trial.X, self.trial.Y, self.answer.gradient
            ) == 0
        )  # fmt: skip

    def _truth(self, params: Mapping[str, Any], X: Any, Y: Any) -> dict[str, Any]:
        """The derivative by every parameter, and by every Z and A between."""
        import jax

        from jaxnn.gradcheck.reference import float64_rules
        from jaxnn.homework.program import compiled, written

        zeros = {
            name: np.zeros(value.T.shape if self.columns else value.shape)
            for name, value in self.cache.items()
        }
        loss = compiled(written(self.network, offsets=True), f"{self.name} with offsets")
        with float64_rules():
            found = jax.jit(jax.grad(loss))({**params, **zeros}, X, Y)
            return {name: np.asarray(value) for name, value in found.items()}

    def _misshapen(self, truth: Mapping[str, Any]) -> tuple[list["Finding"], dict[str, Any]]:
        """Leaves that are missing or have the wrong shape; the rest is then looked at by itself."""
        from jaxnn.gradcheck.explanations import sentence
        from jaxnn.gradcheck.report import Finding
        from jaxnn.homework.words import misshapen

        findings: list[Finding] = []
        given, leaves = self.answer.gradient, self.trial.leaves
        missing = [k for k, own in self.own.items() if own not in given]
        if missing:
            detail = f"d{', d'.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
            findings.append(Finding("structure", "", sentence("structure", "", detail=detail)))
        replaced = {k: truth[k] for k in missing}
        wrong = []
        for k, own in self.own.items():
            shape: tuple[int, ...] = np.shape(given.get(own, np.zeros(0)))
            wanted = leaves[own].shape
            if k[0] == "b" and k not in missing and shape != wanted and self.trial.m not in (
                shape[-1:] + shape[:1] if len(shape) == 2 and min(shape) > 1 else ()
            ):  # fmt: skip
                wrong.append(misshapen(k, shape, wanted, self.trial.layout))
                replaced[k] = truth[k]
        if wrong:
            last = wrong[-1]
            also = ", ".join(f.equation for f in wrong[:-1])
            told = last.sentence.removesuffix(".") + (f"; also seen in {also}." if also else ".")
            places = tuple(f.equation for f in reversed(wrong))
            findings.append(replace(last, sentence=told, places=places))
        return findings, replaced

    def _are_parameters(
        self, params: Mapping[str, Any], truth: Mapping[str, Any]
    ) -> "list[Finding]":
        """Are what came back the parameters themselves, or stepped, in place of gradients?"""
        from jaxnn.gradcheck.explanations import sentence
        from jaxnn.gradcheck.report import Finding

        if not truth or self.trial.fitting < len(self.own):
            return []
        given = {k: self.answer.gradient[own] for k, own in self.own.items()}
        steps = {k: params[k] - np.asarray(v, np.float64) for k, v in given.items()}
        if all(not step.any() for step in steps.values()):
            detail = "what comes back are the parameters themselves"
        else:
            rates = [
                float((step * truth[k]).sum() / (truth[k] ** 2).sum()) for k, step in steps.items()
            ]
            like = all(
                np.allclose(step, rates[0] * truth[k], rtol=1e-6, atol=1e-9 * abs(rates[0]))
                for k, step in steps.items()
            )
            if not like:
                return []
            detail = f"what comes back are the parameters after a step of {rates[0]:.6g}"
        detail += f"; return the gradients: {', '.join('d' + k for k in params)}"
        return [Finding("structure", "", sentence("structure", "", detail=detail))]

    # -- What came with the gradient ---------------------------------------------------------------

    def _returned(self, answer: Answer) -> dict[str, Any]:
        """dZ2, dA1, dZ1 under these names, where they have the shape of Z and A."""
        found = {}
        by_name = {plain(name): name for name in self.cache}
        own = (
            {plain(v): k for k, v in self.names.items() if k in self.cache} if answer.extra else {}
        )
        for name, value in answer.extra.items():
            bare = plain(name)
            equation = {**by_name, **own}.get(bare[1:]) if bare.startswith("d") else None
            if equation and equation != f"A{self.L}":
                right = self.cache[equation]
                if np.shape(value) in (right.shape, right.T.shape):
                    found[equation] = np.asarray(value, np.float64)
        return found

    def _k(self) -> float:
        return self.network.k(self.trial.m, self.trial.sizes[-1])

    def _turned(self, value: Any, true: Any) -> Any:
        return value.T if value.shape != true.shape else value

    def _intermediates(self, answer: Answer, truth: Mapping[str, Any]) -> dict[str, Any]:
        """As the doctor wants them: without the mean's 1/m, which the file may have there."""
        found = {}
        for name, value in self._returned(answer).items():
            turned = self._turned(value, truth[name])
            found[f"d{name}"] = turned / self._k() if near(turned, truth[name]) else turned
        return found

    def _with_intermediates(
        self, report: "GradientReport", truth: Mapping[str, Any]
    ) -> "GradientReport":
        """What was returned beside a right gradient has to be right as well."""
        from jaxnn.gradcheck.compare import LeafReport, compare_leaf
        from jaxnn.gradcheck.explanations import sentence
        from jaxnn.gradcheck.report import Finding

        leaves: list[LeafReport] = []
        findings: list[Finding] = []
        returned = self._returned(self.answer)
        for name in [n for n in (f"{k}{i}" for i in range(self.L, 0, -1) for k in "ZA")
                     if n in returned]:  # fmt: skip
            true = truth[name]
            given = self._turned(returned[name], true)
            true = true if near(given, true) or self._k() == 1 else true / self._k()
            floor = 1e-6 * float(np.abs(true).max(initial=0.0))
            leaf = compare_leaf(f"d{name}", given, true, floor)
            leaves.append(leaf)
            if not leaf.ok and not findings:
                code = "sign" if near(given, -true) else "unknown"
                code = "scale" if code == "unknown" and abs(leaf.cosine) > 1 - 1e-9 else code
                factor = leaf.ratio if code == "scale" else None
                told = sentence(
                    code, f"d{name}", f"{leaf.ratio:.6g}", "returned beside the gradient"
                )
                findings = [Finding(code, f"d{name}", told, factor, (f"d{name}",), ordered=True)]
        return replace(
            report, ok=not findings, leaves=(*report.leaves, *leaves), findings=tuple(findings)
        )

    # -- The forward pass --------------------------------------------------------------------------

    def _forward_finding(self) -> "Finding | None":
        """The first of Z1, A1, Z2, A2 that the file's own forward pass gets wrong."""
        from jaxnn.gradcheck.explanations import sentence
        from jaxnn.gradcheck.report import Finding

        forward = self.answer.forward
        if self.reading.forward_fits or not forward:
            return None
        by_name = {plain(name): value for name, value in forward.items()}
        for name, right in self.cache.items():
            value = by_name.get(plain(name))
            if value is None or near(value, right):
                continue
            detail = f"expected {right.size} numbers, found shape {value.shape}"
            if value.size == right.size:
                detail = self._guess(name, value)
            return Finding("feed_forward", name, sentence("feed_forward", name, detail=detail),
                           ordered=True)  # fmt: skip
        last = [*forward.values()][-1]
        guess = self._guess(f"A{self.L}", last)
        if guess == UNKNOWN:
            raise HomeworkError(
                f"{self.name}: its forward pass is none of the networks that are known (layers of "
                "W and b, one activation, softmax, sigmoid or nothing at the end); write an "
                "adapter of five lines (docs/homework.md), or use jaxnn.check_gradients"
            )
        told = sentence("feed_forward", f"A{self.L}", detail=guess)
        return Finding("feed_forward", f"A{self.L}", told, ordered=True)

    def _guess(self, name: str, value: Any) -> str:
        """What a wrong Z or A looks like."""
        from jaxnn.homework.reading import ACTIVATIONS

        layer = int(name[1:])
        leaves, Z = self.trial.leaves, self.cache[f"Z{layer}"]
        inputs = self.cache[f"A{layer - 1}"] if layer > 1 else self.trial.X
        E = np.exp(Z)
        guesses = {
            "it is W times the input, without the bias": inputs
            @ self.trial.layout.W(leaves, layer).T,
            "the softmax's sum is taken over the examples: sum over the classes, "
            f"axis={0 if self.columns else 1}": E / E.sum(axis=0),
            "the softmax's sum is taken over everything: sum over the classes, "
            f"axis={0 if self.columns else 1}": E / E.sum(),
            **{
                f"it is {g}(Z{layer}); if that is meant, name {g} as the activation": function(Z)
                for g, function in ACTIVATIONS.items()
            },
        }
        return next((told for told, guess in guesses.items() if near(value, guess)), UNKNOWN)


UNKNOWN = "its values differ from the equation"


def _without_jit_note(report: "GradientReport") -> "GradientReport":
    """That NumPy cannot be traced is nothing new to who wrote NumPy."""
    return replace(report, notes=tuple(n for n in report.notes if "jit" not in n))


def _incomparable(leaf: Any, value: Any) -> Any:
    nan = float("nan")
    problem = "missing" if value is None else f"shape {np.shape(value)}, expected {leaf.shape}"
    return replace(leaf, ok=False, problem=problem, relative_error=nan, worst_index=None,
                   given=nan, true=nan, ratio=nan, cosine=nan, noise=nan)  # fmt: skip
