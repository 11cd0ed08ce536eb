"""The benchmark: the contenders do the same work, and every section says what it found."""

import json
import runpy
from importlib import import_module, util

import jax
import pytest

from benchmarks import accuracy, contender, contenders, epoch, growth, job, problem, processes
from benchmarks.contenders import CONTENDERS, JAXNN
from benchmarks.problem import Spec
from benchmarks.processes import FailedError, Watched

from .. import shell

PEERS = shell.ROOT / "scripts" / "campaigns" / "peers"
FAST = ("jaxnn", "NumPy float32 by hand")

#: Six steps in float32, each of whose roundings is 6e-8 and averaged over in the loss: 5e-9 was
#: seen. A learning rate that is off by 1 % moves the loss by 1.6e-4.
TOLERANCE = 1e-7


def require(peer):
    """Skip where the package that a peer is made of is not installed."""
    package = peer.partition("_")[0]
    if package in ("torch", "flax") and util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: it comes with pip install -e '.[bench]'")


@pytest.fixture
def lenient():
    """jax as its users have it: the peers are not written for its strictest rules."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """Two epochs of two whole batches and a smaller one."""
    place = tmp_path_factory.mktemp("problem") / "digits.npz"
    spec = Spec(str(place), "digits", n_h=(5,), epochs=2, rows=150)
    problem.write(spec)
    return spec


@pytest.fixture(scope="module")
def expected(spec):
    """The loss of the document's algorithm, in float64."""
    return loss_of("numpy_document", (), spec)


def loss_of(peer, options, spec):
    request = {"peer": peer, "options": options, "specs": [spec._asdict()]}
    (result,) = contender.answer(request)["results"]
    assert len(result["seconds"]) == spec.epochs - 1
    return result["loss"]


@pytest.mark.parametrize(
    "name", [name for name in CONTENDERS if name != "PyTorch compiled"]  # it takes a minute
)  # fmt: skip
def test_every_contender_ends_with_the_same_loss(name, spec, expected, lenient):
    peer, options = CONTENDERS[name]
    require(peer)
    assert loss_of(peer, options, spec) == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize("peer", ["torch_autograd", "torch_by_hand", "jaxnn_epoch"])
def test_those_that_grow_agree_at_depth_too(peer, tmp_path):
    require(peer)
    require("torch_by_hand")
    spec = Spec(str(tmp_path / "deep.npz"), "digits", n_h=(5, 4, 3), epochs=2, rows=150)
    assert problem.write(spec) == ([64, 5, 4, 3, 10], 150)
    alike = [loss_of(name, (), spec) for name in (peer, "torch_by_hand")]
    assert alike[0] == pytest.approx(alike[1], rel=TOLERANCE)


@pytest.mark.parametrize("wrong", [{"lr": 0.505}, {"batch_size": 50}, {"beta": 0.91}])
def test_other_work_is_noticed(wrong, spec, expected):
    other = loss_of("numpy_document", (), spec._replace(**wrong))
    assert abs(other / expected - 1) > 10 * TOLERANCE


def test_losses_that_lie_apart_are_no_agreement():
    assert epoch.agreement({"a": 1.0, "b": 1.000009, "c": 1.0})["agree"]
    assert not epoch.agreement({"a": 1.0, "b": 1.00002, "c": 1.0})["agree"]
    assert not epoch.agreement({"a": 1.0, "b": 1.0, "c": float("nan")})["agree"]


def test_the_operations_of_the_documents_epoch():
    assert problem.operations((784, 64, 10), 60_000) == 60_000 * 2 * (2 * 784 * 64 + 3 * 64 * 10)
    assert problem.operations((7, 5, 3, 2), 1) == 2 * (2 * 7 * 5 + 3 * 5 * 3 + 3 * 3 * 2)


@pytest.fixture
def in_this_process(monkeypatch):
    """Contenders answer here: the same requests and answers, as JSON, without a process each."""

    def ask(module, request):
        answered = import_module(module).answer(json.loads(json.dumps(request)))
        return json.loads(json.dumps(answered))

    monkeypatch.setattr(processes, "ask", ask)


