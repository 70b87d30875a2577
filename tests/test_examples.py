"""The notebooks run from their first cell to their last, and show what they promise."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, folder: Path) -> list[dict]:
    """The outputs of a notebook that is started in `folder`; a cell's error is raised."""
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    where = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=where).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def tables(outputs: list[dict]) -> list[str]:
    return [output["data"]["text/plain"] for output in outputs if "text/html" in output.get("data", {})]


def num_images(outputs: list[dict]) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_a_model_of_ones_own_is_asked_without_a_project(tmp_path):
    outputs = run("own_model.ipynb", tmp_path)
    ranking, means = tables(outputs)
    assert "on right" in ranking
    rows = {line.split()[0]: line.split()[1:] for line in means.splitlines()[2:]}
    right, down = (max(rows, key=lambda motion: float(rows[motion][column])) for column in (0, 1))
    assert (right, down) == ("right", "down")  # of each query's motion the clips teach it most
    assert num_images(outputs) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.name)
def test_a_notebook_is_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
