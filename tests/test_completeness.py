"""What has to be written in several places is in all of them: each test names what is missing.

docs/development.md says where, and names the other tests of this kind.
"""

import inspect
from dataclasses import fields

import pytest

from jaxnn.data.forms import FORMS
from jaxnn.nn import activations, initialisation, losses, optimisers, regularisation
from jaxnn.training.config import Config

from . import shell
from .data import test_forms

#: Written in the derivation under another name: (2), and a learning rate that stays as it is.
ELSEWHERE = {initialisation.document, optimisers.constant}


def derived():
    """What the derivation has to derive: all that has a name of its own, and every function."""
    tables = (
        (activations, activations.ACTIVATIONS.values()),
        (initialisation, initialisation.INITIALISERS.values()),
        (optimisers, (*optimisers.OPTIMISERS.values(), *optimisers.SCHEDULES.values())),
    )
    for module, members in tables:
        names = {id(member): name for name, member in vars(module).items()}
        yield from (
            f"{module.__name__}.{names[id(member)]}"
            for member in members
            if id(member) not in map(id, ELSEWHERE)
        )
    for module in (losses, regularisation):
        for name, member in inspect.getmembers(module, inspect.isfunction):
            if member.__module__ == module.__name__ and name[0] != "_":
                yield f"{module.__name__}.{name}"


@pytest.mark.parametrize("name", [*derived()])
def test_it_has_its_equation(name):
    """A credit in docs/derivation.md, which names a test and is tested itself."""
    assert f"`{name}`" in (shell.ROOT / "docs" / "derivation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("field", [field.name for field in fields(Config)])
def test_a_setting_has_its_flag(field):
    assert f"--{field}" in shell.script("train").parser()._option_string_actions


@pytest.mark.parametrize("form", [form.name for form in FORMS])
def test_a_form_of_data_is_tested_and_fuzzed(form):
    """It gives the same data set as the others, and the campaign of mutated files has it."""
    name = form.lower().replace(" ", "-")
    assert [case for case in test_forms.FORMS if case.split()[0] == name]
    assert [case for case in shell.script("fuzz").TARGETS if case.startswith(name)]
