"""The nightly flow: fetch what is new; where nothing is, end; else run the pipeline and push its results."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows import pages
from flows.checkout import checkout
from flows.commands import StageFailed, name_of, run
from flows.graph import data_sources
from flows.pipeline import is_up_to_date, motive_pipeline
from flows.tasks import ALWAYS, say_all
from motive.params import Count, Positive
from motive.store.layout import state_folder

DVC = (sys.executable, "-m", "dvc", "--wait-for-lock")
LOCK = "dvc.lock"
UNPUSHED = state_folder() / "unpushed"  # there from before a run until its results are on the remote


@flow(name="nightly")
def nightly(
    git_pull: bool = False, push: bool = True, stage_hours: Positive = 24, side_by_side: Count | None = None
) -> State:
    """Pull data; where the data version has not changed, finish at once; else run what is stale, and push.

    Args:
        git_pull: Fetch new commits first (fast-forward only).
        push: Push data and run cache to DVC's remote at the end, also what an earlier run could not push.
        stage_hours: A stage that takes longer is stopped.
        side_by_side: Stages at once, where they need not wait; empty: 2 on a CPU, 1 on a GPU.

    Raises:
        StageFailed: names the command or the stage, with the end of what it said.
    """
    with checkout():
        with _failures_on_the_page():
            fetch(git_pull)
        stale = not is_up_to_date()
        if stale:
            UNPUSHED.touch()
            ended = motive_pipeline(stage_hours=stage_hours, side_by_side=side_by_side, return_state=True)
            if not ended.is_completed():
                ended.result()  # raises what failed; of what went well a server slow to answer gives none
        else:
            get_run_logger().info("the data version and the parameters are those of the last run")
        pushed = push and UNPUSHED.exists()
        if pushed:
            with _failures_on_the_page():
                over_the_network(*DVC, "push", "--run-cache")
            UNPUSHED.unlink()
    message = "new data version" if stale else "nothing changed"
    if pushed:
        message += ", pushed"
    return Completed(name=None if stale else "UpToDate", message=message)


@contextmanager
def _failures_on_the_page() -> Iterator[None]:
    """The run page says what failed here."""
    try:
        yield
    except StageFailed as failure:
        pages.tell_of_command(failure)
        raise


def fetch(git_pull: bool) -> None:
    """Bring commits, if asked for, and data that others have pushed."""
    if git_pull:
        over_the_network("git", "fetch")
        give_way()
        say_all(run(["git", "merge", "--ff-only"], 1, {}))
    sources = data_sources()
    if sources:
        over_the_network(*DVC, "pull", *sources)


def give_way() -> None:
    """Where others pushed another dvc.lock, ours would be in the way; all it knew is in DVC's run cache."""
    if _git("diff", "--name-only", "HEAD", "@{upstream}", "--", LOCK):
        Path(LOCK).unlink(missing_ok=True)
        if _git("ls-files", LOCK):
            _git("checkout", "HEAD", "--", LOCK)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageFailed(f"git {arguments[0]}", done.stderr.strip())
    return done.stdout.strip()


def over_the_network(*command: str) -> None:
    """Run it, and again where it fails.

    Raises:
        StageFailed: names the command, with the end of what it said.
    """
    _over_the_network.with_options(task_run_name=name_of([*command]))(command)


@task(name="command", **ALWAYS)
def _over_the_network(command: tuple[str, ...]) -> None:
    say_all(run([*command], 24, {}))
