"""Every code has a lesson, and every lesson makes a sentence."""

import subprocess
import sys

import pytest

from jaxnn.gradcheck.explanations import LESSONS, explain, sentence


@pytest.mark.parametrize("code", LESSONS)
def test_every_lesson_makes_a_sentence(code):
    told = sentence(code, "dZ1", "17 = m", "row 3")
    assert told.endswith(".")
    assert "{" not in told
    assert all(part for part in LESSONS[code])


@pytest.mark.parametrize("code", LESSONS)
def test_every_code_can_be_explained(code):
    told = explain(code)
    assert told is not None
    assert told.startswith(code)
    assert all(head in told for head in ("What it is", "The equation", "Why it", "How to see it"))


def test_an_unknown_code_has_no_lesson():
    assert explain("no such code") is None


def test_a_lesson_needs_no_jax():
    program = (
        "import sys; from jaxnn.gradcheck import explain; explain('sign');"
        "sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
