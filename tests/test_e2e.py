"""Real servers, a real worker, a real schedule: Prefect and MLflow on PostgreSQL, on a small world."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
import pandas as pd
import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, temporary_settings
from ruamel.yaml import YAML

from motive.formats.video import write_video
from tests.river_project import commit, write_params, write_project
from tests.servers import BIN, kill_group, mlflow_server, postgres, prefect_server, process, wait_until
from tests.tiny import ROOT

pytestmark = pytest.mark.e2e

NUM_POOL = 12
LONG = 900  # seconds after which something hangs, and is not only slow


@dataclass
class Site:
    """One machine as `make server` and `make worker` make it."""

    folder: Path
    env: dict[str, str]
    client: SyncPrefectClient
    mlflow: str

    def deployment(self, name: str) -> UUID:
        flow = {"nightly": "nightly", "on-demand": "motive", "sweep": "sweep"}[name]
        return self.client.read_deployment_by_name(f"{flow}/{name}").id

    def start(self, name: str, **parameters: object) -> UUID:
        return self.client.create_flow_run_from_deployment(self.deployment(name), parameters=parameters).id

    def finished(self, run_id: UUID) -> FlowRun:
        """Wait for a flow run to end."""
        wait_until(lambda: self._is_final(run_id), LONG, f"flow run {run_id} ends")
        return self.client.read_flow_run(run_id)

    def _is_final(self, run_id: UUID) -> bool:
        state = self.client.read_flow_run(run_id).state
        return state is not None and state.is_final()

    def runs_of(self, flow: str) -> list[FlowRun]:
        """Flow runs that have begun, the oldest first."""
        from prefect.client.schemas.filters import FlowFilter, FlowFilterName

        chosen = FlowFilter(name=FlowFilterName(any_=[flow]))
        runs = self.client.read_flow_runs(flow_filter=chosen, sort=FlowRunSort.EXPECTED_START_TIME_ASC)
        return [run for run in runs if run.start_time is not None]

    def stages_of(self, run_id: UUID) -> dict[str, str]:
        """stage -> the state its task ended in."""
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

        tasks = self.client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])))
        return {task.name: task.state.name or "" for task in tasks if task.state is not None}

    def artifact(self, key: str) -> str:
        found = self.client.request("GET", "/artifacts/{key}/latest", path_params={"key": key}).json()
        return found["data"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    logs = tmp_path_factory.mktemp("logs")
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src"), "PREFECT_HOME": str(logs / "prefect")}
    env |= {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_WORKER_PREFETCH_SECONDS": "3"}
    with ExitStack() as stack:
        database = stack.enter_context(postgres())
        api = stack.enter_context(prefect_server(logs / "prefect.log", env, database("prefect")))
        address = stack.enter_context(
            mlflow_server(logs / "mlflow.log", env, database("mlflow"), logs / "artifacts")
        )
        env |= {"PREFECT_API_URL": api, "MOTIVE_PROJECT": str(folder)}
        make_project(folder, address)
        for command in (["work-pool", "create", "motive", "--type", "process"], ["deploy", "--all"]):
            subprocess.run([BIN / "prefect", "--no-prompt", *command], cwd=folder, env=env, check=True)
        stack.enter_context(temporary_settings({PREFECT_API_URL: api}))
        client = stack.enter_context(get_client(sync_client=True))
        yield Site(folder, env, client, address)


def make_project(folder: Path, mlflow: str) -> None:
    """A small project that runs every minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copytree(ROOT / "flows", folder / "flows", ignore=shutil.ignore_patterns("__pycache__"))
        deployments = (ROOT / "prefect.yaml").read_text()
        assert deployments.count('cron: "0 2 * * *"') == 1
        (folder / "prefect.yaml").write_text(deployments.replace("0 2 * * *", "* * * * *"))
        write_project(folder, num_pool=NUM_POOL, num_heldout=10)
        write_params(track={"uri": mlflow})
        set_shards(folder)
        still = folder / "data/world/still"
        still.mkdir()
        write_video(still / "still.mp4", np.full((40, 32, 32, 3), 128, np.uint8), 16.0)
        (still / "still.txt").write_text("a red ball rests")


def set_shards(folder: Path) -> None:
    """A clip a shard: much to lose."""
    path = folder / "params.yaml"
    values = YAML(typ="safe").load(path)
    values["shards"]["size"] = 1
    YAML(typ="safe").dump(values, path)
    commit(folder)


@pytest.fixture(scope="module")
def worker(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen]:
    command = [str(BIN / "prefect"), "worker", "start", "--pool", "motive"]
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    with process(command, log, site.env, site.folder) as running:
        yield running
        print(log.read_text()[-5000:])


# Each of these is the state after the one it is given: asked for in any order, they happen in this one.