@pytest.fixture
def measured(in_this_process, monkeypatch, capsys, tmp_path):
    """What `--quick --json` finds for one section, and the section's report on it."""

    def run(section):
        argv = ("--quick", "--json", "--data", "digits", "--out", tmp_path, "--section", section)
        outcome = shell.here(monkeypatch, capsys, "benchmark", *argv, "--contenders", *FAST)
        assert (outcome.status, outcome.err) == (0, "")
        results = json.loads(outcome.out)
        assert list(results) == ["machine", "quick", section]
        assert {"cores", "load", "OMP_NUM_THREADS", "jax", "torch"} <= set(results["machine"])
        return results[section], import_module(f"benchmarks.{section}").report(results[section])

    return run


def test_the_profile_names_the_lines_of_the_derivation(measured):
    found, text = measured("profile")
    lines = {line["text"]: line for line in found["lines"]}
    (forward,) = (line for text, line in lines.items() if 'params[f"W{layer}"].T' in text)
    (backward,) = (line for text, line in lines.items() if text.startswith('d[f"dW{layer}"] ='))
    assert all(line["place"].startswith("jaxnn/nn/mlp.py:") for line in (forward, backward))
    spent = [line["us"] for line in found["lines"]]
    assert spent == sorted(spent, reverse=True)
    assert 0 < sum(spent) < found["traced"]
    assert all(line["place"] in text for line in found["lines"])


def test_the_epoch_in_miniature(measured):
    found, text = measured("epoch")
    assert (found["sizes"], found["examples"], found["batch_size"]) == ([64, 64, 10], 1438, 64)
    assert set(found["contenders"]) == set(FAST)
    fields = {"seconds", "first", "loss"}
    assert all(set(entry) == fields for entry in found["contenders"].values())
    assert found["agreement"]["agree"]
    assert found["limit"]["operations"] == problem.operations((64, 64, 10), 1438)
    assert all(name in text for name in FAST)
    assert "losses after 2 epochs agree" in text


def test_many_at_once_in_miniature(measured):
    found, text = measured("many")
    assert found["networks"] == 4
    ways = {way: len(seconds) for way, seconds in found["seconds"].items()}
    assert ways == {"together": 1, "in turn": 1}
    assert found["agreement"]["agree"]
    assert "losses agree" in text


def test_growth_in_miniature(measured, monkeypatch, tmp_path):
    axes = {axis: growth.AXES[axis] for axis in ("depth", "examples")}
    monkeypatch.setattr(growth, "AXES", axes)
    found, text = measured("growth")
    assert {axis: line["values"] for axis, line in found["axes"].items()} == {
        "depth": [2],
        "examples": [200],
    }
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
    assert "hidden layers of 64" in text


def watched(*lines, seconds=9.0):
    return Watched(list(enumerate(lines, start=1)), seconds, 10**8)


def setup(monkeypatch, capsys, *argv):
    """What the flags ask for, with progress shown nowhere."""
    script = shell.script("benchmark")
    folder = shell.ROOT / "nowhere"
    return script.setup_from(script.parser().parse_args([*argv, "--data", "digits"]), folder)


def test_a_whole_job_from_its_start_to_its_table(monkeypatch, capsys, tmp_path):
    name = "NumPy, the document's"
    asked = setup(monkeypatch, capsys, "--quick", "--contenders", name)._replace(folder=tmp_path)
    result = job.measure(asked)
    assert (result["epochs"], list(result["contenders"])) == (2, [name])
    (figures,) = result["contenders"][name]["cold"]
    assert 0 < figures["first_epoch"] <= figures["table"] <= figures["end"]
    assert figures["peak_memory"] > 10**7
    assert f"{name}, cold" in job.report(result)


def test_jaxnn_starts_cold_and_then_warm(monkeypatch, capsys, tmp_path):
    places = []

    def watch(command, cache):
        places.append(cache)
        return watched("epoch  1/50 …", "  weighted avg   0.97")

    monkeypatch.setattr(processes, "watch", watch)
    asked = setup(monkeypatch, capsys, "--repeats", "2", "--contenders", JAXNN)
    result = job.measure(asked._replace(folder=tmp_path))
    assert {state: len(runs) for state, runs in result["contenders"][JAXNN].items()} == {
        "cold": 2,
        "warm": 2,
    }
    assert places[0] == places[1] != places[2] == places[3]
    assert result["contenders"][JAXNN]["cold"][0] == {
        "first_epoch": 1, "table": 2, "end": 9.0, "peak_memory": 10**8
    }  # fmt: skip


