"""The doctor before planted faults and correct variants, at one random point each.

Every code and every entry is here, with every fifth fault and every third variant, which is what
a test suite has time for. `scripts/campaigns/compare_checkers.py` takes all of them to twenty
points, beside the other tools.
"""

import functools
import importlib.util
import re
import sys
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxnn import check_gradients, check_vjp
from jaxnn.gradcheck.explanations import LESSONS
from jaxnn.homework.homework import Setting, check_homework

from ..faults.correct import CORRECT
from ..faults.homework import HOMEWORK_CORRECT, HOMEWORK_FAULTS
from ..faults.judge import cause_is, first_is
from ..faults.library import FAULTS
from ..faults.vjp import VJP_CORRECT, VJP_FAULTS

pytestmark = pytest.mark.slow

CAMPAIGN = Path(__file__).parents[2] / "scripts" / "campaigns" / "compare_checkers.py"


def table(cases, every=1):
    """Each case whose place `every` divides, and the first of each code, with a seed of its own.

    The seeds are even, so that shapes and dtypes stay and compiled programs are used again.
    """
    codes = [getattr(case, "code", "") for case in cases]
    return [
        pytest.param(case, 2 * place, id=case.name)
        for place, case in enumerate(cases)
        if place % every == 0 or codes.index(codes[place]) == place
    ]


def examined(problem):
    return check_gradients(problem.loss, problem.gradient, problem.params, *problem.args)


@pytest.mark.parametrize(("fault", "seed"), table(FAULTS, every=5))
def test_a_planted_fault_is_named(fault, seed):
    report = examined(fault.build(seed))
    assert not report.ok
    assert cause_is(fault.code, report.cause), report.verdict
    assert not fault.first_wrong or first_is(fault.first_wrong, report.first_wrong), report.verdict


@pytest.mark.parametrize(("variant", "seed"), table(CORRECT, every=3))
def test_a_correct_variant_is_not_accused(variant, seed):
    report = examined(variant.build(seed))
    assert report.ok, str(report)
    assert report.cause is None
    assert report.first_wrong is None


def marked(work, seed, folder):
    """The report on a homework file."""
    file = folder / "homework.py"
    file.write_text(work.source, encoding="utf-8")
    return check_homework(file, Setting(**work.setting, seed=seed))


@pytest.mark.parametrize(("work", "seed"), table(HOMEWORK_FAULTS))
def test_a_fault_in_homework_is_named(work, seed, tmp_path):
    report = marked(work, seed, tmp_path)
    assert not report.ok
    assert cause_is(work.code, report.cause), report.verdict
    assert not work.first_wrong or first_is(work.first_wrong, report.first_wrong), report.verdict


@pytest.mark.parametrize(("work", "seed"), table(HOMEWORK_CORRECT))
def test_correct_homework_is_not_accused(work, seed, tmp_path):
    report = marked(work, seed, tmp_path)
    assert report.ok, str(report)


@pytest.mark.parametrize(("case", "seed"), table(VJP_FAULTS))
def test_a_fault_in_a_backward_pass_is_named(case, seed):
    report = check_vjp(case.function, *case.arguments(seed), reference=case.reference)
    assert not report.ok
    assert cause_is(case.code, report.cause), report.verdict


@pytest.mark.parametrize(("case", "seed"), table(VJP_FAULTS, every=3))
def test_differences_see_a_fault_in_a_backward_pass(case, seed):
    assert not check_vjp(case.function, *case.arguments(seed)).ok


@pytest.mark.parametrize(("case", "seed"), table(VJP_CORRECT))
def test_a_correct_backward_pass_is_not_accused(case, seed):
    assert check_vjp(case.function, *case.arguments(seed), reference=case.reference).ok
    assert check_vjp(case.function, *case.arguments(seed)).ok


def test_every_code_is_planted():
    cases = (*FAULTS, *HOMEWORK_FAULTS, *VJP_FAULTS)
    planted = Counter(code for case in cases for code in case.code.split("+"))
    elsewhere = {"feed_forward", "differs_under_vmap"}
    assert set(LESSONS) - elsewhere <= set(planted)


def test_no_case_counts_twice():
    """How many there are is written in the README, whose tests compare."""
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert len({variant.name for variant in CORRECT}) == len(CORRECT)


@pytest.fixture
def campaign(monkeypatch):
    """The script, whose import path is put back afterwards."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    spec = importlib.util.spec_from_file_location("compare_checkers", CAMPAIGN)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "compare_checkers", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("said", "row"),
    [
        ((True, "sign", "dZ2"), ["1/1", "1/1", "1/1", "1/1", "0/2"]),
        ((True, "zero", "dZ2"), ["1/1", "0/1", "1/1", "1/1", "0/2"]),
        ((False, None, None), ["0/1", "names none", "names none", "0/1", "0/2"]),
        ((None, None, None), ["0/1", "names none", "names none", "0/1", "2/2"]),
    ],
    ids=["accuses", "accuses of another fault", "sees nothing", "gives no verdict"],
)
def test_the_campaign_counts_what_a_checker_says(campaign, said, row):
    score, verdict = campaign.Score(), campaign.Verdict(*said)
    fault = next(fault for fault in FAULTS if fault.code == "sign" and fault.first_wrong == "dZ2")
    campaign.judge_fault(fault, 0, verdict, score)
    campaign.judge_variant(CORRECT[0], 0, verdict, score)
    _, (_, *shares) = campaign.rows_of({"it": score})
    assert [re.sub(r" \(.*", "", share) for share in shares] == row
    assert score.misses


def test_the_campaign_says_who_cannot_run_on_a_backward_pass(campaign):
    scores = campaign.campaign("backward passes", 1, "no such case", "scipy", 1)
    _, row = campaign.rows_of(scores)
    assert row[:2] == ["scipy.optimize.check_grad", "cannot run"]


def test_the_campaign_judges_a_backward_pass_by_its_code(campaign):
    scores = campaign.examine("backward passes", 0, 1, ("jaxnn.check_vjp",))
    _, row = campaign.rows_of(scores)
    assert row[1].startswith("1/1")
    assert row[2].startswith("1/1")


@functools.cache
def autodiff(loss):
    return jax.jit(jax.grad(loss))


COMPARABLE = [
    fault
    for fault in FAULTS
    if not {"structure", "nondeterministic", "differs_under_jit"} & {fault.code}
]


@pytest.mark.parametrize(("fault", "seed"), table(COMPARABLE, every=4))
def test_the_fault_is_really_there(fault, seed):
    """Without the doctor: some leaf is off by more than float32 can explain."""
    problem = fault.build(seed)
    # As people write them: without the strict rules of this suite.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        given = problem.gradient(problem.params, *problem.args)
        true = autodiff(problem.loss)(problem.params, *problem.args)
    assert any(
        np.shape(g) != np.shape(t) or not np.abs(np.float64(g) - t).max() <= 5e-5 * np.abs(t).max()
        for g, t in zip(jax.tree.leaves(given), jax.tree.leaves(true), strict=True)
    )
