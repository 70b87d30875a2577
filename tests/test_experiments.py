"""Other values for one run are a DVC experiment in a copy, which changes nothing here."""

import subprocess
from pathlib import Path

import pytest
from prefect import get_client
from prefect.client.schemas.sorting import FlowRunSort

from flows.commands import StageFailed, dvc
from flows.pipeline import motive_pipeline
from flows.tasks import signature
from motive.params import Params, load_params
from motive.stages import share_work
from testing.machine import stages_of
from testing.servers import wait_until
from testing.toy_pipeline import TOY
from testing.whole_project import commit

pytestmark = [pytest.mark.usefixtures("prefect_api"), pytest.mark.slow]


@pytest.fixture
def chosen(toy) -> Path:
    """A toy whose first stage reads a parameter that flows choose, and whose source nobody keeps."""
    text = TOY.replace("cat source.txt >", "cat source.txt params.yaml >")
    text = text.replace("deps: [source.txt]", "deps: [source.txt, loose]\n    params: [curation, clips]")
    Path("dvc.yaml").write_text(text)
    Path(".gitignore").write_text("/first.txt\n/middle.txt\n/last.txt\n/.motive\n/loose\n")
    Path("loose").mkdir()
    Path("loose/clip.txt").write_text("a clip")
    commit(toy)
    return toy


def seen(name: str) -> Params:
    """The parameters with which an experiment's first stage ran."""
    out = Path(f"{name}.yaml")
    list(dvc("get", ".", "first.txt", "--rev", name, "--out", str(out)))  # the lines are of no interest
    out.write_text(out.read_text().removeprefix("motion\n"))
    return load_params(out)


def test_what_a_run_chooses_reaches_dvc_and_changes_nothing_here(chosen):
    assert motive_pipeline(return_state=True).is_completed()
    mine = Path("params.yaml").read_text() + "# a note that is not committed\n"
    Path("params.yaml").write_text(mine)
    here = Path("last.txt").read_text()
    lock = Path("dvc.lock").read_text()
    queries = chosen / "a folder's, = clips"
    queries.mkdir()
    state = motive_pipeline(
        strategy="random", fraction=0.25, seed=3, queries=queries.name, experiment="mine", return_state=True
    )
    assert state.is_completed(), state.message
    assert state.message == "3 stages are up to date, 3 of them ran"
    params = seen("mine")
    assert (params.curation.strategy, params.curation.fraction, params.curation.seed) == ("random", 0.25, 3)
    assert params.clips.source["queries"] == queries.name
    assert Path("params.yaml").read_text() == mine
    assert Path("last.txt").read_text() == here
    assert Path("dvc.lock").read_text() == lock


def test_an_experiment_is_replaced_by_the_next_of_its_name(chosen):
    for seed in (1, 2):
        assert motive_pipeline(seed=seed, experiment="mine", return_state=True).is_completed()
    assert [*dvc("exp", "list", "--name-only")] == ["mine"]
    assert seen("mine").curation.seed == 2


def test_a_failing_stage_of_an_experiment_is_named(chosen):
    text = Path("dvc.yaml").read_text()
    Path("dvc.yaml").write_text(text.replace("cat middle.txt >", "echo too dark; exit 1; cat middle.txt >"))
    before = Path("params.yaml").read_bytes()
    failed = motive_pipeline(strategy="random", return_state=True)
    with pytest.raises(StageFailed) as failure:
        failed.result()
    assert failure.value.stage == "last"
    assert "too dark" in failure.value.text
    assert Path("params.yaml").read_bytes() == before
    assert not Path("first.txt").exists()
    ended = {"first": "Ran", "middle": "Ran", "last": "Failed"}
    with get_client(sync_client=True) as client:
        [run] = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
        # what is done stays done; Prefect's server hears of tasks a moment later
        wait_until(lambda: ended.items() <= stages_of(client, run.id).items(), 60, f"stages end as {ended}")


def test_a_copy_of_the_project_goes_on_with_the_projects_work(tmp_path, monkeypatch):
    twin = tmp_path / ".dvc/tmp/exps/standalone/one"
    twin.mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    for folder in (twin, tmp_path, twin):
        monkeypatch.chdir(folder)
        share_work()
    (twin / ".motive/half-done").touch()
    assert (tmp_path / ".motive/half-done").exists()
    assert not (tmp_path / ".motive").is_symlink()


def test_an_experiment_is_kept_where_git_knows_nobody(toy, monkeypatch):
    commit(toy)
    for name, value in {"HOME": str(toy), "XDG_CONFIG_HOME": str(toy), "GIT_CONFIG_NOSYSTEM": "1"}.items():
        monkeypatch.setenv(name, value)
    motive_pipeline(experiment="mine")
    assert [*dvc("exp", "list", "--name-only")] == ["mine"]
    subprocess.run(["git", "config", "user.email", "user@example.com"], check=True)
    assert signature() == {}
