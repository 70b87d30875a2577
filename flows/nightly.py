"""The nightly flow: fetch what is new, do nothing if nothing is, else run the river and push its results."""

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.checkout import checkout
from flows.commands import dvc, run
from flows.pipeline import is_up_to_date, motive_pipeline, say
from motive.params import Count, Positive


@flow(name="nightly")
def nightly(
    git_pull: bool = False, push: bool = True, stage_hours: Positive = 24, side_by_side: Count | None = None
) -> State:
    """Pull data; where the data version has not changed, finish at once; else run what is stale, and push.

    Args:
        git_pull: Fetch new commits first (fast-forward only).
        push: Push data and run cache to DVC's remote at the end.
        stage_hours: A stage that takes longer is stopped.
        side_by_side: Stages at once, where they need not wait; empty: 2 on a CPU, 1 on a card.

    Raises:
        StageFailed: names the command or the stage, with the end of what it said.
    """
    log = get_run_logger()
    with checkout({}):
        if git_pull:
            say(run(["git", "pull", "--ff-only"], 1, {}))
        if sources := tracked_sources():
            say(dvc("pull", *sources))
        if is_up_to_date():
            log.info("the data version and the parameters are those of the last run: nothing to do")
            return Completed(name="UpToDate", message="nothing changed")
        motive_pipeline(stage_hours=stage_hours, side_by_side=side_by_side)
        if push:
            say(dvc("push", "--run-cache"))
    return Completed(message="new data version" + (", pushed" if push else ""))


def tracked_sources() -> list[str]:
    """The .dvc files of the project: clips, prompts and models that somebody else may have pushed."""
    from dvc.repo import Repo

    with Repo(".") as repo:
        return sorted(stage.relpath for stage in repo.index.stages if stage.is_data_source)
