"""Other values for one run: `dvc exp run --temp --set-param`, in a copy of the project that DVC makes.

The project itself, its params.yaml and its results stay as they are. What both have in common comes from
DVC's run cache; what a killed run has done so far lies in the project's .motive, which the copy shares.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.transactions import CommitMode, transaction

from flows.commands import StageFailed, dvc, read_stage_line
from flows.graph import untracked
from flows.tasks import WHERE_IT_MAY_PASS, say, say_all, signature
from motive.store.layout import stage_folder

METRICS = str(stage_folder("evaluation") / "metrics.json")


@task(name="experiment", **WHERE_IT_MAY_PASS)
def run_experiment(name: str, values: dict[str, Any], hours: float) -> dict[str, str]:
    """Run the whole pipeline with these dotted keys of params.yaml; returns stage -> outcome.

    One of the same name is replaced.

    Raises:
        StageFailed: names the stage, with the end of what it said.
    """
    if name in dvc("exp", "list", "--name-only"):
        say_all(dvc("exp", "remove", name))
    stage = ""
    outcome = ""
    outcomes: dict[str, str] = {}
    environment = {"MOTIVE_FLOW_RUN": str(flow_run.id), **signature()}
    try:
        for line in dvc(*_command(name, values), hours=hours, environment=environment):
            say(line)
            begun = read_stage_line(line)
            if begun:
                _note(stage, outcome, outcomes)
                stage, outcome = begun
        _note(stage, outcome, outcomes)
    except StageFailed as failure:
        failure.stage = stage or "pipeline"
        _note(failure.stage, "Failed", outcomes)
        raise
    return outcomes


def _command(name: str, values: dict[str, Any]) -> list[str]:
    command = ["exp", "run", "--temp", "--name", name]
    for key, value in values.items():
        command += ["--set-param", f"{key}={_quoted(value)}"]
    folders = [value for value in values.values() if isinstance(value, str) and Path(value).is_dir()]
    for path in untracked(folders):
        get_run_logger().info("%s is copied: it is in neither Git nor DVC; `dvc add` would link it", path)
        command += ["--copy-paths", path]
    return command


def _quoted(value: Any) -> str:
    """As Hydra's grammar, which DVC reads values by, wants a text: with what it may contain."""
    if not isinstance(value, str):
        return repr(value)
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _note(stage: str, outcome: str, outcomes: dict[str, str]) -> None:
    """The flow run's page shows a task for each stage; DVC runs them in one command."""
    if not stage:
        return
    outcomes[stage] = outcome
    end = end_stage.with_options(task_run_name=stage, tags=[stage.partition("@")[0]])
    # Else Prefect would call what is done rolled back where a later stage fails.
    with transaction(commit_mode=CommitMode.EAGER):
        end(stage, outcome, return_state=True)


@task(name="stage", cache_policy=NO_CACHE)
def end_stage(stage: str, outcome: str) -> State:
    """How a stage ended."""
    message = f"{stage}: {outcome}"
    return Failed(message=message) if outcome == "Failed" else Completed(name=outcome, message=message)


def metrics_of(name: str) -> dict[str, float]:
    """What `evaluation` measured in an experiment; none where there is no such stage."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "metrics.json"
        try:
            say_all(dvc("get", ".", METRICS, "--rev", name, "--out", str(out)))
        except StageFailed:
            return {}
        return json.loads(out.read_text())
