"""Real servers, a real worker, a real schedule: Prefect and MLflow on PostgreSQL, on a small world."""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Cancelling

from testing.machine import LONG, Site, change, dvc, make_site, worker_of
from testing.servers import BIN, kill_group, wait_until
from testing.tiny import ROOT
from testing.whole_project import commit

pytestmark = pytest.mark.e2e

NUM_POOL = 12
AFTER_ATTRIBUTION = {"curation", "finetuning", "evaluation", "record"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with make_site(tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("logs"), NUM_POOL) as site:
        yield site


@pytest.fixture(scope="module")
def worker(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen]:
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    with worker_of(site, log) as running:
        yield running
        print(log.read_text()[-5000:])


# Each of these is the state after the one it is given: asked for in any order, they happen in this one.


@pytest.fixture(scope="module")
def scheduled(site: Site, worker: subprocess.Popen) -> list[FlowRun]:
    """Nobody starts anything: the schedule fires, and fires again; then it is paused."""
    wait_until(lambda: len(site.ended("nightly")) >= 2, LONG, "two nightly runs end")
    site.pause("nightly")
    return site.ended("nightly")


@pytest.fixture(scope="module")
def refused(site: Site, scheduled: list[FlowRun]) -> FlowRun:
    """Queries in which nothing moves: their sketches are not ok, which an expectation forbids."""
    return site.finished(site.start("on-demand", queries="data/world/still"))


@pytest.fixture(scope="module")
def swept(site: Site, refused: FlowRun) -> FlowRun:
    """Two strategies, an experiment each."""
    return site.finished(site.start("sweep", strategies=["random", "motion_magnitude"], fraction=0.5))


def test_the_schedule_fires_and_the_run_completes(site: Site, scheduled: list[FlowRun]) -> None:
    assert scheduled[0].state_name == "Completed", scheduled[0].state
    assert scheduled[0].auto_scheduled
    flow_run = site.runs_of("motive")[0]
    outcomes = site.stages_of(flow_run.id)
    assert set(outcomes.values()) == {"Ran"}
    assert {"clips@pool", "sketches@pool", "attribution", "record"} <= outcomes.keys()
    assert len(pd.read_parquet(site.folder / "data/attribution/ranking.parquet")) == NUM_POOL


def test_another_checkout_pulls_the_same_results_and_computes_nothing(
    site: Site, scheduled: list[FlowRun], tmp_path: Path
) -> None:
    commit(site.folder)  # dvc.lock
    subprocess.run(["git", "clone", "--quiet", site.folder, tmp_path / "other"], check=True)
    assert not (tmp_path / "other/data/world").exists()
    dvc(tmp_path / "other", site.env, "pull")
    output = dvc(tmp_path / "other", site.env, "repro")
    # record finds its run in MLflow
    assert "Running stage" not in output.replace("Running stage 'record'", "")
    for name in ("attribution/ranking.parquet", "evaluation/metrics.json", "finetuning/losses.parquet"):
        assert (tmp_path / "other/data" / name).read_bytes() == (site.folder / "data" / name).read_bytes()


def test_where_nothing_changed_nothing_runs(site: Site, scheduled: list[FlowRun]) -> None:
    assert {run.state_name for run in scheduled[1:]} == {"UpToDate"}
    assert len(site.runs_of("motive")) == 1


def test_a_run_page_says_what_came_out(site: Site, scheduled: list[FlowRun]) -> None:
    page = site.artifact("results")
    assert "heldout_motion_loss" in page
    assert f"({site.mlflow}/#/experiments/" in page
    assert "data:image/jpeg;base64," in page
    assert page.count("\n| ") > 10, "the best clips are a table"


@pytest.mark.parametrize(
    "wrong", [{"strategy": "best"}, {"fraction": 1.5}, {"seed": -1}, {"model": ""}, {"experiment": "a b"}]
)
def test_a_wrong_parameter_is_refused_in_the_form(site: Site, wrong: dict) -> None:
    with pytest.raises(PrefectHTTPStatusError, match=next(iter(wrong))):
        site.start("on-demand", **wrong)


def test_a_failed_expectation_stops_the_flow_at_its_stage(site: Site, refused: FlowRun) -> None:
    assert refused.state is not None
    assert refused.state.is_failed()
    outcomes = site.stages_of(refused.id)
    assert outcomes.get("sketches@queries") == "Failed", refused.state.message
    assert "attribution" not in outcomes
    page = site.artifact("failure")
    assert "sketches@queries failed" in page
    assert "any_ok" in page
    assert "How to go on" in page


def test_a_sweep_is_a_dvc_experiment_and_an_mlflow_run_each(site: Site, swept: FlowRun) -> None:
    assert swept.state_name == "Completed", swept.state
    names = ["random-seed-0-0_5", "motion_magnitude-seed-0-0_5"]
    assert set(names) <= set(dvc(site.folder, site.env, "exp", "list", "--name-only").split())
    runs = {run.data.tags.get("dvc_experiment"): run for run in site.runs_in_mlflow()}
    assert [runs[name].data.tags["strategy"] for name in names] == ["random", "motion_magnitude"]
    assert [runs[name].data.metrics["num_selected"] for name in names] == [NUM_POOL / 2] * 2
    rows = json.loads(site.artifact("sweep"))
    assert [row["experiment"] for row in rows] == names
    changes = [runs[name].data.metrics["heldout_motion_loss_change"] for name in names]
    assert [row["heldout_motion_loss_change"] for row in rows] == changes
    for flow_run in site.runs_of("motive")[-2:]:
        outcomes = site.stages_of(flow_run.id)
        assert {stage for stage, outcome in outcomes.items() if outcome == "Ran"} == AFTER_ATTRIBUTION


def test_mlflow_has_a_page_that_compares_runs(site: Site, swept: FlowRun) -> None:
    from mlflow import MlflowClient

    run = next(run for run in site.runs_in_mlflow() if run.data.tags["strategy"] == "motion_magnitude")
    tags = MlflowClient(site.mlflow).get_experiment(run.info.experiment_id).tags
    view = json.loads(tags["mlflow.sharedViewState.motive"])
    charts = {chart["metricKey"] for chart in view["compareRunCharts"]}
    assert {name for name in charts if not name.startswith("drift/")} <= run.data.metrics.keys()
    columns = {f"metrics.`{name}`" for name in run.data.metrics}
    columns |= {f"tags.`{name}`" for name in run.data.tags}
    columns |= {f"params.`{name}`" for name in run.data.params} | {"tags.`failed_stage`"}
    assert set(view["selectedColumns"]) <= columns


def test_params_are_as_before_whatever_a_run_chose(site: Site, swept: FlowRun) -> None:
    changed = subprocess.run(
        ["git", "diff", "--name-only", "params.yaml"],
        cwd=site.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert changed.stdout == ""


def test_mlflow_has_the_run_and_the_failure(site: Site, refused: FlowRun) -> None:
    runs = site.runs_in_mlflow()
    assert [run.info.status for run in runs].count("FINISHED") >= 1
    [failed] = [run for run in runs if run.info.status == "FAILED"]
    assert failed.data.tags["failed_stage"] == "sketches@queries"
    assert "any_ok" in failed.data.tags["reason"]


# ---- killed


def test_killed_in_the_middle_of_sketches_worker_and_server_the_next_run_gives_the_same_bytes(
    site: Site, refused: FlowRun, worker: subprocess.Popen, tmp_path: Path
) -> None:
    sketch_slowly(site.folder, seed=1)
    store = site.folder / ".motive/work/sketches"
    before = set(store.glob("*/*.safetensors"))
    killed = site.start("on-demand")
    wait_until(lambda: len(set(store.glob("*/*.safetensors")) - before) >= 3, LONG, "some sketches are made")
    kill_everything(site, worker)
    made = len(set(store.glob("*/*.safetensors")) - before)
    assert made < NUM_POOL + 10, "it was killed in the middle"
    site.restart_server()
    with worker_of(site, tmp_path / "worker.log"):
        again = site.finished(site.start("on-demand"))
    assert again.state is not None
    assert again.state.is_completed(), again.state.message
    of_killed = site.client.read_flow_run(killed).state
    assert of_killed is not None
    assert of_killed.is_crashed()
    runs = [run for run in site.runs_in_mlflow() if run.data.params.get("sketches.projection_seed") == "1"]
    assert [run.info.status for run in runs] == ["FINISHED"], "one run, and no zombie"
    assert (site.folder / "data/attribution/ranking.parquet").read_bytes() == unbroken(site.folder, tmp_path)


def sketch_slowly(folder: Path, seed: int) -> None:
    """So many noise levels that there is time to stop it, on a fast machine too."""
    change(folder, "sketches", "projection_seed", seed)
    change(folder, "sketches", "sigmas", [n / 41 for n in range(1, 41)])


def kill_everything(site: Site, worker: subprocess.Popen) -> None:
    """The worker and all it started, with no chance to say so; stages end, as nobody holds them."""
    family = psutil.Process(worker.pid).children(recursive=True)
    own = [child for child in family if "leash.py" not in " ".join(child.cmdline())]
    leashes = [child for child in family if child not in own]
    held = [child for leash in leashes for child in leash.children(recursive=True)]
    for child in [each for each in own if each not in held]:
        child.kill()
    kill_group(worker, signal.SIGKILL)
    _, alive = psutil.wait_procs([*leashes, *held], timeout=60)
    assert not alive, f"still running: {alive}"


def test_a_cancelled_run_ends_its_stage(site: Site, tmp_path: Path) -> None:
    sketch_slowly(site.folder, seed=2)
    store = site.folder / ".motive/work/sketches"
    before = set(store.glob("*/*.safetensors"))
    with worker_of(site, tmp_path / "worker.log") as worker:
        run_id = site.start("nightly")
        wait_until(lambda: set(store.glob("*/*.safetensors")) - before, LONG, "some sketches are made")
        site.client.set_flow_run_state(run_id, Cancelling())
        assert site.finished(run_id).state_name == "Cancelled"
        family = psutil.Process(worker.pid).children(recursive=True)
        wait_until(lambda: not any(stage_of(child) for child in family), 60, "the stage has ended")


def stage_of(process: psutil.Process) -> bool:
    """Whether it is a stage that still runs."""
    try:
        return "motive sketches" in " ".join(process.cmdline()) and process.is_running()
    except psutil.Error:
        return False


def unbroken(folder: Path, tmp_path: Path) -> bytes:
    """The ranking of a copy of the project whose sketches are made in one go."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(".motive", ".dvc", "sketches", "attribution"))
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    for stage in (["sketches", "pool"], ["sketches", "queries"], ["attribution"]):
        subprocess.run([BIN / "motive", *stage], cwd=copy, env=env, check=True)
    return (copy / "data/attribution/ranking.parquet").read_bytes()


def test_nothing_talks_to_the_outside(site: Site, refused: FlowRun) -> None:
    """Prefect, MLflow, DVC, Great Expectations and the stages, all that they did above."""
    connections = [line.split(" ", 1) for line in Path(site.env["WATCHED"]).read_text().splitlines()]
    assert len(connections) > 100, "it watches"
    here = {"127.0.0.1", "localhost", "::1", "0.0.0.0", socket.gethostname()}
    assert [line for line in connections if line[0] not in here] == []
