"""A setting is declared once: Python, JSON and flags take the same values."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from jaxnn.errors import SettingError
from jaxnn.io.command import with_flags
from jaxnn.nn import activations, initialisation, optimisers
from jaxnn.training.config import AXES, NEEDS, SETTINGS, SYNONYMS, Config
from jaxnn.training.declaration import Names, Numbers, read, spelled
from jaxnn.training.recipes import RECIPES

from .. import shell

#: For each setting, values that it takes other than its default, and values that it does not.
VALUES = {
    "lr": ([0.25, 1, 1e6], [0, -1.0, 1e7, float("nan"), float("inf"), "1", True, 10**400]),
    "beta": ([0, 0.5], [1, -0.1, None, False]),
    "epochs": ([1, 1_000_000], [0, 1_000_001, 2.0, "2", True, None]),
    "batch_size": ([1, 2**31 - 1], [0, 2**31, 64.0]),
    "n_h": (
        [(), (1,), (65_536, 3), (2,) * 1000],
        [(0,), (65_537,), (2,) * 1001, (2.0,), (True,), "64", 64, None],
    ),
    "activation": ([*activations.ACTIVATIONS][1:], ["cosine", "", None, 1, ["relu"]]),
    "seed": ([1, 2**32 - 1], [-1, 2**32, 0.0]),
    "test": ([0.1, 1.0, 10_000.0], [0, 1.5, -0.1, 2.0**31, "0.1", True]),
    "keys": ([("letters",), ("x=a", "y=b")], [(), "letters", ("x",) * 9, (1,)]),
    "size": ([(28, 28), (1, 4096)], [28, (28,), (0, 5), (5000, 5), "28x28"]),
    "grey": ([True], [1, "true", None]),
    "features": ([True], [1, "true", None]),
    "validation": ([0.1, 1.0, 10_000.0], [0, 1.5, -0.1, 2.0**31, "0.1", True]),
    "patience": ([1], [0, 2.5, False]),
    "init": ([*initialisation.INITIALISERS][1:], ["zero"]),
    "optimiser": ([*optimisers.OPTIMISERS][1:], ["sgd"]),
    "schedule": ([*optimisers.SCHEDULES][1:], ["square"]),
    "weight_decay": ([0.5, 1e6], [-1e-9, 2e6]),
    "l2": ([0.5, 1e6], [-1e-9, 2e6]),
    "dropout": ([0.5], [-0.1, 1]),
    "input_dropout": ([0.5], [-0.1, 1]),
    "max_norm": ([0.5, 1e6], [-1e-9, 2e6]),
    "label_smoothing": ([0.5], [-0.1, 1]),
    "average": ([0.5], [-0.1, 1]),
    "elastic": ([0.5, 1e6], [-1e-9, 2e6]),
    "affine": ([0.5, 1e6], [-1e-9, 2e6]),
    "ease": ([0.5, 1], [-0.1, 1.1]),
    "teacher": (["runs/a"], [1, b"runs/a", ["runs/a"]]),
    "temperature": ([0.1, 1e3], [0, 1001, None]),
    "teacher_weight": ([0, 1], [-0.1, 1.1]),
    "committee": ([2, 1000], [0, 1001, 2.0]),
}

TAKEN = [(name, value) for name, (taken, _) in VALUES.items() for value in taken]
REFUSED = [(name, value) for name, (_, refused) in VALUES.items() for value in refused]

#: What a setting needs in order to do anything.
COMPANY = {
    "weight_decay": {"optimiser": "adamw"},
    "temperature": {"teacher": "runs/a"},
    "teacher_weight": {"teacher": "runs/a"},
    "ease": {"affine": 1.0},
    "patience": {"validation": 0.5},
}


def short(value):
    return repr(value)[:30]


def test_every_setting_has_values_here():
    assert VALUES.keys() == SETTINGS.keys() == {field.name for field in fields(Config)}


def test_the_names_are_those_that_there_are():
    registries = {
        "activation": activations.ACTIVATIONS,
        "init": initialisation.INITIALISERS,
        "optimiser": optimisers.OPTIMISERS,
        "schedule": optimisers.SCHEDULES,
    }
    kinds = {name: s.kind.names for name, s in SETTINGS.items() if isinstance(s.kind, Names)}
    assert kinds == {name: tuple(registry) for name, registry in registries.items()}


@pytest.mark.parametrize(("name", "value"), TAKEN, ids=short)
def test_a_value_comes_back_from_json_and_from_its_flag(name, value):
    config = Config(**COMPANY.get(name, {}), **{name: value})
    assert getattr(config, name) == value
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    flags = [f"--{name}", *spelled(value).split()]
    assert vars(shell.script("train").parser().parse_args(flags)) == {name: value}


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=short)
def test_a_value_that_is_none_of_the_settings_is_refused_by_name(name, value):
    told = f"`{name}`: expected .*, found"
    for make in (
        lambda: Config(**{name: value}),
        lambda: replace(Config(), **{name: value}),
        lambda: Config().altered({name: value}),
        lambda: Config.from_dict(Config().to_dict() | {name: value}),
    ):
        with pytest.raises(SettingError, match=told) as caught:
            make()
        assert len(str(caught.value)) < 200


def test_what_numpy_and_paths_have_becomes_plain_python():
    config = Config(lr=np.float32(0.25), epochs=np.int64(3), n_h=[np.int32(5)], teacher=Path("a/b"))
    assert config == Config(lr=0.25, epochs=3, n_h=(5,), teacher=str(Path("a/b")))
    assert json.loads(json.dumps(config.to_dict()))["n_h"] == [5]


def test_a_name_that_no_configuration_has():
    for make in (
        lambda: Config.from_dict({**Config().to_dict(), "learning_rate": 1}),
        lambda: Config().altered({"learning_rate": 1}),
    ):
        with pytest.raises(SettingError, match="'learning_rate': no setting; expected one of lr, "):
            make()


def test_a_name_of_another_library_is_understood_and_not_taken():
    """`SYNONYMS` and those of the kinds: what is proposed is there, and no name of ours is one."""
    kinds = [setting.kind for setting in SETTINGS.values() if isinstance(setting.kind, Names)]
    for names, synonyms in ((SETTINGS, SYNONYMS), *((kind.names, kind.synonyms) for kind in kinds)):
        assert {*synonyms.values()} <= {*names}
        assert not {*synonyms} & {*names}
    with pytest.raises(SettingError, match=r"'learning_rate': no setting.* mean lr\?"):
        Config().altered({"learning_rate": 1})
    with pytest.raises(SettingError, match=r"`activation`: expected .*; did you mean silu\?"):
        Config(activation="swish")


def test_what_an_older_version_did_not_have_is_at_its_default():
    documents = {n: v for n, v in Config().to_dict().items() if not SETTINGS[n].group.beyond}
    assert Config.from_dict({**documents, "lr": 0.25}) == Config(lr=0.25)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_decay": 0.1}, "`weight_decay`: expected `optimiser` adamw as well, without"),
        ({"temperature": 3.0}, "`temperature`: expected `teacher` as well, without which it does"),
        ({"teacher_weight": 0.2}, "`teacher_weight`: expected `teacher` as well"),
        ({"ease": 0.5}, "`ease`: expected `elastic` or `affine` as well"),
        ({"n_h": (), "dropout": 0.5}, r"`dropout`: expected a hidden layer \(`n_h`\) as well"),
        ({"n_h": (), "activation": "relu"}, r"`activation`: expected a hidden layer \(`n_h`\)"),
        ({"patience": 3}, "`patience`: expected `validation` as well, whose loss it watches"),
    ],
)
def test_a_setting_without_the_company_that_it_needs(changes, message):
    with pytest.raises(SettingError, match=message):
        Config().altered(changes)
    assert [name for name in changes if name in {need.of for need in NEEDS}]


def test_every_need_can_be_met():
    for need in NEEDS:
        for value in VALUES[need.of][0]:
            Config().altered({**COMPANY.get(need.of, {}), need.of: value})


def test_patience_without_validation_is_refused_wherever_it_is_said():
    with pytest.raises(SettingError, match="`patience`: expected `validation`"):
        Config(patience=3)


def test_what_a_recipe_has_may_be_left_without_company():
    """A network of no hidden layer, of a recipe that has dropout and an activation."""
    plain = Config().altered(RECIPES["plain"].changes)
    assert plain.altered({"n_h": ()}).dropout == plain.dropout


def test_a_run_has_beyond_the_document_what_is_declared_so():
    assert Config(lr=2.0, n_h=(), epochs=3).beyond() == {}
    more = {"init": "he", "l2": 0.5, "committee": 2}
    assert Config(seed=3, **more).beyond() == more


def test_a_command_shows_settings_as_flags():
    with pytest.raises(SettingError) as caught:
        Config().altered({"ease": 0.5})
    assert with_flags(str(caught.value)).startswith(
        "--ease: expected --elastic or --affine as well"
    )


def test_what_is_typed_is_held_to_what_is_expected():
    assert read(Numbers(0, 1, low_included=False), "1") == 1.0
    with pytest.raises(ValueError, match="a number greater than 0 and at most 1, found '0'"):
        read(Numbers(0, 1, low_included=False), "0")


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (Config(), {"lr": 0.1}, "`lr` 0.1: contradicts the run to resume, which has 0.5; leave it"),
        (Config(n_h=(9, 8)), {"n_h": ()}, "`n_h` 0: contradicts the run to resume, which has 9 8"),
        (Config(), {"optimiser": "adam"}, "`optimiser` adam: contradicts .* which has momentum"),
        (Config(epochs=3), {"epochs": 2}, "`epochs` 2: expected 3, as first asked, or more"),
        (Config(schedule="linear"), {"epochs": 51}, "`schedule` linear .* end with epoch 50, as"),
        (Config(elastic=1.0, ease=0.5), {"epochs": 51}, "`ease` 0.5 end with epoch 50, as first"),
    ],
    ids=["number", "widths", "name", "fewer epochs", "schedule", "ease"],
)
def test_a_run_goes_on_as_it_began(config, changes, message):
    with pytest.raises(SettingError, match=message):
        config.resumed(changes)


def test_a_run_may_go_on_for_longer():
    assert Config(epochs=3).resumed({"epochs": 4, "lr": 0.5}) == Config(epochs=4)
    assert Config(schedule="linear").resumed({"epochs": 50}) == Config(schedule="linear")


def test_data_that_a_configuration_cannot_train_on():
    Config(batch_size=10, elastic=1.0).require_data(10, 25, (5, 5))
    with pytest.raises(SettingError, match="`batch_size` 11: expected 1 to 10, the number of"):
        Config(batch_size=11).require_data(10, 11, None)
    with pytest.raises(SettingError, match="`elastic`, `affine`: expected images, found 11 inputs"):
        Config(affine=1.0).require_data(100, 11, None)


def test_an_axis_of_a_sweep_takes_what_its_setting_takes():
    parser = shell.script("sweep").parser()
    for name in AXES:
        values = VALUES[name][0]
        typed = [spelled(value).replace(" ", "x") for value in values]
        assert getattr(parser.parse_args([f"--{name}", *typed]), name) == values
        assert getattr(parser.parse_args([]), name) == [getattr(Config(), name)]
