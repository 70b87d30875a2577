"""The notebooks run from their first cell to their last, and show what they promise."""

import re
from pathlib import Path

import pandas as pd
import pytest

from motive.clips.ranking import OK, read_ranking
from testing.ranked_project import write_ranked_project

pytestmark = pytest.mark.slow

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    write_ranked_project(folder, num_pool=24)
    return folder


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


def test_a_finished_project_is_read_and_left_as_it_is(ranked):
    (ranked / "examples").mkdir()
    before = {path: path.stat().st_mtime_ns for path in ranked.rglob("*")}
    outputs = run("ask_a_pool.ipynb", ranked / "examples")
    assert before == {path: path.stat().st_mtime_ns for path in ranked.rglob("*")}
    best, worst, per_motion, correlations, shared = tables(outputs)
    ranking = read_ranking(ranked)
    assert "influence_low" in best
    assert f"{ranking['influence'].iloc[0]:.6f}" in best.splitlines()[1]
    assert "rank_against" in worst
    most_harmful = ranking[ranking["status"] == OK].set_index("rank_against").loc[0]
    assert f"{most_harmful['influence']:.6f}" in worst.splitlines()[1]
    motions = pd.read_parquet(ranked / "data/queries/clips/clips.parquet")["motion"]
    assert set(motions) <= {line.partition(" ")[0] for line in per_motion.splitlines()}
    assert re.search(r"the other one +1\.0", correlations)  # the same project twice
    assert re.search(r"the other project's +1\.0", shared)
    assert num_images(outputs) == 2


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.name)
def test_a_notebook_is_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
