"""docs/tutorial.ipynb: committed as it was run, and it runs."""

import json
import re

import pytest

from . import shell

NOTEBOOK = shell.ROOT / "docs" / "tutorial.ipynb"


def outputs(cells):
    """What each cell of code shows, as text: HTML where there is some."""
    shown = []
    for cell in cells:
        if cell["cell_type"] == "code":
            texts = []
            for output in cell["outputs"]:
                data = output.get("data", {})
                text = data.get("text/html") or data.get("text/plain") or output.get("text", "")
                texts.append("".join(text))
            shown.append("\n".join(texts))
    return shown


def require_promises(cells):
    """What the text around the cells says that they show."""
    shown = outputs(cells)
    errors = [
        output
        for cell in cells
        for output in cell.get("outputs", ())
        if output["output_type"] == "error"
    ]
    assert errors == []
    verdicts = [re.findall(r"<pre>(RIGHT|WRONG) ", text) for text in shown]
    assert [verdict for verdict in verdicts if verdict] == [
        ["RIGHT"],
        ["WRONG"],
        ["WRONG"],
        ["RIGHT"],
    ]
    broken, missing = (text for text in shown if "<pre>WRONG " in text)
    assert "first wrong: dZ1, cause: derivative_at_activation" in broken
    assert "cause: path_missing" in missing
    assert "variance + 1e-5" in missing
    assert "line 4" in missing
    (curves,) = (text for text in shown if "'broken':" in text)
    right, wrong = map(float, re.findall(r"([\d.]+)%", curves))
    assert right > wrong > 85
    (accuracy,) = (text for text in shown if "test examples are read right" in text)
    assert float(re.search(r"([\d.]+)%", accuracy)[1]) > 85
    (training,) = (text for text in shown if "epoch" in text and "8/8" in text)
    assert len(re.findall(r"epoch\s+\d/8", training)) == 8


def committed():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


def test_it_is_committed_with_what_it_shows():
    cells = committed()["cells"]
    require_promises(cells)
    pictures = [
        output
        for cell in cells
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 2
    counts = [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"]
    assert counts == [*range(1, len(counts) + 1)]


def test_its_links_lead_somewhere():
    text = "".join("".join(cell["source"]) for cell in committed()["cells"])
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) >= 3
    assert [link for link in links if not (NOTEBOOK.parent / link).exists()] == []


@pytest.mark.slow
def test_it_runs(tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="the extra `notebook` is not installed")
    nbformat = pytest.importorskip("nbformat", reason="the extra `notebook` is not installed")
    pytest.importorskip("ipykernel", reason="the extra `notebook` is not installed")
    notebook = nbformat.read(NOTEBOOK, 4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    require_promises(notebook.cells)
