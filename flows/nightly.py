"""The nightly flow: fetch what is new, do nothing if nothing is, else run the river and push its results."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed
from prefect.tasks import exponential_backoff

from flows import pages
from flows.checkout import checkout
from flows.commands import StageFailed, run
from flows.pipeline import FIRST_DELAY, RETRIES, is_up_to_date, motive_pipeline, say
from motive.params import Count, Positive

DVC = (sys.executable, "-m", "dvc", "--wait-for-lock")
LOCK = "dvc.lock"
UNPUSHED = Path(".motive/unpushed")  # there from before a run until its results are on the remote


@flow(name="nightly")
def nightly(
    git_pull: bool = False, push: bool = True, stage_hours: Positive = 24, side_by_side: Count | None = None
) -> State:
    """Pull data; where the data version has not changed, finish at once; else run what is stale, and push.

    Args:
        git_pull: Fetch new commits first (fast-forward only).
        push: Push data and run cache to DVC's remote at the end, also what an earlier run could not push.
        stage_hours: A stage that takes longer is stopped.
        side_by_side: Stages at once, where they need not wait; empty: 2 on a CPU, 1 on a card.

    Raises:
        StageFailed: names the command or the stage, with the end of what it said.
    """
    with checkout({}):
        with _told():
            fetch(git_pull)
        if stale := not is_up_to_date():
            UNPUSHED.touch()
            ended = motive_pipeline(stage_hours=stage_hours, side_by_side=side_by_side, return_state=True)
            if not ended.is_completed():
                ended.result()  # raises what failed; of what went well a server slow to answer gives none
        else:
            get_run_logger().info("the data version and the parameters are those of the last run")
        if pushed := push and UNPUSHED.exists():
            with _told():
                over_the_network(*DVC, "push", "--run-cache")
            UNPUSHED.unlink()
    message = ("new data version" if stale else "nothing changed") + (", pushed" if pushed else "")
    return Completed(name=None if stale else "UpToDate", message=message)


@contextmanager
def _told() -> Iterator[None]:
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
        say(run(["git", "merge", "--ff-only"], 1, {}))
    if sources := tracked_sources():
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
        raise StageFailed(f"`git {arguments[0]}` failed:\n{done.stderr.strip()}")
    return done.stdout.strip()


def over_the_network(*command: str) -> None:
    """Run it, and again where it fails.

    Raises:
        StageFailed: names the command, with the end of what it said.
    """
    name = " ".join(command).removeprefix(" ".join(DVC[:2])).replace(" --wait-for-lock", "").strip()
    _over_the_network.with_options(task_run_name=name)(command)


@task(
    name="command",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=exponential_backoff(FIRST_DELAY),
    retry_jitter_factor=0.5,
)
def _over_the_network(command: tuple[str, ...]) -> None:
    say(run([*command], 24, {}))


def tracked_sources() -> list[str]:
    """The .dvc files of the project: clips, prompts and models that somebody else may have pushed."""
    from dvc.repo import Repo

    with Repo(".") as repo:
        return sorted(stage.relpath for stage in repo.index.stages if stage.is_data_source)