def test_accuracy_is_read_from_what_train_py_prints():
    """As the README shows it, which another test holds against the program."""
    shown = (shell.ROOT / "README.md").read_text().splitlines()
    lines = [line for line in shown if accuracy.ACCURACY.match(line)]
    outcome = accuracy.outcome(watched(*lines), targets=(97.0, 98.0))
    assert len(lines) == 4
    assert outcome == {"reached": [3, None], "end": 9.0, "accuracy": 97.69}


def test_every_seed_counts_and_a_recipe_that_is_missing_is_named(monkeypatch, capsys, tmp_path):
    def watch(command, cache):
        if "fast" in command:
            raise FailedError("error: unrecognized arguments: --recipe fast")
        seed = int(command[-1])
        return watched("epoch 1: test accuracy 90.00%", f"epoch 2: test accuracy 98.0{seed}%")

    monkeypatch.setattr(processes, "watch", watch)
    asked = setup(monkeypatch, capsys, "--seeds", "4")._replace(folder=tmp_path)
    result = accuracy.measure(asked)
    first, second, *_ = result["attempts"]
    assert first["skipped"] == "error: unrecognized arguments: --recipe fast"
    assert [run["accuracy"] for run in second["runs"]] == [98.0, 98.01, 98.02, 98.03]
    text = accuracy.report(result)
    assert "skipped: error: unrecognized arguments: --recipe fast" in text
    assert "4 of 4" in text
    assert "0 of 3" in text


@pytest.mark.parametrize("name", ["torch_recipe", "flax_recipe"])
def test_the_peers_recipe_learns(name, lenient, monkeypatch, capsys):
    require(name)
    monkeypatch.syspath_prepend(PEERS)
    monkeypatch.setattr("sys.argv", [name, "--data", "digits", "--seed", "1"])
    runpy.run_path(str(PEERS / f"{name}.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert all(accuracy.ACCURACY.match(line) for line in lines)
    assert accuracy.outcome(watched(*lines), [80])["accuracy"] > 80


def test_pytorchs_whole_job_prints_what_is_waited_for(monkeypatch, capsys):
    require("torch")
    monkeypatch.setattr("sys.argv", ["torch_autograd", "--data", "digits", "--epochs", "1"])
    monkeypatch.setattr("warnings.warn", lambda *a, **k: None)  # classes that it never predicts
    runpy.run_path(str(PEERS / "torch_autograd.py"), run_name="__main__")
    figures = job.figures(watched(*capsys.readouterr().out.splitlines()))
    assert figures["first_epoch"] < figures["table"]


def test_the_one_cycle_rises_and_falls():
    one_cycle = runpy.run_path(str(PEERS / "fast_recipe.py"))["one_cycle"]
    assert [one_cycle(p) for p in (0, 0.1, 0.2, 0.6, 1)] == pytest.approx([0.1, 0.55, 1, 0.5, 0])


def test_a_peer_that_cannot_run_is_skipped_with_its_reason_and_jaxnn_is_not(spec):
    found = contenders.run("none", contenders.Contender("nothing"), [spec])
    assert found == {"skipped": "ModuleNotFoundError: No module named 'peers.nothing'"}
    with pytest.raises(FailedError, match=r"peers\.nothing"):
        contenders.run(JAXNN, contenders.Contender("nothing"), [spec])


def test_what_a_process_answers_and_the_environment_it_has(monkeypatch):
    for name in processes.LEFT_OUT:
        monkeypatch.setenv(name, "1")
    assert not set(processes.environment()) & set(processes.LEFT_OUT)
    assert processes.ask("benchmarks.problem", {"specs": []}) == []


def test_growths_points_are_what_their_axis_says(monkeypatch, capsys):
    asked = setup(monkeypatch, capsys)
    for axis, (_, values, _) in growth.AXES.items():
        assert len({growth.spec_of(asked, axis, value) for value in values}) == len(values)
    assert growth.spec_of(asked, "depth", 3).n_h == (64, 64, 64)
    wide = growth.spec_of(asked, "wide", 800)
    assert wide.n_h == (800,)
    assert wide.batch_size > growth.spec_of(asked, "width", 800).batch_size


def test_an_unknown_contender_is_an_error_of_one_line(monkeypatch, capsys):
    outcome = shell.here(monkeypatch, capsys, "benchmark", "--contenders", "tensorflow")
    assert outcome.status == 2
    assert outcome.err.startswith("error: --contenders: 'tensorflow' is none; expected one of")
    assert len(outcome.err.splitlines()) == 1
