"""The river as a Prefect flow, a task for each DVC stage; `python -m flows.pipeline` runs it once.

The stages and their order are read from dvc.yaml, where they are written once. DVC decides what is stale and
keeps the results; Prefect knows when each stage ran, how it ended and what it said.
"""

import logging
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Generator
from graphlib import TopologicalSorter
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

GRACE = 10  # seconds that a cancelled stage has for stopping by itself
TAIL = 20  # last lines of a failed stage that its error repeats


class StageFailed(RuntimeError):
    """A stage ended with an error, which stands in the message."""


@flow(name="motive", validate_parameters=False)
def motive_pipeline() -> State:
    """Bring the project in the working directory up to date, stage by stage.

    Raises:
        StageFailed: names the stage, with the end of what it said; the stages before it are done and kept.
    """
    log = get_run_logger()
    if [*dvc("status", "--json")][-1] == "{}":  # what changed; `repro --dry` can't say it in a fresh clone
        log.info("nothing to run: data and pipelines are up to date")
        return Completed(name="UpToDate", message="nothing to run")
    stages = stages_in_order()
    log.info("stages: %s", ", ".join(stages))
    for stage in stages:
        run_stage.with_options(task_run_name=stage)(stage)
    return Completed(message=f"{len(stages)} stages are up to date")


@task(name="stage", cache_policy=NO_CACHE)
def run_stage(stage: str) -> State:
    """Let DVC bring one stage up to date: Ran, Restored (from the run cache) or UpToDate."""
    log = get_run_logger()
    outcome = "Ran"
    for line in dvc("repro", "--single-item", stage):
        log.info("%s", line)
        if "didn't change, skipping" in line:
            outcome = "UpToDate"
        elif "is cached - skipping run" in line:
            outcome = "Restored"
    return Completed(name=outcome, message=f"{stage}: {outcome}")


def stages_in_order() -> list[str]:
    """The names of the stages of dvc.yaml, each after those it needs."""
    from dvc.repo import Repo

    with Repo(".") as repo:
        graph = repo.index.graph  # edges point from a stage to what it needs
        needs = {stage.addressing: {need.addressing for need in graph.successors(stage)} for stage in graph}
        commands = {stage.addressing for stage in graph if stage.cmd}
    return [name for name in TopologicalSorter(needs).static_order() if name in commands]


def dvc(*arguments: str) -> Generator[str]:
    """Yield what `dvc` says line by line; whatever ends the caller, its process and all it started end too.

    Raises:
        StageFailed: it ended with an error.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]
    path = (
        f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # the stages call `motive`
    )
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, "PATH": path},
    )
    assert process.stdout is not None
    tail: deque[str] = deque(maxlen=TAIL)
    try:
        for raw in process.stdout:
            if (
                line := raw.decode(errors="replace").rstrip().rpartition("\r")[2]
            ):  # a progress bar's last state
                tail.append(line)
                yield line
        if process.wait():
            raise StageFailed(f"`dvc {' '.join(arguments)}` failed:\n" + "\n".join(tail))
    finally:
        process.stdout.close()
        _end(process)


def _end(process: subprocess.Popen) -> None:
    """End a process group, in which DVC's own child runs: ending DVC alone leaves the stage running."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, how)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            logging.getLogger("motive").warning("stage did not stop within %d s", GRACE)


if __name__ == "__main__":
    motive_pipeline()
