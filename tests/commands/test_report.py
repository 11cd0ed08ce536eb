"""`report`: the page of a run, finished or not, and nothing else in its folder."""

import hashlib

import pytest

from .. import shell, trained_run


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return {
        "finished": trained_run.finished(folder / "finished"),
        "unfinished": trained_run.unfinished(folder / "unfinished"),
        "begun": trained_run.unfinished(folder / "begun", epochs=0),
    }


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", ["finished", "unfinished"])
def test_the_report_is_written_and_nothing_else_changes(folders, kind, monkeypatch, capsys):
    run = folders[kind]
    before = contents(run)
    done = shell.here(monkeypatch, capsys, "report", run, "--no_plots")
    assert (done.status, done.out) == (0, f"report in {run / 'report.html'}\n")
    after = contents(run)
    assert after.keys() - before.keys() == {"report.html"}
    assert before.items() <= after.items()


def test_an_interrupted_run_says_how_far_it_has_come_and_can_go_on(folders, monkeypatch, capsys):
    run = folders["unfinished"]
    assert shell.here(monkeypatch, capsys, "report", run, "--no_plots").status == 0
    text = (run / "report.html").read_text("utf-8")
    assert "Not finished: this is its state after 3 of 12 epochs." in text
    done = shell.here(monkeypatch, capsys, "train", "--resume", run, "--no_plots")
    assert done.status == 0
    assert "Not finished" not in (run / "report.html").read_text("utf-8")


def test_pictures_and_the_page_to_look_inside_are_drawn(folders, monkeypatch, capsys):
    run = folders["finished"]
    assert shell.here(monkeypatch, capsys, "report", run).status == 0
    assert {"curves.png", "confusion.png", "weights.png", "explore.html"} <= contents(run).keys()


def test_a_run_without_an_epoch_has_nothing_to_report(folders, monkeypatch, capsys):
    done = shell.here(monkeypatch, capsys, "report", folders["begun"])
    assert done.status == 2
    assert "expected a run with an epoch to report, found none" in done.err