@pytest.fixture(scope="module")
def scheduled(site: Site, worker: subprocess.Popen) -> list[FlowRun]:
    """Nobody starts anything: the schedule fires, and fires again; then it is paused."""
    wait_until(lambda: len(final(site, "nightly")) >= 2, LONG, "two nightly runs end")
    deployment = site.client.read_deployment(site.deployment("nightly"))
    for schedule in deployment.schedules:
        site.client.update_deployment_schedule(deployment.id, schedule.id, active=False)
    wait_until(lambda: len(final(site, "nightly")) == len(site.runs_of("nightly")), LONG, "all have ended")
    return final(site, "nightly")


def final(site: Site, flow: str) -> list[FlowRun]:
    return [run for run in site.runs_of(flow) if run.state is not None and run.state.is_final()]


@pytest.fixture(scope="module")
def refused(site: Site, scheduled: list[FlowRun]) -> FlowRun:
    """Queries in which nothing moves: their sketches are not ok, which an expectation forbids."""
    return site.finished(site.start("on-demand", queries="data/world/still"))


def test_the_schedule_fires_and_the_run_completes(site: Site, scheduled: list[FlowRun]) -> None:
    assert [run.state.name for run in scheduled[:1]] == ["Completed"], scheduled[0].state
    assert scheduled[0].auto_scheduled
    river = site.runs_of("motive")[0]
    outcomes = site.stages_of(river.id)
    assert set(outcomes.values()) == {"Ran"}
    assert {"clips@pool", "sketches@pool", "attribution", "track"} <= outcomes.keys()
    assert len(pd.read_parquet(site.folder / "data/attribution/ranking.parquet")) == NUM_POOL
    assert any((site.folder / ".motive/remote").rglob("*.dir")), "it was pushed"


def test_where_nothing_changed_nothing_runs(site: Site, scheduled: list[FlowRun]) -> None:
    assert {run.state.name for run in scheduled[1:]} == {"UpToDate"}
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
    assert outcomes["sketches@queries"] == "Failed"
    assert "attribution" not in outcomes
    page = site.artifact("failure")
    assert "sketches@queries failed" in page
    assert "any_ok" in page
    assert "How to go on" in page


def test_params_are_as_before_whatever_a_run_chose(site: Site, refused: FlowRun) -> None:
    changed = subprocess.run(
        ["git", "diff", "--name-only"], cwd=site.folder, capture_output=True, text=True, check=True
    )
    assert changed.stdout == ""


def test_mlflow_has_the_run_and_the_failure(site: Site, refused: FlowRun) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(site.mlflow)
    experiment = client.get_experiment_by_name("motive")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert sorted(run.info.status for run in parents) == ["FAILED", "FINISHED"]
    failed = next(run for run in parents if run.info.status == "FAILED")
    assert failed.data.tags["failed_stage"] == "sketches@queries"


# ---- killed


def test_killed_in_the_middle_of_sketches_the_next_run_gives_the_same_bytes(
    site: Site, refused: FlowRun, worker: subprocess.Popen, tmp_path: Path
) -> None:
    values = YAML(typ="safe").load(site.folder / "params.yaml")
    values["sketches"]["projection_seed"] = 1
    YAML(typ="safe").dump(values, site.folder / "params.yaml")
    store = site.folder / ".motive/work/sketches"
    before = set(store.glob("*/*.safetensors"))
    killed = site.start("on-demand")
    wait_until(lambda: len(set(store.glob("*/*.safetensors")) - before) >= 3, LONG, "some sketches are made")
    kill_everything(site, worker)
    made = len(set(store.glob("*/*.safetensors")) - before)
    assert made < NUM_POOL + 10, "it was killed in the middle"
    command = [str(BIN / "prefect"), "worker", "start", "--pool", "motive"]
    with process(command, tmp_path / "worker.log", site.env, site.folder):
        again = site.finished(site.start("on-demand"))
    assert again.state is not None
    assert again.state.is_completed(), again.state.message
    of_killed = site.client.read_flow_run(killed).state
    assert of_killed is not None
    assert of_killed.is_crashed()
    assert (site.folder / "data/attribution/ranking.parquet").read_bytes() == unbroken(site.folder, tmp_path)


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


def unbroken(folder: Path, tmp_path: Path) -> bytes:
    """The ranking that a fresh copy of the project gives by `dvc repro`."""
    copy = tmp_path / "copy"
    wanted = shutil.ignore_patterns(".motive", "cache", "dvc.lock", "mlflow*", *STAGE_FOLDERS)
    shutil.copytree(folder, copy, ignore=wanted)
    command = [sys.executable, "-m", "dvc", "repro", "attribution"]
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run(command, cwd=copy, env=env, check=True)
    return (copy / "data/attribution/ranking.parquet").read_bytes()


STAGE_FOLDERS = ("clips", "optical_flow", "masks", "latents", "sketches", "attribution")


def test_mlflow_shows_one_run_of_what_was_killed_and_resumed(site: Site) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(site.mlflow)
    experiment = client.get_experiment_by_name("motive")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert sorted(run.info.status for run in parents) == ["FAILED", "FINISHED", "FINISHED"]
    assert not [run for run in runs if run.info.status == "RUNNING"]
