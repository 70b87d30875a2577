"""The river as a Prefect flow, a task for each DVC stage; `python -m flows.pipeline` runs it once.

The stages and what each needs are read from dvc.yaml, where they are written once. DVC decides what is stale
and keeps the results; Prefect knows when each stage ran, how it ended and what it said.
"""

import subprocess
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, as_completed
from prefect.runtime import flow_run
from prefect.states import Completed
from prefect.tasks import exponential_backoff
from pydantic import Field

from flows import pages
from flows.checkout import checkout
from flows.commands import STOP, StageFailed, dvc
from flows.graph import Graph, in_order, read_graph
from motive.params import Count, Fraction, Params, Positive, Seed, Strategy, Text

RETRIES = 3
FIRST_DELAY = 10  # seconds; doubles with each retry

ExperimentName = Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$")]


@flow(name="motive")
def motive_pipeline(
    strategy: Strategy | None = None,
    fraction: Fraction | None = None,
    seed: Seed | None = None,
    model: Text | None = None,
    queries: Text | None = None,
    experiment: ExperimentName | None = None,
    stage_hours: Positive = 24,
    side_by_side: Count | None = None,
) -> State:
    """Bring the project in the working directory up to date, stage by stage.

    What is left empty is as in params.yaml, which is as before at the end.

    Args:
        strategy: Who chooses the clips (curation.strategy).
        fraction: The budget: which part of the pool is chosen (curation.fraction).
        seed: Of a random choice, and of the training.
        model: A diffusers folder (model.path).
        queries: A folder of clips that show the wanted motion (clips.source.queries).
        experiment: Keep the results as a DVC experiment of this name, too.
        stage_hours: A stage that takes longer is stopped.
        side_by_side: Stages at once, where they need not wait; empty: 2 on a CPU, 1 on a card.

    Raises:
        StageFailed: names the stage, with the end of what it said; what other stages have done is kept.
        ValueError: params.yaml, with what was chosen here, is wrong; says where.
    """
    with checkout(settings(strategy, fraction, seed, model, queries)) as params:
        state = bring_up_to_date(params, stage_hours, side_by_side, experiment or "")
        if experiment:
            say(dvc("exp", "save", "--force", "--name", experiment, hours=1, **signature()))
        return state


def settings(
    strategy: str | None = None,
    fraction: float | None = None,
    seed: int | None = None,
    model: str | None = None,
    queries: str | None = None,
) -> dict[str, Any]:
    """What was chosen, as dotted keys of params.yaml.

    Raises:
        ValueError: a folder is not there.
    """
    for name, folder in (("model", model), ("queries", queries)):
        if folder is not None and not Path(folder).is_dir():
            raise ValueError(f"{name} is {folder!r}: there is no such folder in {Path.cwd()}")
    chosen = {
        "curation.strategy": strategy,
        "curation.fraction": fraction,
        "curation.seed": seed,
        "finetuning.seed": seed,
        "model.path": model,
        "clips.source.queries": queries,
    }
    return {key: value for key, value in chosen.items() if value is not None}


def bring_up_to_date(
    params: Params, stage_hours: float, side_by_side: int | None, experiment: str = ""
) -> State:
    """Run what is stale, in the flow run that calls this."""
    log = get_run_logger()
    graph = read_graph()
    if is_up_to_date():
        log.info("nothing to run: data and pipelines are up to date")
        return Completed(name="UpToDate", message="nothing to run")
    at_once = side_by_side or (2 if params.model.device == "cpu" else 1)
    log.info("stages, %d at once: %s", at_once, ", ".join(in_order(graph)))
    try:
        outcomes = _run_stages(graph, stage_hours, at_once, experiment)
    except StageFailed as failure:
        pages.tell_failure(failure, params)
        raise
    except BaseException:  # a signal that ends this flow run; its tasks still run, in threads
        STOP.set()
        raise
    pages.tell_results(outcomes, params)
    ran = sum(outcome == "Ran" for outcome in outcomes.values())
    return Completed(message=f"{len(outcomes)} stages are up to date, {ran} of them ran")


def say(lines: Iterable[str]) -> None:
    """Pass on what a command says."""
    for line in lines:
        get_run_logger().info("%s", line)


def signature() -> dict[str, str]:
    """Who signs an experiment, which is a commit, where nobody has told Git: a worker's machine."""
    if subprocess.run(["git", "config", "user.email"], capture_output=True, check=False).returncode == 0:
        return {}
    who = {"NAME": "motive", "EMAIL": "motive@localhost"}
    return {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}


def is_up_to_date() -> bool:
    """Whether DVC has nothing to do; `repro --dry` can't say it in a fresh clone."""
    return [*dvc("status", "--json")][-1] == "{}"


def _run_stages(graph: Graph, hours: float, at_once: int, experiment: str) -> dict[str, str]:
    """stage -> outcome. The first that fails ends it, after those that run beside it."""
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    waiting: list[str] = []
    futures: dict[str, PrefectFuture] = {}
    running: dict[PrefectFuture, str] = {}
    failures: list[BaseException] = []
    outcomes: dict[str, str] = {}
    while sorter.is_active() and (running or not failures):
        waiting += sorted(sorter.get_ready())
        while waiting and len(running) < at_once and not failures:
            stage = waiting.pop(0)
            named = run_stage.with_options(task_run_name=stage, tags=[stage.partition("@")[0]])
            needs = [futures[need] for need in graph[stage]]
            futures[stage] = named.submit(stage, hours, experiment, wait_for=needs)  # pyright: ignore
            running[futures[stage]] = stage
        future = next(as_completed(list(running)))
        stage = running.pop(future)
        future.wait()  # told of before its state is there
        if not future.state.is_completed():
            failures.append(_error(stage, future))
            continue
        outcomes[stage] = future.state.name or ""
        sorter.done(stage)
    if failures:
        raise failures[0]
    return outcomes


def _error(stage: str, future: PrefectFuture) -> BaseException:
    error = future.result(raise_on_failure=False)
    if isinstance(error, StageFailed):
        return StageFailed(f"{stage}: {error}", error.may_pass)
    return StageFailed(f"{stage}: {error or future.state.message}")


def _may_pass(_task: Any, _run: Any, state: State) -> bool:
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageFailed) and error.may_pass and not STOP.is_set()


@task(
    name="stage",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=exponential_backoff(FIRST_DELAY),
    retry_jitter_factor=0.5,
    retry_condition_fn=_may_pass,
)
def run_stage(stage: str, hours: float, experiment: str) -> State:
    """Let DVC bring one stage up to date: Ran, Restored (from the run cache) or UpToDate."""
    log = get_run_logger()
    outcome = "Ran"
    names = {"MOTIVE_FLOW_RUN": str(flow_run.id), "DVC_EXP_NAME": experiment}  # `record` makes tags of them
    for line in dvc("repro", "--single-item", stage, hours=hours, **names):
        (log.error if line.startswith(("error:", "ERROR:")) else log.info)("%s", line)
        if "didn't change, skipping" in line:
            outcome = "UpToDate"
        elif "is cached - skipping run" in line:
            outcome = "Restored"
    return Completed(name=outcome, message=f"{stage}: {outcome}")


if __name__ == "__main__":
    raise SystemExit(not motive_pipeline(return_state=True).is_completed())
