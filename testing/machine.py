"""One machine as `make server` and `make worker` make it, with a small project that runs every minute."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings
from ruamel.yaml import YAML

from motive.video.writing import write_video
from testing.mlflow_runs import parent_runs
from testing.servers import (
    BIN,
    free_port,
    kill_group,
    made_environment,
    mlflow_server,
    postgres,
    prefect_api,
    prefect_server,
    process,
    s3,
    wait_until,
)
from testing.tiny import ROOT
from testing.whole_project import commit, write_params, write_project, write_yaml

LONG = 900  # seconds after which something hangs, and is not only slow


@dataclass
class Site:
    """One machine as `make server` and `make worker` make it."""

    folder: Path
    env: dict[str, str]
    client: SyncPrefectClient
    mlflow: str
    server: subprocess.Popen
    serve: Callable[[], subprocess.Popen]

    def restart_server(self) -> None:
        """Kill Prefect's server, which has no chance to say so, and start it again."""
        kill_group(self.server, signal.SIGKILL)
        self.server.wait()
        self.server = self.serve()

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
        order = FlowRunSort.EXPECTED_START_TIME_ASC
        runs = self.client.read_flow_runs(flow_filter=_flow(flow), sort=order)
        return [run for run in runs if run.start_time is not None]

    def ended(self, flow: str) -> list[FlowRun]:
        """Those of them that have ended, the oldest first."""
        return [run for run in self.runs_of(flow) if run.state is not None and run.state.is_final()]

    def pause(self, name: str) -> None:
        """Stop the schedule of a deployment, and let what has begun end."""
        deployment = self.client.read_deployment(self.deployment(name))
        for schedule in deployment.schedules:
            self.client.update_deployment_schedule(deployment.id, schedule.id, active=False)
        time.sleep(10)  # the server may be about to add the next hour's runs, which it planned before
        for run in self.client.read_flow_runs(flow_filter=_flow(name)):
            if run.state is not None and run.state.is_scheduled():
                self.client.delete_flow_run(run.id)
        wait_until(lambda: len(self.ended(name)) == len(self.runs_of(name)), LONG, "all runs have ended")

    def stages_of(self, run_id: UUID) -> dict[str, str]:
        """stage -> the state its task ended in."""
        return stages_of(self.client, run_id)

    def runs_in_mlflow(self) -> list:
        """The parent runs."""
        return parent_runs(self.mlflow)

    def artifact(self, key: str) -> str:
        answer = self.client.request("GET", "/artifacts/{key}/latest", path_params={"key": key})
        return answer.json()["data"]


def stages_of(client: SyncPrefectClient, run_id: UUID) -> dict[str, str]:
    """The name of each task of a flow run -> that of the state it ended in."""
    tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])))
    return {task.name: task.state.name or "" for task in tasks if task.state is not None}


def _flow(name: str) -> FlowFilter:
    return FlowFilter(name=FlowFilterName(any_=[name]))


@contextmanager
def make_site(folder: Path, logs: Path, num_pool: int) -> Iterator[Site]:
    """PostgreSQL, S3, MLflow and Prefect, and a project deployed there; `Site.worker` is still missing."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    env = {**made_environment(), "PATH": path, "PREFECT_HOME": str(logs / "prefect")}
    watch = f"{ROOT / 'testing/watch'}{os.pathsep}{ROOT / 'src'}"
    env |= {"PYTHONPATH": watch, "WATCHED": str(logs / "watched")}
    env |= {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_WORKER_PREFETCH_SECONDS": "3"}
    with ExitStack() as stack:
        env |= stack.enter_context(s3(logs / "s3.log", "motive"))
        database = stack.enter_context(postgres())
        prefect_database = database("prefect")
        port = free_port()
        api = prefect_api(port)

        def serve() -> subprocess.Popen:
            return stack.enter_context(prefect_server(logs / "prefect.log", env, prefect_database, port))

        server = serve()
        address = stack.enter_context(
            mlflow_server(
                logs / "mlflow.log", env, f"postgresql+psycopg2{database('mlflow')}", "s3://motive/mlflow"
            )
        )
        env |= {"PREFECT_API_URL": api, "MOTIVE_PROJECT": str(folder)}
        make_project(folder, address, env, num_pool)
        for command in (["python", "-m", "flows.ready"], ["python", "-m", "flows.deploy"]):
            subprocess.run([BIN / command[0], *command[1:]], cwd=folder, env=env, check=True)
        stack.enter_context(temporary_settings({PREFECT_API_URL: api}))
        client = stack.enter_context(get_client(sync_client=True))
        yield Site(folder, env, client, address, server, serve)


@contextmanager
def worker_of(site: Site, log: Path) -> Iterator[subprocess.Popen]:
    """A worker, until the end of the block, as `make worker` starts it."""
    subprocess.run([BIN / "python", "-m", "flows.ready"], cwd=site.folder, env=site.env, check=True)
    command = [str(BIN / "prefect"), "worker", "start", "--pool", "motive"]
    with process(command, log, site.env, site.folder) as running:
        yield running


def make_project(folder: Path, mlflow: str, env: dict[str, str], num_pool: int) -> None:
    """A small project that runs every minute; DVC knows its clips, and keeps everything on S3."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copytree(ROOT / "flows", folder / "flows", ignore=shutil.ignore_patterns("__pycache__"))
        deployments = (ROOT / "prefect.yaml").read_text()
        assert deployments.count('cron: "0 2 * * *"') == 1
        (folder / "prefect.yaml").write_text(deployments.replace("0 2 * * *", "* * * * *"))
        write_project(folder, num_pool=num_pool, num_heldout=10)
        write_params(record={"uri": mlflow})
        still = folder / "data/world/still"
        still.mkdir()
        write_video(still / "still.mp4", np.full((40, 32, 32, 3), 128, np.uint8), 16.0)
        (still / "still.txt").write_text("a red ball rests")
        remote = ["remote", "add", "--default", "s3", "s3://motive/dvc"]
        for command in (remote, ["remote", "modify", "s3", "endpointurl", env["AWS_ENDPOINT_URL"]]):
            dvc(folder, env, *command)
        dvc(folder, env, "add", "data/world")
        change(folder, "shards", "size", 1)  # much to lose
        commit(folder)


def dvc(folder: Path, env: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def change(folder: Path, section: str, key: str, value: object) -> None:
    """One key of params.yaml."""
    path = folder / "params.yaml"
    values = YAML(typ="safe").load(path)
    values[section][key] = value
    write_yaml(path, values)
