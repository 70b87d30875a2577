"""The pipeline as a Prefect flow, a task for each DVC stage; `python -m flows.pipeline` runs it once.

The stages and what each needs are read from dvc.yaml, where they are written once. DVC decides what is stale
and keeps the results; Prefect knows when each stage ran, how it ended and what it said.
"""

from graphlib import TopologicalSorter
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, as_completed
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import Field

from flows import pages
from flows.checkout import checkout
from flows.commands import RAN, STOP, StageFailed, dvc, read_stage_line
from flows.experiments import metrics_of, run_experiment
from flows.graph import Graph, in_order, read_graph
from flows.tasks import WHERE_IT_MAY_PASS, say, say_all, signature
from motive.params import Count, Fraction, Positive, Seed, Strategy, Text, load_params

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

    What is left empty is as in params.yaml. With values of its own, a run is a DVC experiment in a copy of
    the project: params.yaml and the results here stay as they are.

    Args:
        strategy: Who chooses the clips (curation.strategy).
        fraction: The budget: which share of the pool is chosen (curation.fraction).
        seed: Of a random choice, and of the training.
        model: A diffusers folder (model.path).
        queries: A folder of clips that show the wanted motion (clips.source.queries).
        experiment: Keep the results as a DVC experiment of this name.
        stage_hours: A stage that takes longer is stopped.
        side_by_side: Stages at once, where they need not wait; empty: 2 on a CPU, 1 on a GPU.

    Raises:
        StageFailed: names the stage, with the end of what it said; what other stages have done is kept.
        ValueError: params.yaml, with what was chosen here, is wrong; says where.
    """
    values = chosen_values(strategy, fraction, seed, model, queries)
    load_params(changes=values)  # a mistake is told before anything runs
    with checkout():
        if values:
            name = experiment or str(flow_run.name)
            return try_values(name, values, stage_hours)
        state = bring_up_to_date(stage_hours, side_by_side, experiment or "")
        if experiment:
            save = dvc("exp", "save", "--force", "--name", experiment, hours=1, environment=signature())
            say_all(save)
        return state


def chosen_values(
    strategy: str | None,
    fraction: float | None,
    seed: int | None,
    model: str | None,
    queries: str | None,
) -> dict[str, Any]:
    """What was chosen, as dotted keys of params.yaml.

    Raises:
        ValueError: a folder is not there.
    """
    for name, folder in (("model", model), ("queries", queries)):
        if folder is not None and not Path(folder).is_dir():
            raise ValueError(f"{name} is {folder!r}: there is no such folder in {Path.cwd()}")
    values = {
        "curation.strategy": strategy,
        "curation.fraction": fraction,
        "curation.seed": seed,
        "finetuning.seed": seed,
        "model.path": model,
        "clips.source.queries": queries,
    }
    return {key: value for key, value in values.items() if value is not None}


def try_values(name: str, values: dict[str, Any], stage_hours: float) -> State:
    """Run the pipeline with other values, as a DVC experiment, in the flow run that calls this."""
    get_run_logger().info("experiment %s: %s", name, values)
    try:
        outcomes = run_experiment.with_options(task_run_name=f"experiment {name}")(name, values, stage_hours)
    except StageFailed as failure:
        pages.tell_failure(failure, values)
        raise
    pages.tell_experiment(name, outcomes, metrics_of(name))
    return _completed(outcomes)


def bring_up_to_date(stage_hours: float, side_by_side: int | None, experiment: str) -> State:
    """Run what is stale, in the flow run that calls this."""
    log = get_run_logger()
    params = load_params()
    graph = read_graph()
    if is_up_to_date():
        log.info("nothing to run: data and pipelines are up to date")
        return Completed(name="UpToDate", message="nothing to run")
    at_once = side_by_side or (2 if params.model.device == "cpu" else 1)
    log.info("stages, %d at once: %s", at_once, ", ".join(in_order(graph)))
    try:
        outcomes = _run_stages(graph, stage_hours, at_once, experiment)
    except StageFailed as failure:
        pages.tell_failure(failure, {})
        raise
    except BaseException:  # a signal that ends this flow run; its tasks still run, in threads
        STOP.set()
        raise
    pages.tell_results(outcomes, params)
    return _completed(outcomes)


def _completed(outcomes: dict[str, str]) -> State:
    num_ran = list(outcomes.values()).count(RAN)
    return Completed(message=f"{len(outcomes)} stages are up to date, {num_ran} of them ran")


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
    failures: list[StageFailed] = []
    outcomes: dict[str, str] = {}
    while sorter.is_active() and (running or not failures):
        waiting += sorted(sorter.get_ready())

        # start what there is room for
        while waiting and len(running) < at_once and not failures:
            stage = waiting.pop(0)
            needs = [futures[need] for need in graph[stage]]
            futures[stage] = _submit(stage, hours, experiment, needs)
            running[futures[stage]] = stage

        # wait for the first to end
        future = next(as_completed(list(running)))
        stage = running.pop(future)
        future.wait()  # told of before its state is there
        if future.state.is_completed():
            outcomes[stage] = future.state.name or ""
            sorter.done(stage)
        else:
            failures.append(_error(stage, future))
    if failures:
        raise failures[0]
    return outcomes


def _submit(stage: str, hours: float, experiment: str, needs: list[PrefectFuture]) -> PrefectFuture:
    named = run_stage.with_options(task_run_name=stage, tags=[stage.partition("@")[0]])
    return named.submit(stage, hours, experiment, wait_for=needs)  # pyright: ignore


def _error(stage: str, future: PrefectFuture) -> StageFailed:
    error = future.result(raise_on_failure=False)
    if isinstance(error, StageFailed):
        return error
    return StageFailed(f"dvc repro --single-item {stage}", str(error or future.state.message), stage)


@task(name="stage", **WHERE_IT_MAY_PASS)
def run_stage(stage: str, hours: float, experiment: str) -> State:
    """Let DVC bring one stage up to date: Ran, Restored (from the run cache) or UpToDate."""
    outcome = RAN
    tags = {"MOTIVE_FLOW_RUN": str(flow_run.id), "DVC_EXP_NAME": experiment}  # of the MLflow run
    try:
        for line in dvc("repro", "--single-item", stage, hours=hours, environment=tags):
            say(line)
            begun = read_stage_line(line)
            if begun:
                outcome = begun.outcome
    except StageFailed as failure:
        failure.stage = stage
        raise
    return Completed(name=outcome, message=f"{stage}: {outcome}")


if __name__ == "__main__":
    raise SystemExit(not motive_pipeline(return_state=True).is_completed())
